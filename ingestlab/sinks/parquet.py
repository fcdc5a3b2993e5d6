"""Parquet parts in the lake, in folders named by Hive's convention."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ingestlab.core.errors import TerminalError
from ingestlab.core.models import Manifest, Part
from ingestlab.interfaces import Store
from ingestlab.lake import layout
from ingestlab.sinks.files import Files

MAX_FOLDERS = 1000  # that one task may write; more means the column is no partition key
MAX_FOLDER_NAME = 255  # bytes: what file systems take
ROW_GROUP = 1 << 20  # rows
SOURCE_COLUMNS = ("_source", "source")  # of tables, of rejects
ROW_COLUMNS = ("_row", "row")  # likewise


class TableFiles(Files):
    """Publish the rows of a table."""

    field = "parts"

    def owns(self, target: str, manifest: Manifest) -> bool:
        """Tell whether a file is in the folder of the table."""
        return target.startswith(f"{layout.table(manifest.tenant, manifest.table)}/")


class ParquetSink:
    """Stages below `staging`, publishes below `folder`; both are relative to the store."""

    def __init__(self, store: Store, folder: str, staging: str) -> None:
        self._store, self._folder, self._staging = store, folder, staging

    def stage(self, name: str, table: pa.Table, folders: Sequence[str] = ()) -> list[Part]:
        """See :class:`ingestlab.interfaces.PartWriter`; an empty table makes no part.

        Raises:
            TerminalError: A partition column is missing, or its values are too many or too long for folders.
        """
        return [self._stage(name, sub, piece) for sub, piece in by_folder(table, folders)] if table.num_rows else []

    def _stage(self, name: str, sub: str, table: pa.Table) -> Part:
        target = "/".join(p for p in (self._folder, sub, f"{name}.parquet") if p)
        staged = staged_path(self._staging, target)
        buffer = io.BytesIO()
        pq.write_table(table, buffer, row_group_size=ROW_GROUP, **encoding(table.schema, with_minus_zero(table)))
        self._store.write(staged, buffer.getbuffer())
        return Part(target=target, staged=staged, rows=table.num_rows, size=buffer.tell(), sources=sources_of(table))

    def publish(self, part: Part) -> None:
        """See :class:`ingestlab.interfaces.PartWriter`."""
        self._store.move(part.staged, part.target)

    def discard(self, part: Part) -> None:
        """See :class:`ingestlab.interfaces.PartWriter`."""
        self._store.delete(part.staged)
        self._store.delete(part.target)

    def read(self, parts: Iterable[Part]) -> pa.Table:
        """See :class:`ingestlab.interfaces.PartWriter`; partition columns come back as text."""
        tables = [read_part(self._store, self._folder, part) for part in parts]
        return pa.concat_tables(tables, promote_options="permissive") if tables else pa.table({})


def with_minus_zero(table: pa.Table) -> list[str]:
    """The columns of floats that hold -0.0, which is the least of all integers by its bits."""
    signs = {pa.float64(): (pa.int64(), -(2**63)), pa.float32(): (pa.int32(), -(2**31))}
    found = []
    for field in table.schema:
        bits, sign = signs.get(field.type, (None, 0))
        if bits and any(pc.min(chunk.view(bits)).as_py() == sign for chunk in table[field.name].chunks):
            found.append(field.name)
    return found


def encoding(schema: pa.Schema, bare: Collection[str] = ()) -> dict[str, Any]:
    """How parts are written, as options of pyarrow.

    Args:
        schema: Their columns.
        bare: Columns that get no dictionary. Spark looks 0.0 up in it, and takes it for missing where -0.0 stands.

    The numbers of source rows are nearly consecutive: as differences they take a hundredth of the room and a
    fifth of the time. All other columns are left to Arrow, which tries a dictionary first.
    """
    how: dict[str, Any] = {"compression": "zstd", "compression_level": 1}
    numbered = [field.name for field in schema if field.name in ROW_COLUMNS and pa.types.is_int64(field.type)]
    if not (numbered or bare) or any(pa.types.is_nested(field.type) for field in schema):
        return {**how, "use_dictionary": False} if bare else how  # inner columns have other names
    others = [name for name in schema.names if name not in {*numbered, *bare}]
    return {**how, "use_dictionary": others, "column_encoding": dict.fromkeys(numbered, "DELTA_BINARY_PACKED")}


def staged_path(staging: str, target: str) -> str:
    """Where a part waits for its commit; the name does not end in `.parquet`, which readers look for."""
    return f"{staging}/{hashlib.sha256(target.encode()).hexdigest()[:32]}.part"


def read_part(store: Store, folder: str, part: Part) -> pa.Table:
    """One published part, with the columns that its folders name."""
    table = pq.read_table(io.BytesIO(store.read(part.target)), partitioning=None)
    return with_folders(table, part.target[len(folder) + 1 :])


def with_folders(table: pa.Table, path: str) -> pa.Table:
    """A part with the columns that the folders of its path name, as text."""
    for step in path.split("/")[:-1]:
        column, _, text = step.partition("=")
        value = None if text == layout.NULL_FOLDER else unquote(text)
        table = table.append_column(column, pa.repeat(pa.scalar(value, pa.string()), table.num_rows))
    return table


def without_sources(table: pa.Table, uris: Iterable[str]) -> pa.Table:
    """The rows that do not come from any of `uris`."""
    column = table[_source_column(table)].cast(pa.string())
    return table.filter(pc.invert(pc.is_in(column, pa.array(list(uris), pa.string()))))


def by_folder(table: pa.Table, columns: Sequence[str]) -> Iterator[tuple[str, pa.Table]]:
    """Splits a table by the values of some columns, which leave it for the folder's name."""
    if not columns:
        yield "", table
        return
    missing = [c for c in columns if c not in table.column_names]
    if missing:
        have = ", ".join(table.column_names)
        raise TerminalError(
            "The column to partition by is missing",
            expected=f"the partition_by column '{missing[0]}'",
            got=f"columns {have}",
            fix="Let clean make it.",
            code="column_unknown",
        )
    keys = table.select(list(columns)).append_column("__row", pa.array(np.arange(table.num_rows)))
    groups = keys.group_by(list(columns), use_threads=False).aggregate([("__row", "list")])
    if groups.num_rows > MAX_FOLDERS:
        raise TerminalError(
            "The rows would make too many folders",
            expected=f"at most {MAX_FOLDERS} folders from one task, by partition_by {', '.join(columns)}",
            got=f"{groups.num_rows} different values",
            fix="Partition by a column with fewer values, such as a day.",
            code="partition_invalid",
        )
    rest = table.drop_columns(list(columns))
    rows = groups["__row_list"].combine_chunks()
    for i, values in enumerate(zip(*(groups[c].to_pylist() for c in columns), strict=True)):
        steps = [layout.folder(c, v) for c, v in zip(columns, values, strict=True)]
        if max(len(step.encode()) for step in steps) > MAX_FOLDER_NAME:
            raise TerminalError(
                "A folder's name would be too long",
                expected=f"folder names of at most {MAX_FOLDER_NAME} bytes, by partition_by {', '.join(columns)}",
                got=f"{max(steps, key=len)[:80]}…",
                fix="Partition by a column with shorter values, such as a day.",
                code="partition_invalid",
            )
        sub = "/".join(steps)
        yield sub, rest if groups.num_rows == 1 else rest.take(rows[i].values)


def sources_of(table: pa.Table) -> tuple[str, ...]:
    """The URIs that have rows in a table, sorted."""
    column = table[_source_column(table)]
    return tuple(sorted(pc.unique(column.cast(pa.string())).to_pylist()))


def _source_column(table: pa.Table) -> str:
    return next(c for c in SOURCE_COLUMNS if c in table.column_names)
