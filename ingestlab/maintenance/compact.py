"""Merges the small parts of a table: what `ingestlab compact` runs, safe beside working jobs.

The parts of a folder are merged into parts of about the target size, some folders a commit, by the protocol
of every other commit: intent, new parts, manifest, old parts gone. Its lock keeps away whoever else replaces
parts, between two commits it is free; appends go on all the while.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from ingestlab.core.errors import unaccounted
from ingestlab.core.models import Change, DataFile, Manifest, digest
from ingestlab.engine.replacing import replacement
from ingestlab.engine.services import Services
from ingestlab.engine.task.merge import Merge, Merged, merge
from ingestlab.lake.log import live_parts
from ingestlab.lake.table import Table, new_run
from ingestlab.pipeline.catalog import Catalog

TARGET = 256 << 20  # bytes of a part
MOST_PARTS = 1000  # that one commit replaces, unless it is one part that comes out
MOST_BYTES = 4 << 30  # that one commit writes: so much more room a compaction needs for a while


@dataclass(frozen=True)
class Compacted:
    """What a compaction has done to a table and its rejects."""

    table: str
    before: int = 0  # parts
    after: int = 0
    bytes_before: int = 0
    bytes_after: int = 0
    commits: int = 0

    def __str__(self) -> str:
        if not self.commits:
            return f"{self.table}: nothing to merge in {self.before:,} parts"
        sizes = f"{self.bytes_before:,} → {self.bytes_after:,} bytes"
        return f"{self.table}: {self.before:,} → {self.after:,} parts, {sizes}"


def compact(
    table: str, services: Services, *, tenant: str | None = None, target: int = TARGET, sort: Sequence[str] = ()
) -> Compacted:
    """Merge the small parts of a table and its rejects, by folder.

    Small is what has less than half of the target size. What has been merged is committed, however it ends.

    Args:
        table: Its name.
        services: The connections to use.
        tenant: The tenant of the table.
        target: Bytes of a part that comes out, about.
        sort: Columns by which the rows of each part that comes out are sorted; the part is then made in memory.

    Raises:
        TerminalError: There is no such table, or no such column to sort by.
        TransientError: Another job is replacing parts of this table.
    """
    tenant = tenant or services.settings.tenant
    services = services.of(tenant)
    work = _Work(services.table(tenant, table), target, tuple(sort), services)
    report = work.survey()
    while work.step():
        report = replace(report, commits=report.commits + 1)
    after = work.survey()
    return replace(report, after=after.before, bytes_after=after.bytes_before)


class _Work:
    """One compaction: a step is a commit."""

    def __init__(self, table: Table, target: int, sort: tuple[str, ...], services: Services) -> None:
        self._table, self._target, self._sort, self._services = table, target, sort, services
        self._run = new_run("compact")
        self._apart: set[str] = set()  # targets of parts that were found to go with no other

    def survey(self) -> Compacted:
        """Count the parts that there are."""
        parts = list(live_parts(self._table.history()))
        return Compacted(self._table.name, before=len(parts), bytes_before=sum(p.size for p in parts))

    def step(self) -> bool:
        """Merge what one commit may. False if nothing is left to merge."""
        with self._table.transaction("compact", run=self._run) as transaction:
            history = self._table.history()
            groups = list(_take(self._groups(live_parts(history))))
            if not groups:
                return False
            batch = _name(self._table.where, groups, self._sort)
            with transaction.batch(batch):
                merged = self._merge(batch, groups)
                used = {target for m in merged for target in m.replaced}
                self._apart |= {p.target for g in groups for p in g} - used
                if merged:
                    transaction.commit(self._change(batch, merged, history))
        return True

    def _groups(self, parts: Iterable[DataFile]) -> Iterator[list[DataFile]]:
        """Yield what to merge into one part: small parts of a folder, by age."""
        folders: dict[str, list[DataFile]] = {}
        for part in parts:
            if self._is_small(part) and part.target not in self._apart:
                folders.setdefault(part.target.rsplit("/", 1)[0], []).append(part)
        for small in folders.values():
            yield from (group for group in _pack(small, self._target) if len(group) > 1)

    def _merge(self, batch: str, groups: Sequence[Sequence[DataFile]]) -> list[Merged]:
        """Merge each group in a task. Rows that are lost or doubled end it all."""
        settings, home = self._services.settings, self._home
        work = [
            Merge(batch=batch, number=i, parts=tuple(g), sort=self._sort if g[0].target.startswith(home) else ())
            for i, g in enumerate(groups)
        ]
        calls = [(w.to_dict(), settings.lake_url, settings.storage_options) for w in work]
        keys = [f"compact-{self._table.name}-{batch[:8]}-{i}" for i in range(len(work))]
        done = [Merged.from_dict(m) for _, parts in self._services.cluster.map(merge, calls, keys) for m in parts]
        rows = {p.target: p.rows for g in groups for p in g}
        for m in done:
            had = sum(rows[target] for target in m.replaced)
            if m.part.rows != had:
                raise unaccounted("A merged data file has another number of rows", f"{had:,}", f"{m.part.rows:,}")
        return done

    def _is_small(self, part: DataFile) -> bool:
        return 2 * part.size < self._target

    def _change(self, batch: str, merged: Collection[Merged], history: Sequence[Manifest]) -> Change:
        replaced = sorted(target for m in merged for target in m.replaced)
        parts = sorted((m.part for m in merged), key=lambda p: p.target)
        code = Catalog.read(self._services.settings).loadable(history[-1].pipeline)
        soon = [p.target for p in live_parts(history) if self._is_small(p)]
        return replacement(parts, replaced, batch, self._table, code, history, self._services, soon).change(history)

    @property
    def _home(self) -> str:
        return f"{self._table.folder}/"


def _pack(parts: Iterable[DataFile], target: int) -> Iterator[list[DataFile]]:
    """Make groups of together at most `target` bytes."""
    group: list[DataFile] = []
    size = 0
    for part in parts:
        if group and size + part.size > target:
            yield group
            group, size = [], 0
        group.append(part)
        size += part.size
    if group:
        yield group


def _take(groups: Iterable[list[DataFile]]) -> Iterator[list[DataFile]]:
    """As many groups as one commit may replace, but one at least."""
    parts = size = 0
    for group in groups:
        parts, size = parts + len(group), size + sum(p.size for p in group)
        if parts > len(group) and (parts > MOST_PARTS or size > MOST_BYTES):
            return
        yield group


def _name(where: tuple[str, str], groups: Iterable[Iterable[DataFile]], sort: Sequence[str]) -> str:
    """Name a batch by what goes in: the same parts, merged again after a crash, get the same names."""
    return digest({"compact": where, "parts": [[p.target for p in g] for g in groups], "sort": list(sort)})[:24]
