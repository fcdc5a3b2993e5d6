"""What a job does, from its request to its result: start reading here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from ingestlab.core.access import check, file_name
from ingestlab.core.errors import TerminalError
from ingestlab.core.models import FetchedFile, IngestRequest, IngestResult, Progress, Receipt, Source, SourceRecord
from ingestlab.core.signed_uri import bare
from ingestlab.engine.archives import Contents, open_archives, recorded, with_members
from ingestlab.engine.assemble import Batch, assemble
from ingestlab.engine.common_types import unify_types
from ingestlab.engine.early import EarlyTasks
from ingestlab.engine.merging import merge_by_key
from ingestlab.engine.plan import Plan, Target, make_plan
from ingestlab.engine.preflight import preflight, with_previous
from ingestlab.engine.progress import ProgressTracker
from ingestlab.engine.records import (
    check_complete,
    check_source,
    download_records,
    earlier,
    forget_pulls,
    one_by_one,
    open_pull,
    replaces,
)
from ingestlab.engine.replacing import without
from ingestlab.engine.services import Services
from ingestlab.engine.task.conform import infers, is_loose
from ingestlab.engine.task.process import run
from ingestlab.engine.tasks import Task, Tasks, job_of
from ingestlab.engine.uniqueness import reject_doubles
from ingestlab.engine.widening import one_type
from ingestlab.formats.html import Html
from ingestlab.formats.text import Text
from ingestlab.interfaces import Sink
from ingestlab.lake import layout
from ingestlab.lake.agreement import Seen
from ingestlab.lake.log import live_parts
from ingestlab.lake.table import Transaction
from ingestlab.pipeline.catalog import Catalog, PipelineSource, load
from ingestlab.pipeline.pipeline import Pipeline
from ingestlab.pipeline.uniqueness import unique_columns
from ingestlab.sources.arriving import Arriving
from ingestlab.sources.fetch import Failed, Unchanged, fetch
from ingestlab.sources.frames import check_frame
from ingestlab.sources.raw_zone import RawZone
from ingestlab.sources.records import RecordUri, names_records

Known = Mapping[str, SourceRecord]  # what the lake has, by URI


def _forget(_result: IngestResult) -> None: ...


def ingest(
    request: IngestRequest,
    services: Services,
    report: Callable[[Progress], None],
    keep: Callable[[IngestResult], None] = _forget,
) -> IngestResult:
    """Download, process and publish the sources of a request.

    One bad file is one failed outcome; the others are committed. A table that cannot be written, or of which
    a sink takes nothing, fails its own files, and so does what nobody has foreseen; those of other tables are
    committed. Trouble that is no file's fault (a lost lock, a cluster that is away) is raised, unless something is
    committed, and nothing is left half-done that the next try would not resolve.

    Args:
        request: What to ingest.
        services: The connections to use.
        report: Is told of every step.
        keep: Is told, after each table, how the files so far have ended: for whoever has to say it if this does not.
    """
    services, progress = services.of(request.tenant), ProgressTracker(request, report)
    for target, sources in route(request, services, progress):
        table, uris = services.table(target.tenant, target.table), [source.uri for source in sources]
        with progress.failures_of(sources), table.transaction("ingest", uris, run=request.run) as transaction:
            known = table.index.known(uris)
            with EarlyTasks(target, sources, {} if request.force else known, transaction, services) as early:
                if files := download(sources, known, target, request, services, progress, early.arriving):
                    contents, plan = Contents(files, known), early.plan(files)
                    if plan is None:
                        contents, plan = prepare(files, known, target, request, services, progress)
                    with transaction.batch(plan.batch, progress.committed):  # all of it, or nothing
                        batch = process(plan, contents, transaction, services, progress, early.receipts())
                        if batch.sources:
                            transaction.commit(batch, seen_by(target.pipeline))
                    forget_pulls(contents, target, services)
        keep(progress.so_far())
    return progress.result()


def route(
    request: IngestRequest, services: Services, progress: ProgressTracker
) -> Iterator[tuple[Target, list[Source]]]:
    """Yield the sources of a request by pipeline. Those that none may take have failed.

    Args:
        request: What to ingest.
        services: The connections to use.
        progress: Is told of sources that fail here.

    Yields:
        The table with its pipeline, and the sources that go there.
    """
    pipelines = Catalog.read(services.settings)
    groups: dict[PipelineSource, list[Source]] = {}
    for source in request.sources:
        try:
            check_frame(source.uri, request.tenant)
            check(source.address, services.settings)  # whoever put it on the queue may not have asked
            groups.setdefault(_pipeline_of(source, request, pipelines), []).append(source)
        except TerminalError as error:
            progress.failed({source.uri: error.to_dict()})
    for code, sources in groups.items():
        try:
            pipeline = load(code)
        except TerminalError as error:
            progress.failed({s.uri: error.to_dict() for s in sources})
            continue
        for group in one_by_one(sources):
            try:
                target = _target(code, pipeline, group[0].uri, request)
            except TerminalError as error:
                progress.failed({s.uri: error.to_dict() for s in group})
            else:
                yield target, group


def _target(code: PipelineSource, pipeline: Pipeline, uri: str, request: IngestRequest) -> Target:
    again = pipeline.write_disposition == "replace"
    if names_records(uri):
        check_source(pipeline, uri)
        again = replaces(pipeline, uri)
    return Target(
        run=request.run,
        tenant=request.tenant,
        table=pipeline.table,
        source=code,
        pipeline=pipeline,
        replace=request.force or again,
    )


def _pipeline_of(source: Source, request: IngestRequest, pipelines: Catalog) -> PipelineSource:
    if names_records(source.uri):
        return pipelines.named(RecordUri.parse(source.uri).pipeline)
    if request.pipeline:
        return pipelines.named(request.pipeline)
    return pipelines.matching(file_name(source.uri), request.table)


def download(
    sources: Sequence[Source],
    known: Known,
    target: Target,
    request: IngestRequest,
    services: Services,
    progress: ProgressTracker,
    arriving: Arriving,
) -> list[FetchedFile]:
    """Download what is new; the others are unchanged, or have failed.

    Args:
        sources: Where the files are.
        known: What the lake has of them, by URI.
        target: The table that they are for.
        request: Whether to take unchanged files, too.
        services: The connections to use.
        progress: Is told of every file.
        arriving: Is told what has come of a file that is the only one.

    Returns:
        The new files, in the raw zone.
    """
    progress.enter("fetching")
    if names_records(sources[0].uri):  # it comes alone
        return download_records(sources[0], known, target, request, services, progress)
    table = services.table(target.tenant, target.table)
    own_records = {u: r for u, r in known.items() if not request.force or r.run == request.run}
    answers = fetch(
        sources,
        store=services.store,
        folder=layout.raw(target.tenant, target.source.name),
        settings=services.settings,
        known={uri: record for uri, record in own_records.items() if record.whole and record.sha256},
        progress=progress.fetched,
        failed=lambda answer: progress.failing({answer.uri: answer.error.to_dict()}),
        pages=isinstance(target.pipeline.reader, Html | Text),
        arriving=arriving,
    )
    same = [answer for answer in answers if isinstance(answer, Unchanged)]
    records = with_members([own_records[answer.uri] for answer in same], table.index, progress)
    _tell_unchanged(records, target, services, progress)
    progress.failed({answer.uri: answer.error.to_dict() for answer in answers if isinstance(answer, Failed)})
    moved = [answer for answer in same if answer.version and answer.version != own_records[answer.uri].version]
    table.index.record([own_records[a.uri].model_copy(update={"version": a.version}) for a in moved])
    return [answer for answer in answers if isinstance(answer, FetchedFile)]


def prepare(
    files: Sequence[FetchedFile],
    known: Known,
    target: Target,
    request: IngestRequest,
    services: Services,
    progress: ProgressTracker,
) -> tuple[Contents, Plan]:
    """Open archives and plan the tasks of a batch."""
    ready = preflight(target, services, earlier(files, known))
    contents = unpack(files, known, ready, request, services, progress)
    again = [] if request.force else [file.uri for file in contents.files if file.uri in contents.known]
    ready = with_previous(ready, again, services)
    size = services.settings.partition_bytes
    return contents, make_plan(ready, contents.files, contents.known, services.store, size, contents.packed)


def unpack(
    files: Sequence[FetchedFile],
    known: Known,
    target: Target,
    request: IngestRequest,
    services: Services,
    progress: ProgressTracker,
) -> Contents:
    """Open archives, where the pipeline reads such, and pulls of records: their members stand for them."""
    if names_records(files[0].uri):
        return open_pull(files[0], known, target, services)
    zone = RawZone(services.store, layout.raw(target.tenant, target.source.name), services.settings)
    index = services.lake.index(target.tenant, target.table)
    contents = open_archives(files, target, dict(known), request.run if request.force else None, zone, index, progress)
    _tell_unchanged(contents.same, target, services, progress)
    return contents


def _tell_unchanged(
    same: Sequence[SourceRecord], target: Target, services: Services, progress: ProgressTracker
) -> None:
    """Report what the lake has already. What an earlier try of this run committed counts as its own."""
    progress.unchanged(same, target)
    log = services.lake.log(target.tenant, target.table)
    for batch in sorted({r.batch for r in same if r.run == target.run}):
        progress.committed_before(log.find(batch))


def process(
    plan: Plan,
    contents: Contents,
    transaction: Transaction,
    services: Services,
    progress: ProgressTracker,
    early: Iterable[Receipt],
) -> Batch:
    """Stage the batch on the cluster, with every row accounted for.

    Args:
        plan: The tasks.
        contents: The files of the plan, and the archives that some came out of.
        transaction: Of the table.
        services: The connections to use.
        progress: Is told of every task, and of files that failed.
        early: The receipts of tasks that have begun already, as they end.

    Returns:
        What is to be committed.
    """
    progress.enter("processing")
    receipts = process_all(plan, services, progress, early=early)
    batch = check_complete(assemble(plan, receipts, services.lake.sinks), contents)
    batch = recorded(batch, contents, plan, services.store)
    own = batch.parts
    if plan.target.replace:
        batch = _replace_earlier(plan, batch, contents.known, transaction, services)
    if plan.target.pipeline.key_columns:
        batch = merge_by_key(batch, own, plan, transaction, services)
    elif unique_columns(plan.target.pipeline.contract):
        batch = reject_doubles(batch, own, plan, transaction, services)
    batch = one_type(batch, plan.target, plan.batch, transaction, services)
    progress.enter("committing")
    progress.failed(batch.errors)
    return batch


def process_all(
    plan: Plan, services: Services, progress: ProgressTracker, task: Task = run, early: Iterable[Receipt] = ()
) -> list[Receipt]:
    """Run the tasks of a batch, and give their receipts in order.

    Args:
        plan: Has the partitions.
        services: Run the tasks.
        progress: Hears of each task that has ended.
        task: Takes a partition and a job, as plain dicts.
        early: The receipts of tasks that have begun already, as they end.
    """
    receipts = Tasks(plan, services.cluster, progress, task, job_of(plan, services.settings)).run(early)
    return unify_types(plan, _without_clashes(plan, receipts, services.lake.sinks), services)


def _without_clashes(plan: Plan, receipts: Sequence[Receipt], sinks: Mapping[str, Sink]) -> list[Receipt]:
    """Let cut files fail if a sink cannot join their pieces."""
    pieces = Counter(uri for receipt in receipts for uri in receipt.tallies)
    cut = [uri for uri, count in pieces.items() if count > 1]
    errors: dict[str, dict[str, str]] = {}
    for name in {name: None for receipt in receipts for name in receipt.sinks} if cut else ():
        staged = {uri: [f for r in receipts if uri in r.tallies for f in r.files(name)] for uri in cut}
        clashes = sinks[name].clashes(plan.target.source, staged)
        errors |= {uri: error.to_dict() for uri, error in clashes.items()}
    return [_with_errors(receipt, errors) for receipt in receipts]


def _with_errors(receipt: Receipt, errors: Mapping[str, dict[str, str]]) -> Receipt:
    """Add the errors of the files that a receipt is of."""
    mine = {uri: errors[uri] for uri in receipt.tallies if uri in errors}
    return receipt.model_copy(update={"errors": {**receipt.errors, **mine}}) if mine else receipt


def seen_by(pipeline: Pipeline) -> Seen:
    """Tell how far a pipeline's columns may differ from its table's."""
    return Seen(loose=is_loose(pipeline), nested=infers(pipeline))


def _replace_earlier(plan: Plan, batch: Batch, known: Known, transaction: Transaction, services: Services) -> Batch:
    """Let a batch replace the earlier rows of its sources."""
    # A record without content is that of a member that its archive no longer has.
    old_rows = {r.uri for r in batch.sources if r.uri in known or not r.sha256}
    if not old_rows:
        return batch
    transaction.replaces_parts()
    snapshot = transaction.table.log.snapshot()
    history = snapshot.about(lambda uri: ("?" in uri and bare(uri) in old_rows) or uri in old_rows)
    stale = sorted({*old_rows, *(u for part in live_parts(history) for u in part.sources if bare(u) in old_rows)})
    left = without(stale, plan.batch, transaction.table, plan.target.source, history, services)
    return left.added_to(batch, stale)
