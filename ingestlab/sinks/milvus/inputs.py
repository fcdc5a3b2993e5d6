"""What a model gets of rows: texts, whole or in chunks, or images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from ingestlab.analytics.embedders.registry import says_something
from ingestlab.analytics.embedders.splitting import split_all
from ingestlab.core.errors import TerminalError
from ingestlab.core.models import Piece
from ingestlab.interfaces import Store
from ingestlab.lake.arrow_schema import decoded
from ingestlab.pipeline.embedding import FILE, Embedding


@dataclass(frozen=True)
class Inputs:
    """Inputs of a model: `values[i]` belongs to row `rows[i]`, as its chunk `chunks[i]`.

    Of each row in `wanted` there should be one at least.
    """

    values: list[Any]
    rows: np.ndarray[Any, np.dtype[np.int64]]
    chunks: np.ndarray[Any, np.dtype[np.int32]]
    wanted: np.ndarray[Any, np.dtype[np.int64]]

    @property
    def saying(self) -> list[int]:
        """List the places of values that are not blank."""
        return [i for i, value in enumerate(self.values) if says_something(value)]


def inputs_of(rows: pa.Table, embedding: Embedding, pieces: Mapping[str, Piece], store: Store) -> Inputs:
    """Collect the texts or images of rows. A source file has one image, which goes with its first row.

    Args:
        rows: With `_source` and the columns that the embedding names.
        embedding: What is embedded.
        pieces: What the rows were read from, by URI.
        store: Where the files of the pieces are.
    """
    if embedding.source == FILE:
        uris = rows["_source"].to_pylist()
        firsts = list({uri: i for i, uri in reversed(list(enumerate(uris)))}.values())[::-1]
        values = [store.read(pieces[uris[i]].path) for i in firsts]
        places = np.array(firsts, np.int64)
        return Inputs(values, places, np.zeros(len(firsts), np.int32), places)
    column, every = decoded(rows[embedding.source]), np.arange(rows.num_rows, dtype=np.int64)
    _check_type(column.type, embedding)
    values = column.to_pylist()
    if embedding.kind == "image":
        return Inputs(values, every, np.zeros(len(values), np.int32), every)
    prefixes = [decoded(rows[name]).to_pylist() for name in embedding.split.prefix] if embedding.split else []
    chunks = split_all([None if v is None else str(v) for v in values], embedding.split, prefixes)
    return Inputs(chunks.texts, chunks.rows, chunks.ordinals, every)


def _check_type(kind: pa.DataType, embedding: Embedding) -> None:
    """Raise TerminalError for a column that a model cannot use."""
    data = pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind)
    if pa.types.is_null(kind) or (data if embedding.kind == "image" else not data and not pa.types.is_nested(kind)):
        return
    wanted = f"a column of {'texts' if embedding.kind == 'text' else 'bytes'} as the embedding's source"
    fix = "Convert it in clean, or name another model or column."
    raise TerminalError(
        "The column cannot be embedded",
        expected=wanted,
        got=f"'{embedding.source}' of type {kind}",
        fix=fix,
        code="embedding_invalid",
    )
