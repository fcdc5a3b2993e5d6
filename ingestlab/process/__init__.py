"""What one Dask task does: read, clean, check, write. Names and counts go back, never data."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import Field

from ingestlab import layout
from ingestlab.catalog import PipelineSource, load
from ingestlab.errors import IngestError, StorageError, TerminalError, attempt
from ingestlab.models import FetchedFile, Part, Partition, Piece, Receipt, Tally, Value
from ingestlab.pipeline import PackReader, Pipeline
from ingestlab.process import gate, profiling, vectors
from ingestlab.process.frames import Frame, Loaded, distinct, join
from ingestlab.process.memory import keep_freed
from ingestlab.process.quality import Checked, check
from ingestlab.process.references import furnish
from ingestlab.process.rejects import rejected
from ingestlab.process.states import States, compute
from ingestlab.sinks import Sink
from ingestlab.sinks.parquet import ParquetSink
from ingestlab.storage import Store, open_store


class Job(Value):
    """What all tasks of a batch share."""

    run: str
    batch: str
    tenant: str
    table: str
    pipeline: PipelineSource
    lake: str
    storage_options: dict[str, dict[str, Any]] = Field(default_factory=dict)
    references: dict[str, FetchedFile] = Field(default_factory=dict)  # in the raw zone, by name
    replace: bool = False  # whether the sources' earlier rows go


@dataclass(frozen=True)
class Result:
    """The rows of some pieces: to publish, and to keep aside."""

    table: pa.Table
    rejects: pa.Table
    tallies: Mapping[str, Tally]


def run(partition: dict[str, Any], job: dict[str, Any]) -> dict[str, Any]:
    """The Dask task: a partition and its job as plain dicts, a receipt as a plain dict."""
    keep_freed()
    work, spec = Partition.from_dict(partition), Job.from_dict(job)
    return process_with(work, spec, load(spec.pipeline), open_store(spec.lake, spec.storage_options)).to_dict()


def process_with(work: Partition, spec: Job, pipeline: Pipeline, store: Store) -> Receipt:
    """Processes a partition into the staging folder of its batch; bad references are the error of all its files."""
    ready = attempt(furnish, pipeline, spec.pipeline.sha256, spec.references, store)
    if isinstance(ready, TerminalError):
        return Receipt(number=work.number, errors={piece.uri: ready.to_dict() for piece in work.pieces})
    staging = layout.staging(spec.batch)
    table = ParquetSink(store, layout.table(spec.tenant, spec.table), staging)
    rejects = ParquetSink(store, layout.table(spec.tenant, layout.rejects(spec.table)), staging)
    states = States(store, spec.tenant, spec.table, staging)
    return process(work, spec, ready, store, table, rejects, states)


def process(
    part: Partition,
    job: Job,
    pipeline: Pipeline,
    store: Store,
    table: Sink,
    rejects: Sink,
    states: States | None = None,
) -> Receipt:
    """Reads, cleans, checks and stages one partition.

    A file that cannot be read or cleaned is an error in the receipt, its neighbours are processed; trouble
    with the storage or the pipeline's declaration is raised, since it is no file's fault. Without `states` the
    aggregates are computed and not kept.
    """
    os.environ.pop("PYARROW_IGNORE_TIMEZONE", None)  # pandera sets it when imported, and Arrow then shifts zoned times
    clock = _Clock()
    loaded, errors = _read(part.pieces, pipeline, store)
    clock.lap("read")
    results, more = _pass_gate(loaded, pipeline, job)
    clock.lap("check")
    name = f"{job.batch}-{part.number:05d}"
    if pipeline.embedding:
        results, embedded, failed = _embed(loaded, results, name, pipeline, job, store)
        more |= failed
        clock.lap("embed")
    else:
        embedded = []
    try:
        staged = _stage(results, name, pipeline, table, rejects, states, clock)
    except StorageError:
        raise
    except (TerminalError, pa.ArrowNotImplementedError) as error:
        # The rows do not fit the table's folders, or no Parquet: all files in here share the blame.
        blame = error if isinstance(error, IngestError) else TerminalError.wrap(error, "columns that Parquet can hold")
        return Receipt(number=part.number, errors={piece.uri: blame.to_dict() for piece in part.pieces})
    collection = vectors.agreed([one.collection.to_dict() for one in embedded])
    places = [p for one in embedded for p in vectors.stage(one, _site(job, store))]
    clock.lap("write")
    profile = profiling.of_tables([result.table for result in results]) if staged.parts else {}
    clock.lap("profile")
    return Receipt(
        number=part.number,
        parts=tuple(staged.parts),
        rejects=tuple(staged.rejects),
        states=tuple(staged.states),
        vectors=tuple(places),
        collection=collection,
        tallies=_tallies_of(results),
        rules=_count_rules(results, loaded),
        errors={uri: e.to_dict() for uri, e in (errors | more).items()},
        seconds=clock.laps,
        profile=profile,
        facts={one.piece.uri: dict(one.records.facts) for one in loaded if one.records.facts},
        faults=gate.carried(part.pieces, (r.rejects for r in results), pipeline.max_reject_ratio),
    )


@dataclass(frozen=True)
class _Staged:
    """The files of one task."""

    parts: list[Part]
    rejects: list[Part]
    states: list[Part]


def _stage(
    results: Sequence[Result],
    name: str,
    pipeline: Pipeline,
    table: Sink,
    rejects: Sink,
    states: States | None,
    clock: _Clock,
) -> _Staged:
    staged = _Staged([], [], [])
    for i, result in enumerate(results):
        own = _name(name, i)
        new = table.stage(own, result.table, pipeline.folders)
        staged.parts.extend(new)
        staged.rejects.extend(rejects.stage(own, result.rejects))
        clock.lap("write")
        for found in compute(result.table, new, pipeline.aggregates, pipeline.folders):
            staged.states.extend([states.stage(*found)] if states else [])
        clock.lap("aggregate")
    return staged


def _name(name: str, number: int) -> str:
    """The name of a task's parts; few have more than one."""
    return f"{name}-{number}" if number else name


def _site(job: Job, store: Store) -> vectors.Site:
    return vectors.Site(store, job.tenant, job.table, job.run, job.batch)


def _embed(
    loaded: Sequence[Loaded], results: list[Result], name: str, pipeline: Pipeline, job: Job, store: Store
) -> tuple[list[Result], list[vectors.Embedded], dict[str, IngestError]]:
    """The vectors of the results; files whose rows cannot be embedded fail, and are taken out of them."""
    errors: dict[str, IngestError] = {}
    while True:
        found = attempt(_embed_all, loaded, results, name, pipeline, job, store)
        if not isinstance(found, TerminalError):
            return results, found, errors
        culprits: dict[str, IngestError] = {}
        for one in loaded:
            alone, _ = _transform([one], pipeline, job)
            trouble = attempt(_embed_all, [one], alone, name, pipeline, job, store)
            culprits |= {one.piece.uri: trouble} if isinstance(trouble, TerminalError) else {}
        errors |= culprits or {one.piece.uri: found for one in loaded}  # together they do what none does by itself
        loaded = [one for one in loaded if one.piece.uri not in errors]
        results, more = _pass_gate(loaded, pipeline, job)
        errors |= more


def _embed_all(
    loaded: Sequence[Loaded], results: Sequence[Result], name: str, pipeline: Pipeline, job: Job, store: Store
) -> list[vectors.Embedded]:
    assert pipeline.embedding is not None
    pieces, site = {one.piece.uri: one.piece for one in loaded}, _site(job, store)
    return [
        vectors.embed(r.table, _name(name, i), pipeline.embedding, pieces, site, adds=not job.replace)
        for i, r in enumerate(results)
        if r.table.num_rows
    ]


def _read(pieces: Sequence[Piece], pipeline: Pipeline, store: Store) -> tuple[list[Loaded], dict[str, IngestError]]:
    reader = pipeline.reader
    if isinstance(reader, PackReader):
        results = reader.read_all(pieces, store)
    else:
        results = [attempt(reader.read, piece, store) for piece in pieces]
    pairs = list(zip(pieces, results, strict=True))
    errors: dict[str, IngestError] = {piece.uri: got for piece, got in pairs if isinstance(got, TerminalError)}
    return [Loaded(piece, got) for piece, got in pairs if not isinstance(got, TerminalError)], errors


def _pass_gate(loaded: Sequence[Loaded], pipeline: Pipeline, job: Job) -> tuple[list[Result], dict[str, IngestError]]:
    """Transforms the pieces without the files that are too bad, on whose rows nothing of the others may depend."""
    most, pieces = pipeline.max_reject_ratio, [one.piece for one in loaded]
    results, errors = _transform(loaded, pipeline, job)
    while failed := gate.refused(pieces, _tallies_of(results), (r.rejects for r in results), most, pipeline.name):
        errors = {**errors, **failed}
        results, more = _transform([one for one in loaded if one.piece.uri not in errors], pipeline, job)
        errors |= more
    return results, errors


def _transform(loaded: Sequence[Loaded], pipeline: Pipeline, job: Job) -> tuple[list[Result], dict[str, IngestError]]:
    """All pieces in one go; if that fails, each by itself, so that only the culprits fail."""
    if not loaded:
        return [], {}
    try:
        return [_transform_together(loaded, pipeline, job)], {}
    except (TerminalError, pa.ArrowInvalid, pa.ArrowTypeError) as error:
        failure = error if isinstance(error, IngestError) else TerminalError.wrap(error, "columns that fit together")
        if len(loaded) == 1:
            return [], {loaded[0].piece.uri: failure}
    results: list[Result] = []
    errors: dict[str, IngestError] = {}
    for one in loaded:
        found, failed = _transform([one], pipeline, job)
        results, errors = _merge(results, found), errors | failed
    return results, errors


def _transform_together(loaded: Sequence[Loaded], pipeline: Pipeline, job: Job) -> Result:
    frame = join(loaded)
    checked = check(frame, pipeline)
    return Result(_published(frame, checked), rejected(frame, checked, job.table, job.run), _tallies(frame, checked))


def _published(frame: Frame, checked: Checked) -> pa.Table:
    """The rows that passed, each with its source and row number."""
    pieces = frame.pieces_of(checked.index)
    uris = pa.array([one.piece.uri for one in frame.loaded], pa.string())
    source = pa.DictionaryArray.from_arrays(pa.array(pieces.astype(np.int32)), uris)
    row = pa.array(checked.index - frame.offsets[pieces])
    return checked.table.append_column("_source", source).append_column("_row", row)


def _tallies(frame: Frame, checked: Checked) -> dict[str, Tally]:
    """Counts by URI; accepted and rejected are counted apart, so that a lost row shows."""
    pieces, size = frame.pieces_of, len(frame.loaded)
    out = np.bincount(pieces(checked.index), minlength=size)
    accepted = np.bincount(pieces(distinct(checked.index)), minlength=size)
    reasons = np.fromiter(checked.reasons, dtype=np.int64, count=len(checked.reasons))
    rejected = np.bincount(pieces(reasons), minlength=size)
    return {
        one.piece.uri: Tally(
            rows_in=one.count,
            accepted=int(accepted[k]),
            rejected=int(rejected[k]) + len(one.broken),
            out=int(out[k]),
        )
        for k, one in enumerate(frame.loaded)
    }


def _merge(results: Sequence[Result], more: Iterable[Result]) -> list[Result]:
    """Adds results to those whose columns they fit; types that were inferred may fit none."""
    merged = list(results)
    for new in more:
        for i, old in enumerate(merged):
            with suppress(pa.ArrowInvalid, pa.ArrowTypeError):
                table = pa.concat_tables([old.table, new.table], promote_options="permissive").unify_dictionaries()
                merged[i] = Result(table, pa.concat_tables([old.rejects, new.rejects]), {**old.tallies, **new.tallies})
                break
        else:
            merged.append(new)
    return merged


def _tallies_of(results: Iterable[Result]) -> dict[str, Tally]:
    return {uri: tally for result in results for uri, tally in result.tallies.items()}


def _count_rules(results: Sequence[Result], loaded: Iterable[Loaded]) -> dict[str, int]:
    """Rejected rows by rule, and the values that were discarded from rows that go on."""
    counts: Counter[str] = Counter()
    for result in results:
        groups = result.rejects.group_by(["column", "rule"], use_threads=False).aggregate([([], "count_all")])
        for group in groups.to_pylist():
            counts[gate.rule_name(group["column"], group["rule"])] += group["count_all"]
    done = _tallies_of(results)
    for one in loaded:
        if one.piece.uri in done:
            counts.update({f"{column}:discarded": count for column, count in one.records.discarded.items()})
    return dict(counts)


class _Clock:
    """Seconds by step."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, step: str) -> None:
        now = time.perf_counter()
        self.laps[step] = round(self.laps.get(step, 0.0) + now - self._last, 6)
        self._last = now
