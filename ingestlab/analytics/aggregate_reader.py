"""Reads aggregates: the states of all published parts, merged; and writes them as plain Parquet for other tools."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ingestlab.analytics.aggregates.answers import answer, no_rows
from ingestlab.analytics.aggregates.files import declaration, from_part
from ingestlab.analytics.aggregates.partials import concat, merge
from ingestlab.core.access import scheme_of
from ingestlab.core.errors import TerminalError, TransientError, attempt, did_you_mean
from ingestlab.core.models import DataFile, Manifest
from ingestlab.core.schemes import traits
from ingestlab.core.settings import Settings
from ingestlab.interfaces import Store
from ingestlab.lake import layout
from ingestlab.lake.data_files import to_parquet
from ingestlab.lake.log import live_partials, live_parts, manifests
from ingestlab.lake.storage.store import open_store, storage_error
from ingestlab.lake.table_schema import schema_of
from ingestlab.pipeline.aggregate import Aggregate
from ingestlab.pipeline.catalog import Catalog, load

_AT_ONCE = 8  # files that are read
_TRIES = 3
_KEYS = "ingestlab.keys"  # in the schema of an aggregate


class AggregateReader:
    """Reader of one table's aggregates.

    The declaration that counts is that of the pipeline file as it is now. Parts that were published before it
    was written, or changed, have no states of it: they are computed from the rows while reading, so that the
    answer is right, if slow until such parts are replaced or compacted. An aggregate that no pipeline declares
    any more is the one that its last states are of.
    """

    def __init__(self, store: Store, settings: Settings, tenant: str, table: str) -> None:
        self._store, self._settings = store, settings
        self._where = (tenant, table)
        self._home = layout.table(tenant, table) + "/"

    def names(self) -> list[str]:
        """List the table's aggregates."""
        history = manifests(self._store, *self._where)
        return sorted({*self._in_pipelines(history, []), *_by_aggregate(history, self._home)})

    def read(self, name: str) -> pa.Table:
        """Read an aggregate of all rows that are published now.

        Raises:
            TerminalError: There is no such aggregate, or it cannot be computed of earlier parts.
            TransientError: Parts were replaced as fast as they were looked up.
        """
        for _ in range(_TRIES):
            history = manifests(self._store, *self._where)
            aggregate = self._named(name, history)
            try:
                return self._merged(name, aggregate, history)
            except FileNotFoundError as error:  # a commit has just replaced the part: its manifest is there by now
                gone = error
        fix = "Try again; if it stays so, `ingestlab reconcile` says what is missing."
        raise TransientError.wrap(
            gone, f"Data files of {self._where[1]} disappeared while they were read", fix, code="lake_busy"
        )

    def write(self, name: str, to: str | None = None) -> str:
        """Write an aggregate as one plain Parquet file. It appears when it is whole.

        Args:
            name: The aggregate.
            to: A file or URL; without it, ``aggregates/<tenant>/<table>/<name>.parquet`` in the lake.

        Returns:
            Where it is.
        """
        data = to_parquet(self.read(name))
        if to is None:
            path = layout.materialized(*self._where, name)
            self._store.write(path, data)
            return self._store.full(path)
        if not traits(scheme_of(to)).local:
            folder, _, file = to.rpartition("/")
            open_store(folder, self._settings.storage_options).write(file, data)
            return to
        return _write_local(Path(to.partition("://")[2] or to).expanduser().absolute(), data)

    def _named(self, name: str, history: Sequence[Manifest]) -> Aggregate:
        """Find the declaration: the pipeline's, or else that of the last partials."""
        broken: list[TerminalError] = []
        declared = self._in_pipelines(history, broken)
        if name in declared:
            return declared[name]
        states = _by_aggregate(history, self._home)
        for state in reversed(states.get(name, [])):
            with suppress(FileNotFoundError):  # an earlier one says the same
                return declaration(self._load(state))
        if broken:
            raise broken[0]  # it may declare it: somebody is at it
        known = sorted({*declared, *states})
        have = ", ".join(known) or "it has none"
        fix = did_you_mean(name, known, "Declare it in the pipeline: Pipeline(aggregates={…}).")
        raise TerminalError(
            f"There is no aggregate '{name}'",
            expected=f"an aggregate of table {self._where[1]} ({have})",
            got=f"'{name}'",
            fix=fix,
            code="table_unknown",
        )

    def _in_pipelines(self, history: Sequence[Manifest], broken: list[TerminalError]) -> dict[str, Aggregate]:
        """Collect what the table's pipelines declare, the last one first. Those that do not load go to `broken`."""
        aggregates: dict[str, Aggregate] = {}
        sources = Catalog.read(self._settings).sources
        for name in dict.fromkeys(m.pipeline for m in reversed(history)):
            pipeline = attempt(load, sources[name]) if name in sources else None
            if isinstance(pipeline, TerminalError):
                broken.append(pipeline)
            elif pipeline is not None:
                aggregates = {**pipeline.aggregates, **aggregates}
        return aggregates

    def _merged(self, name: str, aggregate: Aggregate, history: Sequence[Manifest]) -> pa.Table:
        parts = [p for p in live_parts(history) if p.target.startswith(self._home)]
        states = {s.target: s for s in live_partials(history)}
        schema = schema_of(self._store, self._where, history)
        kinds = {name: kind for name, kind in schema.reading().items() if name in schema.folder_columns}

        def one(part: DataFile) -> pa.Table:
            state = states.get(layout.partials_file(*self._where, name, aggregate.code, part.target))
            return _typed(self._states(part, state, aggregate), aggregate, kinds)

        with ThreadPoolExecutor(_AT_ONCE) as pool:
            tables = list(pool.map(one, parts))
        table = answer(merge(concat(tables), aggregate), aggregate) if tables else no_rows(aggregate)
        return table.replace_schema_metadata({_KEYS: json.dumps([key.name for key in aggregate.keys])})

    def _states(self, part: DataFile, state: DataFile | None, aggregate: Aggregate) -> pa.Table:
        if state is not None:
            with suppress(FileNotFoundError):  # the rows say the same
                return self._load(state)
        return from_part(self._store, part.target, part.target.removeprefix(self._home), aggregate)

    def _load(self, state: DataFile) -> pa.Table:
        return pq.ParquetFile(pa.BufferReader(self._store.read(state.target))).read()


def keys_of(table: pa.Table) -> list[str]:
    """List an aggregate's key columns; the others are measures."""
    return list(json.loads((table.schema.metadata or {}).get(_KEYS.encode(), b"[]")))


def _by_aggregate(history: Sequence[Manifest], home: str) -> dict[str, list[DataFile]]:
    """Group partial aggregates by name, oldest first."""
    files: dict[str, list[DataFile]] = {}
    start = layout.beside(home.rstrip("/"), "")
    for state in live_partials(history):
        files.setdefault(state.target.removeprefix(start).split("/")[0], []).append(state)
    return files


def _typed(states: pa.Table, aggregate: Aggregate, kinds: dict[str, pa.DataType]) -> pa.Table:
    """Convert keys that are folders to their types."""
    for i, key in enumerate(aggregate.keys):
        if key.column in kinds and not key.unit:
            states = states.set_column(i, key.name, states[key.name].cast(kinds[key.column]))
    return states


def _write_local(path: Path, data: memoryview) -> str:
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with beside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise storage_error(error, str(path)) from error
    return str(path)
