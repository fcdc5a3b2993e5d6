"""Replaced files: they leave the folder of their table, and are kept for a while.

On a disk a file is renamed, on an object store copied. Those that were replaced in one hour are in one folder, which
goes when its retention ends.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from math import inf

from ingestlab.core.models import Manifest
from ingestlab.interfaces import Store
from ingestlab.lake import layout


def retire(manifest: Manifest, home: str, store: Store, days: float) -> None:
    """Take the files that a commit replaces out of a folder. Twice is as once.

    Args:
        manifest: The commit; its log entry is there.
        home: What the paths of the files begin with.
        store: The lake.
        days: For how many days they are kept; 0 deletes them.
    """
    targets = [target for target in manifest.replaced if target.startswith(home)]
    if not days:
        store.delete_files(targets)
        return
    for target in targets:
        with suppress(FileNotFoundError):  # it was kept by an earlier try, and its time is over
            store.move(target, place_of(manifest, target))


def place_of(manifest: Manifest, target: str) -> str:
    """Name the place of a file that a commit has replaced.

    Args:
        manifest: The commit.
        target: Where the file was published.
    """
    return layout.kept_file(manifest.tenant, manifest.table, manifest.committed_at, target)


def expire(store: Store, tenant: str, name: str, days: float = inf) -> None:
    """Remove a table's kept files that are older than the retention.

    Args:
        store: The lake.
        tenant: Whose table.
        name: Of the table.
        days: The retention. A file counts by the end of the hour in which it was replaced; 0 removes all.
    """
    if days == inf:
        return
    home, oldest = layout.kept(tenant, name), f"{datetime.now(UTC) - timedelta(days=days):%Y%m%d-%H}"
    for hour in store.children(home):
        if hour < oldest or not days:
            store.delete(f"{home}/{hour}")
