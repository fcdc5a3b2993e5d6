"""Vectors that the lake has already, of the same inputs by the same model, so that no model is asked again."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ingestlab.analytics.embedders.each import SHORT
from ingestlab.analytics.embedders.registry import Vectors
from ingestlab.core.errors import TerminalError, attempt
from ingestlab.core.models import DataFile
from ingestlab.interfaces import Store
from ingestlab.lake.arrow_schema import decoded
from ingestlab.lake.data_files import open_part
from ingestlab.sinks.milvus.vector_values import Fingerprint

MADE_BY = "_model"  # column of a file of vectors: the model that made each, as text
_CANARY = 64  # numbers of a canary that it has
_ROWS = 10_000  # in memory at a time


def mark(made: Mapping[str, Any]) -> str:
    """Write a model's fingerprint as its vectors carry it."""
    canary = [round(number, 4) for number in made["canary"][:_CANARY]]
    return json.dumps({**made, "canary": canary}, sort_keys=True)


def vectors_of(
    keys: Sequence[str],
    column: str,
    made: Mapping[str, Any],
    files: Iterable[DataFile],
    first: int,
    store: Store,
    alive: Callable[[], None] = lambda: None,
) -> Vectors:
    """Read the vectors that a model has made of inputs before.

    Files are read until all are there, one after the other and some rows at a time: those with rows near `first`
    begin, since most contents of a source have their rows where the one before had them.

    Args:
        keys: What tells the inputs, each once.
        column: The column of the files that holds it.
        made: The model's fingerprint.
        files: Published files of vectors; one that is replaced meanwhile is passed over.
        first: The number of a source row.
        store: The lake.
        alive: Is called after every file.

    Returns:
        Float32 of shape (n, dim), NaN where there is none.
    """
    vectors = np.full((len(keys), made["dim"]), np.nan, np.float32)
    wanted, own = pa.array(keys, pa.string()), Fingerprint.from_dict(json.loads(mark(made)))
    missing = np.ones(len(keys), np.bool_)
    for file in _nearest_first(files, first, store):
        if not missing.any():
            break
        try:
            for group in range(file.num_row_groups):
                _take(file, group, column, wanted, own, vectors, missing)
        except FileNotFoundError:  # another commit has replaced it
            continue
        alive()
    return vectors


def _nearest_first(files: Iterable[DataFile], first: int, store: Store) -> Iterator[pq.ParquetFile]:
    """Open files that name their models, by distance of their rows."""
    distances = []
    for file in files:
        opened = attempt(open_part, file, store)
        if not isinstance(opened, TerminalError) and MADE_BY in opened.schema_arrow.names:
            distances.append((_distance(opened, first), file))
    for _, file in sorted(distances, key=lambda pair: pair[0]):
        opened = attempt(open_part, file, store)
        if not isinstance(opened, TerminalError):
            yield opened


def _distance(file: pq.ParquetFile, row: int) -> int:
    """Measure how far a file's source rows are from one."""
    at = file.schema_arrow.names.index("row")
    groups = (file.metadata.row_group(i).column(at).statistics for i in range(file.num_row_groups))
    known = [bounds for bounds in groups if bounds is not None and bounds.has_min_max]
    return min((max(bounds.min - row, row - bounds.max, 0) for bounds in known), default=row)


def _take(
    file: pq.ParquetFile,
    group: int,
    column: str,
    wanted: pa.Array,
    own: Fingerprint,
    vectors: Vectors,
    missing: np.ndarray[Any, np.dtype[np.bool_]],
) -> None:
    """Fill in missing vectors from a row group."""
    chunks = []
    for batch in file.iter_batches(_ROWS, row_groups=[group], columns=[column, MADE_BY]):
        mask = pc.is_in(decoded(batch[MADE_BY]), _same(batch[MADE_BY], own))
        places = pc.if_else(mask, pc.index_in(decoded(batch[column]).cast(pa.string()), wanted), None)
        chunks.append(pc.fill_null(places, -1).to_numpy(zero_copy_only=False))
    places = np.concatenate(chunks)  # of each row of the group, the place of its input
    new = (places >= 0) & missing[places]
    start = 0
    for batch in file.iter_batches(_ROWS, row_groups=[group], columns=["vector"]) if new.any() else ():
        rows = start + np.flatnonzero(new[start : start + batch.num_rows])
        some = batch["vector"].take(pa.array(rows - start)).flatten().to_numpy(zero_copy_only=False)
        some = some.reshape(len(rows), vectors.shape[1])
        usable = np.linalg.norm(some, axis=1) > SHORT  # a vector of zeros is none under every metric
        vectors[places[rows[usable]]] = some[usable]
        missing[places[rows[usable]]] = False
        start += batch.num_rows


def _same(models: pa.Array, own: Fingerprint) -> pa.Array:
    """Choose the texts that mean the same model."""
    texts = [text for text in decoded(models).unique().to_pylist() if text]
    return pa.array([text for text in texts if Fingerprint.from_dict(json.loads(text)).same(own)], pa.string())
