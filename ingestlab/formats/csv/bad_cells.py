"""Finds the cells that pyarrow's CSV parser cannot convert, by asking it again about fewer and fewer records."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ingestlab.formats.common.columns import cast as as_values
from ingestlab.formats.common.columns import convert as as_type
from ingestlab.formats.common.columns import one_array, strictly_timed
from ingestlab.formats.common.cutting import Ints
from ingestlab.formats.common.dialects import Dialect
from ingestlab.formats.common.nulls import textual
from ingestlab.formats.csv import fast
from ingestlab.formats.csv.arrow import Layout, convert
from ingestlab.formats.csv.body import Body

_CHUNK = 256  # records that are converted at once while looking for bad ones
_ROW = re.compile(r"Row #(\d+)")
# What a text must look like at least. It spares asking one by one where a whole column is something else.
_ISO = r"^[ \t]*([1-9]\d{3}|0[1-9]\d\d|00[1-9]\d|000[1-9])-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])"
_NUMBER = r"^[ \t]*[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?[ \t]*$"
_COULD_BE = (
    (pa.types.is_signed_integer, r"^[ \t]*(?:-?[0-9]+|0[xX][0-9a-fA-F]+)[ \t]*$"),
    (pa.types.is_unsigned_integer, r"^[ \t]*(?:[0-9]+|0[xX][0-9a-fA-F]+)[ \t]*$"),
    (pa.types.is_floating, _NUMBER + "|(?i:inf|nan)"),
    (pa.types.is_decimal, r"^[ \t]*[-+.0-9][-+.0-9eE]*[ \t]*$"),
    (pa.types.is_boolean, r"^(?i:true|false|0|1)$"),
    (pa.types.is_timestamp, _ISO),
    (pa.types.is_date, _ISO),
)

_HEX_NUMBER = r"^[ \t]*0[xX][0-9a-fA-F]+[ \t]*$"
_LONG_NUMBER = r"^[ \t]*-?[0-9]{%d,}[ \t]*$"
_MOST_DIGITS = 20  # of a number of 64 bits

Fails = Callable[[int, int], int | None]


def wrong_by_looks(texts: pa.Table, layout: Layout) -> Ints:
    """Find records with a cell that cannot be of its type."""
    types = layout.types
    records = [_hopeless(texts[n], kind, layout) for n, kind in types.items() if not textual(kind)]
    return np.unique(np.concatenate([np.empty(0, np.int64), *records]))


def bad_cells(body: Body, layout: Layout, texts: pa.Table) -> Iterator[tuple[int, str, str]]:
    """Yield the bad cells as (number, column, text). No record of `body` is ragged."""
    for name, kind in layout.types.items():
        if not textual(kind):
            for i, value in _of_column(body, replace(layout, types={name: kind}), kind, texts[name]):
                yield i, name, str(value)


def _of_column(body: Body, layout: Layout, kind: pa.DataType, texts: pa.ChunkedArray) -> list[tuple[int, str]]:
    """Find the bad cells of one column, as (number, text)."""
    places = hopeless = _hopeless(texts, kind, layout)
    if not strictly_timed(kind, layout.timestamp_format):
        candidates = np.delete(np.arange(len(texts), dtype=np.int64), hopeless)
        places = np.union1d(hopeless, candidates[_search(body.without(hopeless), layout)])
    return list(zip(places.tolist(), texts.take(pa.array(places)).to_pylist(), strict=True))


def _hopeless(texts: pa.ChunkedArray, kind: pa.DataType, layout: Layout) -> Ints:
    """Find cells that cannot be of a type. Unless times have a format, others may be wrong."""
    if strictly_timed(kind, layout.timestamp_format):
        return as_type(one_array(texts), kind, layout.timestamp_format)[1]
    with suppress(pa.ArrowInvalid, pa.ArrowNotImplementedError):
        as_values(one_array(texts), kind)  # works for most columns, and faster than the look at each cell
        return np.empty(0, np.int64)
    pattern = next((pattern for is_kind, pattern in _COULD_BE if is_kind(kind)), "")
    possible = pc.fill_null(pc.match_substring_regex(texts, pattern), fill_value=True)
    places = np.flatnonzero(~possible.to_numpy())
    return np.union1d(places, _beyond(texts, kind)) if pa.types.is_integer(kind) else places


def _beyond(texts: pa.ChunkedArray, kind: pa.DataType) -> Ints:
    """Find numbers beyond a type. Of hexadecimal ones the parser names others first, wherever they are."""
    signed = pa.types.is_signed_integer(kind)
    high = (1 << kind.bit_width - signed) - 1
    low = -high - 1 if signed else 0
    wrong = [i for i, text in _like(texts, _LONG_NUMBER % len(str(high))) if not low <= _decimal(text) <= high]
    if signed:
        wrong += [i for i, text in _like(texts, _HEX_NUMBER) if int(text, 16) > high]
    return np.array(sorted(wrong), np.int64)


def _like(texts: pa.ChunkedArray, pattern: str) -> Iterator[tuple[int, str]]:
    """Yield the texts that match a pattern, with their places."""
    places = np.flatnonzero(pc.fill_null(pc.match_substring_regex(texts, pattern), fill_value=False).to_numpy())
    return zip(places.tolist(), texts.take(pa.array(places)).to_pylist(), strict=True)


def _decimal(text: str) -> int:
    """Read a number of any length. Of a long one the size is enough."""
    digits = text.strip(" \t-").lstrip("0") or "0"
    number = int(digits) if len(digits) <= _MOST_DIGITS else 10**_MOST_DIGITS
    return -number if "-" in text else number


def _search(body: Body, layout: Layout) -> list[int]:
    """Find the records that fail. What the compiled loop takes does not."""
    taken = fast.take(body, layout)
    if taken is None:
        return _ask(body, layout)
    left = taken.left
    return left[_ask(body.only(left), layout)].tolist() if left.size else []


def _ask(body: Body, layout: Layout) -> list[int]:
    """Find the records that fail, by asking about ever shorter runs."""
    starts, ends, _ = body.spans

    def fails(low: int, high: int) -> int | None:
        part = replace(body, begin=int(starts[low]), end=int(ends[high - 1]))
        try:
            convert(part, layout)
        except pa.ArrowInvalid as error:
            return _named(error, low)
        return None

    if not len(starts) or fails(0, len(starts)) is None:
        return []
    chunks = ((low, min(low + _CHUNK, len(starts))) for low in range(0, len(starts), _CHUNK))
    return [number for low, high in chunks for number in _failing(fails, low, high)]


def _failing(fails: Fails, low: int, high: int) -> list[int]:
    """Find all records in `low:high` that fail on their own."""
    records = []
    while low < high and (named := fails(low, high)) is not None:
        records.append(named if _names_rows() else _halve(fails, low, high))
        low = records[-1] + 1
    return records


def _named(error: pa.ArrowInvalid, low: int) -> int:
    match = _ROW.search(str(error))
    return low + int(match[1]) - 1 if match else low


@cache
def _names_rows() -> bool:
    """Tell whether this pyarrow names the first bad record in its message."""
    data = b"1\n2\nx\n4\nx\n"
    layout = Layout(("a",), {"a": pa.int64()}, Dialect())
    try:
        convert(Body(data, 0, len(data), layout.dialect), layout)
    except pa.ArrowInvalid as error:
        return _ROW.findall(str(error)) == ["3"]
    return False


def _halve(fails: Fails, low: int, high: int) -> int:
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if fails(low, middle) is not None else (middle, high)
    return low
