"""Catalogue: where the data files of a table are registered, so that other tools find them. They are not copied."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import unquote

import pyarrow as pa

from ingestlab.core.errors import TerminalError
from ingestlab.core.models import DataFile, Manifest
from ingestlab.interfaces import Store
from ingestlab.lake import layout
from ingestlab.lake.arrow_schema import parse_type
from ingestlab.lake.log import live_parts
from ingestlab.lake.table_schema import Schema, of_manifest
from ingestlab.pipeline.catalogues import registered

ORIGIN = {"_source": pa.string(), "_row": pa.int64()}


@dataclass(frozen=True, kw_only=True)
class Version:
    """What a catalogue is told of one commit.

    Attributes:
        sequence: The number of its log entry.
        run: The run that it is of.
        batch: Its name.
        added: The data files that it publishes.
        removed: The targets of those that it replaces.
        columns: The types of its columns, those of folders last.
        folders: The columns that folders name.
        whole: Whether `added` is all that the table has.
    """

    sequence: int
    run: str
    batch: str
    added: Sequence[DataFile]
    removed: frozenset[str]
    columns: Mapping[str, pa.DataType]
    folders: tuple[str, ...]
    whole: bool = False

    @property
    def schema(self) -> pa.Schema:
        """Return the columns as an Arrow schema."""
        return pa.schema(list(self.columns.items()))

    @property
    def properties(self) -> dict[str, str]:
        """Return what a catalogue keeps with the version."""
        return {"ingestlab.sequence": str(self.sequence), "ingestlab.run": self.run, "ingestlab.batch": self.batch}


class Catalogue(Protocol):
    """The entry of one table in a catalogue. It is asked and told by one thread."""

    def sequence(self) -> int | None:
        """Return the number of the last registered log entry. None if the table is not there.

        Raises:
            TerminalError: The table there is another program's.
        """
        ...

    def differs(self, version: Version) -> bool:
        """Tell whether something else is registered than a whole version."""
        ...

    def register(self, version: Version) -> None:
        """Register a version, and its number last. What is there already is not added twice.

        Raises:
            TerminalError: Its columns do not fit those of the files that stay.
        """
        ...


def of_entry(entry: Manifest) -> Version:
    """Return what a log entry changes."""
    home = f"{layout.table(entry.tenant, entry.table)}/"
    gone = frozenset(target for target in entry.replaced if target.startswith(home))
    return _version(entry, of_manifest(entry), entry.parts, gone)


def of_table(entry: Manifest, history: Sequence[Manifest], schema: Schema) -> Version:
    """Return all that is live in a table.

    Args:
        entry: The last one of its log.
        history: Its commits with live contents.
        schema: Of all data files.
    """
    home = f"{layout.table(entry.tenant, entry.table)}/"
    files = [file for file in live_parts(history) if file.target.startswith(home)]
    return _version(entry, schema, files, frozenset(), whole=True)


def _version(
    entry: Manifest, schema: Schema, files: Sequence[DataFile], removed: frozenset[str], **more: Any
) -> Version:
    kinds = {name: kind for name, kind in schema.reading().items() if not pa.types.is_null(kind)}
    folders = schema.folder_columns
    _check_alike(entry.table, schema)
    inside = {name: registered(kind) for name, kind in kinds.items() if name not in folders}
    columns = {**inside, **ORIGIN, **{name: registered(kinds[name]) for name in folders}}
    return Version(
        sequence=entry.sequence,
        run=entry.run,
        batch=entry.batch,
        added=files,
        removed=removed,
        columns=columns,
        folders=folders,
        **more,
    )


def _check_alike(table: str, schema: Schema) -> None:
    """Check that all files have the same types and folders."""
    inside = {name: texts for name, texts in schema.types.items() if name not in schema.folder_columns}
    several = {name: {registered(parse_type(text)) for text in texts} for name, texts in inside.items()}
    mixed = [f"the type of '{name}'" for name, kinds in several.items() if len(kinds - {pa.null()}) > 1]
    if mixed or len(schema.folders) > 1:
        problem = f"The data files of table {table} differ in {(*mixed, 'their folders')[0]}"
        fix = f"`ingestlab rewrite {table}` brings them to one schema."
        raise TerminalError(problem, fix=fix, code="catalogue_conflict")


def partition_values(target: str) -> dict[str, str]:
    """Read the values in the folders of a data file."""
    steps = (step.partition("=") for step in target.split("/")[3:-1])
    return {name: unquote(value) for name, _, value in steps}


def full_url(store: Store, target: str) -> str:
    """Return the URL of a data file. Letters stand as they are."""
    path = store.full(target)
    return path if "://" in path else f"file://{path}"
