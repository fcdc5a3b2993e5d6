"""What the sinks of catalogues have in common: they follow the log of a table, entry by entry.

A catalogue knows the number of the last log entry that it has. Whoever has written an entry registers all that the
catalogue lacks, in order, so a catalogue that was away is level again with the next commit, or with `reconcile`. That
it is away does not undo a commit: a note in the lake says so until all is registered.
"""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, ClassVar

from ingestlab.core.errors import IngestError, TerminalError, TransientError
from ingestlab.core.models import Manifest
from ingestlab.core.settings import Settings
from ingestlab.interfaces import Executor, Live, Rows, Sink, Store, Writer, Written
from ingestlab.lake.arrow_schema import ADDED
from ingestlab.lake.locks import Locks, catalogue_lock, connect
from ingestlab.lake.log import TransactionLog
from ingestlab.lake.table_schema import schema_of
from ingestlab.pipeline.catalogues import CatalogueName, check_columns
from ingestlab.sinks.catalogues.catalogue import Catalogue, Version, of_entry, of_table
from ingestlab.sinks.catalogues.lag import clear_lag, note_lag

PATIENCE = 60.0  # seconds to wait for others that register the same table


class CatalogueWriter(Writer):
    """Check the columns of a task; the data files are another sink's."""

    def stage(self, rows: Rows) -> Written:
        """Stage nothing.

        Raises:
            TerminalError: A catalogue of the pipeline cannot hold a column.
        """
        kinds = {field.name: field.type for field in rows.table.schema if field.name not in ADDED}
        if rows.table.num_rows:
            check_columns(self.to.pipeline.catalogues, kinds, self.to.pipeline.folders, f"Table {self.to.table}")
        return Written()


class CatalogueSink(Sink):
    """Register the data files of tables in a catalogue."""

    name: ClassVar[CatalogueName]
    by_file: ClassVar[bool] = True  # whether it knows the files; else, what is left of a folder is looked up
    writer = CatalogueWriter

    def __init__(self, settings: Settings, store: Store, cluster: Executor) -> None:  # noqa: ARG002 - as all sinks
        self.settings, self.store = settings, store

    @abstractmethod
    def opened(self, tenant: str, table: str) -> Catalogue:
        """Open the entry of a table. What it is asked and told may need a server.

        Raises:
            TerminalError: The package behind it is missing, or a setting.
        """

    @classmethod
    def takes(cls, pipeline: Any) -> bool:
        """Tell whether a pipeline is published in this catalogue."""
        return cls.name in pipeline.catalogues

    def check(self, code: Any, history: Callable[[], Sequence[Manifest]]) -> None:  # noqa: ARG002 - as all sinks
        """Check that package and settings are there. A server may be away.

        Raises:
            TerminalError: A package or a setting is missing.
        """
        self.opened("", "")

    def finish(self, manifest: Manifest) -> None:
        """Register what the catalogue lacks of the table."""
        self._follow(manifest.tenant, manifest.table)

    def verify(self, tenant: str, table: str, live: Live) -> Sequence[str]:
        """Tell whether catalogue and log differ. The answer names catalogue and table, for it has no sources."""
        try:
            version = self._all(tenant, table, live.manifests())
            differs = self.opened(tenant, table).differs(version)
        except Exception as error:  # noqa: BLE001 - each client raises its own, and others have to be verified
            self._note(tenant, table, error)
            return ()
        if not differs:
            clear_lag(self.store, tenant, table, self.name)
        return (f"{self.name}:{table}",) if differs else ()

    def restore(self, tenant: str, table: str, uris: Sequence[str], live: Live) -> None:  # noqa: ARG002 - of no sources
        """Bring the catalogue in line with the log."""
        self._follow(tenant, table)
        if self.verify(tenant, table, live):
            self._follow(tenant, table, whole=True)

    def _follow(self, tenant: str, table: str, *, whole: bool = False) -> None:
        """Register what is missing, or note why that is not possible."""
        try:
            self._register(tenant, table, whole=whole)
        except Exception as error:  # noqa: BLE001 - whatever it is, the commit stands
            self._note(tenant, table, error)
        else:
            clear_lag(self.store, tenant, table, self.name)

    def _register(self, tenant: str, table: str, *, whole: bool) -> None:
        with Locks(connect(self.settings.redis), self.settings.lake_url, self.settings.lock_ttl).lease() as lease:
            lease.wait_for([catalogue_lock(tenant, table, self.name)], PATIENCE)
            catalogue = self.opened(tenant, table)
            known = catalogue.sequence()
            if not whole and known is not None and (entries := self._entries(tenant, table, known)) is not None:
                with suppress(TerminalError):  # one that does not fit may be followed by a rewrite that does
                    for entry in entries:
                        catalogue.register(of_entry(entry))
                    return
            version = self._all(tenant, table, TransactionLog(self.store, tenant, table).snapshot().manifests())
            if version.added or known is not None:
                catalogue.register(version)

    def _entries(self, tenant: str, table: str, known: int) -> list[Manifest] | None:
        """Read the entries that change data files. None if they do not say all that is to be known."""
        entries = TransactionLog(self.store, tenant, table).since(known)
        if entries is None or any(entry.parts and not entry.types for entry in entries):
            return None
        if not self.by_file and any(entry.replaced for entry in entries):
            return None
        return [entry for entry in entries if entry.parts or entry.replaced]

    def _all(self, tenant: str, table: str, history: Sequence[Manifest]) -> Version:
        """Describe all that is live."""
        return of_table(history[-1], history, schema_of(self.store, (tenant, table), history))

    def _note(self, tenant: str, table: str, error: Exception) -> None:
        reason = error if isinstance(error, IngestError) else self._away(error)
        logging.getLogger("ingestlab").warning("table %s is not registered in %s: %s", table, self.name, reason)
        note_lag(self.store, tenant, table, self.name, reason)

    def _away(self, error: Exception) -> IngestError:
        problem, fix = f"{self.name} does not answer", "The next commit, or `ingestlab reconcile`, tries again."
        return TransientError.wrap(error, problem, fix, code="catalogue_unavailable")
