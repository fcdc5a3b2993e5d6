"""From the records of some pieces to the rows that are published, and those that are kept aside."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from ingestlab.core.errors import IngestError, TerminalError
from ingestlab.core.models import Tally
from ingestlab.engine.task import quality_gate as gate
from ingestlab.engine.task.conform import conform
from ingestlab.engine.task.frames import Frame, Loaded, distinct, families, join
from ingestlab.engine.task.job import Job
from ingestlab.engine.task.rejects import rejected
from ingestlab.engine.task.validate import Checked, check
from ingestlab.lake.arrow_schema import common_schema
from ingestlab.pipeline.pipeline import Pipeline


@dataclass(frozen=True)
class Result:
    """Rows of some pieces, to publish and to keep aside."""

    table: pa.Table
    rejects: pa.Table
    tallies: Mapping[str, Tally]
    discarded: Mapping[str, int] = field(default_factory=dict)  # values that the table's types have cost, by column


def pass_gate(loaded: Sequence[Loaded], pipeline: Pipeline, job: Job) -> tuple[list[Result], dict[str, IngestError]]:
    """Transform pieces without the files that are too bad. Nothing of the others may depend on their rows.

    Args:
        loaded: The pieces with their records.
        pipeline: What judges and cleans them.
        job: What all tasks of the batch are told.

    Returns:
        The rows of files that pass, and the errors of the others, by URI.
    """
    most, pieces = pipeline.max_reject_ratio, [reading.piece for reading in loaded]
    results, errors = transform(loaded, pipeline, job)
    while failed := gate.refused(pieces, tallies_of(results), (r.rejects for r in results), most, pipeline.name):
        errors = {**errors, **failed}
        results, more = transform([reading for reading in loaded if reading.piece.uri not in errors], pipeline, job)
        errors |= more
    return results, errors


def transform(loaded: Sequence[Loaded], pipeline: Pipeline, job: Job) -> tuple[list[Result], dict[str, IngestError]]:
    """Transform all pieces at once. If that fails each is tried alone, so that only the culprits fail.

    Args:
        loaded: The pieces with their records.
        pipeline: What judges and cleans them.
        job: What all tasks of the batch are told.

    Returns:
        Rows, one result for each set of columns that fit together, and the errors of files, by URI.
    """
    if not loaded:
        return [], {}
    groups = families(loaded)
    if len(groups) > 1:
        return _transform_each(groups, pipeline, job)
    try:
        return [_transform_together(loaded, pipeline, job)], {}
    except (TerminalError, pa.ArrowInvalid, pa.ArrowTypeError) as error:
        failure = (
            error
            if isinstance(error, IngestError)
            else TerminalError.wrap(error, "Columns do not fit together", code="columns_conflict")
        )
        if len(loaded) == 1:
            return [], {loaded[0].piece.uri: failure}
    return _transform_each([[reading] for reading in loaded], pipeline, job)


def _transform_each(
    groups: Iterable[Sequence[Loaded]], pipeline: Pipeline, job: Job
) -> tuple[list[Result], dict[str, IngestError]]:
    """Transform groups in turn; the results are merged where their columns fit."""
    results: list[Result] = []
    errors: dict[str, IngestError] = {}
    for group in groups:
        more, failed = transform(group, pipeline, job)
        results, errors = _merge(results, more), errors | failed
    return results, errors


def _transform_together(loaded: Sequence[Loaded], pipeline: Pipeline, job: Job) -> Result:
    frame = join(loaded)
    conformed = conform(check(frame, pipeline), pipeline, job.types)
    checked = conformed.checked
    rejects = rejected(frame, checked, job.table, job.run)
    return Result(_published(frame, checked), rejects, _tallies(frame, checked), conformed.discarded)


def _published(frame: Frame, checked: Checked) -> pa.Table:
    """Add source and row number to the rows that passed."""
    pieces = frame.pieces_of(checked.index)
    uris = pa.array([reading.piece.uri for reading in frame.loaded], pa.string())
    source = pa.DictionaryArray.from_arrays(pa.array(pieces.astype(np.int32)), uris)
    row = pa.array(checked.index - frame.offsets[pieces])
    return checked.table.append_column("_source", source).append_column("_row", row)


def _tallies(frame: Frame, checked: Checked) -> dict[str, Tally]:
    """Count rows by URI, accepted and rejected ones apart. So a lost row shows."""
    pieces, size = frame.pieces_of, len(frame.loaded)
    out = np.bincount(pieces(checked.index), minlength=size)
    accepted = np.bincount(pieces(distinct(checked.index)), minlength=size)
    reasons = np.fromiter(checked.reasons, dtype=np.int64, count=len(checked.reasons))
    rejected = np.bincount(pieces(reasons), minlength=size)
    return {
        reading.piece.uri: Tally(
            rows_in=reading.count,
            accepted=int(accepted[k]),
            rejected=int(rejected[k]) + len(reading.broken),
            out=int(out[k]),
        )
        for k, reading in enumerate(frame.loaded)
    }


def _merge(results: Sequence[Result], more: Iterable[Result]) -> list[Result]:
    """Add results to those that they fit; inferred types may fit none."""
    merged = list(results)
    for new in more:
        for i, old in enumerate(merged):
            with suppress(pa.ArrowInvalid, pa.ArrowTypeError):
                if not common_schema(old.table.schema, new.table.schema):
                    continue
                table = pa.concat_tables([old.table, new.table], promote_options="permissive").unify_dictionaries()
                rejects, discarded = pa.concat_tables([old.rejects, new.rejects]), Counter(old.discarded)
                discarded.update(new.discarded)
                merged[i] = Result(table, rejects, {**old.tallies, **new.tallies}, discarded)
                break
        else:
            merged.append(new)
    return merged


def tallies_of(results: Iterable[Result]) -> dict[str, Tally]:
    """Collect the counts of all results, by URI."""
    return {uri: tally for result in results for uri, tally in result.tallies.items()}


def count_rules(results: Sequence[Result], loaded: Iterable[Loaded]) -> dict[str, int]:
    """Count rejected rows by rule, and values discarded from other rows."""
    counts: Counter[str] = Counter()
    for result in results:
        groups = result.rejects.group_by(["column", "rule"], use_threads=False).aggregate([([], "count_all")])
        for group in groups.to_pylist():
            counts[gate.rule_name(group["column"], group["rule"])] += group["count_all"]
        counts.update({f"{column}:discarded": count for column, count in result.discarded.items() if count})
    done = tallies_of(results)
    for reading in loaded:
        if reading.piece.uri in done:
            counts.update({f"{column}:discarded": count for column, count in reading.records.discarded.items()})
    return dict(counts)
