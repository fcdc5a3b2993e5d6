"""A lake: its files, its locks, and the sinks that its commits fill."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import inf

from ingestlab.core.models import Manifest
from ingestlab.interfaces import Sink, Store
from ingestlab.lake import layout
from ingestlab.lake.locks import Locks
from ingestlab.lake.log import TransactionLog, load_manifest
from ingestlab.lake.source_index import SourceIndex


@dataclass(frozen=True)
class Lake:
    """What all tables of a lake share.

    Attributes:
        store: The files.
        locks: Of its sources, batches and tables.
        sinks: By name, in the order in which commits fill them. A commit fills those that it names.
        log_days: Days after which commits are forgotten of which nothing is live.
        run_days: Days after which the records of runs are forgotten.
        history_days: Days for which replaced files are kept, and the entries that tell of them.
    """

    store: Store
    locks: Locks
    sinks: Mapping[str, Sink] = field(default_factory=dict)
    log_days: float = inf
    run_days: float = inf
    history_days: float = 0

    def sinks_of(self, manifest: Manifest) -> list[Sink]:
        """Give the sinks that a commit names, in their order.

        Raises:
            TerminalError: One is not installed, and there is something for it.
        """
        filled = {name for name, staged in manifest.sinks.items() if staged.files or staged.note}
        names = [name for name in self.sinks if name in manifest.sinks]
        return [self.sinks[name] for name in (*names, *sorted(filled.difference(names)))]

    def index(self, tenant: str, name: str) -> SourceIndex:
        """Give the index of the committed sources of a table.

        Args:
            tenant: Whose table.
            name: Of the table.
        """
        return SourceIndex(self.locks.client, f"{self.locks.prefix}index:{tenant}:{name}")

    def log(self, tenant: str, name: str) -> TransactionLog:
        """Give the log of a table.

        Args:
            tenant: Whose table.
            name: Of the table.
        """
        return TransactionLog(self.store, tenant, name)

    def intents(self, tenant: str = "", name: str = "") -> Iterator[Manifest]:
        """Read the intents of commits that are not finished: of all tables, or of one.

        Args:
            tenant: Whose table; empty for all.
            name: Of the table; empty for all.
        """
        paths = list(self.store.walk(layout.intents(tenant, name)))
        return (intent for path in paths if (intent := load_manifest(self.store, path)))
