"""Sums and moments of groups, exact where numbers are whole or decimal, and careful where they are floats."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ingestlab.analytics.aggregates.groups import Groups, Ints
from ingestlab.core.errors import TerminalError
from ingestlab.lake.arrow_schema import decoded

Floats = np.ndarray[Any, np.dtype[np.float64]]

_EXACT = 1 << 53  # up to here a float holds every whole number
_DIGITS = 38


def is_number(kind: pa.DataType) -> bool:
    """Tell whether sums make sense. A column without any value has no type, and passes."""
    return bool(
        pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_decimal(kind)
        or pa.types.is_boolean(kind)
        or pa.types.is_null(kind)
    )


@dataclass(frozen=True)
class Values:
    """Values of a column without nulls: `ids` are their groups, of which there are `count`."""

    values: pa.Array
    ids: Ints
    count: int

    @classmethod
    def of(cls, column: pa.Array, groups: Groups) -> Values:
        """Select the valid values of a whole column."""
        if not column.null_count:
            return cls(column, groups.ids, groups.count)
        known = column.is_valid().to_numpy(zero_copy_only=False)
        return cls(column.drop_null(), groups.ids[known], groups.count)

    @cached_property
    def floats(self) -> Floats:
        """Return numbers as float64, rounded where they have more digits."""
        values = self.values.cast(pa.uint8()) if pa.types.is_boolean(self.values.type) else self.values
        if pa.types.is_decimal(values.type) or pa.types.is_null(values.type):
            values = values.cast(pa.float64())
        floats: Floats = values.to_numpy(zero_copy_only=False).astype(np.float64)
        return floats

    @cached_property
    def sizes(self) -> Ints:
        """Count the values of each group."""
        return np.bincount(self.ids, minlength=self.count).astype(np.int64)


def extremes(x: Values, which: Literal["min", "max"]) -> pa.Array:
    """Find the minimum or maximum of each group. Null for an empty group."""
    kind = x.values.type
    if pa.types.is_null(kind):
        return pa.nulls(x.count)
    if pa.types.is_duration(kind):  # Arrow orders them as numbers only
        return _grouped(x.values.cast(pa.int64()), x, which).cast(kind)
    return _grouped(decoded(x.values), x, which)


def sums(x: Values) -> pa.Array:
    """Sum each group: float64 of floats, else decimal(38, scale); 0 for an empty group.

    Raises:
        TerminalError: A sum has more than 38 digits.
    """
    kind = x.values.type
    if pa.types.is_floating(kind):
        return pa.array(_careful(x))
    exact = pa.types.is_boolean(kind) or pa.types.is_null(kind)
    if exact or (pa.types.is_integer(kind) and _largest(x.values) * len(x.ids) < _EXACT):
        total = np.bincount(x.ids, weights=x.floats, minlength=x.count)
        return pa.array(total.astype(np.int64)).cast(pa.decimal128(_DIGITS, 0))
    scale = kind.scale if pa.types.is_decimal(kind) else 0
    wide = _grouped(x.values.cast(pa.decimal256(76, scale)), x, "sum")
    try:
        return wide.fill_null(pa.scalar(0).cast(wide.type)).cast(pa.decimal128(_DIGITS, scale))
    except pa.ArrowInvalid as error:
        fix = "Round the column in clean, or make floats of it."
        raise TerminalError.wrap(error, f"A sum has more than {_DIGITS} digits", fix, code="limit_exceeded") from error


def moments(x: Values) -> tuple[Floats, Floats]:
    """Compute each group's mean and sum of squared deviations. 0 for an empty group."""
    size = np.maximum(1, x.sizes)
    with np.errstate(invalid="ignore", over="ignore"):
        mean = _careful(x) / size
        apart = x.floats - mean[x.ids]
        rest = np.bincount(x.ids, weights=apart, minlength=x.count)
        squares = np.bincount(x.ids, weights=np.multiply(apart, apart, out=apart), minlength=x.count)
        return mean, np.maximum(squares - rest * rest / size, 0)


def merge_moments(sizes: Ints, means: Floats, squares: Floats, groups: Groups) -> tuple[Floats, Floats]:
    """Merge the moments of any number of parts by Chan's formula."""

    def total(x: Floats) -> Floats:
        return np.bincount(groups.ids, weights=x, minlength=groups.count).astype(np.float64)

    n = sizes.astype(np.float64)
    all_n = np.maximum(1, total(n))
    with np.errstate(invalid="ignore", over="ignore"):
        means = np.where(n > 0, means, 0)
        mean = total(n * means) / all_n
        mean = mean + _finite(total(n * (means - mean[groups.ids])) / all_n)
        apart = means - mean[groups.ids]
        return mean, total(squares + n * apart * apart)


def _careful(x: Values) -> Floats:
    """Sum floats, and correct rounding by one more pass."""
    total = np.bincount(x.ids, weights=x.floats, minlength=x.count)
    with np.errstate(invalid="ignore", over="ignore"):
        middle = total / np.maximum(1, x.sizes)
        lost = np.bincount(x.ids, weights=x.floats - middle[x.ids], minlength=x.count)
    return total + _finite(lost.astype(np.float64))


def _grouped(values: pa.Array, x: Values, function: str) -> pa.Array:
    """Apply Arrow's own function to each group; null for an empty group."""
    table = pa.table({"group": x.ids, "x": values}).group_by("group", use_threads=False).aggregate([("x", function)])
    place = np.full(x.count, len(table), np.int64)
    place[table["group"].to_numpy()] = np.arange(len(table))
    return table[f"x_{function}"].combine_chunks().take(pa.array(place, mask=place == len(table)))


def _finite(x: Floats) -> Floats:
    """Replace what is not finite by 0: it corrects nothing."""
    return np.where(np.isfinite(x), x, 0)


def _largest(values: pa.Array) -> int:
    ends = pc.min_max(values)
    return int(max(abs(ends["min"].as_py() or 0), abs(ends["max"].as_py() or 0)))
