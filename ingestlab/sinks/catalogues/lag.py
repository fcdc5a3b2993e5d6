"""Notes in the lake on catalogues that lack commits: which table, since when, and why."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from ingestlab.core.errors import IngestError
from ingestlab.interfaces import Store
from ingestlab.lake import layout


@dataclass(frozen=True)
class Lag:
    """A catalogue that lacks commits of a table.

    Attributes:
        tenant: The tenant of the table.
        table: Its name.
        catalogue: Which one.
        since: When a registration first failed, ISO 8601, UTC.
        error: Why the last one did.
    """

    tenant: str
    table: str
    catalogue: str
    since: str
    error: IngestError

    def to_dict(self) -> dict[str, str]:
        """Write it as plain data, for programs."""
        why = str(self.error)
        return {
            "tenant": self.tenant,
            "table": self.table,
            "catalogue": self.catalogue,
            "since": self.since,
            "why": why,
        }

    def __str__(self) -> str:
        return f"{self.table} lacks commits in {self.catalogue} since {self.since[:19]}: {self.error}"


def note_lag(store: Store, tenant: str, table: str, catalogue: str, error: IngestError) -> None:
    """Note that a catalogue lacks commits. The time of the first failure stays."""
    path = _path(tenant, table, catalogue)
    since = next((lag.since for lag in lags(store, tenant, table) if lag.catalogue == catalogue), _now())
    store.write(path, json.dumps({"since": since, "error": error.to_dict()}).encode())


def clear_lag(store: Store, tenant: str, table: str, catalogue: str) -> None:
    """Note that a catalogue has all commits.

    Args:
        store: The lake.
        tenant: Whose table.
        table: Its name.
        catalogue: Which one.
    """
    path = _path(tenant, table, catalogue)
    if store.exists(path):
        store.delete(path)


def lags(store: Store, tenant: str = "", table: str = "") -> Iterator[Lag]:
    """Read which catalogues lack commits: of all tables, or of one.

    Args:
        store: The lake.
        tenant: Whose tables; empty for all.
        table: Its name; empty for all.
    """
    for path in store.walk(layout.unregistered(tenant, table)):
        *_, owner, name, file = path.split("/")
        try:
            text = json.loads(store.read(path))
        except FileNotFoundError:  # it has just been registered
            continue
        yield Lag(owner, name, file.removesuffix(".json"), text["since"], IngestError.from_dict(text["error"]))


def _path(tenant: str, table: str, catalogue: str) -> str:
    return f"{layout.unregistered(tenant, table)}/{catalogue}.json"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
