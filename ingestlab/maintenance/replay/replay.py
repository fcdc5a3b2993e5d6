"""Feed rejects through the pipeline again: what a job with `replay` in its request does.

The records are read from the raw zone, by the numbers that their rejects carry, so that headers and quotes mean
what they meant the first time. What passes now is published and leaves the rejects, in one commit; what fails
again stays, with its new reason. `clean` and the contract see the rejected records alone: a check that compares
rows, other than `unique`, does not see those published before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from ingestlab.core.access import shown
from ingestlab.core.errors import TerminalError, unaccounted
from ingestlab.core.models import REJECTS, IngestRequest, IngestResult, Manifest, Outcome, Progress, SourceRecord, Tally
from ingestlab.engine.assemble import Batch, assemble
from ingestlab.engine.ingest import process_all, seen_by
from ingestlab.engine.merging import merge_by_key
from ingestlab.engine.plan import Plan, Target
from ingestlab.engine.preflight import preflight, with_previous
from ingestlab.engine.progress import ProgressTracker
from ingestlab.engine.services import Services
from ingestlab.engine.task.replay import RejectsUpdate, RejectsUpdated, replay_task, update_rejects
from ingestlab.engine.uniqueness import reject_doubles
from ingestlab.engine.widening import one_type
from ingestlab.lake.log import by_sink, live_parts
from ingestlab.lake.table import Transaction
from ingestlab.maintenance.replay.plan import plan_again
from ingestlab.maintenance.replay.state import State, by_pipeline, done_before, look_up, selection
from ingestlab.pipeline.uniqueness import unique_columns


def replay(request: IngestRequest, services: Services, report: Callable[[Progress], None]) -> IngestResult:
    """Replay the rejects of the sources of a request.

    A source that cannot be replayed is one failed outcome; the others are. Of a source whose content changed
    since, only the rejects of its present content count.

    Args:
        request: Which sources of which table, and in `replay` which of their rejects.
        services: The connections to use.
        report: Is told of every step.
    """
    progress = ProgressTracker(request, report)
    services = services.of(request.tenant)
    table = services.table(request.tenant, request.table)
    with table.transaction("replay", [s.uri for s in request.sources], run=request.run) as transaction:
        progress.enter("fetching")
        state = look_up(request, table)
        _tell_known(request, state, progress)
        progress.fetched(len(request.sources), 0)
        for target, uris in by_pipeline(request, state, services, progress):
            with progress.failures_of([s for s in request.sources if s.uri in uris]):
                _replay_into(target, uris, request, state, services, transaction, progress)
    return progress.result()


def _tell_known(request: IngestRequest, state: State, progress: ProgressTracker) -> None:
    """Report what is certain already: nothing to replay, or done by an earlier try of this job."""
    for source in request.sources:
        if source.uri not in state.known:
            problem = f"The source was never committed to table {request.table}"
            error = TerminalError(problem, fix="Ingest it.", code="not_found")
            progress.failed({source.uri: error.to_dict()})
        elif source.uri not in state.wanted:
            outcome = _outcome(state.known[source.uri], Tally(), request.table, changed=False)
            progress.ended(outcome, source.uri)
    for manifest in done_before(request, state):
        progress.committed_before(manifest)
        for record in manifest.sources:
            tally = _difference(record, _before(record, manifest, state.history))
            progress.ended(_outcome(record, tally, request.table, manifest.pipeline), record.uri)


def _replay_into(
    target: Target,
    uris: list[str],
    request: IngestRequest,
    state: State,
    services: Services,
    transaction: Transaction,
    progress: ProgressTracker,
) -> None:
    """Replay the sources of one pipeline."""
    ready = with_previous(preflight(target, services), uris, services)
    plan = plan_again(replace(ready, earlier=_earlier(uris, state)), uris, state, services)
    with transaction.batch(plan.batch, progress.committed_before):
        progress.enter("processing")
        passed = assemble(plan, process_all(plan, services, progress, replay_task), services.lake.sinks)
        if target.pipeline.key_columns:
            passed = merge_by_key(passed, passed.parts, plan, transaction, services)
        elif unique_columns(target.pipeline.contract):
            passed = reject_doubles(passed, passed.parts, plan, transaction, services)
        passed = one_type(passed, plan.target, plan.batch, transaction, services)
        updates = _rewrite_rejects(plan, passed, request, state, services)
        progress.enter("committing")
        progress.failed(passed.errors)
        if any(m.changed for m in updates):
            transaction.commit(_batch(passed, updates, state), seen_by(target.pipeline))
    changed = any(m.changed for m in updates)
    for record in passed.sources:
        tally = _difference(_after(record, state), state.known[record.uri])
        outcome = _outcome(record, tally, target.table, target.source.name, changed=changed)
        progress.ended(outcome, record.uri)


def _earlier(uris: Iterable[str], state: State) -> dict[str, tuple[str, ...]]:
    """Find the files with rows of the sources, by sink: replayed rows stand beside those."""
    mine = set(uris)
    parts = [part for part in live_parts(state.history) if mine & set(part.sources)]
    return {name: tuple(part.target for part in some) for name, some in by_sink(parts, state.history).items()}


def _rewrite_rejects(
    plan: Plan, passed: Batch, request: IngestRequest, state: State, services: Services
) -> list[RejectsUpdated]:
    """Write the rejects that are left, one task a part.

    Raises:
        TerminalError: Rows were lost or doubled on the way.
    """
    settings, uris = services.settings, {r.uri for r in passed.sources}
    chosen = selection(request, [state.known[uri] for uri in sorted(uris)])
    parts = [p for p in state.rejects if uris & set(p.sources)]
    work = [
        RejectsUpdate(
            part=part,
            selection=chosen,
            verdicts=tuple(v for v in passed.rejects if set(v.sources) & set(part.sources)),
            batch=plan.batch,
        )
        for part in parts
    ]
    calls = [(w.to_dict(), settings.lake_url, settings.storage_options) for w in work]
    keys = [f"rejects-{plan.target.run}-{plan.batch[:8]}-{i}" for i in range(len(work))]
    updates = [RejectsUpdated.from_dict(m) for _, m in services.cluster.map(update_rejects, calls, keys)]
    total = sum((r.tally for r in passed.sources), Tally())
    counts = (sum(m.chosen for m in updates), sum(m.gone for m in updates))
    if counts != (total.rows_in, total.accepted):
        wanted = f"{total.rows_in:,} replayed, {total.accepted:,} of them accepted"
        raise unaccounted("Replayed rejects are not those of the table", wanted, f"{counts[0]:,} and {counts[1]:,}")
    return sorted(updates, key=lambda m: m.target)


def _batch(passed: Batch, updates: Iterable[RejectsUpdated], state: State) -> Batch:
    """Make the change: new rows, rejects that are left, sources with new counts."""
    changed = [m for m in updates if m.changed]
    return passed.with_files({REJECTS: (m.left for m in changed if m.left)}).model_copy(
        update={
            "sources": tuple(_after(r, state) for r in passed.sources),
            "replaced": (*passed.replaced, *(m.target for m in changed)),
        }
    )


def _after(replayed: SourceRecord, state: State) -> SourceRecord:
    """Count a replay in a source's record. Its content and run stay."""
    old, new = state.known[replayed.uri], replayed.tally
    tally = Tally(
        rows_in=old.tally.rows_in,
        accepted=old.tally.accepted + new.accepted,
        rejected=old.tally.rejected - new.accepted,
        out=old.tally.out + new.out,
    )
    return old.model_copy(update={"tally": tally})


def _before(record: SourceRecord, manifest: Manifest, history: Iterable[Manifest]) -> SourceRecord:
    """Return the record of a source right before a commit."""
    earlier = [r for m in history if m.sequence < manifest.sequence for r in m.sources if r.uri == record.uri]
    return earlier[-1] if earlier else record


def _difference(after: SourceRecord, before: SourceRecord) -> Tally:
    """Count a replay: rejects before, rows that passed, rejects that are left."""
    return Tally(
        rows_in=before.tally.rejected,
        accepted=after.tally.accepted - before.tally.accepted,
        rejected=after.tally.rejected,
        out=after.tally.out - before.tally.out,
    )


def _outcome(record: SourceRecord, tally: Tally, table: str, pipeline: str = "", *, changed: bool = True) -> Outcome:
    return Outcome(
        uri=shown(record.uri),
        status="committed" if changed else "unchanged",
        tally=tally,
        size=record.size,
        table=table,
        pipeline=pipeline,
    )
