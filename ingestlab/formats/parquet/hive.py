"""Folders in a source's path that say a column's value, ``day=2024-01-31/``, as Hive, Spark and pandas write them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from urllib.parse import unquote, urlsplit

import pyarrow as pa

from ingestlab.core.archive_uri import container, member_name
from ingestlab.core.errors import TerminalError
from ingestlab.core.models import Piece
from ingestlab.core.schemes import traits
from ingestlab.formats.common.columns import convert
from ingestlab.formats.common.excerpts import listed
from ingestlab.interfaces import Records

NULL = "__HIVE_DEFAULT_PARTITION__"  # stands for no value


def folder_values(uri: str) -> dict[str, str | None]:
    """Read the values in the folder names of a source, by column."""
    name, _, path, *_ = urlsplit(container(uri))
    path = unquote(path) if traits(name).quoted else path  # keys of object stores are as they are
    folders = [*path.split("/")[:-1], *(member_name(uri) or "").replace("\\", "/").split("/")[:-1]]
    pairs = (folder.partition("=") for folder in folders)
    return {unquote(name): None if value == NULL else unquote(value) for name, sign, value in pairs if name and sign}


def with_folders(
    records: Records, folders: Mapping[str, str | None], types: Mapping[str, pa.DataType], piece: Piece
) -> Records:
    """Add the columns that the folders of a file say.

    Args:
        records: Without these columns.
        folders: Of :func:`folder_values`.
        types: Of such columns; text where nothing is said.
        piece: Where the records are from.

    Raises:
        TerminalError: The file has such a column, too; or a value is not of its type.
    """
    table = records.table
    if both := [name for name in folders if name in table.column_names]:
        problem, got = f"Columns in {piece.name} are those of its folders, too", f"{listed(both)} in both"
        fix = "Set hive=False, or leave them out of the files."
        raise TerminalError(problem, got=got, fix=fix, code="columns_conflict")
    for name, value in folders.items():
        kind = types.get(name, pa.string())
        values, wrong = convert(pa.array([value], pa.string()), kind)
        if wrong.size:
            problem = f"Not a folder {name}=… with a value of type {kind}"
            raise TerminalError(problem, got=repr(value), fix="Correct the columns.", code="types_conflict")
        table = table.append_column(name, pa.repeat(values[0], len(table)))
    return replace(records, table=table, facts={**records.facts, "folders": ", ".join(folders)})
