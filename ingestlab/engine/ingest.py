"""What a job does, from its request to its result: start reading here."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass

from ingestlab.core.access import check, check_tenant, file_name
from ingestlab.core.errors import TerminalError
from ingestlab.core.models import (
    FetchedFile,
    IngestRequest,
    IngestResult,
    Progress,
    Receipt,
    Source,
    SourceRecord,
)
from ingestlab.core.settings import Settings
from ingestlab.core.signed_uri import bare
from ingestlab.engine.archives import Contents, open_archives, recorded, with_members
from ingestlab.engine.assemble import Batch, assemble
from ingestlab.engine.commit import abandon, all_or_nothing, publish, recover
from ingestlab.engine.common_types import settle_types
from ingestlab.engine.drop_sources import without
from ingestlab.engine.duplicates import without_doubles
from ingestlab.engine.lookups import resolve
from ingestlab.engine.plan import Plan, Target, make_plan
from ingestlab.engine.preflight import check_collection
from ingestlab.engine.progress import ProgressTracker
from ingestlab.engine.schema_agreement import with_types
from ingestlab.engine.task.process import run
from ingestlab.engine.tasks import Task, Tasks, job_of
from ingestlab.executors.choice import open_executor
from ingestlab.formats.html import Html
from ingestlab.formats.text import Text
from ingestlab.interfaces import Executor, Store
from ingestlab.lake import layout
from ingestlab.lake.ledger import Lease, Ledger, batch_lock, connect, rewrite_lock, source_lock
from ingestlab.lake.log import TransactionLog, live_parts
from ingestlab.lake.storage.store import open_store
from ingestlab.pipeline.catalog import Catalog, PipelineSource, load
from ingestlab.sinks.milvus.commit import Vectors
from ingestlab.sources.fetch import Failed, Unchanged, fetch
from ingestlab.sources.raw_zone import Site


@dataclass(frozen=True)
class Context:
    """What a worker keeps from job to job."""

    settings: Settings
    store: Store
    ledger: Ledger
    cluster: Executor

    @property
    def vectors(self) -> Vectors:
        """What commits do to vectors."""
        return Vectors(self.settings, self.store, self.cluster)

    @classmethod
    def create(cls, settings: Settings, ledger: Ledger) -> Context:
        """Opens the lake; the Dask client connects when it is first needed."""
        store = open_store(settings.lake_url, settings.storage_options)
        return cls(settings, store, ledger, open_executor(settings))

    @classmethod
    @contextmanager
    def opened(cls, settings: Settings) -> Iterator[Context]:
        """The same for who is no worker, with a ledger of its own; the Dask client is closed at the end."""
        context = cls.create(settings, Ledger(connect(settings.redis), settings.lake_url, settings.lock_ttl))
        with closing(context.cluster):
            yield context


def _forget(_result: IngestResult) -> None: ...


def ingest(
    request: IngestRequest,
    context: Context,
    report: Callable[[Progress], None],
    keep: Callable[[IngestResult], None] = _forget,
) -> IngestResult:
    """Downloads, processes and publishes the sources of a request.

    One bad file is one failed outcome; the others are committed. A table that cannot be written, or whose vectors
    have no place to go, fails its own files, and so does what nobody has foreseen; those of other tables are
    committed. Trouble that is no file's fault (a lost lock, a cluster that is away) is raised, unless something is
    committed, and nothing is left half-done that the next try would not mend.

    Args:
        request: What to ingest.
        context: The connections to use.
        report: Is told of every step.
        keep: Is told, after each table, how the files so far have ended: for whoever has to say it if this does not.
    """
    progress = ProgressTracker(request, report)
    for target, sources in _by_target(request, context, progress):
        with progress.failures_of(sources):
            _ingest_into(target, sources, request, context, progress)
        keep(progress.so_far())
    return progress.result()


def _ingest_into(
    target: Target, sources: list[Source], request: IngestRequest, context: Context, progress: ProgressTracker
) -> None:
    """The same for the sources of one table."""
    store, ledger = context.store, context.ledger
    with ledger.lease() as lease:
        known = _prepare(target, sources, context, lease)
        with progress.stage("fetching"):
            files = _fetch(target, sources, known, request, context, progress)
            ready = preflight(target, context, [file.uri for file in files]) if files else target
        if not files:
            return
        with progress.stage("fetching"):
            contents = _open(ready, files, known, request, context, progress)
        plan = make_plan(
            ready, contents.files, contents.known, store, context.settings.partition_bytes, contents.packed
        )
        lease.acquire([batch_lock(plan.batch)])
        try:
            with all_or_nothing(target.tenant, target.table, plan.batch, store, ledger, lease, context.vectors):
                _process_and_publish(plan, contents, context, lease, progress)
        except Exception:
            if manifest := TransactionLog(store, target.tenant, target.table).find(plan.batch):
                progress.committed(manifest)  # what was published is never told as failed
            raise


def _process_and_publish(
    plan: Plan, contents: Contents, context: Context, lease: Lease, progress: ProgressTracker
) -> None:
    target, store, ledger = plan.target, context.store, context.ledger
    with progress.stage("processing"):
        receipts = settle_types(plan, process_all(plan, context, progress), context.cluster, context.settings)
        batch = recorded(assemble(plan, receipts), contents, plan, store)
        batch = _replace_earlier(plan, batch, contents.known, context, lease)
    with progress.stage("committing"):
        progress.failed(batch.errors)
        if batch.records:
            progress.committed(publish(plan, batch, store, ledger, lease, context.vectors))
        else:
            abandon(target.tenant, target.table, plan.batch, store, ledger, lease, context.vectors)


def preflight(target: Target, context: Context, uris: Collection[str] = ()) -> Target:
    """Give a target its references and the types of its table, before anything is processed.

    Args:
        target: As its pipeline declares it.
        context: The connections to use.
        uris: Sources whose earlier rows may go.

    Raises:
        IngestError: It cannot be written, its vectors have no place to go, or a reference cannot be had.
    """
    store, ledger = context.store, context.ledger
    typed = with_types(target, store, ledger, uris)
    check_collection(typed, store, ledger, context.cluster, context.vectors)
    return resolve(typed, store, ledger, context.settings)


def _by_target(
    request: IngestRequest, context: Context, progress: ProgressTracker
) -> Iterator[tuple[Target, list[Source]]]:
    """The sources of a request by the pipeline that takes them."""
    pipelines = Catalog.read(context.settings)
    groups: dict[PipelineSource, list[Source]] = {}
    for source in request.sources:
        try:
            check_tenant(request.tenant, context.settings)
            check(source.address, context.settings)  # whoever put it on the queue may not have asked
            groups.setdefault(_pipeline_of(source, request, pipelines), []).append(source)
        except TerminalError as error:
            progress.failed({source.uri: error.to_dict()})
    for code, sources in groups.items():
        try:
            pipeline = load(code)
        except TerminalError as error:
            progress.failed({s.uri: error.to_dict() for s in sources})
            continue
        wants_replace = request.force or pipeline.write_disposition == "replace"
        yield (
            Target(
                run=request.run,
                tenant=request.tenant,
                table=pipeline.table,
                source=code,
                pipeline=pipeline,
                replace=wants_replace,
            ),
            sources,
        )


def _pipeline_of(source: Source, request: IngestRequest, pipelines: Catalog) -> PipelineSource:
    if request.pipeline:
        return pipelines.named(request.pipeline)
    return pipelines.matching(file_name(source.uri), request.table)


def _prepare(target: Target, sources: Sequence[Source], context: Context, lease: Lease) -> dict[str, SourceRecord]:
    """Locks the sources, mends what a dead job left of them, and looks up which are committed."""
    uris = [s.uri for s in sources]
    ledger, store, where = context.ledger, context.store, (target.tenant, target.table)
    lease.acquire(source_lock(*where, uri) for uri in uris)
    recover(*where, uris, store, ledger, lease, context.vectors)
    ledger.ensure_index(*where, TransactionLog(store, *where).records)
    return ledger.known(*where, uris)


def _fetch(
    target: Target,
    sources: Sequence[Source],
    known: dict[str, SourceRecord],
    request: IngestRequest,
    context: Context,
    progress: ProgressTracker,
) -> list[FetchedFile]:
    """Downloads what is new; the rest is told to the progress."""
    ours = {u: r for u, r in known.items() if not request.force or r.run == request.run}
    folder = layout.raw(target.tenant, target.source.name)
    got = fetch(
        sources,
        store=context.store,
        folder=folder,
        settings=context.settings,
        known={uri: record for uri, record in ours.items() if record.whole and record.sha256},
        progress=progress.fetched,
        failed=lambda one: progress.failing({one.uri: one.error.to_dict()}),
        pages=isinstance(target.pipeline.reader, Html | Text),
    )
    same = [ours[g.uri] for g in got if isinstance(g, Unchanged)]
    _tell_unchanged(with_members(same, target, context.ledger, progress), target, request, context, progress)
    progress.failed({g.uri: g.error.to_dict() for g in got if isinstance(g, Failed)})
    moved = [g for g in got if isinstance(g, Unchanged) and g.version and g.version != ours[g.uri].version]
    context.ledger.record(
        target.tenant, target.table, [ours[g.uri].model_copy(update={"version": g.version}) for g in moved]
    )
    return [g for g in got if isinstance(g, FetchedFile)]


def _open(
    target: Target,
    files: Sequence[FetchedFile],
    known: dict[str, SourceRecord],
    request: IngestRequest,
    context: Context,
    progress: ProgressTracker,
) -> Contents:
    """The members of archives, where the pipeline reads such, instead of the archives."""
    site = Site(context.store, layout.raw(target.tenant, target.source.name), context.settings)
    ours = request.run if request.force else None
    contents = open_archives(files, target, known, ours, site, context.ledger, progress)
    _tell_unchanged(contents.same, target, request, context, progress)
    return contents


def _tell_unchanged(
    same: Sequence[SourceRecord], target: Target, request: IngestRequest, context: Context, progress: ProgressTracker
) -> None:
    """What the lake has already; what an earlier try of this run has committed, counts as its own."""
    progress.unchanged(same, target)
    log = TransactionLog(context.store, target.tenant, target.table)
    for batch in sorted({r.batch for r in same if r.run == request.run}):
        progress.committed_before(log.find(batch))


def process_all(plan: Plan, context: Context, progress: ProgressTracker, task: Task = run) -> list[Receipt]:
    """One Dask task for each partition, and more for files that are tried alone; their receipts, in order."""
    receipts = Tasks(plan, context.cluster, progress, task, job_of(plan, context.settings)).run()
    return without_doubles(plan, receipts, context.store)


def _replace_earlier(plan: Plan, batch: Batch, known: dict[str, SourceRecord], context: Context, lease: Lease) -> Batch:
    """For `replace`: adds to a batch what is left of the parts that hold earlier rows of its sources."""
    target, store = plan.target, context.store
    # A record without content is that of a member that its archive no longer has.
    old_rows = {r.uri for r in batch.records if r.uri in known or not r.sha256}
    stale = sorted(old_rows) if target.replace else []
    if not stale:
        return batch
    where = (target.tenant, target.table)
    lease.acquire([rewrite_lock(*where)])
    history = (
        TransactionLog(store, *where)
        .snapshot()
        .about(lambda uri: ("?" in uri and bare(uri) in old_rows) or uri in old_rows)
    )
    stale = sorted({*stale, *(uri for part in live_parts(history) for uri in part.sources if bare(uri) in old_rows)})
    left = without(stale, plan.batch, where, target.source, history, context.cluster, context.settings)
    return left.added_to(batch, stale)
