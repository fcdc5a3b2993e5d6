"""Which rows cannot go into a collection, whatever a model makes of them; told before it is asked."""

from __future__ import annotations

from collections.abc import Collection as Some
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ingestlab.core.models import Piece
from ingestlab.interfaces import MAX_VALUE, Place, Reason
from ingestlab.lake.arrow_schema import decoded
from ingestlab.pipeline.embedding import Embedding
from ingestlab.sinks.milvus.vector_rows import longer, primary_key
from ingestlab.sinks.milvus.vector_values import MAX_BYTES, Column

KEY, TOO_LONG, TOO_LARGE = "vector:key", "vector:too long", "vector:too large"
_JOIN, _ESCAPED = "\x1f", str.maketrans({"\\": "\\\\", "\x1f": "\\u"})
_MOST = 2**63 - 1  # of a collection's integers


def misfits(
    rows: pa.Table,
    embedding: Embedding,
    taken: Some[str] = (),
    pieces: Mapping[str, Piece] | None = None,
    where: tuple[str, str] = ("", ""),
) -> dict[Place, Reason]:
    """Find source rows with a bad key or payload beyond its field.

    Args:
        rows: The rows, with `_source` and `_row`.
        embedding: What is declared of their vectors.
        taken: Primary keys of vectors that other rows of these sources have already.
        pieces: What the rows were read from, by URI; needed if any are taken.
        where: Tenant and table.
    """
    reasons = dict(_payload(rows, embedding))
    holders: dict[tuple[str, str], int] = {}
    if not embedding.key or (not taken and not reasons and _surely_good(rows, embedding)):
        return reasons
    for place, keys in _records(rows, embedding):
        if place in reasons:
            continue
        uri, row = place
        trouble = _trouble(keys, uri, holders, embedding)
        if not trouble and taken and pieces and _is_taken(keys, uri, pieces[uri].sha256, taken, where):
            trouble = f"{_told(keys[0])}, which a published row of this file has"
        if trouble:
            reasons[place] = Reason(KEY, None, trouble[:MAX_VALUE])
        else:
            holders |= {(uri, joined(key)): row for key in keys}
    return reasons


def _surely_good(rows: pa.Table, embedding: Embedding) -> bool:
    """Tell whether all keys differ, at a glance. False where each has to be looked at."""
    columns = [decoded(rows[name]) for name in embedding.key]
    if any(column.null_count or not _is_plain(column.type) for column in columns):
        return False
    texts = [column for column in columns if pa.types.is_string(column.type)]
    if any((pc.max(pc.binary_length(column)).as_py() or 0) > MAX_BYTES for column in texts):
        return False
    keys = {f"k{i}": column for i, column in enumerate([decoded(rows["_source"]), *columns])}
    return bool(pa.table(keys).group_by(list(keys)).aggregate([]).num_rows == rows.num_rows)


def _is_plain(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_integer(kind) or pa.types.is_date(kind))


def joined(key: Sequence[Any]) -> str:
    """Write a key as one text, different for different keys."""
    texts = [str(value) for value in key]
    return texts[0] if len(texts) == 1 else _JOIN.join(text.translate(_ESCAPED) for text in texts)


def with_content(content: str, key: str) -> str:
    """Prefix a row's key with one of several contents of a source."""
    return f"{content}:{key}"


def _records(rows: pa.Table, embedding: Embedding) -> Iterator[tuple[tuple[str, int], list[tuple[Any, ...]]]]:
    """Yield source rows in order, with the keys of their rows."""
    columns = [decoded(rows[name]).to_pylist() for name in embedding.key]
    places = list(zip(decoded(rows["_source"]).to_pylist(), rows["_row"].to_pylist(), strict=True))
    keys = list(zip(*columns, strict=True))
    order = sorted(range(len(places)), key=places.__getitem__)
    for place, group in groupby(order, key=places.__getitem__):
        yield place, [keys[i] for i in group]


def _trouble(
    keys: Sequence[tuple[Any, ...]], uri: str, holders: Mapping[tuple[str, str], int], embedding: Embedding
) -> str:
    """Describe what is wrong with a source row's keys, if anything."""
    for key in keys:
        for name, value in zip(embedding.key, key, strict=True):
            if value is None or value != value:  # noqa: PLR0124 - NaN is no key
                return f"none in '{name}'"
            if isinstance(value, str) and len(value.encode()) > MAX_BYTES:
                return f"{len(value.encode()):,} bytes in '{name}'"
        if (holder := holders.get((uri, joined(key)))) is not None:
            return f"{_told(key)}, which row {holder} has"
    twice = len({joined(key) for key in keys}) < len(keys)
    return f"{_told(keys[0])}, of several rows that clean makes of this one" if twice else ""


def _is_taken(
    keys: Sequence[tuple[Any, ...]], uri: str, content: str, taken: Some[str], where: tuple[str, str]
) -> bool:
    forms = (form for key in keys for form in (joined(key), with_content(content, joined(key))))
    return any(primary_key(*where, uri, form) in taken for form in forms)


def _told(key: Sequence[Any]) -> str:
    return ", ".join(f"{value!r:.60}" for value in key)


def _payload(rows: pa.Table, embedding: Embedding) -> Iterator[tuple[Place, Reason]]:
    """Yield the rows with a payload value larger than its field."""
    for name in embedding.payload:
        values = decoded(rows[name])
        if Column.of(rows.schema.field(name)).kind == "text" and name not in embedding.truncate:
            for i in longer(values.cast(pa.string()), MAX_BYTES):
                yield _place(rows, i), Reason(TOO_LONG, None, f"{len(str(values[i]).encode()):,} bytes in '{name}'")
        elif pa.types.is_uint64(values.type):
            for i in pc.indices_nonzero(pc.greater(values, pa.scalar(_MOST, pa.uint64()))).to_pylist():
                yield _place(rows, i), Reason(TOO_LARGE, None, f"{values[i]} in '{name}'")


def _place(rows: pa.Table, i: int) -> Place:
    return str(rows["_source"][i]), rows["_row"][i].as_py()
