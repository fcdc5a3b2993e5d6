"""The profile of a table: a small state for each column, made of the rows that a task publishes.

A state is plain JSON of some hundred bytes: how many values, the least and the greatest, their sum and squared
deviations, the lengths of texts, the commonest values, and where those are not all there are, a sketch of how
many different ones. Rows, nulls, least, greatest, lengths and sums of integers are exact; floats add up as
doubles do. Sums and deviations are of finite numbers; times count as nanoseconds.

The commonest values are a Misra-Gries summary: a count is at most `slack` too low, and `slack` is at most a
25th of the column's values. Where a task's column has more than 65,536 values, and mostly different ones, they
are counted in a sample of 32,768, which adds 0.6 % of the values (two standard errors). Nothing else is sampled.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ingestlab.analytics.profiles import sketches
from ingestlab.analytics.profiles.counting import Counted, Counter, Numbers, count_values, sample
from ingestlab.analytics.profiles.few import MAX_ROWS, TOP, Few, State
from ingestlab.analytics.profiles.kinds import MAX_TEXT, Kind, clip, kind_of, to_json, unit
from ingestlab.lake.arrow_schema import plain

MAX_COLUMNS = 500
NOT_DATA = ("_source", "_row")  # columns that every table has

Profile = dict[str, Any]  # {"rows": 3, "columns": {name: State}, "omitted": 0}


def count_columns(table: pa.Table, counter: Counter | None) -> dict[str, Counted]:
    """Count the values of the columns of many rows. Of few rows, none are counted.

    Args:
        table: The rows.
        counter: What counts values faster than Arrow, if there is one.
    """
    counts = {}
    for name in table.column_names[: MAX_COLUMNS + len(NOT_DATA)] if table.num_rows > MAX_ROWS else ():
        array = _one_array(table[name])
        kind = _kind(array)
        if len(array) > array.null_count and kind not in ("other", "null"):
            with suppress(Exception):  # as in a profile: the column is then counted as Arrow does, or not at all
                counted = count_values(array, kind, _factor(array), counter)
                counts[name] = counted if array.type == table[name].type else counted._replace(places=None)
    return counts


def profile(
    table: pa.Table, counter: Counter | None = None, counted: Mapping[str, Counted] = MappingProxyType({})
) -> Profile:
    """Profile some rows; the first 500 columns alone, `omitted` counts the others.

    Args:
        table: The rows.
        counter: What counts values faster than Arrow, if there is one. It changes no number.
        counted: What :func:`count_columns` has counted of them.
    """
    names = [name for name in table.column_names if name not in NOT_DATA]
    few = Few() if table.num_rows <= MAX_ROWS else None
    columns = {name: _state_or_count(table[name], few, counter, counted.get(name)) for name in names[:MAX_COLUMNS]}
    if few:
        few.finish()
    return {"rows": table.num_rows, "columns": columns, "omitted": max(0, len(names) - MAX_COLUMNS)}


def _state_or_count(
    column: pa.ChunkedArray, few: Few | None, counter: Counter | None, counted: Counted | None
) -> State:
    """Describe a column, or only count one that cannot be described. A profile fails no file."""
    try:
        return (few and few.state(column)) or _column_state(column, counter, counted)
    except Exception:  # noqa: BLE001 - Arrow's functions know ever fewer types than Arrow has
        return {"kind": "other", "count": len(column) - column.null_count}


def _column_state(column: pa.ChunkedArray, counter: Counter | None = None, counted: Counted | None = None) -> State:
    """Describe one column."""
    array = _one_array(column)
    kind = _kind(array)
    state: State = {"kind": kind, "count": len(array) - array.null_count}
    if not state["count"] or kind in ("other", "null"):
        return state
    counted = counted or count_values(array, kind, _factor(array), counter)
    if kind in ("text", "bytes"):
        return state | _describe_texts(counted, kind)
    return state | _describe_numbers(counted, kind, _factor(array))


def _kind(array: pa.Array) -> Kind:
    return kind_of(plain(array.type))


def _factor(array: pa.Array) -> int:
    return unit(plain(array.type))


def _one_array(column: pa.ChunkedArray) -> pa.Array:
    """Combine a column into one plain array."""
    if isinstance(column.type, pa.BaseExtensionType):
        column = pa.chunked_array([chunk.storage for chunk in column.chunks], column.type.storage_type)
    if pa.types.is_dictionary(column.type):
        column = column.unify_dictionaries() if column.num_chunks > 1 else column
        if any(chunk.dictionary.null_count for chunk in column.chunks):
            column = column.cast(column.type.value_type)
    elif pa.types.is_decimal32(column.type) or pa.types.is_decimal64(column.type):
        column = column.cast(pa.decimal128(column.type.precision, column.type.scale))
    elif pa.types.is_float16(column.type) or pa.types.is_string_view(column.type):
        column = column.cast(pa.float32() if pa.types.is_float16(column.type) else pa.large_string())
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _describe_texts(counted: Counted, kind: Kind) -> State:
    values, counts, registers, _ = counted
    lengths = pc.min_max(pc.utf8_length(values) if kind == "text" else pc.binary_length(values)).as_py()
    state: State = {"short": lengths["min"], "long": lengths["max"]}
    if kind == "text":
        ends = pc.min_max(values).as_py()
        state |= {"min": clip(ends["min"]), "max": clip(ends["max"])}
    top = _top(values, counts, kind, 1)
    cut = counts is None or len(values) > TOP or kind == "bytes" or lengths["max"] > MAX_TEXT
    if cut:
        kept = sketches.registers(sketches.hash_texts(values)) if registers is None else registers
        return state | top | {"hll": sketches.pack(kept)}
    return state | top


def _describe_numbers(counted: Counted, kind: Kind, factor: int) -> State:
    values, counts, registers, _ = counted
    numbers = (values.cast(pa.float64()) if kind == "decimal" else values).to_numpy()
    state: State = {}
    if kind == "float":
        known = ~np.isnan(numbers)
        if not known.all():
            state["nan"] = _total(~known, counts)
            numbers, values = numbers[known], values.filter(pa.array(known))
            counts = None if counts is None else counts[known]
        if not len(numbers):
            return state
    state |= _ends(values, numbers, kind, factor) | _sums(numbers, counts, kind, factor)
    state |= _top(values, counts, kind, factor)
    if counts is None or len(numbers) > TOP:
        if registers is None:
            scaled = numbers if factor == 1 else numbers.astype(np.int64) * np.int64(factor)
            registers = sketches.registers(sketches.hash_numbers(scaled))
        state["hll"] = sketches.pack(registers)
    return state


def _ends(values: pa.Array, numbers: Numbers, kind: Kind, factor: int) -> State:
    """Find minimum and maximum; decimals stay decimals."""
    if kind == "decimal":
        least, greatest = pc.min_max(values).as_py().values()
    else:
        least, greatest = numbers.min().item() * factor, numbers.max().item() * factor
    return {"min": to_json(least, kind), "max": to_json(greatest, kind)}


def _sums(numbers: Numbers, counts: Numbers | None, kind: Kind, factor: int) -> State:
    """Sum finite numbers, exactly for integers, and their squared deviations."""
    state: State = {}
    if kind == "float":
        finite = np.isfinite(numbers)
        if not finite.all():
            state["inf"] = _total(~finite, counts)
            numbers, counts = numbers[finite], None if counts is None else counts[finite]
    size = len(numbers) if counts is None else int(counts.sum())
    if not size:
        return state
    floats = numbers.astype(np.float64, copy=False)
    weights = np.float64(1) if counts is None else counts.astype(np.float64)
    if kind in ("float", "decimal"):
        with np.errstate(over="ignore", invalid="ignore"):  # what becomes infinite says so
            total = float((floats * weights).sum())
            squares = float((np.square(floats - total / size) * weights).sum())
        return state | {"sum": to_json(total, "float"), "m2": to_json(squares, "float")}
    exact = _exact_sum(numbers, counts)
    squares = float((np.square(floats - exact / size) * weights).sum())
    return state | {"sum": exact * factor, "m2": squares * factor * factor}


def _exact_sum(numbers: Numbers, counts: Numbers | None) -> int:
    """Sum integers beyond 64 bits."""
    if numbers.dtype.itemsize < 8:
        return _total(numbers.astype(np.int64), counts)
    high, low = (numbers >> 32).astype(np.int64), (numbers & numbers.dtype.type(0xFFFFFFFF)).astype(np.int64)
    return (_total(high, counts) << 32) + _total(low, counts)


def _total(numbers: Numbers, counts: Numbers | None) -> int:
    return int(numbers.sum() if counts is None else numbers @ counts)


def _top(values: pa.Array, counts: Numbers | None, kind: Kind, factor: int) -> State:
    """Summarize the commonest values by Misra and Gries."""
    if kind == "bytes":
        return {}
    scale = 1.0
    if counts is None:
        values, counts, scale = sample(values)
    order = np.argsort(-counts, kind="stable") if len(counts) < 1_000 else _largest(counts, TOP + 1)
    slack = int(counts[order[TOP]]) if len(counts) > TOP else 0
    kept = order[:TOP][counts[order[:TOP]] > slack]
    commonest = values.take(pa.array(kept)).to_pylist()
    keys = [value * factor for value in commonest] if factor > 1 else [to_json(value, kind) for value in commonest]
    top: dict[Any, int] = {}
    for key, count in zip(keys, counts[kept].tolist(), strict=True):
        top[key] = top.get(key, 0) + round((count - slack) * scale)
    return {"top": [list(pair) for pair in top.items()]} | ({"slack": round(slack * scale)} if slack else {})


def _largest(counts: Numbers, size: int) -> Numbers:
    """Find the places of the largest counts, the largest first."""
    places = np.argpartition(-counts, size)[:size]
    return places[np.argsort(-counts[places], kind="stable")]
