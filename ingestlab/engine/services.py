"""What a process keeps from job to job: settings, the lake with its locks, and the cluster."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cached_property

from ingestlab.core.settings import Settings
from ingestlab.executors.choice import open_executor
from ingestlab.interfaces import Executor, Store
from ingestlab.lake.lake import Lake
from ingestlab.lake.locks import Locks, connect
from ingestlab.lake.storage.store import open_store
from ingestlab.lake.table import Table
from ingestlab.sinks.opening import Sinks


@dataclass(frozen=True)
class Services:
    """The connections of a process; each is made on first use.

    Attributes:
        settings: Where everything is.
        store: The files of the lake.
        locks: Its locks.
        cluster: Where tasks run.
    """

    settings: Settings
    store: Store
    locks: Locks
    cluster: Executor

    @classmethod
    def create(cls, settings: Settings, locks: Locks | None = None) -> Services:
        """Open the lake; the Dask client connects when it is first needed.

        Args:
            settings: Where everything is.
            locks: Of this lake, if they are there already.
        """
        store = open_store(settings.lake_url, settings.storage_options)
        own = locks or Locks(connect(settings.redis), settings.lake_url, settings.lock_ttl)
        return cls(settings, store, own, open_executor(settings))

    @classmethod
    @contextmanager
    def opened(cls, settings: Settings) -> Iterator[Services]:
        """Open a lake outside a worker (CLI, notebook). The Dask client is closed at the end."""
        services = cls.create(settings)
        with closing(services.cluster):
            yield services

    @cached_property
    def lake(self) -> Lake:
        """The lake, with the sinks that its commits fill."""
        sinks = Sinks(self.settings, self.store, self.cluster)
        s = self.settings
        return Lake(self.store, self.locks, sinks, s.log_days, s.run_days, s.history_days)

    def table(self, tenant: str, name: str) -> Table:
        """Give a table of the lake; there need not be one yet.

        Args:
            tenant: Whose table.
            name: Of the table.
        """
        return Table(self.lake, tenant, name)
