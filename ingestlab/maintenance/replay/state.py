"""What a replay is about: the sources, their rejects, and the pipelines that take them now."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ingestlab.core.access import file_name
from ingestlab.core.errors import TerminalError, attempt
from ingestlab.core.models import IngestRequest, Manifest, Part, SourceRecord
from ingestlab.engine.plan import Target
from ingestlab.engine.progress import ProgressTracker
from ingestlab.engine.services import Services
from ingestlab.engine.task.replay import KEY, Origin, Selection, judging, read_rejects, rows_by_source
from ingestlab.interfaces import Store
from ingestlab.lake import layout
from ingestlab.lake.log import live_parts
from ingestlab.lake.table import Table
from ingestlab.pipeline.catalog import Catalog, PipelineSource, load
from ingestlab.pipeline.pipeline import Pipeline

Rows = Mapping[str, tuple[int, ...]]  # of records, by URI


@dataclass(frozen=True)
class State:
    """A table while its locks are held.

    Attributes:
        history: Its manifests, oldest first.
        known: The sources of the request, as they are committed.
        rejects: The live parts with rejects of these.
        wanted: The rows to replay.
    """

    history: Sequence[Manifest]
    known: Mapping[str, SourceRecord]
    rejects: Sequence[Part]
    wanted: Rows


def look_up(request: IngestRequest, table: Table) -> State:
    """Look what is to do, while the sources and the parts of the table are locked."""
    history = table.log.snapshot().manifests()
    known = table.index.known([s.uri for s in request.sources])
    folder = layout.table(request.tenant, layout.rejects(request.table)) + "/"
    rejects = [p for p in live_parts(history) if p.target.startswith(folder) and known.keys() & set(p.sources)]
    chosen = selection(request, known.values())
    columns = [*KEY, "sha256", "run", "rule", "column"]
    tables = (read_rejects(table.store, part.target, columns) for part in rejects)
    return State(history, known, rejects, rows_by_source(t.filter(chosen.mask(t)) for t in tables))


def selection(request: IngestRequest, records: Iterable[SourceRecord]) -> Selection:
    """The rejects of the present contents of some sources that the request wants."""
    assert request.replay is not None
    run = request.replay.run
    origins = {r.uri: Origin(sha256=r.sha256, run=r.run) for r in records if run in (None, r.run)}
    return Selection(origins=origins, rule=request.replay.rule)


def done_before(request: IngestRequest, state: State) -> list[Manifest]:
    """What earlier tries of this job have committed; other jobs of its run have other sources."""
    uris = {s.uri for s in request.sources}
    mine = (m for m in state.history if m.kind == "replay" and m.run == request.run)
    return [m for m in mine if uris >= {r.uri for r in m.sources}]


def by_pipeline(
    request: IngestRequest, state: State, services: Services, progress: ProgressTracker
) -> Iterator[tuple[Target, list[str]]]:
    """The sources with something to replay, by the pipeline that took them, as it is now."""
    catalog = Catalog.read(services.settings)
    names = {m.batch: m.pipeline for m in state.history}
    done = {r.uri for m in done_before(request, state) for r in m.sources}
    groups: dict[PipelineSource, list[str]] = {}
    for uri in [s.uri for s in request.sources if s.uri in state.wanted and s.uri not in done]:
        record = state.known[uri]
        code = attempt(_code, names.get(record.batch, ""), record, request.table, catalog)
        trouble = code if isinstance(code, TerminalError) else _raw_trouble(record, services.store)
        if trouble:
            progress.failed({uri: trouble.to_dict()})
        elif isinstance(code, PipelineSource):
            groups.setdefault(code, []).append(uri)
    for code, uris in groups.items():
        pipeline = attempt(load, code)
        if not isinstance(pipeline, TerminalError) and pipeline.table == request.table:
            yield _target(request, code, pipeline), uris
            continue
        wanted = f"pipeline '{code.name}' to write to table {request.table}"
        fix = "Its file was changed: ingest the sources anew."
        elsewhere = (
            pipeline
            if isinstance(pipeline, TerminalError)
            else TerminalError(
                "The pipeline has another table", expected=wanted, got=pipeline.table, fix=fix, code="table_unknown"
            )
        )
        progress.failed(dict.fromkeys(uris, elsewhere.to_dict()))


def _code(name: str, record: SourceRecord, table: str, catalog: Catalog) -> PipelineSource:
    """The pipeline of a source; one that was read as its format says has no file."""
    return catalog.sources.get(name) or catalog.matching(file_name(record.uri), table)


def _raw_trouble(record: SourceRecord, store: Store) -> TerminalError | None:
    """Why the bytes of a source cannot be read again, if they cannot."""
    fix = "Ingest the source anew, with --force."
    try:
        size = store.size(record.raw)
    except FileNotFoundError:
        return TerminalError(
            "The raw file is missing",
            expected=f"the bytes of {file_name(record.uri)} in {record.raw}",
            got="no such file",
            fix=fix,
            code="lake_damaged",
        )
    wanted = f"{record.size:,} bytes in {record.raw}"
    return (
        None
        if size == record.size
        else TerminalError("The raw file has changed", expected=wanted, got=f"{size:,}", fix=fix, code="lake_damaged")
    )


def _target(request: IngestRequest, code: PipelineSource, pipeline: Pipeline) -> Target:
    return Target(
        run=request.run,
        tenant=request.tenant,
        table=request.table,
        source=code,
        pipeline=judging(pipeline),
        replace=False,
    )
