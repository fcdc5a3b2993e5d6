"""Holds a batch against `unique` of its contract over the whole table: the second row becomes a reject.

It is under the table's rewrite lock, as a merge is, so that of two jobs with one value the later commit sees the first.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, TypeVar

from ingestlab.core.models import REJECTS, Change, DataFile, Piece, Staged, Tally
from ingestlab.engine.merging import PATIENCE, RANGE, held_files, may_hold, run_tasks, with_derived
from ingestlab.engine.plan import Plan
from ingestlab.engine.services import Services
from ingestlab.engine.task.merging import strip
from ingestlab.engine.task.row_keys import Held, Incoming, Keys
from ingestlab.engine.task.uniqueness import Doubles, first_rows, published_doubles, reject
from ingestlab.engine.tasks import job_of
from ingestlab.lake import layout
from ingestlab.lake.table import Transaction
from ingestlab.pipeline.uniqueness import unique_columns
from ingestlab.sinks.opening import filled_by

_TOGETHER = 4  # data files that one task compares

AnyChange = TypeVar("AnyChange", bound=Change)


def reject_doubles(
    change: AnyChange, own: Sequence[DataFile], plan: Plan, transaction: Transaction, services: Services
) -> AnyChange:
    """Turn rows whose values must be unique, and are not, into rejects.

    Args:
        change: What is to be committed. It may replace data files already.
        own: Its staged data files with rows of the batch.
        plan: What was processed.
        transaction: Of the table.
        services: The connections to use.

    Raises:
        BusySourceError: Another job has replaced data files of the table for a minute.
        TerminalError: A file cannot be read again, for the raw text of its rejects.
    """
    transaction.replaces_parts(PATIENCE)
    change = change.model_copy(update={"unique": True})
    if not own:
        return change
    held = held_files(change, own, transaction.table)
    found: list[tuple[Doubles, tuple[str, ...]]] = []
    for columns in unique_columns(plan.target.pipeline.contract):
        spec = _spec(plan, columns, services)
        before = [doubles.path for doubles, _ in found]
        found += [(doubles, columns) for doubles in _doubles(spec, own, held, before, services)]
    return _rejected(change, own, found, plan, services) if found else change


def _spec(plan: Plan, columns: tuple[str, ...], services: Services) -> Keys:
    return Keys(
        tenant=plan.target.tenant,
        table=plan.target.table,
        batch=plan.batch,
        columns=columns,
        uris=tuple(file.uri for file in plan.files),
        name=json.dumps(columns),
        lake=services.settings.lake_url,
        options=services.settings.storage_options,
    )


def _doubles(
    spec: Keys, own: Sequence[DataFile], held: Sequence[Held], before: Sequence[str], services: Services
) -> list[Doubles]:
    """Find the doubles of one set of columns: among the batch, and with what is published."""
    ranges, parts = -(-sum(part.rows for part in own) // RANGE), [part.to_dict() for part in own]
    calls: list[Any] = [(spec.to_dict(), parts, list(before), number, ranges) for number in range(ranges)]
    answers = run_tasks(first_rows, calls, spec, services)
    incoming = [Incoming.from_dict(some) for some, _ in answers]
    touched = may_hold(spec, held, incoming, services)
    packs = [touched[i : i + _TOGETHER] for i in range(0, len(touched), _TOGETHER)]
    wanted = [some.to_dict() for some in incoming]
    calls = [
        (spec.to_dict(), [one.to_dict() for one in pack], wanted, f"published-{number}")
        for number, pack in enumerate(packs)
    ]
    every = [*(doubles for _, doubles in answers), *run_tasks(published_doubles, calls, spec, services)]
    return [doubles for doubles in map(Doubles.from_dict, every) if doubles.path]


def _rejected(
    change: AnyChange,
    own: Sequence[DataFile],
    found: Sequence[tuple[Doubles, tuple[str, ...]]],
    plan: Plan,
    services: Services,
) -> AnyChange:
    """Move doubles from the staged files to the rejects."""
    paths, uris = [doubles.path for doubles, _ in found], {uri for doubles, _ in found for uri in doubles.sources}
    spec = _spec(plan, (), services)
    going: dict[str, DataFile | None] = {}
    gone: Counter[str] = Counter()
    names = [name for name in filled_by(plan.target.pipeline) if services.lake.sinks[name].by_row]
    files = [*own, *(f for name in names for f in change.files(name) if set(f.sources) <= set(spec.uris))]
    files = [file for file in files if uris & set(file.sources)]
    answers = run_tasks(strip, [_strip(spec, file, paths) for file in files], spec, services)
    for file, answer in zip(files, answers, strict=True):
        if answer is not None:
            going[file.target] = DataFile.from_dict(answer["part"]) if answer["part"] else None
            gone.update(answer["gone"] if file in own else {})
    rejects, rejected, rules = _staged_rejects(found, uris, plan, services)
    sinks = with_derived(change, going, plan, services)
    sinks = {name: _without(staged, going) if name in names else staged for name, staged in sinks.items()}
    old = sinks.get(REJECTS, Staged())
    tallies = {uri: Tally(accepted=-n, rejected=n, out=-gone[uri]) for uri, n in rejected.items()}
    return change.model_copy(
        update={
            "sinks": sinks | {REJECTS: old.model_copy(update={"files": (*old.files, *rejects)})},
            "profile": tuple(p for p in change.profile if going.keys().isdisjoint(p.parts)),
            "rules": dict(Counter(change.rules) + rules),
            "sources": tuple(
                r.model_copy(update={"tally": r.tally + tallies[r.uri]}) if r.uri in tallies else r
                for r in change.sources
            ),
        }
    )


def _strip(spec: Keys, file: DataFile, paths: list[str]) -> tuple[Any, ...]:
    """Make the call that takes doubles out of a staged file."""
    costly = file.staged.startswith(f"{layout.costly(spec.batch)}/")
    folder = layout.costly(spec.batch) if costly else layout.staging(spec.batch)
    target = f"{file.target.removesuffix('.parquet')}-u.parquet"
    return spec.to_dict(), Held(part=file, path=file.staged).to_dict(), paths, target, folder


def _without(staged: Staged, going: dict[str, DataFile | None]) -> Staged:
    """Put new files in place of old ones."""
    files = (going.get(file.target, file) for file in staged.files)
    return staged.model_copy(update={"files": tuple(file for file in files if file is not None)})


def _staged_rejects(
    found: Sequence[tuple[Doubles, tuple[str, ...]]], uris: set[str], plan: Plan, services: Services
) -> tuple[list[DataFile], Counter[str], Counter[str]]:
    """Stage the rejects, one task a partition: files, rows by source, and rows by rule."""
    pieces: dict[str, list[Piece]] = {}
    for part in plan.partitions:
        for piece in part.pieces:
            pieces.setdefault(piece.uri, []).append(piece)
    ends = {
        (piece.uri, piece.start): following.first_row for some in pieces.values() for piece, following in pairwise(some)
    }
    job, rules = job_of(plan, services.settings), [[d.path, ", ".join(columns)] for d, columns in found]
    calls: list[Any] = []
    for part in plan.partitions:
        mine = tuple(piece for piece in part.pieces if piece.uri in uris)
        if mine:
            stops = [ends.get((piece.uri, piece.start)) for piece in mine]
            calls.append((job, part.model_copy(update={"pieces": mine}).to_dict(), stops, rules, part.number))
    files: list[DataFile] = []
    rejected: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    for answer in run_tasks(reject, calls, _spec(plan, (), services), services):
        files += map(DataFile.from_dict, answer["files"])
        rejected.update(answer["rejected"])
        counts.update(answer["rules"])
    return files, rejected, counts
