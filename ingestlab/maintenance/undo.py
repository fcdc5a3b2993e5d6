"""Undoes a run: what `ingestlab undo` runs, safe beside working jobs.

Of every source that the run has changed, the rows of now go and those from before the run come back: rows, rejects,
aggregates, and what other sinks have of them. It is one commit a table, all tables or none, by the protocol of every
other. Files without such rows stay as they are, so it does not matter what was merged or rewritten meanwhile.

What a later run has changed again cannot be undone before that run is. A run and the undo of it count as nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cached_property

from ingestlab.core.errors import TerminalError, TransientError
from ingestlab.core.models import PARQUET, REJECTS, Change, DataFile, Manifest, SourceRecord, Staged, digest
from ingestlab.engine.plan import Target, emptied
from ingestlab.engine.replacing import replacement
from ingestlab.engine.services import Services
from ingestlab.engine.task.rewrite import bring_back, rewrite
from ingestlab.engine.widening import one_type
from ingestlab.interfaces import Store
from ingestlab.lake.arrow_schema import joined_types
from ingestlab.lake.audit import note
from ingestlab.lake.data_files import batches, only_sources, open_part
from ingestlab.lake.log import last_note, live_parts
from ingestlab.lake.past import known_files, places_of
from ingestlab.lake.table import Table, Transaction, new_run, tables
from ingestlab.lake.table_schema import types_of_owners
from ingestlab.maintenance.history import SAME_ROWS, undone
from ingestlab.pipeline.catalog import Catalog, PipelineSource, load


@dataclass(frozen=True)
class Undone:
    """What an undo has changed in a table.

    Attributes:
        table: Its name.
        run: That was undone.
        sources: The URIs of its sources; none if it was undone before.
        removed: How many published rows went.
        restored: How many came back.
        rejects_removed: How many rejects went.
        rejects_restored: How many came back.
    """

    table: str
    run: str
    sources: tuple[str, ...] = ()
    removed: int = 0
    restored: int = 0
    rejects_removed: int = 0
    rejects_restored: int = 0

    def __str__(self) -> str:
        if not self.sources:
            return f"{self.table}: run {self.run} is undone already"
        rows = f"{self.removed:,} rows go and {self.restored:,} come back"
        rejects = f"{self.rejects_removed:,} rejects go and {self.rejects_restored:,} come back"
        return f"{self.table}: {rows}, {rejects}, of {len(self.sources):,} source{'s'[: len(self.sources) != 1]}"


def undo(run: str, services: Services, *, tenant: str | None = None) -> list[Undone]:
    """Undo a run in all its tables or in none.

    What it has published goes, and what it replaced comes back.

    Args:
        run: Its id; also one of a deletion, or of an undo.
        services: The connections to use.
        tenant: The tenant of the tables.

    Returns:
        One for each table; what was undone before stays undone.

    Raises:
        TerminalError: No log knows the run, a later one has changed the same sources, or what it replaced is no
            longer kept.
        TransientError: Another job has a source or replaces data files, or a server is away.
    """
    services = services.of(tenant or services.settings.tenant)
    tables, name = _tables(run, services, tenant), new_run("undo")
    note("undo", tables[0].tenant, [run], services.settings, services.store, run=name)
    with services.lake.locks.lease() as lease, ExitStack() as stack:
        staged = []
        for table in tables:
            uris = _Undo(table, run).ever  # an undo that died is finished under the locks of its sources
            transaction = stack.enter_context(table.transaction("undo", uris, run=name, lease=lease))
            work = _Undo(table, run)
            if work.ever - uris:
                problem = f"Run {run} is still publishing into table {table.name}"
                raise TransientError(problem, fix="Try again when it has ended.", code="busy_source")
            if work.uris:
                stack.enter_context(transaction.batch(work.batch))
                staged.append((transaction, *work.stage(transaction, services)))
        if staged:
            Transaction.commit_all([(transaction, change) for transaction, change, _ in staged])
    reports = {report.table: report for *_, report in staged}
    return [reports.get(table.name, Undone(table.name, run)) for table in tables]


def preview(run: str, services: Services, *, tenant: str | None = None) -> list[Undone]:
    """Count what :func:`undo` would change, and change nothing.

    Args:
        run: As in :func:`undo`, as the others.
        services: The connections to use.
        tenant: The tenant of the tables.

    Raises:
        TerminalError: As in :func:`undo`.
    """
    return [_Undo(table, run).preview() for table in _tables(run, services, tenant)]


def _tables(run: str, services: Services, tenant: str | None) -> list[Table]:
    """Find the tables that a run has changed."""
    tenant = tenant or services.settings.tenant
    services = services.of(tenant)
    mine = [table for table in tables(services.lake) if table.tenant == tenant and table.log.mentions(f'"{run}"')]
    entries = [(table, [m for m in table.log.history() if m.run == run]) for table in mine]
    changed = [(table, commits) for table, commits in entries if commits]
    if not changed:
        problem = f"No table of tenant {tenant} has a commit of run '{run}' in its log"
        raise TerminalError(problem, fix="`ingestlab history TABLE` lists the runs.", code="run_unknown")
    kinds = {m.kind for _, commits in changed for m in commits}
    if kinds <= {*SAME_ROWS}:
        problem = f"Run {run} has changed no rows ({', '.join(sorted(kinds))})"
        raise TerminalError(problem, fix="There is nothing to undo.", code="argument_invalid")
    return [table for table, commits in changed if any(m.kind not in SAME_ROWS for m in commits)]


@dataclass(frozen=True)
class _Moves:
    """The files that an undo touches.

    Attributes:
        old: Live files, each with the sources that go from it.
        back: Files that were live before, each with the sources that come back from it.
        places: Where the replaced ones of these are now, by target.
        past: The commits that have published those.
    """

    old: Sequence[tuple[DataFile, tuple[str, ...]]]
    back: Sequence[tuple[DataFile, tuple[str, ...]]]
    places: Mapping[str, str]
    past: Sequence[Manifest]


class _Undo:
    """The undo of a run in one table."""

    def __init__(self, table: Table, run: str) -> None:
        self.table, self.run = table, run
        self.entries = table.log.history()
        gone = undone(self.entries)
        changing = [m for m in self.entries if m.kind not in SAME_ROWS]
        self.ever = {uri for m in changing if m.run == run for uri in self._touched(m)}  # also by what is undone
        left = [m for m in changing if m.sequence not in gone]
        self._mine = [m for m in left if m.run == run]
        self._others = [m for m in left if m.run != run and not m.undoes]  # a commit and its undo are as nothing

    @cached_property
    def uris(self) -> list[str]:
        """Return the sources that the run has changed."""
        return sorted(self._first)

    @cached_property
    def _first(self) -> dict[str, int]:
        """Return the run's first commit of each source, by URI."""
        first: dict[str, int] = {}
        for m in self._mine:
            for uri in self._touched(m):
                first.setdefault(uri, m.sequence)
        return first

    @cached_property
    def batch(self) -> str:
        """Name the batch: alike for every try, another for another undo."""
        before = [m.batch for m in self.entries if m.undoes == self.run]
        return digest({"undo": self.table.where, "commits": [m.batch for m in self._mine], "before": before})[:24]

    def _touched(self, m: Manifest) -> set[str]:
        """Find the sources of which a commit has added or taken rows."""
        touched = {record.uri for record in m.sources} | set(m.superseded)
        if m.key:  # rows of other sources have gone by their keys
            touched |= {uri for target in m.replaced for uri in self._sources_by_file.get(target, ())}
        return touched

    @cached_property
    def _sources_by_file(self) -> dict[str, tuple[str, ...]]:
        """Return the sources of every file that the log knows, by target."""
        return {target: file.sources for target, file in known_files(self.table.log, self.entries).items()}

    def _check_later(self) -> None:
        """Raise TerminalError for later changes of the same sources or keys."""
        returning = any(m.replaced for m in self._mine)
        for m in reversed(self._others):
            changed = [uri for uri in self._touched(m) if self._first.get(uri, m.sequence) < m.sequence]
            keyed = returning and (m.key or m.unique) and m.parts and m.sequence > min(self._first.values())
            if changed or keyed:
                what = min(changed) if changed else "rows that are told apart by their values"
                problem = f"Run {m.run} ({m.kind}) has changed {what} since, in table {self.table.name}"
                fix = f"Undo that run first: `ingestlab undo {m.run}`."
                raise TerminalError(problem, fix=fix, code="later_changes")

    def _states(self) -> dict[int, list[str]]:
        """Group the sources by the entry whose state comes back."""
        start = min(self._first.values())
        others = [(m.sequence, self._touched(m)) for m in self._others if m.sequence > start]
        groups: dict[int, list[str]] = {}
        for uri, first in self._first.items():
            between = any(number < first and uri in touched for number, touched in others)
            groups.setdefault((first if between else start) - 1, []).append(uri)
        return groups

    def moves(self) -> _Moves:
        """Find the files that lose rows, and those that give them back.

        Raises:
            TerminalError: A later run has changed a source, or a file is no longer kept.
        """
        self._check_later()
        log = self.table.log
        live = {part.target: part for part in live_parts(self.table.history())}
        going = {target: set(part.sources) & set(self.uris) for target, part in live.items()}
        back: dict[str, tuple[DataFile, set[str]]] = {}
        places: dict[str, str] = {}
        past: dict[int, Manifest] = {}
        for number, uris in self._states().items():
            mine, manifests = set(uris), log.at(number).manifests()
            parts = [part for part in live_parts(manifests) if mine & set(part.sources)]
            for part in parts:
                if part.target in live:  # untouched since
                    going[part.target] -= mine
                else:
                    back.setdefault(part.target, (part, set()))[1].update(mine & set(part.sources))
            returning = [part.target for part in parts if part.target not in live]
            found, gone = places_of(returning, number, self.entries, log)
            self._check_kept(gone, returning, number)
            places |= found
            past |= {m.sequence: m for m in manifests}
        return _Moves(
            old=[(live[target], tuple(sorted(uris))) for target, uris in sorted(going.items()) if uris],
            back=[(part, tuple(sorted(uris))) for _, (part, uris) in sorted(back.items())],
            places=places,
            past=[past[number] for number in sorted(past)],
        )

    def _check_kept(self, gone: Sequence[str], returning: Sequence[str], number: int) -> None:
        """Raise TerminalError if files are not kept, or no longer fit."""
        again = "Submit the earlier files again, with --force."
        if gone:
            problem = f"What run {self.run} has replaced in table {self.table.name} is no longer kept"
            got = f"{len(gone):,} data files are missing; INGESTLAB_HISTORY_DAYS says how long they are kept"
            raise TerminalError(problem, got=got, fix=again, code="history_gone")
        since = [m for m in self.entries if m.sequence > number and m.kind in ("rewrite", "reembed")]
        if returning and since:
            problem = f"Table {self.table.name} has got other types, folders or vectors since run {self.run}"
            raise TerminalError(
                problem, got=f"a {since[-1].kind}, run {since[-1].run}", fix=again, code="later_changes"
            )

    def preview(self) -> Undone:
        """Count the rows that go and come back."""
        if not self.uris:
            return Undone(self.table.name, self.run)
        moves, store = self.moves(), self.table.store
        old = [(part.target, _rows_of(part, part.target, uris, store)) for part, uris in moves.old]
        back = [
            (part.target, _rows_of(part, moves.places.get(part.target, part.target), uris, store))
            for part, uris in moves.back
        ]
        return self._report(self._by_sink(old), self._by_sink(back))

    def stage(self, transaction: Transaction, services: Services) -> tuple[Change, Undone]:
        """Stage the change.

        Args:
            transaction: That undoes the run.
            services: The connections to use.
        """
        moves, history = self.moves(), self.table.history()
        rest, new = self._rewritten(moves, services)
        code = Catalog.read(services.settings).loadable(self._mine[-1].pipeline)
        old = [part for part, _ in moves.old]
        gone = [part.target for part in old]
        done = replacement([*rest, *new], gone, self.batch, self.table, code, history, services, past=moves.past)
        noted = {name: Staged(files=s.files, note=last_note(history, name)) for name, s in done.sinks.items()}
        change = replace(done, sinks=noted).change(
            history,
            pipeline=self._mine[-1].pipeline,
            code=self._mine[-1].code,
            sources=tuple(self._records(transaction.run)),
            superseded=tuple(self.uris),
            undoes=self.run,
            types=self._types(moves, rest, new, history),
        )
        change = one_type(change, self._target(code, transaction.run), self.batch, transaction, services)
        before = Counter(self._by_sink((part.target, part.rows) for part in old))
        before.subtract(self._by_sink((part.target, part.rows) for part in rest))
        return change, self._report(before, self._by_sink((part.target, part.rows) for part in new))

    def _target(self, code: PipelineSource | None, run: str) -> Target | None:
        """Tell where the rows belong; None if their pipeline is gone."""
        if code is None:
            return None
        tenant, table = self.table.where
        types = self.table.schema.wanted
        return Target(run=run, tenant=tenant, table=table, source=code, pipeline=load(code), replace=False, types=types)

    def _rewritten(self, moves: _Moves, services: Services) -> tuple[list[DataFile], list[DataFile]]:
        """Stage what is left of files, and what comes back."""
        where = (self.batch, services.settings.lake_url, services.settings.storage_options)
        drop = [(part.to_dict(), list(uris), *where) for part, uris in moves.old]
        keep = [
            (part.to_dict(), moves.places.get(part.target, part.target), list(uris), *where)
            for part, uris in moves.back
        ]
        name = f"{self.table.name}-{self.batch[:8]}"
        rest = services.cluster.map(rewrite, drop, [f"undo-{name}-{i}" for i in range(len(drop))])
        kept = [DataFile.from_dict(part) for _, part in rest if part]
        back = services.cluster.map(bring_back, keep, [f"restore-{name}-{i}" for i in range(len(keep))])
        return kept, [DataFile.from_dict(part) for _, part in back if part]

    def _records(self, run: str) -> Iterator[SourceRecord]:
        """Give the records of the sources as they were."""
        for number, uris in self._states().items():
            known = {record.uri: record for record in self.table.log.at(number).records()}
            for uri in uris:
                before = known.get(uri)
                yield before.model_copy(update={"batch": self.batch}) if before else emptied(uri, run, self.batch)

    def _types(
        self, moves: _Moves, rest: Sequence[DataFile], new: Sequence[DataFile], history: Sequence[Manifest]
    ) -> dict[str, tuple[str, ...]]:
        """Collect the columns' types in all new data files. None if one of the old commits does not know."""
        home = f"{self.table.folder}/"
        pairs = ((rest, moves.old, history), (new, moves.back, moves.past))
        known = [
            types_of_owners(commits, [part.target for part, _ in files])
            for parts, files, commits in pairs
            if any(part.target.startswith(home) for part in parts)
        ]
        return joined_types(*known) if all(known) else {}

    def _by_sink(self, rows: Iterable[tuple[str, int]]) -> dict[str, int]:
        """Add up rows of the table and of its rejects."""
        counts: Counter[str] = Counter()
        for target, count in rows:
            sink = PARQUET if target.startswith(f"{self.table.folder}/") else REJECTS
            counts[sink if sink == PARQUET or "__rejects/" in target else ""] += count
        return counts

    def _report(self, old: Mapping[str, int], new: Mapping[str, int]) -> Undone:
        return Undone(
            table=self.table.name,
            run=self.run,
            sources=tuple(self.uris),
            removed=old.get(PARQUET, 0),
            restored=new.get(PARQUET, 0),
            rejects_removed=old.get(REJECTS, 0),
            rejects_restored=new.get(REJECTS, 0),
        )


def _rows_of(part: DataFile, place: str, uris: Sequence[str], store: Store) -> int:
    """Count the rows that a file has of some sources."""
    if set(part.sources) <= set(uris):
        return part.rows
    opened = open_part(part.model_copy(update={"target": place}), store)
    return sum(only_sources(table, uris).num_rows for table in batches(opened))
