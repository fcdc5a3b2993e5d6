"""Earlier states of a table: what was live after an entry of its log, and where those files are now."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, NamedTuple

from ingestlab.core.errors import TerminalError
from ingestlab.core.models import AGGREGATES, Manifest
from ingestlab.interfaces import Store
from ingestlab.lake import layout
from ingestlab.lake.kept_files import place_of
from ingestlab.lake.log import TransactionLog
from ingestlab.lake.snapshot import Snapshot

AsOf = str | int | date  # a run, a time, or the number of a log entry
_NUMBER = re.compile(r"\d{1,10}")


@dataclass(frozen=True)
class Past:
    """A table after an entry of its log.

    Attributes:
        number: Of the entry.
        snapshot: What was live.
        places: Where the files are that were replaced since, by target.
    """

    number: int
    snapshot: Snapshot
    places: Mapping[str, str]

    def reader(self, store: Store) -> Any:
        """Give a store that finds the state's files under their targets."""
        return _PastStore(store, self.places)


class _PastStore:
    """A store in which replaced files can be read where they were."""

    def __init__(self, store: Store, places: Mapping[str, str]) -> None:
        self._store, self._places = store, places

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def read(self, path: str, start: int = 0, stop: int | None = None) -> bytes:
        return self._store.read(self._places.get(path, path), start, stop)

    def size(self, path: str) -> int:
        return self._store.size(self._places.get(path, path))


class KnownFile(NamedTuple):
    """What a log knows of a published file.

    Attributes:
        number: Of the entry that published it, or of the checkpoint's.
        sink: Of which it is.
        rows: In it.
        size: In bytes.
        sources: The URIs that have rows in it.
    """

    number: int
    sink: str
    rows: int
    size: int
    sources: tuple[str, ...]


def known_files(log: TransactionLog, entries: Iterable[Manifest]) -> dict[str, KnownFile]:
    """Collect the files that a log knows, by target: those of its oldest checkpoint, and of later entries.

    Args:
        log: Of the table.
        entries: All that it remembers.
    """
    base = log.oldest_base()
    columns = ("key", "number", "item", "rows", "size", "uris")
    rows = log.at(base).files.select(columns).to_pylist() if base else ()
    files = {
        row["key"]: KnownFile(row["number"], row["item"], row["rows"], row["size"], tuple(row["uris"] or ()))
        for row in rows
    }
    for m in entries:
        for sink, staged in m.sinks.items():
            files |= {f.target: KnownFile(m.sequence, sink, f.rows, f.size, tuple(f.sources)) for f in staged.files}
    return files


def open_past(log: TransactionLog, as_of: AsOf, folder: str) -> Past:
    """Open an earlier state of a table.

    Args:
        log: Of the table.
        as_of: A run (the state after its last commit), a time, or the number of an entry.
        folder: Of the files that are needed.

    Raises:
        TerminalError: There is no such state, or files of it are no longer kept.
    """
    entries = log.history()
    number = find_entry(entries, as_of, log.table).sequence
    snapshot = log.at(number)
    targets = (target for item, target in snapshot.targets() if item != AGGREGATES and target.startswith(folder))
    places, gone = places_of(targets, number, entries, log)
    if gone:
        problem = f"{len(gone):,} data files of table {log.table} after entry {number} are no longer kept"
        fix = f"`ingestlab history {log.table}` shows what can be read. INGESTLAB_HISTORY_DAYS says how long."
        raise TerminalError(problem, fix=fix, code="history_gone")
    return Past(number, snapshot, places)


def places_of(
    targets: Iterable[str], number: int, entries: Iterable[Manifest], log: TransactionLog
) -> tuple[dict[str, str], list[str]]:
    """Find files that were live after an entry.

    Args:
        targets: Where they were published.
        number: Of the entry.
        entries: All that the log remembers.
        log: Of the table.

    Returns:
        The places of those that were replaced since and are kept, by target; and the targets of those that are gone.
    """
    live, later = set(targets), (m for m in entries if m.sequence > number)
    moved = {target: place_of(m, target) for m in later for target in m.replaced if target in live}
    kept = set(log.store.walk(layout.kept(log.tenant, log.table))) if moved else set()
    places = {target: place for target, place in moved.items() if place in kept}
    return places, [target for target in moved if target not in places and not log.store.exists(target)]


def find_entry(entries: Sequence[Manifest], as_of: AsOf, table: str) -> Manifest:
    """Find an entry by run, time or number.

    Args:
        entries: All that the log remembers, oldest first.
        as_of: The last of a run, the last before a time, or that of a number; text may be any of them. A time
            without zone is a local one.
        table: Its name, for the error.

    Raises:
        TerminalError: There is none.
    """
    chosen = [m for m in entries if m.run == as_of] or _numbered(entries, as_of) or _before(entries, as_of)
    if chosen:
        return chosen[-1]
    first = f"since {entries[0].committed_at[:16].replace('T', ' ')} UTC" if entries else "none"
    raise TerminalError(
        f"Table {table} has no state as of {as_of}",
        expected=f"a run, a time, or the number of an entry that the log remembers ({first})",
        got=str(as_of),
        fix=f"`ingestlab history {table}` lists them.",
        code="history_gone",
    )


def _numbered(entries: Iterable[Manifest], as_of: AsOf) -> list[Manifest]:
    if not isinstance(as_of, int) and not (isinstance(as_of, str) and _NUMBER.fullmatch(as_of)):
        return []
    return [m for m in entries if m.sequence == int(as_of)]


def _before(entries: Iterable[Manifest], as_of: AsOf) -> list[Manifest]:
    try:
        moment = datetime.fromisoformat(str(as_of)).astimezone()
    except ValueError:
        return []
    return [m for m in entries if datetime.fromisoformat(m.committed_at) <= moment]
