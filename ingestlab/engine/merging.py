"""Merges the rows of a batch into a table by their keys: those that lose go in the same commit.

Data files with rows of the same keys are rewritten without them (copy on write). Which these are is told by an index
beside each file. All of it is under the table's rewrite lock, so that every commit sees those before it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from ingestlab.core.errors import TerminalError, unaccounted
from ingestlab.core.models import PARQUET, Change, DataFile, Manifest, Staged, Tally, digest
from ingestlab.engine.plan import Plan
from ingestlab.engine.services import Services
from ingestlab.engine.task.merging import Left, Merged, drop, strip, take_out
from ingestlab.engine.task.row_keys import Held, Incoming, Keys, choose, probe
from ingestlab.lake import layout
from ingestlab.lake.arrow_schema import joined_types, parse_type
from ingestlab.lake.keys import kind_of_key
from ingestlab.lake.log import partials_of, with_partials
from ingestlab.lake.table import Table, Transaction
from ingestlab.lake.table_schema import types_of_owners
from ingestlab.sinks.opening import filled_by

SUPERSEDED, DELETED, REPLACED = "merge:superseded", "merge:deleted", "merge:replaced"  # rules
PATIENCE = 60.0  # seconds that a job waits for others that merge into its table
RANGE = 4 << 20  # rows of a batch that a task compares
_PROBED = 16  # files of which one task looks through the indexes
_SMALLEST, _LARGEST = 16 << 20, 256 << 20  # bytes that a rewritten file may have, by the size of the table
_FILES = 128  # into which a table is cut, between these sizes

AnyChange = TypeVar("AnyChange", bound=Change)


def merge_by_key(
    change: AnyChange, own: Sequence[DataFile], plan: Plan, transaction: Transaction, services: Services
) -> AnyChange:
    """Take superseded rows out of a change and its table.

    Args:
        change: What is to be committed. It may replace data files already.
        own: Its staged data files with rows of the batch; the others are what is left of published ones.
        plan: What was processed.
        transaction: Of the table.
        services: The connections to use.

    Raises:
        BusySourceError: Another job has replaced data files of the table for a minute.
        TerminalError: A column of the key has other types in the table; or rows were lost or doubled on the way.
    """
    transaction.replaces_parts(PATIENCE)
    merged: AnyChange = _Merge(change, own, plan, transaction, services).run()
    return merged


@dataclass(frozen=True)
class _Outcome:
    """What a merge takes out."""

    merged: Sequence[Merged]
    left: Mapping[int, Left]

    @property
    def rules(self) -> Counter[str]:
        """Count the rows that go."""
        counts = {
            SUPERSEDED: sum(left.superseded for left in self.left.values()),
            DELETED: sum(left.deleted for left in self.left.values()),
            REPLACED: sum(merged.removed for merged in self.merged),
        }
        return Counter({rule: count for rule, count in counts.items() if count})


class _Merge:
    """One merge; :func:`merge_by_key` says of what."""

    def __init__(
        self, change: Change, own: Sequence[DataFile], plan: Plan, transaction: Transaction, services: Services
    ) -> None:
        self._change, self._own, self._plan, self._services = change, tuple(own), plan, services
        self._table, pipeline = transaction.table, plan.target.pipeline
        self._try = transaction.lease.token  # new files are named by it: another try may find other rows in the table
        self._spec = Keys(
            tenant=self._table.tenant,
            table=self._table.name,
            batch=plan.batch,
            columns=pipeline.key_columns,
            latest_by=pipeline.latest_by,
            delete_if=pipeline.delete_if,
            uris=tuple(file.uri for file in plan.files),
            traced=any(services.lake.sinks[name].by_row for name in filled_by(pipeline)),
            lake=services.settings.lake_url,
            options=services.settings.storage_options,
        )

    def run(self) -> Any:
        """Find what goes, and change the change."""
        change = self._change.model_copy(update={"key": self._spec.columns})
        if not self._own:
            return change
        self._check_kinds()
        held = held_files(self._change, self._own, self._table)
        incoming = [some for some in self._choose() if some.rows]
        size = min(_LARGEST, max(_SMALLEST, sum(one.part.size for one in held) // _FILES))
        groups = list(_grouped(may_hold(self._spec, held, incoming, self._services), size))
        merged = self._take_out(groups, incoming, size)
        outcome = _Outcome(merged, self._drop(incoming, merged))
        self._check_counts(outcome, groups)
        return self._changed(change, outcome)

    def _check_kinds(self) -> None:
        """Refuse keys whose types could hide that two are equal."""
        known = joined_types(self._change.types, self._table.schema.types)
        folders = self._plan.target.pipeline.folders
        for column in self._spec.columns:
            kinds = [parse_type(text) for text in known.get(column, ())]
            different = {kind_of_key(kind) for kind in kinds if str(kind) != "null"}
            if column not in folders and (len(different) > 1 or None in different):
                table, types = self._table.name, ", ".join(map(str, kinds))
                raise TerminalError(
                    f"The key column '{column}' of table {table} has types that cannot be compared",
                    expected="one type of text, whole numbers, decimals, dates or times",
                    got=types,
                    fix=f"Declare it in the reader; `ingestlab rewrite {table} --type {column}=string` brings what is "
                    "published to one type.",
                    code="types_conflict",
                )

    def _choose(self) -> list[Incoming]:
        """Find the latest row of each key, by ranges of hashes."""
        ranges = -(-sum(part.rows for part in self._own) // RANGE)
        parts = [part.to_dict() for part in self._own]
        calls = [(self._spec.to_dict(), parts, number, ranges) for number in range(ranges)]
        return [Incoming.from_dict(answer) for answer in self._run(choose, calls)]

    def _take_out(self, groups: Sequence[Sequence[Held]], incoming: Sequence[Incoming], size: int) -> list[Merged]:
        """Rewrite the files, one task a group."""
        wanted = [some.to_dict() for some in incoming]
        calls = []
        for number, group in enumerate(groups):
            folder = group[0].part.target.rsplit("/", 1)[0]
            name = digest([self._try, number])[:12]
            target = f"{folder}/{self._spec.batch}-k{name}"
            calls.append((self._spec.to_dict(), [one.to_dict() for one in group], wanted, target, size))
        return [Merged.from_dict(answer) for answer in self._run(take_out, calls)]

    def _drop(self, incoming: Sequence[Incoming], merged: Sequence[Merged]) -> dict[int, Left]:
        """Rewrite the batch's own files that hold rows which are not published."""
        some: list[Incoming | Merged] = [*incoming, *merged]
        losers = [one.losers for one in some if one.losers]
        numbers = sorted({number for one in some for number in one.files})
        calls = [(self._spec.to_dict(), self._own[number].to_dict(), number, losers) for number in numbers]
        return dict(zip(numbers, map(Left.from_dict, self._run(drop, calls)), strict=True))

    def _run(self, task: Any, calls: Sequence[tuple[Any, ...]], more: str = "") -> list[Any]:
        return run_tasks(task, calls, self._spec, self._services, more)

    def _check_counts(self, outcome: _Outcome, groups: Sequence[Sequence[Held]]) -> None:
        """Raise TerminalError unless every row is kept or counted."""
        rows = {one.part.target: one.part.rows for group in groups for one in group}
        before = sum(rows[target] for merged in outcome.merged for target in merged.replaced)
        after = sum(part.rows for merged in outcome.merged for part in merged.new)
        before += sum(self._own[number].rows for number in outcome.left)
        after += sum(left.part.rows for left in outcome.left.values() if left.part)
        if before - after != sum(outcome.rules.values()):
            raise unaccounted(
                "Merged data files have another number of rows",
                f"{before - sum(outcome.rules.values()):,}",
                f"{after:,}",
            )

    def _changed(self, change: Change, outcome: _Outcome) -> Change:
        """Add what goes to a change."""
        replaced = {target for merged in outcome.merged for target in merged.replaced}
        own = {self._own[number].target: left.part for number, left in outcome.left.items()}
        new = [part for merged in outcome.merged for part in merged.new]
        going: dict[str, DataFile | None] = {**dict.fromkeys(replaced), **own}
        unpublished = going.keys() & {part.target for part in change.parts}
        history = self._history(replaced - unpublished)
        types = types_of_owners(history, replaced - unpublished)
        known = types or not (replaced - unpublished)
        gone: Counter[str] = Counter()
        for left in outcome.left.values():
            gone.update(left.gone)
        change, more = self._stripped(change, outcome)
        return change.model_copy(
            update={
                "sinks": with_derived(change, going, self._plan, self._services, new),
                "replaced": (*change.replaced, *with_partials(sorted(replaced - unpublished), history), *more),
                "profile": tuple(p for p in change.profile if going.keys().isdisjoint(p.parts)),
                "types": joined_types(change.types, types) if change.types and known else {},
                "rules": dict(Counter(change.rules) + outcome.rules),
                "sources": tuple(
                    r.model_copy(update={"tally": r.tally + Tally(out=-gone[r.uri])}) if gone[r.uri] else r
                    for r in change.sources
                ),
            }
        )

    def _history(self, targets: set[str]) -> list[Manifest]:
        """Read the commits of some data files."""
        if not targets:
            return []
        snapshot = self._table.log.snapshot()
        uris = {uri for part in snapshot.parts(self._table.folder) if part.target in targets for uri in part.sources}
        return snapshot.about(uris.__contains__)

    def _stripped(self, change: Change, outcome: _Outcome) -> tuple[Change, list[str]]:
        """Take the rows that go out of other sinks' files. Gives the change, and published files that go."""
        replaced: list[str] = []
        for name in filled_by(self._plan.target.pipeline) if self._spec.traced else ():
            if self._services.lake.sinks[name].by_row:
                change, gone = self._strip(change, name, outcome)
                replaced += gone
        return change, replaced

    def _strip(self, change: Change, name: str, outcome: _Outcome) -> tuple[Change, list[str]]:
        """Take rows out of one sink's files: its own of the batch, and those that are published."""
        late = [left.traces for left in outcome.left.values() if left.traces]
        gone = [merged.gone for merged in outcome.merged if merged.gone]
        sources = {uri for merged in outcome.merged for uri in merged.sources}
        files, uris = {file.target: file for file in change.files(name)}, set(self._spec.uris)
        work: list[tuple[Held, list[str], str]] = []
        for file in files.values():
            own = not uris.isdisjoint(file.sources)
            folder = layout.costly(self._spec.batch) if own else layout.staging(self._spec.batch)
            work += (
                [(Held(part=file, path=file.staged), late if own else gone, folder)] if (late if own else gone) else []
            )
        for file in self._published(name, set(change.replaced)):
            if gone and not sources.isdisjoint(file.sources):
                work.append((Held(part=file, path=file.target), gone, layout.staging(self._spec.batch)))
        calls = [
            (self._spec.to_dict(), held.to_dict(), traces, self._stripped_name(held.part.target), folder)
            for held, traces, folder in work
        ]
        replaced = []
        for (held, _, _), answer in zip(work, self._run(strip, calls, name), strict=True):
            if answer is not None:
                replaced += [held.part.target] if held.published else []
                files.pop(held.part.target, None)
                if answer["part"]:
                    new = DataFile.from_dict(answer["part"])
                    files[new.target] = new
        return change.with_files({name: files.values()}), replaced

    def _stripped_name(self, target: str) -> str:
        """Name a file that replaces another one in this try."""
        name = digest([self._try, target])[:12]
        return f"{target.rsplit('/', 1)[0]}/{self._spec.batch}-k{name}.parquet"

    def _published(self, sink: str, gone: set[str]) -> list[DataFile]:
        """List the live files of a sink."""
        files = self._table.log.snapshot().files.to_pylist()
        return [
            DataFile(target=f["key"], staged="", rows=f["rows"], size=f["size"], sources=f["uris"] or ())
            for f in files
            if f["item"] == sink and f["key"] not in gone
        ]


def held_files(change: Change, own: Sequence[DataFile], table: Table) -> list[Held]:
    """List the live data files, and what is left of replaced ones.

    Args:
        change: May replace some.
        own: Its files with rows of the batch, which are none of these.
        table: Which table.
    """
    gone, mine = set(change.replaced), {part.target for part in own}
    live = table.log.snapshot().parts(table.folder)
    left = [part for part in change.parts if part.target not in mine]
    published = [Held(part=part, path=part.target) for part in live if part.target not in gone]
    return [*published, *(Held(part=part, path=part.staged) for part in left)]


def may_hold(spec: Keys, held: Sequence[Held], incoming: Sequence[Incoming], services: Services) -> list[Held]:
    """Find the files that may hold keys of a batch.

    Args:
        spec: Has the key.
        held: The files.
        incoming: The rows of the batch.
        services: The connections to use.
    """
    _tidy(spec, held, services)
    wanted = [some.to_dict() for some in incoming if some.rows]
    packs = [held[i : i + _PROBED] for i in range(0, len(held), _PROBED)] if wanted else []
    calls = [(spec.to_dict(), [one.to_dict() for one in pack], wanted) for pack in packs]
    answers = [answer for pack in run_tasks(probe, calls, spec, services) for answer in pack]
    return [one for one, hit in zip(held, answers, strict=False) if hit]


def _tidy(spec: Keys, held: Iterable[Held], services: Services) -> None:
    """Remove the indexes of data files that are gone."""
    home, store = layout.key_indexes(spec.tenant, spec.table, spec.columns), services.store
    kept = {layout.key_index(spec.tenant, spec.table, one.part.target, spec.columns) for one in held}
    store.delete_files({f"{home}/{name}" for name in store.children(home)} - kept)


def run_tasks(task: Any, calls: Sequence[tuple[Any, ...]], spec: Keys, services: Services, more: str = "") -> list[Any]:
    """Run tasks and give their answers in order.

    Args:
        task: What is done, importable on the workers.
        calls: The arguments of each.
        spec: Names them.
        services: The connections to use.
        more: Names them as well.
    """
    name = f"{task.__name__}-{spec.table}-{spec.batch[:8]}-{layout.part_key(spec.name)[:6]}{more}"
    keys = [f"{name}-{number}" for number in range(len(calls))]
    answers = dict(services.cluster.map(task, calls, keys))
    return [answers[number] for number in range(len(calls))]


def with_derived(
    change: Change,
    going: Mapping[str, DataFile | None],
    plan: Plan,
    services: Services,
    more: Sequence[DataFile] = (),
) -> dict[str, Staged]:
    """Put data files in place of others, also for sinks.

    Args:
        change: Its sinks have the old files.
        going: The new file for each old target; None if nothing is left.
        plan: What was processed.
        services: The connections to use.
        more: New files besides.
    """
    parts = [part for part in change.parts if part.target not in going]
    new = [*more, *(part for part in going.values() if part is not None)]
    files: dict[str, list[DataFile]] = {PARQUET: [*parts, *new]}
    target = plan.target
    for name in filled_by(target.pipeline):
        derived = services.lake.sinks[name].derive(target.source, (target.tenant, target.table), plan.batch, new)
        if derived or (name != PARQUET and name in change.sinks):
            old = {file.target for file in partials_of(change.files(name), going)}
            fresh = [file for several in derived.values() for file in several]
            files[name] = [*(file for file in change.files(name) if file.target not in old), *fresh]
    return change.with_files(files).sinks


def _grouped(touched: Sequence[Held], size: int) -> Iterator[list[Held]]:
    """Put small published files of a folder together."""
    folders: dict[str, list[Held]] = {}
    for one in touched:
        if one.published and one.part.size < size // 4:
            folders.setdefault(one.part.target.rsplit("/", 1)[0], []).append(one)
        else:
            yield [one]
    for small in folders.values():
        group: list[Held] = []
        for one in small:
            if group and sum(other.part.size for other in group) + one.part.size > size:
                yield group
                group = []
            group.append(one)
        yield group
