"""Sums and moments of groups, exact where numbers are whole or decimal, and careful where they are floats."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ingestlab.aggregates.groups import Groups, Ints
from ingestlab.errors import TerminalError

Floats = np.ndarray[Any, np.dtype[np.float64]]

_EXACT = 1 << 53  # up to here a float holds every whole number
_DIGITS = 38


def is_number(kind: pa.DataType) -> bool:
    """Whether sums make sense; a column without any value is of no type, and passes."""
    return bool(
        pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_decimal(kind)
        or pa.types.is_boolean(kind)
        or pa.types.is_null(kind)
    )


def to_floats(values: pa.Array) -> Floats:
    """Numbers as float64, rounded where they have more digits; there must be no null."""
    if pa.types.is_boolean(values.type):
        values = values.cast(pa.uint8())
    if pa.types.is_decimal(values.type) or pa.types.is_null(values.type):
        values = values.cast(pa.float64())
    floats: Floats = values.to_numpy(zero_copy_only=False).astype(np.float64)
    return floats


def present(values: pa.Array, groups: Groups) -> tuple[pa.Array, Ints]:
    """The values that are not null, and their groups."""
    if not values.null_count:
        return values, groups.ids
    return values.drop_null(), groups.ids[values.is_valid().to_numpy(zero_copy_only=False)]


def counts(values: pa.Array, groups: Groups) -> Ints:
    """How many values of each group are not null."""
    return np.bincount(present(values, groups)[1], minlength=groups.count)


def grouped(values: pa.Array, ids: Ints, count: int, function: str) -> pa.Array:
    """Arrow's own function on the values of each group; null for a group without any."""
    table = pa.table({"group": ids, "x": values}).group_by("group", use_threads=False).aggregate([("x", function)])
    place = np.full(count, len(table), np.int64)
    place[table["group"].to_numpy()] = np.arange(len(table))
    return table[f"x_{function}"].combine_chunks().take(pa.array(place, mask=place == len(table)))


def extremes(values: pa.Array, groups: Groups, which: Literal["min", "max"]) -> pa.Array:
    """The least or greatest value of each group; null for a group without values."""
    kind = values.type
    if pa.types.is_null(kind):
        return pa.nulls(groups.count)
    if pa.types.is_duration(kind):  # Arrow orders them as numbers only
        return grouped(values.cast(pa.int64()), groups.ids, groups.count, which).cast(kind)
    return grouped(values, groups.ids, groups.count, which)


def sums(values: pa.Array, groups: Groups) -> pa.Array:
    """The sum of each group: float64 of floats, decimal(38, scale) of all else; 0 for a group without values.

    Raises:
        TerminalError: A sum has more than 38 digits.
    """
    kind = values.type
    scale = kind.scale if pa.types.is_decimal(kind) else 0
    values, ids = present(values, groups)
    if pa.types.is_floating(kind):
        return pa.array(_careful(to_floats(values), ids, groups.count)[0])
    if not len(values):
        return pa.array([0] * groups.count, pa.decimal128(_DIGITS, 0)).cast(pa.decimal128(_DIGITS, scale))
    if pa.types.is_boolean(kind) or (pa.types.is_integer(kind) and _largest(values) * len(values) < _EXACT):
        total = np.bincount(ids, weights=to_floats(values), minlength=groups.count)
        return pa.array(total.astype(np.int64)).cast(pa.decimal128(_DIGITS, 0))
    wide = grouped(values.cast(pa.decimal256(76, scale)), ids, groups.count, "sum")
    try:
        return wide.fill_null(pa.scalar(0).cast(wide.type)).cast(pa.decimal128(_DIGITS, scale))
    except pa.ArrowInvalid as error:
        fix = "Round the column in clean, or make floats of it."
        raise TerminalError.wrap(error, f"sums of at most {_DIGITS} digits", fix) from error


def moments(values: pa.Array, groups: Groups) -> tuple[Floats, Floats]:
    """The mean and the sum of squared deviations of each group; 0 for a group without values."""
    values, ids = present(values, groups)
    x = to_floats(values)
    size = np.maximum(1, np.bincount(ids, minlength=groups.count))
    with np.errstate(invalid="ignore", over="ignore"):
        mean = _careful(x, ids, groups.count)[0] / size
        apart = x - mean[ids]
        squares = np.bincount(ids, weights=apart * apart, minlength=groups.count)
        rest = np.bincount(ids, weights=apart, minlength=groups.count)
        return mean, np.maximum(squares - rest * rest / size, 0)


def merge_moments(sizes: Ints, means: Floats, squares: Floats, groups: Groups) -> tuple[Floats, Floats]:
    """The moments of groups by those of their parts: Chan's formula for any number of parts."""

    def total(x: Floats) -> Floats:
        return np.bincount(groups.ids, weights=x, minlength=groups.count)

    n = sizes.astype(np.float64)
    all_n = np.maximum(1, total(n))
    with np.errstate(invalid="ignore", over="ignore"):
        means = np.where(n > 0, means, 0)
        mean = total(n * means) / all_n
        mean = mean + _finite(total(n * (means - mean[groups.ids])) / all_n)
        apart = means - mean[groups.ids]
        return mean, total(squares + n * apart * apart)


def _careful(x: Floats, ids: Ints, count: int) -> tuple[Floats, Floats]:
    """Sums of floats, with what rounding has lost put back as far as one more pass finds it."""
    total = np.bincount(ids, weights=x, minlength=count)
    size = np.maximum(1, np.bincount(ids, minlength=count))
    with np.errstate(invalid="ignore", over="ignore"):
        middle = total / size
        lost = np.bincount(ids, weights=x - middle[ids], minlength=count)
    return total + _finite(lost), middle


def _finite(x: Floats) -> Floats:
    """What cannot be told, because a value is infinite, corrects nothing."""
    return np.where(np.isfinite(x), x, 0)


def _largest(values: pa.Array) -> int:
    ends = pc.min_max(values)
    return max(abs(ends["min"].as_py()), abs(ends["max"].as_py()))
