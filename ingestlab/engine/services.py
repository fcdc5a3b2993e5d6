"""What a process keeps from job to job: settings, the lake with its locks, and the cluster."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property

from ingestlab.core.settings import Settings
from ingestlab.core.tenants import Tenant
from ingestlab.executors.choice import open_executor
from ingestlab.interfaces import Executor, Store
from ingestlab.lake.lake import Lake
from ingestlab.lake.locks import Locks, connect
from ingestlab.lake.storage.store import open_store
from ingestlab.lake.table import Table
from ingestlab.lake.tenants import resolve
from ingestlab.sinks.opening import Sinks


@dataclass(frozen=True)
class Services:
    """The connections of a process; each is made on first use.

    Attributes:
        settings: Where everything is.
        store: The files of the lake.
        locks: Its locks.
        cluster: Where tasks run.
        tenant: For whom these are, if it has an entry.
    """

    settings: Settings
    store: Store
    locks: Locks
    cluster: Executor
    tenant: Tenant | None = None

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

    def of(self, tenant: str) -> Services:
        """Give the services with which to act for a tenant: narrowed settings, and its own lake if it has one.

        Args:
            tenant: Its name.

        Raises:
            TerminalError: There is no such tenant.
            TransientError: What it may use cannot be read.
        """
        settings, entry = resolve(tenant, self.settings)
        if settings is self.settings or (self.tenant and settings == self.settings):
            return self
        own = settings.lake_url, settings.storage_options
        if own == (self.settings.lake_url, self.settings.storage_options):
            return replace(self, settings=settings, tenant=entry)
        store, client = open_store(*own), self.locks.client
        return Services(settings, store, Locks(client, settings.lake_url, settings.lock_ttl), self.cluster, entry)

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
