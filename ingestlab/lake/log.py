"""The log of a table: numbered entries, one a commit, of which each can be created once only.

An entry is a :class:`Manifest` in a file named by its number. The store refuses to create a name twice (a link on
a disk, a conditional put on an object store), so it alone decides the order of commits. Who commits reads the tip,
and tries the next number; where another commit has it, that one is read, and if the two do not exclude each other
the next number is tried. Redis has no say in it.

    log = TransactionLog(store, tenant, table)
    base = log.tip()                       # before the locks are checked for the last time
    entry = log.append(manifest, base)     # the moment of the commit; raises if a later entry excludes it
    log.find(batch, after=intent.sequence) # was that batch committed? An intent's `sequence` is the tip before it

    log.snapshot()                         # what is live: the newest checkpoint and the entries after it
    log.fold(days=30)                      # after a commit: writes a checkpoint where one is due

Every hundred entries are folded into a checkpoint, which harms nothing if it fails: the next commit writes it.
Entries that are folded and older than the retention are removed, but for those of which an intent still asks.

Versions before 0.2 wrote manifests without numbers, named by their batches. They are the beginning of the log;
the first entry gets the number after the largest `sequence` of theirs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import inf
from typing import Any

from ingestlab.core.archive_uri import container
from ingestlab.core.errors import BusySourceError, LostLeaseError, TerminalError, TransientError
from ingestlab.core.models import AGGREGATES, PARQUET, REJECTS, DataFile, Manifest, SourceRecord
from ingestlab.core.signed_uri import bare
from ingestlab.interfaces import Store
from ingestlab.lake import layout
from ingestlab.lake.locks import AGAIN
from ingestlab.lake.snapshot import Snapshot

EVERY = 100  # entries that a checkpoint folds, at least
KEPT = 10  # checkpoints: whoever has opened a table can still read it
ROWS = (PARQUET, REJECTS)  # the sinks that have every row of every source
_TRIES = 5


@dataclass(frozen=True)
class TransactionLog:
    """The log of one table.

    Args:
        store: The lake.
        tenant: The tenant of the table.
        table: Its name.
    """

    store: Store
    tenant: str
    table: str

    def tip(self) -> int:
        """Return the number of the last entry; 0 if there is none."""
        folded = self._folded()[-1:]
        numbers = self._numbers(*folded) or folded
        return numbers[-1] if numbers else max((m.sequence for m in self._unnumbered()), default=0)

    def snapshot(self) -> Snapshot:
        """Read what is live now.

        Raises:
            TransientError: Checkpoints were removed as fast as they were looked up.
        """
        for _ in range(_TRIES):
            number = next(iter(self._folded()[-1:]), 0)
            numbers = self._numbers(number)
            tail = list(self._load(numbers))
            first = number + 1 if number else next(iter(numbers), 1)
            if [entry.sequence for entry in tail] == list(range(first, first + len(tail))):
                before = [] if number else self._unnumbered()
                return Snapshot(self.store, (self.tenant, self.table), number, [*before, *tail])
        problem = f"The log of {self.table} kept changing while it was being read"
        raise TransientError(problem, fix="Try again.", code="lake_busy")

    def records(self) -> Iterator[SourceRecord]:
        """Read the records of the sources, the last of each last."""
        return self.snapshot().records()

    def at(self, number: int) -> Snapshot:
        """Read what was live after an entry.

        Raises:
            TerminalError: The log does not reach so far back.
        """
        base = max((folded for folded in self._folded() if folded <= number), default=0)
        before = [] if base else self._unnumbered()
        first = base or max((manifest.sequence for manifest in before), default=0)
        tail = list(self._load(n for n in self._numbers(base) if n <= number))
        if first > number or [entry.sequence for entry in tail] != list(range(first + 1, number + 1)):
            problem = f"The log of table {self.table} does not reach back to entry {number}"
            raise TerminalError(
                problem, fix=f"`ingestlab history {self.table}` lists what it has.", code="history_gone"
            )
        return Snapshot(self.store, (self.tenant, self.table), base, [*before, *tail])

    def oldest_base(self) -> int:
        """Return the number of the oldest checkpoint. It is 0 for a whole log."""
        numbers = self._numbers()
        begins = max((manifest.sequence for manifest in self._unnumbered()), default=0) + 1
        whole = not numbers or numbers[0] == begins
        return 0 if whole else next(iter(self._folded()), 0)

    def fold(self, days: float = inf, *, expire: bool = False, history: float = 0) -> bool:
        """Write a checkpoint if one is due. Then remove folded entries older than the retention.

        Args:
            days: The retention: how long commits are remembered of which nothing is live.
            expire: Remove it even if no checkpoint is due.
            history: For how many days earlier states can be read. Their entries stay, and a checkpoint a day.

        Returns:
            Whether a checkpoint was due.
        """
        folded = self._folded()
        number = next(iter(folded[-1:]), 0)
        numbers = self._numbers(number)
        due = len(numbers) >= EVERY or (not number and bool(self._unnumbered_paths()))
        if due or (expire and days < inf):
            needed = self._needed(folded, history) if history else [number + 1]
            if due:
                self.snapshot().write()
                old = (n for n in folded[: -KEPT + 1] if n not in needed)
                self.store.delete_files(layout.checkpoint(self.tenant, self.table, n) for n in old)
            if days < inf:
                self._expire(needed[0] - 1, datetime.now(UTC) - timedelta(days=max(days, history)))
        return due

    def _needed(self, folded: Sequence[int], days: float) -> list[int]:
        """Pick the checkpoints from which earlier states are read.

        Returns:
            The last one before the retention, or 0; and the last of each day since.
        """
        limit = datetime.now(UTC) - timedelta(days=days)
        by_day: dict[str, int] = {}
        old = 0
        for entry in self._load(folded):
            if datetime.fromisoformat(entry.committed_at) <= limit:
                old = entry.sequence
            else:
                by_day[entry.committed_at[:10]] = entry.sequence
        return [old, *by_day.values()]

    def append(
        self,
        manifest: Manifest,
        base: int,
        agree: Callable[[Manifest], None] = lambda _entry: None,
        *,
        decided: bool = False,
    ) -> Manifest:
        """Write a commit under the next free number.

        Args:
            manifest: The commit.
            base: The tip that the commit has seen; every later entry is checked against it.
            agree: Is given each of these entries, and raises if the commit may not follow it.
            decided: Another table's entry has decided that the commit stands, whatever came in between.

        Returns:
            The manifest with its number.

        Raises:
            LostLeaseError: Another job has committed the batch, or sources or replaced files of it.
            BusySourceError: What a sink has was rebuilt meanwhile.
        """
        number = base + 1
        while True:
            entry = manifest.model_copy(update={"sequence": number})
            if self.store.create(layout.entry(self.tenant, self.table, number), entry.model_dump_json().encode()):
                return entry
            stored = self._entry(number)
            if (stored.batch, stored.owner) == (manifest.batch, manifest.owner):
                return stored  # the answer to an earlier try was lost
            if not decided:
                _check_compatible(manifest, stored)
                agree(stored)
            number += 1

    def find(self, batch: str, after: int | None = None) -> Manifest | None:
        """Find the commit of a batch; None if it was not committed.

        Args:
            batch: Its name.
            after: Look through every entry after this number. Without it, only at what is live and at the latest
                entries, which costs little.
        """
        if after is None:
            snapshot = self.snapshot()
            return next((m for m in reversed(snapshot.tail) if m.batch == batch), None) or snapshot.find(batch)
        paths = [layout.entry(self.tenant, self.table, number) for number in reversed(self._numbers(after))]
        texts = zip(paths, self.store.read_files(paths), strict=True)
        mine = (_parsed(self.store, path, text) for path, text in texts if text and batch.encode() in text)
        entry = next((manifest for manifest in mine if manifest.batch == batch), None)
        return entry or load_manifest(self.store, layout.manifest(self.tenant, self.table, batch))

    def mentions(self, text: str) -> bool:
        """Tell whether an entry has a text."""
        paths = [layout.entry(self.tenant, self.table, number) for number in self._numbers()]
        return any(text.encode() in data for data in self.store.read_files(paths) if data)

    def since(self, number: int) -> list[Manifest] | None:
        """Read the entries after one, oldest first. None if some of them are not remembered.

        Args:
            number: Of the entry.
        """
        entries = list(self._load(self._numbers(number)))
        last = number + len(entries)
        whole = [entry.sequence for entry in entries] == list(range(number + 1, last + 1))
        return entries if whole and (entries or self.tip() <= number) else None

    def history(self) -> list[Manifest]:
        """Read all commits that the lake remembers, oldest first."""
        return [*self._unnumbered(), *self._load(self._numbers())]

    def _entry(self, number: int) -> Manifest:
        path = layout.entry(self.tenant, self.table, number)
        return _parsed(self.store, path, self.store.read(path))

    def _numbers(self, after: int = 0) -> list[int]:
        """List the numbers of the entries after one, ascending."""
        names = self.store.children(layout.logs(self.tenant, self.table))
        folders = [
            f"{layout.logs(self.tenant, self.table)}/{n}" for n in names if n.isdigit() and int(n) >= after // 100
        ]
        files = [name.removesuffix(".json") for folder in folders for name in self.store.children(folder)]
        return sorted(int(name) for name in files if name.isdigit() and int(name) > after)

    def _unnumbered(self) -> list[Manifest]:
        """Read the manifests of versions before 0.2, oldest first."""
        return sorted(self._parse(self._unnumbered_paths()), key=lambda manifest: manifest.sequence)

    def _unnumbered_paths(self) -> list[str]:
        folder = layout.manifests(self.tenant, self.table)
        return [f"{folder}/{name}" for name in self.store.children(folder) if name.endswith(".json")]

    def _folded(self) -> list[int]:
        """List the numbers of the checkpoints, ascending."""
        names = self.store.children(layout.checkpoints(self.tenant, self.table))
        return sorted(int(name.partition(".")[0]) for name in names if name.endswith(".parquet"))

    def _load(self, numbers: Iterable[int]) -> Iterator[Manifest]:
        return self._parse([layout.entry(self.tenant, self.table, number) for number in numbers])

    def _parse(self, paths: list[str]) -> Iterator[Manifest]:
        texts = zip(paths, self.store.read_files(paths), strict=True)
        return (_parsed(self.store, path, text) for path, text in texts if text is not None)

    def _expire(self, before: int, limit: datetime) -> None:
        """Remove entries up to a number and before a time, by folders."""
        home = layout.logs(self.tenant, self.table)
        for folder in [f"{home}/{name}" for name in self.store.children(home) if name.isdigit()]:
            numbers = [int(name.removesuffix(".json")) for name in self.store.children(folder)]
            last = next(self._load(sorted(numbers)[-1:]), None)
            if last is not None and (last.sequence > before or datetime.fromisoformat(last.committed_at) > limit):
                return
            self._remove(numbers)

    def _remove(self, numbers: list[int]) -> None:
        """Remove entries, except of unfinished commits. Manifests without numbers go with the first ones."""
        intents = [m for path in self.store.walk(layout.intents()) if (m := load_manifest(self.store, path))]
        batches = {b for m in intents for b in (m.batch, m.decided_by.rpartition("/")[2].removesuffix(".json"))}
        gone = [m.sequence for m in self._load(numbers) if m.batch not in batches]
        self.store.delete_files(layout.entry(self.tenant, self.table, number) for number in gone)
        before = (path for path in self._unnumbered_paths() if path.rpartition("/")[2][:-5] not in batches)
        self.store.delete_files(before)


def _check_compatible(manifest: Manifest, rival: Manifest) -> None:
    """Raise if a commit cannot follow one that it has not seen.

    Raises:
        LostLeaseError: Both are of the same batch, have a source in common, or replace the same file; or its rows
            were compared with those of the table without those of the rival.
        BusySourceError: One rebuilds what a sink has, and the other adds to it.
    """
    sources = _locked(manifest) & _locked(rival)
    keys_unseen = bool((manifest.key or manifest.unique) and rival.parts)
    if manifest.batch == rival.batch or sources or keys_unseen or set(manifest.replaced) & set(rival.replaced):
        what = next(iter(sorted(sources)), f"batch {manifest.batch}")
        got = f"a commit of {what} by another job, entry {rival.sequence} of table {manifest.table}"
        raise LostLeaseError("The locks have expired", got=got, fix=AGAIN)
    noted = ({name for name, staged in m.sinks.items() if staged.note} for m in (manifest, rival))
    if "reembed" in (manifest.kind, rival.kind) and set.intersection(*noted):
        problem = (
            f"Another commit changes what a sink has of the table: entry {rival.sequence} of table {manifest.table}"
        )
        raise BusySourceError(problem, fix="This job waits its turn.")


def _locked(manifest: Manifest) -> set[str]:
    """Return the sources of a commit as they are locked: an archive with its members is one."""
    return {bare(container(record.uri)) for record in manifest.sources}


def tables_of(store: Store) -> list[tuple[str, str]]:
    """List tenant and name of every table with a commit, sorted."""
    homes = (layout.logs(), layout.manifests())
    places = {(t, name) for home in homes for t in store.children(home) for name in store.children(f"{home}/{t}")}
    return sorted(places)


def manifests(store: Store, tenant: str, table: str) -> list[Manifest]:
    """Read the commits of a table with live contents, oldest first. The latest ones are whole.

    Args:
        store: The lake.
        tenant: Whose table.
        table: Its name.
    """
    return TransactionLog(store, tenant, table).snapshot().manifests()


def load_manifest(store: Store, path: str) -> Manifest | None:
    """Read a manifest or intent.

    Args:
        store: The lake.
        path: Of the file.

    Returns:
        What it says; None if another job has just ended it, or if it is no file of ours.

    Raises:
        TerminalError: It cannot be read.
    """
    if not path.endswith(".json"):
        return None
    try:
        text = store.read(path)
    except FileNotFoundError:
        return None
    return _parsed(store, path, text)


def log_named(store: Store, path: str) -> tuple[TransactionLog, str]:
    """Return the log and the batch that `decided_by` names."""
    tenant, table, name = path.split("/")[-3:]
    return TransactionLog(store, tenant, table), name.removesuffix(".json")


def live_parts(history: Iterable[Manifest]) -> Iterator[DataFile]:
    """Yield the files with rows, of any sink, that are not replaced."""
    return _live(history, lambda m: (f for name, s in m.sinks.items() for f in s.files if f.sources or name in ROWS))


def live_files(history: Iterable[Manifest], sink: str) -> Iterator[DataFile]:
    """Yield the files of one sink that no later commit has replaced.

    Args:
        history: Commits, oldest first.
        sink: Its name.
    """
    return _live(history, lambda m: m.files(sink))


def live_partials(history: Iterable[Manifest]) -> Iterator[DataFile]:
    """Yield the partial aggregates that no later commit has replaced."""
    return live_files(history, AGGREGATES)


def _live(history: Iterable[Manifest], files: Callable[[Manifest], Iterable[DataFile]]) -> Iterator[DataFile]:
    known = list(history)
    gone = {target for m in known for target in m.replaced}
    return (file for m in known for file in files(m) if file.target not in gone)


def everything(manifest: Manifest) -> tuple[DataFile, ...]:
    """List all files that a commit publishes."""
    return tuple(file for staged in manifest.sinks.values() for file in staged.files)


def by_sink(parts: Iterable[DataFile], history: Iterable[Manifest]) -> dict[str, list[DataFile]]:
    """Group parts by sink, by their folders. A sink of the table may have none.

    Args:
        parts: To be published in folders in which there are some already, or just these.
        history: The commits of their table.
    """
    homes = {_home(f.target): name for m in history for name, staged in m.sinks.items() for f in staged.files}
    groups: dict[str, list[DataFile]] = {name: [] for name in (*ROWS, *(name for m in history for name in m.sinks))}
    for part in parts:
        groups[homes[_home(part.target)]].append(part)
    return groups


def _home(target: str) -> str:
    """Return the folder, of the table or beside it, of a file."""
    return "/".join(target.split("/")[:3])


def last_note(history: Iterable[Manifest], sink: str) -> dict[str, Any] | None:
    """Return the latest note for a sink; None if there is none.

    Args:
        history: Commits, oldest first.
        sink: Its name.
    """
    notes = [m.sinks[sink].note for m in history if sink in m.sinks and m.sinks[sink].note is not None]
    return notes[-1] if notes else None


def with_partials(targets: Iterable[str], history: Iterable[Manifest]) -> tuple[str, ...]:
    """Add to replaced parts their partial aggregates.

    Args:
        targets: Paths of the parts.
        history: Commits, oldest first.
    """
    parts = tuple(targets)
    return (*parts, *(s.target for s in partials_of(live_partials(history), parts)))


def partials_of(partials: Iterable[DataFile], targets: Iterable[str]) -> list[DataFile]:
    """Pick the partial aggregates of some parts, by their targets.

    Args:
        partials: Of any parts.
        targets: Paths of the parts.
    """
    ends = {layout.part_key(target) for target in targets}
    return [file for file in partials if layout.partials_key(file.target) in ends]


def _parsed(store: Store, path: str, text: bytes) -> Manifest:
    try:
        return Manifest.model_validate_json(text)
    except (ValueError, json.JSONDecodeError) as error:
        raise TerminalError.wrap(
            error, f"Not a manifest in {store.full(path)}", "Restore it from a backup.", code="lake_damaged"
        ) from error
