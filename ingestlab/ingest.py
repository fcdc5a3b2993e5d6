"""What a job does, from its request to its result: start reading here."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from ingestlab import layout
from ingestlab.catalog import Catalog, PipelineSource, load
from ingestlab.cluster import Cluster
from ingestlab.commit import Batch, abandon, assemble, live_parts, load_manifest, manifests, publish, recover
from ingestlab.errors import IngestError, StorageError, TerminalError
from ingestlab.fetch import Failed, Unchanged, fetch
from ingestlab.guard import check, check_tenant, file_name, shown
from ingestlab.ledger import Lease, Ledger, batch_lock, rewrite_lock, source_lock
from ingestlab.models import (
    FetchedFile,
    IngestRequest,
    IngestResult,
    Manifest,
    Outcome,
    Part,
    Progress,
    Receipt,
    Source,
    SourceRecord,
    Status,
    Tally,
)
from ingestlab.plan import Plan, Target, make_plan
from ingestlab.process import Job, run
from ingestlab.process.rewrite import rewrite
from ingestlab.settings import Settings
from ingestlab.storage import Store, open_store


@dataclass(frozen=True)
class Context:
    """What a worker keeps from job to job."""

    settings: Settings
    store: Store
    ledger: Ledger
    cluster: Cluster

    @classmethod
    def create(cls, settings: Settings, ledger: Ledger) -> Context:
        """Opens the lake; the Dask client connects when it is first needed."""
        store = open_store(settings.lake_url, settings.storage_options)
        return cls(settings, store, ledger, Cluster(settings))


def ingest(request: IngestRequest, context: Context, report: Callable[[Progress], None]) -> IngestResult:
    """Downloads, processes and publishes the sources of a request.

    One bad file is one failed outcome; the others are committed. A table that cannot be written fails its
    own files; those of other tables are committed. Trouble that is no file's fault (a lost lock, a cluster
    that is away) is raised, and nothing is left half-done that the next try would not mend.

    Args:
        request: What to ingest.
        context: The connections to use.
        report: Is told of every step.
    """
    story = _Story(request, report)
    for target, sources in _by_target(request, context, story):
        try:
            _ingest_into(target, sources, request, context, story)
        except StorageError as error:
            story.unwritten(sources, error)
    return story.result()


def _ingest_into(
    target: Target, sources: list[Source], request: IngestRequest, context: Context, story: _Story
) -> None:
    """The same for the sources of one table."""
    with context.ledger.lease() as lease:
        known = _prepare(target, sources, context, lease)
        with story.stage("fetching"):
            files = _fetch(target, sources, known, request, context, story)
        if not files:
            return
        plan = make_plan(target, files, known, context.store, context.settings.partition_bytes)
        lease.acquire([batch_lock(plan.batch)])
        with _all_or_nothing(plan, context, lease):
            with story.stage("processing"):
                receipts = _process(plan, context, story)
                batch = _replace_earlier(plan, assemble(plan, receipts), known, context, lease)
            with story.stage("committing"):
                story.failed(batch.errors)
                if batch.records:
                    story.committed(publish(plan, batch, context.store, context.ledger, lease))
                else:
                    abandon(plan, context.store, context.ledger, lease)


@contextmanager
def _all_or_nothing(plan: Plan, context: Context, lease: Lease) -> Iterator[None]:
    """Leaves nothing of a batch that fails, where that can be done; else its next job or `reconcile` does it."""
    try:
        yield
    except Exception as error:
        try:
            abandon(plan, context.store, context.ledger, lease)
        except Exception as trouble:  # noqa: BLE001 - what went wrong first is what counts
            error.add_note(f"Its leftovers stay for `ingestlab reconcile`: {trouble}")
        raise


def _by_target(request: IngestRequest, context: Context, story: _Story) -> Iterator[tuple[Target, list[Source]]]:
    """The sources of a request by the pipeline that takes them."""
    pipelines = Catalog.read(context.settings)
    groups: dict[PipelineSource, list[Source]] = {}
    for source in request.sources:
        try:
            check_tenant(request.tenant, context.settings)
            check(source.uri, context.settings)  # whoever put it on the queue may not have asked
            groups.setdefault(_pipeline_of(source, request, pipelines), []).append(source)
        except TerminalError as error:
            story.failed({source.uri: error.to_dict()})
    for code, sources in groups.items():
        try:
            pipeline = load(code)
        except TerminalError as error:
            story.failed({s.uri: error.to_dict() for s in sources})
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
    recover(*where, uris, store, ledger, lease)
    ledger.ensure_index(*where, lambda: manifests(store, *where))
    return ledger.known(*where, uris)


def _fetch(
    target: Target,
    sources: Sequence[Source],
    known: dict[str, SourceRecord],
    request: IngestRequest,
    context: Context,
    story: _Story,
) -> list[FetchedFile]:
    """Downloads what is new; the rest is told to the story."""
    ours = {u: r for u, r in known.items() if not request.force or r.run == request.run}
    folder = layout.raw(target.tenant, target.source.name)
    got = fetch(
        sources, store=context.store, folder=folder, settings=context.settings, known=ours, progress=story.fetched
    )
    same = [ours[g.uri] for g in got if isinstance(g, Unchanged)]
    story.unchanged(same, target)
    for batch in sorted({r.batch for r in same if r.run == request.run}):
        path = layout.manifest(target.tenant, target.table, batch)
        story.committed_before(load_manifest(context.store, path))
    story.failed({g.uri: g.error.to_dict() for g in got if isinstance(g, Failed)})
    moved = [g for g in got if isinstance(g, Unchanged) and g.version and g.version != ours[g.uri].version]
    context.ledger.record(
        target.tenant, target.table, [ours[g.uri].model_copy(update={"version": g.version}) for g in moved]
    )
    return [g for g in got if isinstance(g, FetchedFile)]


def _process(plan: Plan, context: Context, story: _Story) -> list[Receipt]:
    """One Dask task for each partition; their receipts, in order."""
    target, settings = plan.target, context.settings
    job = Job(
        run=target.run,
        batch=plan.batch,
        tenant=target.tenant,
        table=target.table,
        pipeline=target.source,
        lake=settings.lake_url,
        storage_options=settings.storage_options,
    ).to_dict()
    calls = [(p.to_dict(), job) for p in plan.partitions]
    keys = [f"{target.table}-{target.run}-{plan.batch[:8]}-{p.number}" for p in plan.partitions]
    receipts: dict[int, Receipt] = {}
    story.planned(len(calls))
    for place, result in context.cluster.map(run, calls, keys):
        receipts[place] = Receipt.from_dict(result)
        story.processed(receipts[place])
    return [receipts[i] for i in range(len(calls))]


def _replace_earlier(plan: Plan, batch: Batch, known: dict[str, SourceRecord], context: Context, lease: Lease) -> Batch:
    """For `replace`: adds to a batch what is left of the parts that hold earlier rows of its sources."""
    target, store = plan.target, context.store
    stale = sorted({r.uri for r in batch.records} & set(known)) if target.replace else []
    if not stale:
        return batch
    lease.acquire([rewrite_lock(target.tenant, target.table)])
    history = manifests(store, target.tenant, target.table)
    old = [p for p in live_parts(history) if set(p.sources) & set(stale)]
    calls = [(p.to_dict(), stale, plan.batch, context.settings.lake_url, context.settings.storage_options) for p in old]
    keys = [f"rewrite-{target.run}-{plan.batch[:8]}-{i}" for i in range(len(old))]
    left = [Part.from_dict(r) for _, r in context.cluster.map(rewrite, calls, keys) if r]
    home = layout.table(target.tenant, target.table) + "/"
    return replace(
        batch,
        parts=(*batch.parts, *(p for p in left if p.target.startswith(home))),
        rejects=(*batch.rejects, *(p for p in left if not p.target.startswith(home))),
        replaced=tuple(p.target for p in old),
    )


class _Story:
    """What has happened so far: feeds the progress, and becomes the result."""

    def __init__(self, request: IngestRequest, report: Callable[[Progress], None]) -> None:
        self._request, self._report = request, report
        self._progress = Progress(files=len(request.sources))
        self._outcomes: dict[str, Outcome] = {}
        self._rules: Counter[str] = Counter()
        self._seconds: dict[str, float] = {}
        self._tables: set[str] = set()
        self._bytes = 0

    @contextmanager
    def stage(self, state: str) -> Iterator[None]:
        """Names the state of the job, and takes its time."""
        began = time.perf_counter()
        self._tell(state=state)
        try:
            yield
        finally:
            self._seconds[state] = self._seconds.get(state, 0.0) + time.perf_counter() - began

    def fetched(self, files: int, size: int) -> None:
        self._tell(files_done=files, bytes=size)

    def planned(self, partitions: int) -> None:
        self._tell(partitions=self._progress.partitions + partitions)

    def processed(self, receipt: Receipt) -> None:
        total = sum(receipt.tallies.values(), Tally())
        self._tell(
            partitions_done=self._progress.partitions_done + 1,
            rows=self._progress.rows + total.rows_in,
            rejected=self._progress.rejected + total.rejected,
        )

    def unchanged(self, records: Sequence[SourceRecord], target: Target) -> None:
        """Sources that the lake has; those that an earlier try of this very run committed count as committed."""
        for r in records:
            mine = r.run == self._request.run
            self._done(r, "committed" if mine else "unchanged", target.table, target.source.name)

    def failed(self, errors: Mapping[str, dict[str, str]]) -> None:
        for uri, error in errors.items():
            self._outcomes[uri] = Outcome(uri=shown(uri), status="failed", error=error)
        if errors:
            self._tell(failed=sum(o.status == "failed" for o in self._outcomes.values()))

    def unwritten(self, sources: Sequence[Source], error: IngestError) -> None:
        """The sources of a table that could not be written, but for those whose end is known."""
        self.failed({s.uri: error.to_dict() for s in sources if s.uri not in self._outcomes})

    def committed(self, manifest: Manifest) -> None:
        for record in manifest.sources:
            self._done(record, "committed", manifest.table, manifest.pipeline)
        self.committed_before(manifest)

    def committed_before(self, manifest: Manifest | None) -> None:
        """Adds what a commit of this run has published, this time or in an earlier try."""
        if manifest:
            self._rules.update(manifest.rules)
            self._bytes += sum(p.size for p in manifest.parts)

    def result(self) -> IngestResult:
        return IngestResult(
            run=self._request.run,
            job=self._request.job_id,
            outcomes=tuple(self._outcomes[s.uri] for s in self._request.sources),
            rules=dict(self._rules),
            parquet_bytes=self._bytes,
            tables=tuple(sorted(self._tables)),
            seconds={k: round(v, 4) for k, v in self._seconds.items()},
        )

    def _done(self, r: SourceRecord, status: Status, table: str, pipeline: str) -> None:
        self._tables.add(table)
        self._outcomes[r.uri] = Outcome.model_construct(
            uri=r.uri, status=status, tally=r.tally, size=r.size, table=table, pipeline=pipeline
        )

    def _tell(self, **changes: object) -> None:
        self._progress = self._progress.model_copy(update=changes)
        self._report(self._progress)
