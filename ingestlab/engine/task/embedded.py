"""The vectors of a task's rows, and what becomes of rows and files that can have none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ingestlab.core.errors import IngestError, TerminalError, attempt
from ingestlab.core.models import Piece, Tally
from ingestlab.engine.task import quality_gate as gate
from ingestlab.engine.task import vectors
from ingestlab.engine.task.contract import Reason
from ingestlab.engine.task.fitness import Place, misfits
from ingestlab.engine.task.frames import Loaded
from ingestlab.engine.task.job import Job
from ingestlab.engine.task.rejects import kept_aside
from ingestlab.engine.task.rows import Result, pass_gate, tallies_of, transform
from ingestlab.interfaces import Store
from ingestlab.pipeline.pipeline import Pipeline

SILENT = "embedding:no text"  # a rule: rows that are published without a vector, since there is nothing to embed
FACT, TOLD = "no vector", 10  # rows of a piece that its fact names


@dataclass(frozen=True)
class Vectored:
    """Rows of a task with their vectors.

    Attributes:
        results: What is published and what is kept aside, without the files that failed.
        embedded: The vectors of the results that have rows.
        errors: Of the files that failed, by URI.
    """

    results: Sequence[Result]
    embedded: Sequence[vectors.Embedded] = ()
    errors: Mapping[str, IngestError] = field(default_factory=dict)

    @property
    def rules(self) -> dict[str, int]:
        """Count the rows without a vector."""
        count = sum(len(one.silent) for one in self.embedded)
        return {SILENT: count} if count else {}

    @property
    def facts(self) -> dict[str, dict[str, str]]:
        """List the rows without a vector, by URI."""
        rows: dict[str, list[int]] = {}
        for uri, row in (place for one in self.embedded for place in one.silent):
            rows.setdefault(uri, []).append(row)
        return {uri: {FACT: _listed(sorted(some))} for uri, some in rows.items()}


def with_vectors(
    loaded: Sequence[Loaded], results: Sequence[Result], name: str, pipeline: Pipeline, job: Job, store: Store
) -> Vectored:
    """Embed the rows of a task.

    A row that can have no vector is a reject. A file whose rows cannot be embedded at all fails, and one that has
    too many rejects now; they are taken out, and the others embedded anew.
    """
    if pipeline.embedding is None:
        return Vectored(results)
    errors: dict[str, IngestError] = {}
    while True:
        found = attempt(_embed_all, loaded, results, name, pipeline, job, store)
        if not isinstance(found, TerminalError):
            fitting, embedded = found
            pieces, tallies = [one.piece for one in loaded], tallies_of(fitting)
            failed = gate.refused(
                pieces, tallies, (r.rejects for r in fitting), pipeline.max_reject_ratio, pipeline.name
            )
            if not failed:
                return Vectored(fitting, embedded, errors)
            errors |= failed
        else:
            errors |= _culprits(loaded, name, pipeline, job, store) or {one.piece.uri: found for one in loaded}
        loaded = [one for one in loaded if one.piece.uri not in errors]
        results, more = pass_gate(loaded, pipeline, job)
        errors |= more


def _culprits(
    loaded: Sequence[Loaded], name: str, pipeline: Pipeline, job: Job, store: Store
) -> dict[str, IngestError]:
    """Find the files that cannot be embedded by themselves. None where they fail only together."""
    found: dict[str, IngestError] = {}
    for one in loaded:
        alone, _ = transform([one], pipeline, job)
        trouble = attempt(_embed_all, [one], alone, name, pipeline, job, store)
        if isinstance(trouble, TerminalError):
            found[one.piece.uri] = trouble
    return found


def _embed_all(
    loaded: Sequence[Loaded], results: Sequence[Result], name: str, pipeline: Pipeline, job: Job, store: Store
) -> tuple[list[Result], list[vectors.Embedded]]:
    """Embed results, less the rows that can have no vector."""
    embedding = pipeline.embedding
    assert embedding is not None
    site = vectors.Site(store, job.tenant, job.table, job.run, job.batch)
    pieces = {one.piece.uri: one.piece for one in loaded}
    taken = _taken(job, pieces, store)
    fitting, embedded = [], []
    for i, result in enumerate(results):
        if not result.table.num_rows:
            fitting.append(result)
            continue
        vectors.check_columns(result.table, embedding)
        odd = misfits(result.table, embedding, taken, pieces, (job.tenant, job.table))
        left = _without(result, odd, loaded, job)
        own = f"{name}-{i}" if i else name
        one = vectors.embed(left.table, own, embedding, pieces, site, adds=not job.replace)
        fitting.append(_without(left, one.faults, loaded, job))
        embedded.append(one.without(one.faults))
    return fitting, embedded


def _taken(job: Job, pieces: Mapping[str, Piece], store: Store) -> frozenset[str]:
    """Read the primary keys of vectors that some sources already have."""
    found: set[str] = set()
    for path in job.taken:
        rows = pq.read_table(pa.BufferReader(store.read(path)), columns=["pk", "source"])
        found.update(rows.filter(pc.is_in(rows["source"], pa.array(list(pieces))))["pk"].to_pylist())
    return frozenset(found)


def _without(result: Result, odd: Mapping[Place, Reason], loaded: Sequence[Loaded], job: Job) -> Result:
    """Turn some source rows of a result into rejects."""
    if not odd:
        return result
    keep = np.ones(result.table.num_rows, np.bool_)
    tallies, aside = dict(result.tallies), []
    for one in loaded:
        rows = sorted(row for uri, row in odd if uri == one.piece.uri)
        if rows:
            mine = pc.equal(result.table["_source"].cast(pa.string()), one.piece.uri)
            gone = pc.and_(mine, pc.is_in(result.table["_row"], pa.array(rows, pa.int64())))
            keep &= ~gone.to_numpy(zero_copy_only=False)
            tallies[one.piece.uri] = _moved(tallies[one.piece.uri], len(rows), pc.sum(gone).as_py())
            aside.append((one, rows, [odd[one.piece.uri, row] for row in rows]))
    rejects = pa.concat_tables([result.rejects, kept_aside(aside, job.table, job.run)])
    return replace(result, table=result.table.filter(pa.array(keep)), rejects=rejects, tallies=tallies)


def _moved(tally: Tally, rows: int, out: int) -> Tally:
    return Tally(
        rows_in=tally.rows_in,
        accepted=tally.accepted - rows,
        rejected=tally.rejected + rows,
        out=tally.out - out,
    )


def _listed(rows: Sequence[int]) -> str:
    """List row numbers for people to read."""
    shown = ", ".join(map(str, rows[:TOLD]))
    more = f" and {len(rows) - TOLD:,} more" if len(rows) > TOLD else ""
    return f"{'row' if len(rows) == 1 else 'rows'} {shown}{more} (no text)"
