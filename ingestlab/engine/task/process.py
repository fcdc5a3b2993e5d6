"""What one Dask task does: read, clean, check, write. Names and counts go back, never data."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from ingestlab.analytics.profiles import files as profiling
from ingestlab.analytics.profiles.counting import Counted
from ingestlab.analytics.profiles.states import count_columns
from ingestlab.core.errors import IngestError, StorageError, TerminalError, attempt, attempt_all
from ingestlab.core.models import PARQUET, Partition, Piece, Receipt
from ingestlab.engine.task import quality_gate as gate
from ingestlab.engine.task.conform import infers, is_loose, typed, wanting
from ingestlab.engine.task.deadline import alive, within
from ingestlab.engine.task.frames import Loaded
from ingestlab.engine.task.job import Job
from ingestlab.engine.task.lookups import bind_lookups
from ingestlab.engine.task.memory import keep_freed
from ingestlab.engine.task.nameless import apart
from ingestlab.engine.task.rows import count_rules, pass_gate, tallies_of
from ingestlab.engine.task.sinks import Sinks, accepted
from ingestlab.formats.compiled import counting
from ingestlab.interfaces import Dictionary, PackReader, Store
from ingestlab.lake.storage.store import open_store
from ingestlab.pipeline.catalog import load
from ingestlab.pipeline.pipeline import Pipeline
from ingestlab.pipeline.uniqueness import judged_alone

__all__ = ["Job", "process", "process_with", "run"]


def run(partition: dict[str, Any], job: dict[str, Any]) -> dict[str, Any]:
    """Process a partition, as a Dask task on plain dicts. Returns a receipt."""
    keep_freed()
    work, spec = Partition.from_dict(partition), Job.from_dict(job)
    return process_with(work, spec, load(spec.pipeline), open_store(spec.lake, spec.storage_options)).to_dict()


def run_each(
    task: Callable[[dict[str, Any], dict[str, Any]], dict[str, Any]],
    partitions: Sequence[dict[str, Any]],
    job: dict[str, Any],
) -> list[dict[str, Any]]:
    """Run a task for several partitions in turn, as one Dask task. Returns their receipts."""
    return [task(partition, job) for partition in partitions]


def blamed(work: Partition, error: IngestError) -> Receipt:
    """Give all files of a task one error. Each is tried alone later."""
    errors = {piece.uri: error.to_dict() for piece in work.pieces}
    return Receipt(number=work.number, errors=errors, shared=len(errors) > 1)


def process_with(work: Partition, spec: Job, pipeline: Pipeline, store: Store) -> Receipt:
    """Process a partition into its batch's staging folder. Bad references are the error of all its files."""
    ready = attempt(bind_lookups, judged_alone(pipeline), spec.pipeline.sha256, spec.references, store)
    if isinstance(ready, TerminalError):
        return Receipt(number=work.number, errors={piece.uri: ready.to_dict() for piece in work.pieces})
    return process(work, spec, ready, store, store)


def process(part: Partition, job: Job, pipeline: Pipeline, store: Store, lake: Store) -> Receipt:
    """Read, clean, check and stage one partition.

    A file that cannot be read or cleaned is an error in the receipt, its neighbours are processed; what nobody has
    foreseen is the error of all of them, and the receipt says so. Trouble with the storage or the pipeline's
    declaration is raised, since it is no file's fault.

    Args:
        part: The pieces.
        job: What all tasks of the batch are told.
        pipeline: With its references.
        store: Where the pieces are.
        lake: Where sinks stage.
    """
    with within(job.task_timeout):
        receipt = attempt_all(_process, part, job, pipeline, store, lake)
    return blamed(part, receipt) if isinstance(receipt, TerminalError) else receipt


def _process(part: Partition, job: Job, pipeline: Pipeline, store: Store, lake: Store) -> Receipt:
    os.environ.pop("PYARROW_IGNORE_TIMEZONE", None)  # pandera sets it when imported, and Arrow then shifts zoned times
    clock = _Clock()
    loaded, errors = read_pieces(wanting(part.pieces, job.types), pipeline, store)
    if is_loose(pipeline) or infers(pipeline):
        alone = apart(loaded)
        loaded, errors = [reading for reading in loaded if reading.piece.uri not in alone], {**errors, **alone}
    clock.lap("read")
    results, more = pass_gate(loaded, pipeline, job)
    clock.lap("check")
    sinks = Sinks(f"{job.batch}-{part.number:05d}", job, pipeline, store, lake, clock.lap)
    taken = accepted(loaded, results, sinks, pipeline, job)
    results = list(taken.results)
    counted = [count_columns(result.table, counting.count) for result in results]
    clock.lap("profile")
    try:
        staged = sinks.stage(results, taken.loaded, [_dictionaries(columns) for columns in counted])
    except StorageError:
        raise
    except TerminalError as error:
        return blamed(part, error)
    except pa.ArrowNotImplementedError as error:
        return blamed(part, TerminalError.wrap(error, "Parquet cannot hold the columns", code="types_conflict"))
    published = staged.sinks[PARQUET].files
    profile = profiling.of_tables([r.table for r in results], counting.count, counted) if published else {}
    clock.lap("profile")
    return Receipt(
        number=part.number,
        sinks=staged.sinks,
        types=typed(result.table for result in results),
        tallies=tallies_of(results),
        rules=count_rules(results, loaded) | dict(staged.rules),
        errors={uri: e.to_dict() for uri, e in {**errors, **more, **taken.errors}.items()},
        seconds=clock.laps,
        profile=profile,
        facts=_facts(loaded, staged.facts),
        faults=gate.carried(part.pieces, tallies_of(results), (r.rejects for r in results), pipeline.max_reject_ratio),
    )


def _dictionaries(counted: Mapping[str, Counted]) -> dict[str, Dictionary]:
    """Give sinks what is counted already."""
    return {name: Dictionary(column.values, column.places) for name, column in counted.items() if column.places}


def _facts(loaded: Sequence[Loaded], more: Mapping[str, Mapping[str, str]]) -> dict[str, dict[str, str]]:
    """Merge the facts of each file, by URI."""
    facts_by_uri = {
        reading.piece.uri: {**reading.records.facts, **more.get(reading.piece.uri, {})} for reading in loaded
    }
    return {uri: facts for uri, facts in facts_by_uri.items() if facts}


def read_pieces(
    pieces: Sequence[Piece], pipeline: Pipeline, store: Store
) -> tuple[list[Loaded], dict[str, IngestError]]:
    """Read pieces. Gives those that can be read, and the errors of the others."""
    reader = pipeline.reader
    if isinstance(reader, PackReader):
        results = reader.read_all(pieces, store)
    else:
        results = [attempt_all(reader.read, piece, store) for piece in pieces]
    pairs = list(zip(pieces, results, strict=True))
    errors: dict[str, IngestError] = {piece.uri: got for piece, got in pairs if isinstance(got, TerminalError)}
    return [Loaded(piece, got) for piece, got in pairs if not isinstance(got, TerminalError)], errors


class _Clock:
    """Seconds by step."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, step: str) -> None:
        now = time.perf_counter()
        self.laps[step] = round(self.laps.get(step, 0.0) + now - self._last, 6)
        self._last = now
        alive()
