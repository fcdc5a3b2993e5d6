"""What replay runs on Dask: rejected records read and judged again, and the rejects updated by the verdict."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ingestlab.core.errors import TerminalError, attempt
from ingestlab.core.models import DataFile, FetchedFile, Partition, Piece, Value
from ingestlab.engine.task.frames import Ints
from ingestlab.engine.task.process import Job, process_with
from ingestlab.engine.task.quality_gate import OPEN
from ingestlab.interfaces import Format, Records, Store
from ingestlab.lake import layout
from ingestlab.lake.data_files import stage_table
from ingestlab.lake.storage.store import open_store
from ingestlab.pipeline.catalog import load
from ingestlab.pipeline.pipeline import Pipeline

KEY = ["source", "row"]
VERDICT = ["rule", "column", "value", "raw"]  # what a reject says that another judgement may change


class Origin(Value):
    """Content of a source, and the run that ingested it: a table may have rejects of others."""

    sha256: str
    run: str


class Selection(Value):
    """Rejects to replay: those of some sources, by URI, and of a rule if one is given."""

    origins: dict[str, Origin]
    rule: str | None = None  # "rule" or "column:rule"

    def mask(self, rejects: pa.Table) -> pa.Array:
        """Mark the rejects that are selected."""
        uris = list(self.origins)
        place = pc.index_in(rejects["source"], value_set=pa.array(uris, pa.string()))
        mask = pc.is_valid(place)
        for column in ("sha256", "run"):
            origins = pa.array([getattr(self.origins[u], column) for u in uris], pa.string())
            mask = pc.and_(mask, pc.equal(rejects[column], origins.take(place)))
        if self.rule is not None:
            column = pc.fill_null(pc.binary_join_element_wise(rejects["column"], "", ":"), "")
            full = pc.binary_join_element_wise(column, rejects["rule"], "")  # a rule may have colons, as a column may
            mask = pc.and_(mask, pc.or_(pc.equal(full, self.rule), pc.equal(rejects["rule"], self.rule)))
        return pc.fill_null(mask, False)


class RejectsUpdate(Value):
    """Part of rejects, and staged parts with the rows rejected again."""

    part: DataFile
    selection: Selection
    verdicts: tuple[DataFile, ...]
    batch: str


class RejectsUpdated(Value):
    """Outcome for a part: rows chosen, rows gone, and the rest if anything changed."""

    target: str
    chosen: int
    gone: int
    changed: bool
    left: DataFile | None = None


@dataclass(frozen=True)
class WantedRecords:
    """Reader that keeps the wanted records of another one."""

    reader: Format

    def split(self, file: FetchedFile, store: Store, size: int) -> Sequence[Piece]:
        """See :class:`ingestlab.interfaces.Format`."""
        return self.reader.split(file, store, size)

    def read(self, piece: Piece, store: Store) -> Records:
        """See :class:`ingestlab.interfaces.Format`.

        Raises:
            TerminalError: It finds another number of records than the first run did, so that a row's number
                may be another record's.
        """
        assert piece.wanted is not None
        records = self.reader.read(piece, store)
        rows, wanted = np.array(piece.wanted.rows, dtype=np.int64), frozenset(piece.wanted.rows)
        keep = np.isin(records.rows, rows)
        bad = tuple(b for b in records.bad if b.row in wanted)
        count = piece.first_row + len(records.rows) + len({b.row for b in records.bad})
        if piece.wanted.until not in (None, count) or keep.sum() + len({b.row for b in bad}) != len(rows):
            wanted_count = f"{piece.wanted.until:,}" if piece.wanted.until else "as many"
            fix = "The reader was changed, so row numbers mean other records: ingest the file again, with --force."
            raise TerminalError(
                "The file has other records than the first time",
                expected=f"{wanted_count} records in {piece.name}, as the first time",
                got=f"{count:,}",
                fix=fix,
                code="inconsistent",
            )
        return replace(
            records, table=records.table.filter(pa.array(keep)), rows=records.rows[keep], bad=bad, discarded={}
        )


def replay_task(partition: dict[str, Any], job: dict[str, Any]) -> dict[str, Any]:
    """Process the wanted records of a partition alone, as a Dask task.

    A piece of which nothing is wanted is read to see that the reader still finds the same records.

    Args:
        partition: A :class:`Partition`; its pieces have the wanted rows.
        job: A :class:`Job`.

    Returns:
        A :class:`Receipt`.
    """
    work, spec = Partition.from_dict(partition), Job.from_dict(job)
    store, pipeline = open_store(spec.lake, spec.storage_options), judging(load(spec.pipeline))
    reader = WantedRecords(pipeline.reader)
    errors = {}
    for piece in work.pieces:
        if piece.wanted and not piece.wanted.rows:
            records = attempt(reader.read, piece, store)
            if isinstance(records, TerminalError):
                errors[piece.uri] = records.to_dict()
    wanted = tuple(p for p in work.pieces if p.wanted and p.wanted.rows)
    receipt = process_with(work.model_copy(update={"pieces": wanted}), spec, replace(pipeline, reader=reader), store)
    return receipt.model_copy(update={"errors": {**receipt.errors, **errors}}).to_dict()


def judging(pipeline: Pipeline) -> Pipeline:
    """Lift a pipeline's quality gate: rejects rejected again are no worse a file."""
    return replace(pipeline, max_reject_ratio=OPEN)


def update_rejects(work: dict[str, Any], lake: str, options: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Update a part of rejects by new verdicts, as a Dask task. Rows that pass now go.

    Takes and gives plain dicts. The part itself stays; what is left of it is staged, under a name of the new batch.
    A reject keeps its own run.

    Args:
        work: A :class:`RejectsUpdate`.
        lake: URL of the lake.
        options: How to open it, by scheme.

    Returns:
        A :class:`RejectsUpdated`.
    """
    spec, store = RejectsUpdate.from_dict(work), open_store(lake, options)
    old = read_rejects(store, spec.part.target)
    mask = spec.selection.mask(old)
    chosen = np.flatnonzero(mask.to_numpy(zero_copy_only=False))
    again = pa.concat_tables([old.schema.empty_table(), *(read_rejects(store, p.staged) for p in spec.verdicts)])
    at = _places(old.select(KEY).take(chosen), again.select(KEY))
    gone = chosen[at < 0]
    new = _judged(old, again, chosen[at >= 0], at[at >= 0]).take(np.setdiff1d(np.arange(old.num_rows), gone))
    changed = not new.equals(old)
    left = []
    if changed:
        folder = spec.part.target.rsplit("/", 1)[0]
        name = f"{spec.batch}-r{hashlib.sha256(spec.part.target.encode()).hexdigest()[:16]}"
        left = stage_table(new, name, folder, layout.staging(spec.batch), store)
    return RejectsUpdated(
        target=spec.part.target,
        chosen=len(chosen),
        gone=len(gone),
        changed=changed,
        left=left[0] if left else None,
    ).to_dict()


def read_rejects(store: Store, path: str, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a part of rejects, staged or published.

    Args:
        store: The lake.
        path: Of the part.
        columns: Names; None for all.
    """
    return pq.read_table(io.BytesIO(store.read(path)), columns=columns, partitioning=None)


def rows_by_source(rejects: Iterable[pa.Table]) -> Mapping[str, tuple[int, ...]]:
    """List the rejected rows of each source, ascending."""
    rows_by_uri: dict[str, list[int]] = {}
    for table in rejects:
        for uri, row in zip(table["source"].to_pylist(), table["row"].to_pylist(), strict=True):
            rows_by_uri.setdefault(uri, []).append(row)
    return {uri: tuple(sorted(rows)) for uri, rows in rows_by_uri.items()}


def _places(rows: pa.Table, among: pa.Table) -> Ints:
    """Find each row among others by source and number; -1 if missing."""
    right = among.to_pandas().reset_index(names="at")
    merged = rows.to_pandas().merge(right, how="left", on=KEY)["at"]
    places: Ints = merged.fillna(-1).to_numpy(dtype=np.int64)
    return places


def _judged(old: pa.Table, again: pa.Table, rows: Ints, places: Ints) -> pa.Table:
    """Give `rows` of rejects the reasons at `places` of `again`. A raw text is never lost."""
    index = np.arange(old.num_rows)
    index[rows] = old.num_rows + places
    for name in VERDICT:
        both = pa.chunked_array([*old[name].chunks, *again[name].chunks], old.schema.field(name).type)
        values = both.take(index)
        at = old.schema.get_field_index(name)
        old = old.set_column(at, old.schema.field(at), pc.coalesce(values, old[name]) if name == "raw" else values)
    return old
