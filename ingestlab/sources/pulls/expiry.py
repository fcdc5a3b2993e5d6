"""Removes the pages of pulls that nobody goes on with."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from ingestlab.interfaces import Store
from ingestlab.lake import layout

DAYS = 7.0  # as long as a failed job can be tried again, by default


def expire_pulls(store: Store, days: float = DAYS) -> list[str]:
    """Remove waiting pages of which the last came long ago.

    Args:
        store: The lake.
        days: So long ago, at least.

    Returns:
        The folders of the pulls.
    """
    limit = (datetime.now(UTC) - timedelta(days=days)).isoformat(timespec="milliseconds")
    old = [place for place in _places(store) if (last := _last_page(place, store)) and last < limit]
    for place in old:
        store.delete(place)
    return old


def _places(store: Store) -> Iterator[str]:
    """Yield the folders of pulls."""
    for tenant in store.children(layout.raw()):
        for pipeline in store.children(layout.raw(tenant)):
            home = layout.pulls(tenant, pipeline)
            for source in store.children(home):
                yield from (f"{home}/{source}/{pull}" for pull in store.children(f"{home}/{source}"))


def _last_page(place: str, store: Store) -> str:
    """Tell when the last page came. Empty if none did."""
    times = []
    for path in store.walk(place):
        if path.endswith("/notes.jsonl"):
            times += [json.loads(line)["time"] for line in store.read(path).rpartition(b"\n")[0].splitlines()[-1:]]
        elif path.endswith(".pages"):
            times += [note["time"] for note in json.loads(store.read(path).partition(b"\n")[0])]
    return max(times, default="")
