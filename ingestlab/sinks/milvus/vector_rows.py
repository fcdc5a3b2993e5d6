"""Rows on their way into a vector store: keys made, types settled, texts cut, duplicates taken out."""

from __future__ import annotations

import hashlib
from collections.abc import Collection as Some
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ingestlab.core.errors import CollectionError, TerminalError
from ingestlab.lake.arrow_schema import decoded
from ingestlab.sinks.milvus.vector_values import BASE, Collection, Column

TYPES = {"text": pa.string(), "int": pa.int64(), "float": pa.float64(), "bool": pa.bool_()}
_ROOM = "`ingestlab reembed TABLE` makes it again with more room; Embedding(truncate=…) has such values cut."
IDENTIFYING = frozenset({"pk", *(column.name for column in BASE)})


def primary_key(tenant: str, table: str, source: str, key: str | int, chunk: int = 0) -> str:
    """Make the primary key of one vector: 40 hexadecimal digits, the same in every run.

    Args:
        tenant: Whose row it is.
        table: Of which table.
        source: The URI that it came from.
        key: What identifies the row within its source: a key's values joined, or its ordinal.
        chunk: Which piece of the row's text.
    """
    digest = hashlib.blake2b(digest_size=20)
    for part in (tenant, table, source, str(key), str(chunk)):
        data = part.encode()
        digest.update(b"%d:%b" % (len(data), data))  # lengths, so that no two lists of parts read the same
    return digest.hexdigest()


def primary_keys(
    tenant: str, table: str, sources: Iterable[str], keys: Iterable[str | int], chunks: Iterable[int]
) -> pa.Array:
    """Make the :func:`primary_key` of every row, as a column.

    Args:
        tenant: Whose table it is.
        table: Its name.
        sources: The URI of each row's source.
        keys: What tells each row from the others of its source.
        chunks: The number of each row's chunk.
    """
    made = (primary_key(tenant, table, *row) for row in zip(sources, keys, chunks, strict=True))
    return pa.array(made, pa.string())


def prepared(rows: pa.Table, collection: Collection) -> pa.Table:
    """Prepare rows for a collection: its columns and types, unique primary keys.

    Raises:
        TerminalError: A column is missing or of another type, or a vector is not finite or of another length.
    """
    wanted = [Column(name="pk", length=64), *collection.columns]
    missing = [name for name in ("vector", *(c.name for c in wanted)) if name not in rows.column_names]
    if missing:
        have = ", ".join(rows.column_names)
        raise TerminalError(
            "Columns of the collection are missing",
            expected=f"the columns {', '.join(missing)} for collection '{collection.name}'",
            got=f"columns {have}",
            code="columns_missing",
        )
    rows = _last_of_each(rows)
    columns = {column.name: _cast(rows[column.name], column) for column in wanted}
    return pa.table({**columns, "vector": _vectors(rows["vector"], collection)})


def shortened(rows: pa.Table, made: Collection, names: Some[str]) -> pa.Table:
    """Cut texts that are longer than their fields, where they may be."""
    for column in made.columns:
        if column.kind == "text" and column.name in names and column.name not in IDENTIFYING:
            at = rows.column_names.index(column.name)
            rows = rows.set_column(at, column.name, cut(pa.chunked_array(_as_text(rows[column.name])), column.length))
    return rows


def matrix(rows: pa.Table, dim: int) -> np.ndarray:
    """Give the vectors of prepared rows, of the shape (n, dim)."""
    flat = rows["vector"].combine_chunks().flatten()
    vectors: np.ndarray = flat.to_numpy(zero_copy_only=False).reshape(-1, dim)
    return vectors


def as_table(rows: list[dict[str, Any]], columns: Sequence[str], made: Collection | None) -> pa.Table:
    """Make a table of some columns of a store's rows, as declared."""
    kinds = {c.name: c.kind for c in (Column(name="pk"), *(made.columns if made else ()))}
    return pa.table({c: pa.array([row[c] for row in rows], TYPES[kinds.get(c, "text")]) for c in columns})


def absent(name: str, there: Iterable[str]) -> TerminalError:
    """Make the error for a collection that is not there."""
    got = f"collections: {', '.join(sorted(there)) or 'none'}"
    return TerminalError(
        f"There is no collection '{name}'",
        expected=f"the collection '{name}'",
        got=got,
        fix="Ingest with an embedding to make it.",
        code="collection_unknown",
    )


def longer(texts: pa.ChunkedArray, length: int) -> list[int]:
    """Find texts of more than so many UTF-8 bytes, as Milvus counts."""
    places: list[int] = pc.indices_nonzero(pc.fill_null(pc.greater(pc.binary_length(texts), length), False)).to_pylist()
    return places


def cut(texts: pa.ChunkedArray, length: int) -> pa.Array:
    """Cut texts to so many UTF-8 bytes. A character is kept whole or not at all."""
    texts = texts.combine_chunks()
    long = pc.fill_null(pc.greater(pc.binary_length(texts), length), fill_value=False)
    if not pc.any(long).as_py():
        return texts
    short = [text.encode()[:length].decode(errors="ignore") for text in texts.filter(long).to_pylist()]
    return pc.replace_with_mask(texts, long, pa.array(short, pa.string()))


def _last_of_each(rows: pa.Table) -> pa.Table:
    """Keep the last row of each primary key. What a store does with several in one batch is undefined."""
    if pc.count_distinct(rows["pk"], mode="all").as_py() == rows.num_rows:
        return rows
    numbered = pa.table({"pk": rows["pk"], "at": pa.array(np.arange(rows.num_rows))})
    last = numbered.group_by("pk", use_threads=False).aggregate([("at", "max")])["at_max"]
    return rows.take(np.sort(last.to_numpy()))


def _cast(values: pa.ChunkedArray, column: Column) -> pa.ChunkedArray | pa.Array:
    try:
        cast = _as_text(values) if column.kind == "text" else decoded(values).cast(TYPES[column.kind])
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise TerminalError(
            "Values do not fit the column",
            expected=f"{column.kind} values in column '{column.name}'",
            got=f"{values.type}: {error}",
            fix="Convert it in clean.",
            code="types_conflict",
        ) from None
    if column.kind == "float":  # Milvus refuses what is no number
        cast = pc.if_else(pc.is_finite(cast), cast, pa.scalar(None, pa.float64()))
    if column.name in IDENTIFYING and cast.null_count:
        raise TerminalError(
            "A value is missing",
            expected=f"a value in '{column.name}' of every row",
            got=f"{cast.null_count} without one",
            code="values_invalid",
        )
    if column.kind == "text" and (places := longer(cast, column.length)):
        wanted = f"at most {column.length:,} bytes in '{column.name}', as the collection was made"
        got = f"{len(cast[places[0]].as_py().encode()):,}, and {len(places):,} such rows"
        raise CollectionError("A value is too long for the collection", expected=wanted, got=got, fix=_ROOM)
    return cast


def _as_text(values: pa.ChunkedArray) -> pa.ChunkedArray:
    values = decoded(values)
    if pa.types.is_timestamp(values.type):  # always with six decimals, so that texts sort as the times do
        values = values.cast(pa.timestamp("us", "UTC" if values.type.tz else None), safe=False)
    return values.cast(pa.string())


def _vectors(values: pa.ChunkedArray, collection: Collection) -> pa.Array:
    kind, dim = pa.list_(pa.float32(), collection.dim), collection.dim
    if not pa.types.is_fixed_size_list(values.type) or values.type.list_size != dim or values.null_count:
        raise TerminalError(
            "Vectors have another length",
            expected=f"vectors of {dim} numbers for collection '{collection.name}'",
            got=str(values.type),
            code="model_failed",
        )
    vectors = pa.concat_arrays(values.cast(kind).chunks) if values.num_chunks else pa.array([], kind)
    if not np.isfinite(vectors.flatten().to_numpy(zero_copy_only=False)).all():
        raise TerminalError(
            "Vectors are not finite",
            expected=f"finite numbers in the vectors of '{collection.name}'",
            got="others",
            fix="Look at the model.",
            code="model_failed",
        )
    return vectors
