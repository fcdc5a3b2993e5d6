"""Reads what is published: by the manifests, so that a commit in progress is seen wholly or not at all.

Other tools need none of this: a table's folder holds finished Parquet parts and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import cached_property, reduce
from operator import and_
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.fs as pafs

from ingestlab.analytics.aggregate_reader import AggregateReader, keys_of
from ingestlab.analytics.profile_reader import read_profile
from ingestlab.analytics.profiles.report import TableProfile
from ingestlab.core.errors import TerminalError, did_you_mean
from ingestlab.core.extras import needed
from ingestlab.core.models import NAME, DataFile, Manifest
from ingestlab.core.settings import Settings
from ingestlab.interfaces import Store
from ingestlab.lake import layout
from ingestlab.lake.arrow_schema import REJECTS
from ingestlab.lake.log import TransactionLog, tables_of
from ingestlab.lake.past import AsOf, Past, open_past
from ingestlab.lake.snapshot import Snapshot
from ingestlab.lake.storage.store import LocalStore, ObjectStore, open_store
from ingestlab.lake.table_schema import exactly, schema_of
from ingestlab.lake.tenants import settings_for

if TYPE_CHECKING:
    import dask.dataframe as dd
    import duckdb
    import polars as pl
    from pyspark.sql import DataFrame

_NO_ROWS = pa.schema([("_source", pa.dictionary(pa.int32(), pa.string())), ("_row", pa.int64())])

_FOLDERS = b"ingestlab.folders"  # in a schema: the columns that folders name
_TRIES = 3  # to read the parts of a table before a commit replaces one of them


class Table:
    """Published rows of one table, as of the moment it was opened.

    Columns that only some parts have are null elsewhere; where the parts' types differ they are widened, and
    those that have nothing in common, or a value that the wider type has no room for, become text. Partition
    columns are read from the folders' names in the type that was published: whole numbers as such, all else as
    text, so a day is ``"2017-10-23"`` and a code ``"007"``.

    Args:
        store: The lake.
        tenant: Whose table it is.
        name: Its name; ``<table>__rejects`` is the table of another's rejects, ``<table>__vectors`` of its vectors.
        as_of: An earlier state: that after a run or a time, or of the number of a log entry; None for that of now.
    """

    def __init__(self, store: Store, tenant: str, name: str, as_of: AsOf | None = None) -> None:
        self.tenant, self.name, self.as_of = tenant, name, as_of
        self._store = store
        self.folder = layout.table(tenant, name)

    @cached_property
    def manifests(self) -> list[Manifest]:
        """Return the commits that made the table, oldest first."""
        entries = self._log.history()
        return [m for m in entries if m.sequence <= self._past.number] if self._past else entries

    def opened(self) -> bool:
        """Look up what is live now; tell whether anything was ever committed."""
        return bool(self._snapshot.number or self._snapshot.tail)

    @property
    def _log(self) -> TransactionLog:
        return TransactionLog(self._store, self.tenant, _base(self.name))

    @cached_property
    def _past(self) -> Past | None:
        return None if self.as_of is None else open_past(self._log, self.as_of, self.folder + "/")

    @cached_property
    def _snapshot(self) -> Snapshot:
        return self._past.snapshot if self._past else self._log.snapshot()

    @cached_property
    def _reader(self) -> Store:
        """Return a store in which the files are at their targets."""
        return self._past.reader(self._store) if self._past else self._store

    def _files_by_home(self, parts: Iterable[DataFile]) -> dict[str, list[str]]:
        """Group the places of files by their table's folder. Replaced files have other folders."""
        homes: dict[str, list[str]] = {}
        for part in parts:
            place = self._past.places.get(part.target, part.target) if self._past else part.target
            homes.setdefault(place.removesuffix(part.target.removeprefix(self.folder)), []).append(place)
        return homes

    @cached_property
    def _files(self) -> pa.Table:
        """Return the live files of the table, as :attr:`Snapshot.files` has them."""
        files = self._snapshot.files
        return files.filter(pc.starts_with(files["key"], self.folder + "/"))

    @cached_property
    def parts(self) -> tuple[DataFile, ...]:
        """Return the Parquet files of the table."""
        return self._snapshot.parts(self.folder)

    @property
    def rows(self) -> int:
        """Count the rows of the table."""
        return pc.sum(self._files["rows"]).as_py() or 0

    @property
    def bytes(self) -> int:
        """Return the bytes of its Parquet files."""
        return pc.sum(self._files["size"]).as_py() or 0

    @property
    def path(self) -> str:
        """Return the folder, as other tools take it."""
        return self._store.full(self.folder)

    def dataset(self) -> ds.Dataset:
        """Open the table as a pyarrow dataset. Without parts it has the columns that ingestlab adds to all."""
        return self._dataset

    @cached_property
    def _dataset(self) -> ds.Dataset:
        if not self.parts:
            return ds.dataset((REJECTS if self.name.endswith(layout.rejects("")) else _NO_ROWS).empty_table())
        return self.dataset_of(self.parts)

    def dataset_of(self, parts: Iterable[DataFile]) -> ds.Dataset:
        """Open some parts as a dataset with all columns of the table."""
        schema, homes = self._columns, self._files_by_home(parts)
        sets = [_factory(self._store, home, places, schema).finish(schema) for home, places in homes.items()]
        return sets[0] if len(sets) == 1 else ds.UnionDataset(schema, sets)

    @cached_property
    def _columns(self) -> pa.Schema:
        """Return the columns as readers see them, those of folders last."""
        if _base(self.name) != self.name:
            homes = self._files_by_home(self.parts).items()
            schemas = [
                _factory(self._store, home, places, pa.schema({})).inspect(promote_options="permissive")
                for home, places in homes
            ]
            return pa.unify_schemas(schemas, promote_options="permissive")
        schema = schema_of(self._reader, (self.tenant, self.name), self._snapshot.outline())
        kinds = exactly(schema, self._reader, self.parts)
        last = schema.folder_columns
        return pa.schema(
            [
                *((name, kind) for name, kind in kinds.items() if name not in last),
                *_NO_ROWS,
                *((name, kinds[name]) for name in last),
            ],
            metadata=None if not last else {_FOLDERS: ",".join(last).encode()},
        )

    def arrow(self, columns: Sequence[str] | None = None, where: ds.Expression | None = None) -> pa.Table:
        """Read the rows as an Arrow table. `columns` and `where` are pushed down to the files.

        Where a commit has replaced parts since the table was opened, its rows are those of now.

        Args:
            columns: Names, in this order; None for all.
            where: A filter on columns, as ``pyarrow.dataset.field("a") > 1``.
        """
        names = list(columns) if columns else None
        for _ in range(_TRIES - 1):
            try:
                return self.dataset().to_table(columns=names, filter=where)
            except FileNotFoundError:
                self._reopen()
        return self.dataset().to_table(columns=names, filter=where)

    def _reopen(self) -> None:
        """Forget what was looked up."""
        for name in ("manifests", "parts", "_past", "_snapshot", "_reader", "_files", "_columns", "_dataset"):
            self.__dict__.pop(name, None)

    def pandas(self, columns: Sequence[str] | None = None, where: ds.Expression | None = None) -> pd.DataFrame:
        """Read the rows as a pandas frame on Arrow memory.

        Args:
            columns: As in :meth:`arrow`.
            where: As in :meth:`arrow`.
        """
        frame: pd.DataFrame = self.arrow(columns, where).to_pandas(types_mapper=pd.ArrowDtype)
        return frame

    def dask(self) -> dd.DataFrame:
        """Open the rows as a Dask frame, one partition for each part."""
        import dask.dataframe as dd  # noqa: PLC0415 - slow to import

        schema = self.dataset().schema
        meta = schema.empty_table().to_pandas(types_mapper=pd.ArrowDtype)
        homes = self._files_by_home(self.parts)
        places = [(home, place) for home, some in homes.items() for place in some]
        frame: dd.DataFrame = (
            dd.from_map(_read_frame, places, store=self._store, schema=schema, meta=meta)
            if places
            else dd.from_pandas(meta, npartitions=1)
        )
        return frame

    def polars(self) -> pl.DataFrame:
        """Read the rows as a Polars frame."""
        frame: pl.DataFrame = needed("polars", "polars", "Table.polars()").DataFrame(self.arrow())
        return frame

    def duckdb(self) -> duckdb.DuckDBPyRelation:
        """Open the table as a DuckDB relation, read when it is asked."""
        opened: duckdb.DuckDBPyRelation = needed("duckdb", "duckdb", "Table.duckdb()").from_arrow(self.dataset())
        return opened

    def spark(self, columns: Sequence[str] | None = None) -> DataFrame:
        """Open the table as a Spark frame, read when it is asked.

        Args:
            columns: Names, in this order; None for all.

        Raises:
            TerminalError: PySpark is missing, Spark has no type for a column, or the data files differ in one.
        """
        from ingestlab.analytics.spark import open_frame  # noqa: PLC0415 - for this alone

        own = schema_of(self._reader, (self.tenant, self.name), self._snapshot.outline()).types
        mixed = [name for name, kinds in own.items() if len({*kinds} - {"null"}) > 1]
        if mixed and _base(self.name) == self.name:
            problem = f"The data files of {self.name} have several types in column '{mixed[0]}'"
            fix = f"`ingestlab rewrite {self.name}` brings them to one."
            raise TerminalError(problem, got=", ".join(own[mixed[0]]), fix=fix, code="types_conflict")
        homes = self._files_by_home(self.parts)
        full = {self._store.full(home): [self._store.full(place) for place in some] for home, some in homes.items()}
        return open_frame(full, self.dataset().schema, columns)

    def __repr__(self) -> str:
        return f"<Table {self.name}: {self.rows:,} rows in {len(self._files)} parts, {self.bytes:,} bytes>"


class Lake:
    """All tables of a tenant."""

    def __init__(self, settings: Settings, tenant: str | None = None) -> None:
        self.tenant = tenant or settings.tenant
        self._settings = settings = settings_for(self.tenant, settings)
        self._store = open_store(settings.lake_url, settings.storage_options)
        self.url = settings.lake_url

    def tables(self) -> list[Table]:
        """List the tables with something committed, by name."""
        return [Table(self._store, tenant, name) for tenant, name in tables_of(self._store) if tenant == self.tenant]

    def table(self, name: str, as_of: AsOf | None = None) -> Table:
        """Open one table; raises TerminalError with the tables there are.

        Args:
            name: Of the table.
            as_of: An earlier state, as :class:`Table` takes it.
        """
        table = Table(self._store, self.tenant, name)
        if not re.fullmatch(NAME, name) or not table.opened():
            names = [t.name for t in self.tables()]
            wanted = f"a table of tenant {self.tenant} ({', '.join(names) or 'none yet'})"
            fix = "`ingestlab tables` lists them." if names else "One is there when a run has published into it."
            raise TerminalError(
                f"There is no '{name}'",
                expected=wanted,
                got=f"'{name}'",
                fix=did_you_mean(name, names, fix),
                code="table_unknown",
            )
        return table if as_of is None else Table(self._store, self.tenant, name, as_of)

    def rejects(self, name: str, *, run: str | None = None, rule: str | None = None) -> pd.DataFrame:
        """Read the rows of a table that were kept aside. Each has its reason and its raw text.

        Args:
            name: The table.
            run: Only those of this run.
            rule: Only those of this rule, ``"less_than"`` or ``"value:less_than"``.
        """
        return self.rejects_table(name).pandas(where=only_rejects(run, rule))

    def rejects_table(self, name: str) -> Table:
        """Open the rejects of a table.

        Args:
            name: The table.
        """
        self.table(name)
        return Table(self._store, self.tenant, layout.rejects(name))

    def rules(self, name: str, run: str | None = None) -> dict[str, int]:
        """Count the rejects of a table by ``column:rule``, the commonest first.

        Args:
            name: The table.
            run: Only those of this run.
        """
        rejects = self.rejects_table(name).arrow(["column", "rule"], only_rejects(run))
        groups = rejects.group_by(["column", "rule"]).aggregate([([], "count_all")]).to_pylist()
        counts = {":".join(filter(None, (g["column"], g["rule"]))): g["count_all"] for g in groups}
        return dict(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))

    def profile(self, table: str, run: str | None = None) -> TableProfile:
        """Describe a table's columns, and compare a run with earlier ones.

        Args:
            table: Its name.
            run: The run to compare; None for the last one.

        Raises:
            TerminalError: There is no such table, or the run published nothing into it.
        """
        if self.table(table).name.endswith(layout.rejects("")):
            raise TerminalError(
                f"'{table}' holds rejects",
                expected="a table of published rows",
                got=f"'{table}'",
                fix="lab.rejects() shows what was kept aside.",
                code="table_unknown",
            )
        return read_profile(self._store, self.tenant, table, run)

    def aggregates(self, table: str) -> list[str]:
        """List a table's aggregates; raises TerminalError if it has none."""
        names = self._aggregate_reader(table).names()
        if not names:
            fix = "Declare one in the pipeline: Pipeline(aggregates={…})."
            raise TerminalError(f"There is no aggregate of table {table}", fix=fix, code="table_unknown")
        return names

    def aggregate(self, table: str, name: str) -> pd.DataFrame:
        """Read an aggregate of all rows that are published now: one row for each group.

        Args:
            table: Its name.
            name: Of the aggregate.

        Raises:
            TerminalError: There is no such table or aggregate.
        """
        summary = self._aggregate_reader(table).read(name)
        frame: pd.DataFrame = summary.to_pandas(types_mapper=pd.ArrowDtype)
        frame.attrs["keys"] = keys_of(summary)
        return frame

    def materialize(self, table: str, name: str, to: str | None = None) -> str:
        """Write an aggregate as one plain Parquet file for other tools. Returns its place.

        Args:
            table: The table.
            name: Its aggregate.
            to: A file or URL; without it, ``aggregates/<tenant>/<table>/<name>.parquet`` in the lake.
        """
        return self._aggregate_reader(table).write(name, to)

    def _aggregate_reader(self, table: str) -> AggregateReader:
        self.table(table)
        return AggregateReader(self._store, self._settings, self.tenant, table)


def only_rejects(run: str | None = None, rule: str | None = None) -> ds.Expression | None:
    """Make the filter of rejects; None for all.

    Args:
        run: The run that brought them.
        rule: The rule, with or without its column before it.
    """
    tests = [pc.field("run") == run] if run is not None else []
    if rule is not None:
        column, _, name = rule.rpartition(":")
        whole = pc.field("rule") == rule
        tests.append(whole | ((pc.field("column") == column) & (pc.field("rule") == name)) if column else whole)
    return reduce(and_, tests) if tests else None


def _arrow_filesystem(store: Store) -> tuple[pafs.FileSystem, str]:
    """Return a store's filesystem for pyarrow, and the lake's root in it."""
    if isinstance(store, ObjectStore):
        return pafs.PyFileSystem(pafs.FSSpecHandler(store.fs)), store.root
    assert isinstance(store, LocalStore)
    return pafs.LocalFileSystem(), store.url.rstrip("/") + "/"


def _base(name: str) -> str:
    """Name the table that a table of rejects or vectors belongs to."""
    return name.removesuffix(layout.rejects("")).removesuffix(layout.beside("", "vectors"))


def _factory(store: Store, folder: str, targets: Sequence[str], schema: pa.Schema) -> ds.FileSystemDatasetFactory:
    """Prepare a dataset of parts. Its schema's metadata says which columns folders name."""
    filesystem, root = _arrow_filesystem(store)
    names = (schema.metadata or {}).get(_FOLDERS, b"").decode().split(",")
    folders = ds.HivePartitioning(pa.schema([schema.field(name) for name in names if name]))
    options: Any = ds.FileSystemFactoryOptions(partitioning=folders, partition_base_dir=root + folder)
    paths = [root + target for target in targets]
    return ds.FileSystemDatasetFactory(filesystem, paths, ds.ParquetFileFormat(), options)


def _read_frame(place: tuple[str, str], *, store: Store, schema: pa.Schema) -> pd.DataFrame:
    """Read one part as a frame, on Dask workers: its folder of the table, and itself."""
    factory = _factory(store, place[0], [place[1]], schema)
    frame: pd.DataFrame = factory.finish(schema).to_table().to_pandas(types_mapper=pd.ArrowDtype)
    return frame
