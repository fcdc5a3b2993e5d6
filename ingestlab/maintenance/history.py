"""The history of a table: what `ingestlab history` lists.

It is read from the log alone, and from the names of the files that are kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import PurePosixPath

import pandas as pd

from ingestlab.core.errors import TerminalError
from ingestlab.core.models import PARQUET, REJECTS, Kind, Manifest
from ingestlab.core.plain_frame import PlainFrame
from ingestlab.core.settings import Settings
from ingestlab.core.templates import size
from ingestlab.engine.task.rewrite import RESTORED
from ingestlab.interfaces import Store
from ingestlab.lake import layout
from ingestlab.lake.kept_files import place_of
from ingestlab.lake.log import TransactionLog
from ingestlab.lake.past import KnownFile, known_files
from ingestlab.lake.storage.store import open_store
from ingestlab.lake.tenants import settings_for

SAME_ROWS: tuple[Kind, ...] = ("compact", "rewrite", "reembed")  # kinds of commits that neither add nor take rows


@dataclass(frozen=True)
class Commit:
    """A commit of a table, as people ask for it.

    Attributes:
        number: Of its log entry.
        at: When it was made, in ISO 8601.
        run: Of which run.
        kind: What it did.
        pipeline: By which pipeline.
        sources: How many sources it changed.
        added: The rows that it added. None if the log no longer knows, as with the other counts.
        removed: The rows that it took away.
        rejects_added: The rejects that it added.
        rejects_removed: The rejects that it took away.
        readable: Whether the state after it can be read.
        readable_until: Until when at least, in ISO 8601; None as long as no commit replaces a file of it.
        undoable: Whether what it replaced is kept.
        undoable_until: Until when, in ISO 8601.
        undone_by: The run that has undone it; empty if none has.
    """

    number: int
    at: str
    run: str
    kind: Kind
    pipeline: str
    sources: int
    added: int | None
    removed: int | None
    rejects_added: int | None
    rejects_removed: int | None
    readable: bool
    readable_until: str | None
    undoable: bool
    undoable_until: str | None
    undone_by: str = ""


@dataclass(frozen=True)
class History:
    """What the log of a table remembers.

    Attributes:
        table: Its name.
        commits: The newest first.
        files: How many replaced files are kept.
        bytes: Their size, as far as the log knows it.
        days: For how many days they are kept.
    """

    table: str
    commits: tuple[Commit, ...]
    files: int
    bytes: int
    days: float

    def frame(self) -> PlainFrame:
        """Give the commits as a frame, with times as such."""
        frame = PlainFrame([asdict(commit) for commit in self.commits])
        for name in ("at", "readable_until", "undoable_until"):
            frame[name] = pd.to_datetime(frame[name], utc=True)
        return frame

    def __str__(self) -> str:
        if not self.files:
            return f"{self.table}: no replaced files are kept (INGESTLAB_HISTORY_DAYS is {self.days:g})"
        return f"{self.table}: {self.files:,} replaced files, {size(self.bytes)}, each kept for {self.days:g} days"


def read_history(
    table: str, store: Store, settings: Settings, *, tenant: str | None = None, limit: int = 20
) -> History:
    """List the commits that the log of a table remembers.

    Args:
        table: Its name.
        store: The lake; that of a tenant with its own is opened here.
        settings: Say for how long files and entries are kept.
        tenant: The tenant of the table.
        limit: How many commits at most, the newest.

    Raises:
        TerminalError: There is no such table.
    """
    tenant = tenant or settings.tenant
    shared, settings = settings.lake_url, settings_for(tenant, settings)
    if settings.lake_url != shared:
        store = open_store(settings.lake_url, settings.storage_options)
    log = TransactionLog(store, tenant, table)
    entries = log.history()
    if not entries:
        fix = "`ingestlab tables` lists them."
        raise TerminalError(f"There is no table '{table}' of tenant {tenant}", fix=fix, code="table_unknown")
    kept = set(store.walk(layout.kept(tenant, table)))
    work = _Survey(log, entries, kept, settings)
    commits = tuple(work.commit(place) for place in reversed(range(len(entries))[-limit:]))
    sizes = (work.files[t].size for m in entries for t in m.replaced if t in work.files and place_of(m, t) in kept)
    return History(table, commits, len(kept), sum(sizes), settings.history_days)


def undone(entries: Iterable[Manifest]) -> dict[int, str]:
    """Find the undone commits: by number, the run that undid them.

    Args:
        entries: Of a log, oldest first. An undo that is undone itself undoes nothing.
    """
    open_undos: dict[str, str] = {}  # runs that later entries undo
    found: dict[int, str] = {}
    for entry in reversed(list(entries)):
        if by := open_undos.get(entry.run):
            found[entry.sequence] = by
        elif entry.undoes:
            open_undos[entry.undoes] = entry.run
    return found


@dataclass
class _Survey:
    """What all commits of a table are compared with."""

    log: TransactionLog
    entries: Sequence[Manifest]
    kept: set[str]
    settings: Settings
    files: Mapping[str, KnownFile] = field(init=False)

    def __post_init__(self) -> None:
        base = self._base = self.log.oldest_base()
        self.files = known_files(self.log, self.entries)
        gaps = [later.sequence for former, later in pairwise(self.entries) if later.sequence > former.sequence + 1]
        self._oldest_readable = max([base or self.entries[0].sequence, *gaps])
        self._undone = undone(self.entries)
        self._oldest = [self._oldest_of(m) for m in self.entries]
        self._lost = [any(place_of(m, t) not in self.kept for t in self._rows_of(m)) for m in self.entries]

    def commit(self, place: int) -> Commit:
        """Describe the commit at a place among the entries."""
        m = self.entries[place]
        rows, rejects = (self._difference(m, sink) for sink in (PARQUET, REJECTS))
        added, rejects_added = _added(m, PARQUET, rows), _added(m, REJECTS, rejects)
        readable, readable_until = self._readable(place)
        undoable, undoable_until = self._undoable(place)
        return Commit(
            number=m.sequence,
            at=m.committed_at,
            run=m.run,
            kind=m.kind,
            pipeline=m.pipeline,
            sources=len(m.sources),
            added=added,
            removed=None if rows is None or added is None else added - rows,
            rejects_added=rejects_added,
            rejects_removed=None if rejects is None or rejects_added is None else rejects_added - rejects,
            readable=readable,
            readable_until=readable_until,
            undoable=undoable,
            undoable_until=undoable_until,
            undone_by=self._undone.get(m.sequence, ""),
        )

    def _difference(self, m: Manifest, sink: str) -> int | None:
        """Count what a commit changes in a sink. None if a file's rows are forgotten."""
        home = _home(m, sink)
        gone = [self.files.get(target) for target in m.replaced if target.startswith(home)]
        if None in gone:
            return None
        return sum(f.rows for f in m.files(sink)) - sum(file.rows for file in gone if file)

    def _readable(self, place: int) -> tuple[bool, str | None]:
        """Tell whether the state after a commit is readable, and until when."""
        number = self.entries[place].sequence
        touching = [i for i in range(place + 1, len(self.entries)) if self._oldest[i] <= number]
        if number < self._oldest_readable or any(self._lost[i] for i in touching):
            return False, None
        return True, self._ends(self.entries[touching[0]]) if touching else None

    def _undoable(self, place: int) -> tuple[bool, str | None]:
        m = self.entries[place]
        before = m.sequence > self._oldest_readable or (place == 0 and not self._base)
        if m.kind in SAME_ROWS or m.sequence in self._undone or self._lost[place] or not before:
            return False, None
        return True, self._ends(m, 0 if self._rows_of(m) else self.settings.log_days)

    def _ends(self, m: Manifest, least: float = 0) -> str:
        days = max(self.settings.history_days, least)
        return (datetime.fromisoformat(m.committed_at) + timedelta(days=days)).isoformat(timespec="seconds")

    def _rows_of(self, m: Manifest) -> Iterator[str]:
        """Yield the files with rows or rejects that a commit has replaced."""
        homes = tuple(_home(m, sink) for sink in (PARQUET, REJECTS))
        return (target for target in m.replaced if target.startswith(homes))

    def _oldest_of(self, m: Manifest) -> float:
        """Return the oldest commit of which another has replaced a file."""
        numbers = (self.files[t].number if t in self.files else 0 for t in self._rows_of(m))
        return min(numbers, default=float("inf"))


def _home(m: Manifest, sink: str) -> str:
    """Return the folder of a table's rows or rejects."""
    return f"{layout.table(m.tenant, m.table if sink == PARQUET else layout.rejects(m.table))}/"


def _added(m: Manifest, sink: str, difference: int | None) -> int | None:
    """Count the rows that a commit adds to a sink. Those that it only moves to other files are none."""
    if m.kind in SAME_ROWS:
        return 0 if difference in (0, None) else difference
    if m.kind == "undo":
        mark = f"{m.batch}{RESTORED}"
        return sum(f.rows for f in m.files(sink) if PurePosixPath(f.target).name.startswith(mark))
    if m.kind == "ingest":
        return sum(r.tally.out if sink == PARQUET else r.tally.rejected for r in m.sources)
    return None if difference is None else max(0, difference)
