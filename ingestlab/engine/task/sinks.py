"""The sinks in a task: they are asked for rows that they cannot take, and stage the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pkgutil import resolve_name

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ingestlab.core.errors import IngestError, TerminalError, attempt
from ingestlab.core.models import Staged, Tally
from ingestlab.engine.task import quality_gate as gate
from ingestlab.engine.task.deadline import alive
from ingestlab.engine.task.frames import Loaded
from ingestlab.engine.task.job import Job
from ingestlab.engine.task.rejects import kept_aside
from ingestlab.engine.task.rows import Result, pass_gate, tallies_of, transform
from ingestlab.interfaces import Destination, Dictionary, Place, Reason, Rows, Sink, Store, Writer
from ingestlab.pipeline.pipeline import Pipeline
from ingestlab.sinks.opening import filled_by


@dataclass(frozen=True)
class Accepted:
    """What all sinks can take.

    Attributes:
        results: What is published and what is kept aside, without the files that failed.
        loaded: The pieces that these are of.
        errors: Of the files that failed, by URI.
    """

    results: Sequence[Result]
    loaded: Sequence[Loaded]
    errors: Mapping[str, IngestError] = field(default_factory=dict)


@dataclass(frozen=True)
class AllStaged:
    """What each sink has staged, by name, and facts about it."""

    sinks: dict[str, Staged]
    rules: Mapping[str, int]
    facts: dict[str, dict[str, str]]


class Sinks:
    """The sinks that a table fills, in one task.

    Args:
        name: Of the task, for files.
        job: What all tasks of the batch are told.
        pipeline: What the table's author declares.
        raw: Where the pieces are.
        lake: Where sinks stage.
        lap: Is told the name of each sink when it has done something.
    """

    def __init__(
        self, name: str, job: Job, pipeline: Pipeline, raw: Store, lake: Store, lap: Callable[[str], None]
    ) -> None:
        self._name, self._raw, self._lap = name, raw, lap
        destination = Destination.of(job, pipeline, lake, replace=job.replace, earlier=job.earlier)
        named = job.sinks or filled_by(pipeline)
        self._sinks: dict[str, type[Sink]] = {name: resolve_name(target) for name, target in named.items()}
        self._writers: dict[str, Writer] = {name: sink.writer(destination) for name, sink in self._sinks.items()}

    def refuse(self, results: Sequence[Result], loaded: Sequence[Loaded], job: Job) -> list[Result]:
        """Turn the rows that a sink cannot take into rejects.

        Raises:
            TerminalError: A sink can take none.
        """
        results = list(results)
        for i, rows in self._rows(results, loaded):
            for name, writer in self._writers.items():
                if results[i].table.num_rows:
                    odd = writer.refuse(replace(rows, table=results[i].table, rejects=results[i].rejects))
                    results[i] = _without(results[i], odd, loaded, job)
                    self._lap(name)
        return results

    def stage(
        self, results: Sequence[Result], loaded: Sequence[Loaded], dictionaries: Sequence[Mapping[str, Dictionary]] = ()
    ) -> AllStaged:
        """Stage what all sinks can take, in their order.

        Args:
            results: What is to be staged.
            loaded: The pieces that these are of.
            dictionaries: Of each result, those of its columns that are known.

        Raises:
            TerminalError: A sink cannot write it.
        """
        done: dict[str, list[Staged]] = {name: [] for name in self._writers}
        rules: Counter[str] = Counter()
        facts: dict[str, dict[str, str]] = {}
        for i, rows in self._rows(results, loaded):
            known = dictionaries[i] if dictionaries else {}
            staged: dict[str, Staged] = {}
            for name, writer in self._writers.items():
                written = writer.stage(replace(rows, staged=staged, dictionaries=known))
                staged[name] = Staged(files=tuple(written.files), note=written.note)
                done[name].append(staged[name])
                rules.update(written.rules)
                for uri, more in written.facts.items():
                    facts[uri] = facts.get(uri, {}) | dict(more)
                self._lap(name)
        return AllStaged({name: put_together(some, self._sinks[name]) for name, some in done.items()}, rules, facts)

    def _rows(self, results: Sequence[Result], loaded: Sequence[Loaded]) -> Iterator[tuple[int, Rows]]:
        """Yield the results as sinks see them, with their places."""
        pieces = {reading.piece.uri: reading.piece for reading in loaded}
        for i, result in enumerate(results):
            name = f"{self._name}-{i}" if i else self._name  # few tasks have more than one
            yield (
                i,
                Rows(name=name, table=result.table, rejects=result.rejects, pieces=pieces, raw=self._raw, alive=alive),
            )


def put_together(staged: Sequence[Staged], sink: type[Sink] | Sink) -> Staged:
    """Put together what has been staged for one sink."""
    notes = [part.note for part in staged if part.note is not None]
    return Staged(files=tuple(f for part in staged for f in part.files), note=sink.agree(notes) if notes else None)


def accepted(
    loaded: Sequence[Loaded], results: Sequence[Result], sinks: Sinks, pipeline: Pipeline, job: Job
) -> Accepted:
    """Find what all sinks can take.

    A row that one cannot take is a reject. A file of which a sink can take nothing fails, and so does one that has
    too many rejects now; they are taken out, and the sinks are asked about the others again.

    Args:
        loaded: The pieces with their records.
        results: Their rows, which have passed the quality gate.
        sinks: What is asked.
        pipeline: With the quality gate.
        job: What all tasks of the batch are told.
    """
    errors: dict[str, IngestError] = {}
    while True:
        fitting = attempt(sinks.refuse, results, loaded, job)
        if not isinstance(fitting, TerminalError):
            pieces = [reading.piece for reading in loaded]
            tallies, most = tallies_of(fitting), pipeline.max_reject_ratio
            failed = gate.refused(pieces, tallies, (r.rejects for r in fitting), most, pipeline.name)
            if not failed:
                return Accepted(fitting, loaded, errors)
            errors |= failed
        else:
            errors |= _culprits(loaded, sinks, pipeline, job) or {reading.piece.uri: fitting for reading in loaded}
        loaded = [reading for reading in loaded if reading.piece.uri not in errors]
        results, more = pass_gate(loaded, pipeline, job)
        errors |= more


def _culprits(loaded: Sequence[Loaded], sinks: Sinks, pipeline: Pipeline, job: Job) -> dict[str, IngestError]:
    """Find the files of which a sink can take nothing. None where they fail only together."""
    errors: dict[str, IngestError] = {}
    for reading in loaded:
        alone, _ = transform([reading], pipeline, job)
        refused = attempt(sinks.refuse, alone, [reading], job)
        if isinstance(refused, TerminalError):
            errors[reading.piece.uri] = refused
    return errors


def _without(result: Result, odd: Mapping[Place, Reason], loaded: Sequence[Loaded], job: Job) -> Result:
    """Turn some source rows of a result into rejects."""
    if not odd:
        return result
    keep = np.ones(result.table.num_rows, np.bool_)
    tallies, aside = dict(result.tallies), []
    for reading in loaded:
        rows = sorted(row for uri, row in odd if uri == reading.piece.uri)
        if rows:
            mine = pc.equal(result.table["_source"].cast(pa.string()), reading.piece.uri)
            gone = pc.and_(mine, pc.is_in(result.table["_row"], pa.array(rows, pa.int64())))
            keep &= ~gone.to_numpy(zero_copy_only=False)
            tallies[reading.piece.uri] = _moved(tallies[reading.piece.uri], len(rows), pc.sum(gone).as_py())
            aside.append((reading, rows, [odd[reading.piece.uri, row] for row in rows]))
    rejects = pa.concat_tables([result.rejects, kept_aside(aside, job.table, job.run)])
    return replace(result, table=result.table.filter(pa.array(keep)), rejects=rejects, tallies=tallies)


def _moved(tally: Tally, rows: int, out: int) -> Tally:
    return Tally(
        rows_in=tally.rows_in,
        accepted=tally.accepted - rows,
        rejected=tally.rejected + rows,
        out=tally.out - out,
    )
