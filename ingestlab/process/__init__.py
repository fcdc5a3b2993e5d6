"""What one Dask task does: read, clean, check, write. Names and counts go back, never data."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import Field

from ingestlab import layout
from ingestlab.catalog import PipelineSource, load
from ingestlab.errors import IngestError, StorageError, TerminalError, TransientError
from ingestlab.models import Part, Partition, Piece, Receipt, Tally, Value
from ingestlab.pipeline import Pipeline
from ingestlab.process.frames import Frame, Loaded, join
from ingestlab.process.quality import Checked, Reason, check
from ingestlab.sinks import Sink
from ingestlab.sinks.parquet import ParquetSink
from ingestlab.storage import Store, open_store

REJECTS = pa.schema(
    [
        ("table", pa.string()),
        ("run", pa.string()),
        ("source", pa.string()),
        ("sha256", pa.string()),
        ("row", pa.int64()),
        ("rule", pa.string()),
        ("column", pa.string()),
        ("value", pa.string()),
        ("raw", pa.string()),
    ]
)


class Job(Value):
    """What all tasks of a batch share."""

    run: str
    batch: str
    tenant: str
    table: str
    pipeline: PipelineSource
    lake: str
    storage_options: dict[str, dict[str, Any]] = Field(default_factory=dict)


@dataclass(frozen=True)
class Result:
    """The rows of some pieces: to publish, and to keep aside."""

    table: pa.Table
    rejects: pa.Table
    tallies: Mapping[str, Tally]


def run(partition: dict[str, Any], job: dict[str, Any]) -> dict[str, Any]:
    """The Dask task: a partition and its job as plain dicts, a receipt as a plain dict."""
    work, spec = Partition.from_dict(partition), Job.from_dict(job)
    store = open_store(spec.lake, spec.storage_options)
    staging = layout.staging(spec.batch)
    table = ParquetSink(store, layout.table(spec.tenant, spec.table), staging)
    rejects = ParquetSink(store, layout.table(spec.tenant, layout.rejects(spec.table)), staging)
    return process(work, spec, load(spec.pipeline), store, table, rejects).to_dict()


def process(part: Partition, job: Job, pipeline: Pipeline, store: Store, table: Sink, rejects: Sink) -> Receipt:
    """Reads, cleans, checks and stages one partition.

    A file that cannot be read or cleaned is an error in the receipt, its neighbours are processed; trouble
    with the storage or the pipeline's declaration is raised, since it is no file's fault.
    """
    clock = _Clock()
    loaded, errors = _read(part.pieces, pipeline, store)
    clock.lap("read")
    result, more = _transform(loaded, pipeline, job)
    clock.lap("check")
    name = f"{job.batch}-{part.number:05d}"
    try:
        parts: list[Part] = table.stage(name, result.table, pipeline.folders) if result else []
        kept: list[Part] = rejects.stage(name, result.rejects) if result else []
    except StorageError:
        raise
    except TerminalError as error:  # the rows do not fit the table's folders: all files in here share the blame
        return Receipt(number=part.number, errors={piece.uri: error.to_dict() for piece in part.pieces})
    clock.lap("write")
    return Receipt(
        number=part.number,
        parts=tuple(parts),
        rejects=tuple(kept),
        tallies=dict(result.tallies) if result else {},
        rules=_count_rules(result.rejects) if result else {},
        errors={uri: e.to_dict() for uri, e in (errors | more).items()},
        seconds=clock.laps,
    )


def _read(pieces: Sequence[Piece], pipeline: Pipeline, store: Store) -> tuple[list[Loaded], dict[str, IngestError]]:
    loaded: list[Loaded] = []
    errors: dict[str, IngestError] = {}
    for piece in pieces:
        try:
            loaded.append(Loaded(piece, pipeline.reader.read(piece, store)))
        except (TransientError, StorageError):
            raise
        except TerminalError as error:
            errors[piece.uri] = error
    return loaded, errors


def _transform(loaded: Sequence[Loaded], pipeline: Pipeline, job: Job) -> tuple[Result | None, dict[str, IngestError]]:
    """All pieces in one go; if that fails, each by itself, so that only the culprits fail."""
    if not loaded:
        return None, {}
    try:
        return _transform_together(loaded, pipeline, job), {}
    except (TerminalError, pa.ArrowInvalid, pa.ArrowTypeError) as error:
        failure = error if isinstance(error, IngestError) else TerminalError.wrap(error, "columns that fit together")
        if len(loaded) == 1:
            return None, {loaded[0].piece.uri: failure}
    results: list[Result] = []
    errors: dict[str, IngestError] = {}
    for one in loaded:
        result, failed = _transform([one], pipeline, job)
        errors |= failed
        if result:
            results.append(result)
    return (_concat(results) if results else None), errors


def _transform_together(loaded: Sequence[Loaded], pipeline: Pipeline, job: Job) -> Result:
    frame = join(loaded)
    checked = check(frame, pipeline)
    return Result(_published(frame, checked), _rejected(frame, checked, job), _tallies(frame, checked))


def _published(frame: Frame, checked: Checked) -> pa.Table:
    """The rows that passed, each with its source and row number."""
    pieces = frame.pieces_of(checked.index)
    uris = pa.array([one.piece.uri for one in frame.loaded], pa.string())
    source = pa.DictionaryArray.from_arrays(pa.array(pieces.astype(np.int32)), uris)
    row = pa.array(checked.index - frame.offsets[pieces])
    return checked.table.append_column("_source", source).append_column("_row", row)


def _rejected(frame: Frame, checked: Checked, job: Job) -> pa.Table:
    """One row for every source row that was not readable or did not pass."""
    rows: list[dict[str, Any]] = []
    for one in frame.loaded:
        if one.broken:
            reasons = {row: Reason(bad.rule, bad.column, bad.value) for row, bad in sorted(one.broken.items())}
            rows.extend(_reject_rows(one, reasons, job))
    if checked.reasons:
        index = np.array(sorted(checked.reasons), dtype=np.int64)
        for one, indexes, offset in frame.split(index):
            rows.extend(_reject_rows(one, {int(i) - offset: checked.reasons[int(i)] for i in indexes}, job))
    return pa.Table.from_pylist(rows, schema=REJECTS)


def _reject_rows(one: Loaded, reasons: Mapping[int, Reason], job: Job) -> list[dict[str, Any]]:
    raw = one.records.raw(list(reasons))
    shared = {"table": job.table, "run": job.run, "source": one.piece.uri, "sha256": one.piece.sha256}
    return [
        shared | {"row": n, "rule": why.rule, "column": why.column, "value": why.value, "raw": raw.get(n)}
        for n, why in reasons.items()
    ]


def _tallies(frame: Frame, checked: Checked) -> dict[str, Tally]:
    """Counts by URI; accepted and rejected are counted apart, so that a lost row shows."""
    pieces, size = frame.pieces_of, len(frame.loaded)
    out = np.bincount(pieces(checked.index), minlength=size)
    accepted = np.bincount(pieces(np.unique(checked.index)), minlength=size)
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


def _concat(results: Sequence[Result]) -> Result:
    return Result(
        pa.concat_tables([r.table for r in results], promote_options="permissive").unify_dictionaries(),
        pa.concat_tables([r.rejects for r in results]),
        {uri: tally for r in results for uri, tally in r.tallies.items()},
    )


def _count_rules(rejects: pa.Table) -> dict[str, int]:
    pairs = zip(rejects["column"].to_pylist(), rejects["rule"].to_pylist(), strict=True)
    return dict(Counter(f"{column}:{rule}" if column else str(rule) for column, rule in pairs))


class _Clock:
    """Seconds by step."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, step: str) -> None:
        now = time.perf_counter()
        self.laps[step] = round(now - self._last, 6)
        self._last = now
