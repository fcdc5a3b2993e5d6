"""How often each value of a column comes: counted whole, or in a sample where most values differ."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ingestlab.analytics.profiles.kinds import Kind, integers
from ingestlab.analytics.profiles.sketches import Registers
from ingestlab.interfaces import Places

Numbers = np.ndarray[Any, Any]
Ends = tuple[int, int] | None

SAMPLE = 32_768
_LARGE = 65_536  # values; up to here all are counted
_PROBE = 4_096
_BLOCK = 65_536
_MAX_RANGE = 65_536  # of integers that are counted by their place


class Counted(NamedTuple):
    """Different values with counts.

    Attributes:
        values: Each once; where `counts` is None all there are, some more than once.
        counts: How often each comes.
        registers: Their sketch, where whoever counted made it.
        places: Which of them each row has, where whoever counted tells it.
    """

    values: pa.Array
    counts: Numbers | None
    registers: Registers | None = None
    places: Places | None = None


class Counter(Protocol):
    """A faster way to count."""

    def __call__(self, array: pa.Array, ends: Ends, factor: int) -> Counted | None:
        """Count values; None where it does not know how.

        Args:
            array: The values, times as integers.
            ends: The least and the greatest of integers to be counted by place, and given in their order; others are
                given in the order of their first rows.
            factor: From integers to those that a sketch sees.
        """
        ...


def count_values(array: pa.Array, kind: Kind, factor: int, counter: Counter | None) -> Counted:
    """Count the different values, booleans and times as integers.

    Args:
        array: The column.
        kind: Its kind.
        factor: From a time's integers to nanoseconds.
        counter: What counts faster, if there is one.
    """
    if pa.types.is_dictionary(array.type):
        last = len(array.dictionary) - 1
        by_index = counter(array.indices, (0, last), 1) if counter and 0 <= last < _MAX_RANGE else None
        kept, counts = by_index[:2] if by_index else _count_by_place(array.indices, 0, last)
        return Counted(integers(array.dictionary.take(kept), kind), counts, None, by_index and by_index.places)
    plain = integers(array, kind)
    ends = _narrow(plain)
    if ends is None and len(plain) > _LARGE:
        probe = plain.take(_chosen(len(plain), _PROBE)).drop_null()
        if pc.count_distinct(probe).as_py() > 0.9 * len(probe):
            return Counted(plain.drop_null(), None)
    counted = counter(plain, ends, factor) if counter else None
    return counted or Counted(*(_count_by_place(plain, *ends) if ends else _count_any(plain)))


def sample(values: pa.Array) -> tuple[pa.Array, Numbers, float]:
    """Count values of a sample.

    Returns:
        Different ones, how often each comes in it, and how many rows stand for one of it.
    """
    return *_count_any(values.take(_chosen(len(values), SAMPLE))), len(values) / SAMPLE


def _narrow(array: pa.Array) -> Ends:
    """Give the ends of integers of a small range."""
    if not pa.types.is_integer(array.type):
        return None
    least, greatest = pc.min_max(array).as_py().values()
    if greatest - least < min(_MAX_RANGE, 1_000 + 4 * len(array)) and greatest < 1 << 62:
        return least, greatest
    return None


def _count_by_place(array: pa.Array, least: int, greatest: int) -> tuple[pa.Array, Numbers]:
    """Count integers of a small range by place. This is four times as fast as by a hash table."""
    nulls = array.null_count
    numbers = (array.fill_null(least) if nulls else array).to_numpy()
    counts = np.zeros(greatest - least + 1, np.int64)
    for at in range(0, len(numbers), _BLOCK):  # small arrays stay in the processor's cache
        places = np.subtract(numbers[at : at + _BLOCK], least, dtype=np.int64, casting="unsafe")
        counts += np.bincount(places, minlength=len(counts))
    counts[0] -= nulls
    kinds = np.flatnonzero(counts)
    return pa.array((kinds + least).astype(array.type.to_pandas_dtype())), counts[kinds]


def _count_any(array: pa.Array) -> tuple[pa.Array, Numbers]:
    values, counts = pc.value_counts(array.drop_null() if array.null_count else array).flatten()
    return values, counts.to_numpy()


def _chosen(rows: int, size: int) -> pa.Array:
    """Choose the rows of a sample, always the same. A task that runs twice writes the same state."""
    return pa.array(np.random.default_rng(rows).integers(0, rows, size))
