"""What a replay is about: the sources, their rejects, and the pipelines that take them now."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from ingestlab.core.access import file_name
from ingestlab.core.errors import StorageError, TerminalError
from ingestlab.core.models import DataFile, IngestRequest, Manifest, SourceRecord
from ingestlab.engine.plan import Target
from ingestlab.engine.progress import ProgressTracker
from ingestlab.engine.services import Services
from ingestlab.engine.task.replay import KEY, Origin, Selection, judging, read_rejects, rows_by_source
from ingestlab.interfaces import Store
from ingestlab.lake import layout
from ingestlab.lake.log import live_parts
from ingestlab.lake.table import Table
from ingestlab.pipeline.catalog import Catalog, PipelineSource, load

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
    rejects: Sequence[DataFile]
    wanted: Rows


def look_up(request: IngestRequest, table: Table) -> State:
    """Look what is to do, while sources and parts are locked."""
    history = table.log.snapshot().manifests()
    known = table.index.known([s.uri for s in request.sources])
    folder = layout.table(request.tenant, layout.rejects(request.table)) + "/"
    rejects = [p for p in live_parts(history) if p.target.startswith(folder) and known.keys() & set(p.sources)]
    chosen = selection(request, known.values())
    columns = [*KEY, "sha256", "run", "rule", "column"]
    tables = (read_rejects(table.store, part.target, columns) for part in rejects)
    return State(history, known, rejects, rows_by_source(t.filter(chosen.mask(t)) for t in tables))


def selection(request: IngestRequest, records: Iterable[SourceRecord]) -> Selection:
    """Select the wanted rejects of the present contents of sources."""
    assert request.replay is not None
    run = request.replay.run
    origins = {r.uri: Origin(sha256=r.sha256, run=r.run) for r in records if run in (None, r.run)}
    return Selection(origins=origins, rule=request.replay.rule)


def done_before(request: IngestRequest, state: State) -> list[Manifest]:
    """Find the commits of earlier tries. Other jobs of the run have other sources."""
    uris = {s.uri for s in request.sources}
    mine = (m for m in state.history if m.kind == "replay" and m.run == request.run)
    return [m for m in mine if uris >= {r.uri for r in m.sources}]


def by_pipeline(
    request: IngestRequest, state: State, services: Services, progress: ProgressTracker
) -> list[tuple[Target, list[str]]]:
    """Group the sources with something to replay by their present pipelines."""
    catalog = Catalog.read(services.settings)
    names = {m.batch: m.pipeline for m in state.history}
    done = {r.uri for m in done_before(request, state) for r in m.sources}
    groups: dict[PipelineSource, list[str]] = {}
    for uri in [s.uri for s in request.sources if s.uri in state.wanted and s.uri not in done]:
        record = state.known[uri]
        with _failing(progress, [uri]):
            code = _code(names.get(record.batch, ""), record, request.table, catalog)
            _check_raw(record, services.store)
            groups.setdefault(code, []).append(uri)
    targets = []
    for code, uris in groups.items():
        with _failing(progress, uris):
            targets.append((_target(request, code), uris))
    return targets


@contextmanager
def _failing(progress: ProgressTracker, uris: Iterable[str]) -> Iterator[None]:
    """Report an error as that of some sources."""
    try:
        yield
    except StorageError:
        raise
    except TerminalError as error:
        progress.failed(dict.fromkeys(uris, error.to_dict()))


def _code(name: str, record: SourceRecord, table: str, catalog: Catalog) -> PipelineSource:
    """Return the pipeline of a source. One that was read as its format says has no file."""
    return catalog.sources.get(name) or catalog.matching(file_name(record.uri), table)


def _check_raw(record: SourceRecord, store: Store) -> None:
    """Check that a source's bytes can be read again; raises TerminalError."""
    fix = "Ingest the source again, with --force."
    try:
        size = store.size(record.raw)
    except FileNotFoundError:
        problem = f"The raw file of {file_name(record.uri)} is missing: {record.raw}"
        raise TerminalError(problem, fix=fix, code="lake_damaged") from None
    if size != record.size:
        problem, wanted = f"The raw file has changed: {record.raw}", f"{record.size:,} bytes"
        raise TerminalError(problem, expected=wanted, got=f"{size:,}", fix=fix, code="lake_damaged")


def _target(request: IngestRequest, code: PipelineSource) -> Target:
    """Make the target of a replay. Raises TerminalError where the pipeline has another table."""
    pipeline = load(code)
    if pipeline.table != request.table:
        problem = f"Pipeline '{code.name}' writes to table {pipeline.table} by now, not to {request.table}"
        raise TerminalError(problem, fix="Ingest the sources again.", code="table_unknown")
    return Target(
        run=request.run,
        tenant=request.tenant,
        table=request.table,
        source=code,
        pipeline=judging(pipeline),
        replace=False,
    )
