"""Delta Lake: the data files of a table in a Delta log, which is in the table's folder.

Delta's readers look for `_delta_log` there, and find the files by relative paths, so a lake can be moved. The log has
no checkpoints: they are Parquet files, which Dask, DuckDB and others would read as rows of the table. Its entries are
compacted as JSON in their place.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import pyarrow as pa

from ingestlab.core.errors import TerminalError
from ingestlab.core.extras import needed
from ingestlab.core.models import DataFile
from ingestlab.core.settings import Settings
from ingestlab.interfaces import Store
from ingestlab.lake import layout
from ingestlab.sinks.catalogues.catalogue import Catalogue, Version, partition_values
from ingestlab.sinks.catalogues.sink import CatalogueSink
from ingestlab.sinks.catalogues.storage import DELTA, s3_options

if TYPE_CHECKING:
    import deltalake

COMPACT = 100  # versions after which the log is compacted
_NEVER = {"delta.checkpointInterval": "1000000000"}


class DeltaSink(CatalogueSink):
    """Register tables as Delta tables."""

    name = "delta"

    def opened(self, tenant: str, table: str) -> Catalogue:
        """Open the Delta log of a table."""
        return DeltaEntry(self.settings, self.store, tenant, table)


class DeltaEntry(Catalogue):
    """The Delta log of a table."""

    def __init__(self, settings: Settings, store: Store, tenant: str, table: str) -> None:
        self._delta = needed("deltalake", "delta", 'publish_as="delta"')
        self._transaction = needed("deltalake.transaction", "delta", 'publish_as="delta"')
        self._home, self._app, self._name = layout.table(tenant, table), f"ingestlab:{tenant}/{table}", table
        self._place = store.full(self._home)
        self._options = s3_options(settings, DELTA)
        if self._options.get("aws_endpoint_url", "").startswith("http:"):
            self._options["aws_allow_http"] = "true"
        self._options |= {"connect_timeout": f"{settings.connect_timeout:.0f}s", "timeout": "60s"}

    @cached_property
    def _found(self) -> deltalake.DeltaTable | None:
        if not self._delta.DeltaTable.is_deltatable(self._place, self._options):
            return None
        opened: deltalake.DeltaTable = self._delta.DeltaTable(self._place, storage_options=self._options)
        return opened

    @property
    def _table(self) -> deltalake.DeltaTable:
        assert self._found is not None
        return self._found

    def sequence(self) -> int | None:
        """Return the version of our transactions in the log."""
        if self._found is None:
            return None
        number: int | None = self._table.transaction_version(self._app)
        if number is None:
            problem = f"The folder of table {self._name} has a Delta log of another program"
            fix = 'Remove its _delta_log, or leave "delta" out of publish_as; then `ingestlab reconcile`.'
            raise TerminalError(problem, fix=fix, code="catalogue_conflict")
        return number

    def differs(self, version: Version) -> bool:
        """Compare the data files."""
        return self._targets() != {file.target for file in version.added}

    def register(self, version: Version) -> None:
        """Write a version; new columns come in one before it."""
        schema = self._delta.Schema.from_arrow(version.schema)
        if self._found is None:
            self._begin(version, schema, "error")
        else:
            self._go_on(version, schema)
        del self._found
        last = self._table.version()
        if last and last % COMPACT == 0:
            self._compact()

    def _targets(self) -> set[str]:
        """Return the data files of the latest version."""
        if self._found is None:
            return set()
        paths = pa.table(self._table.get_add_actions(flatten=True))["path"].to_pylist()
        return {f"{self._home}/{unquote(path)}" for path in paths}

    def _begin(self, version: Version, schema: Any, mode: str) -> None:
        """Write all files, under a schema of their own."""
        self._transaction.create_table_with_add_actions(
            self._place,
            schema,
            [self._added(file) for file in version.added],
            mode=mode,
            partition_by=list(version.folders),
            configuration=_NEVER,
            storage_options=self._options,
            commit_properties=self._properties(version),
            post_commithook_properties=self._hooks,
        )

    def _go_on(self, version: Version, schema: Any) -> None:
        differs = self._differs(version, schema)
        have = self._targets() if differs or version.whole or version.removed else set()
        wanted = {file.target for file in version.added}
        removed = have - wanted if version.whole else have & version.removed
        if differs:
            if not version.whole and have - removed:
                problem = f"Columns of table {self._name} have other types or folders than its Delta table"
                fix = f"`ingestlab rewrite {self._name}` brings all data files to one schema."
                raise TerminalError(problem, fix=fix, code="catalogue_conflict")
            self._begin(version, schema, "overwrite")
            return
        if fields := self._new_fields(schema):
            self._table.alter.add_columns(fields, post_commithook_properties=self._hooks)
            del self._found
        self._table.create_write_transaction(
            [*self._removed(removed), *(self._added(file) for file in version.added if file.target not in have)],
            "append",
            self._table.schema(),
            self._table.metadata().partition_columns,
            commit_properties=self._properties(version),
            post_commithook_properties=self._hooks,
        )

    def _differs(self, version: Version, schema: Any) -> bool:
        """Tell whether files cannot stand beside those that are there."""
        if not version.added:
            return False
        known = {field.name: field for field in self._table.schema().fields}
        other = any(known.get(field.name, field) != field for field in schema.fields)
        return other or list(version.folders) != self._table.metadata().partition_columns

    def _new_fields(self, schema: Any) -> list[Any]:
        known = {field.name for field in self._table.schema().fields}
        return [field for field in schema.fields if field.name not in known]

    def _added(self, file: DataFile) -> Any:
        return self._transaction.AddAction(
            path=file.target.removeprefix(f"{self._home}/"),
            size=file.size,
            partition_values=partition_values(file.target),
            modification_time=int(time.time() * 1000),
            data_change=True,
            stats=json.dumps({"numRecords": file.rows}),
        )

    def _removed(self, targets: set[str]) -> Sequence[Any]:
        now = int(time.time() * 1000)
        paths = (target.removeprefix(f"{self._home}/") for target in sorted(targets))
        return [self._transaction.RemoveAction(path, data_change=True, deletion_timestamp=now) for path in paths]

    def _properties(self, version: Version) -> Any:
        mark = self._transaction.Transaction(self._app, version.sequence)
        return self._transaction.CommitProperties(custom_metadata=version.properties, app_transactions=[mark])

    @property
    def _hooks(self) -> Any:
        return self._transaction.PostCommitHookProperties(create_checkpoint=False, cleanup_expired_logs=False)

    def _compact(self) -> None:
        """Compact the log. A version stands without it, and a later one tries again."""
        try:
            self._table.compact_logs(0, self._table.version())
        except Exception as error:  # noqa: BLE001 - as said
            logging.getLogger("ingestlab").warning("the Delta log of %s is not compacted: %s", self._name, error)
