"""Sketches of groups: how many different values (HyperLogLog), and which quantiles (KLL).

Both are those of the `datasketches` library, in its own binary form. It takes different values one by one, so
each value of a group is handed over once, whatever the number of rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ingestlab.aggregates.groups import Groups, Ints, codes_of
from ingestlab.aggregates.numbers import present, to_floats

if TYPE_CHECKING:
    import datasketches as ds

LG_K = 12  # 4096 registers: a standard error of 1.6 %
K = 200  # a rank error of 1.33 %
_WIDEST = 1 << 63


def distinct(values: pa.Array, groups: Groups) -> pa.Array:
    """A HyperLogLog sketch of the values of each group; null for a group without values."""
    import datasketches as ds  # noqa: PLC0415 - only who asks for sketches pays for them

    values, ids = present(values, groups)
    codes, dictionary = codes_of(values)
    pairs = np.sort(pc.unique(pa.array(ids * max(1, len(dictionary)) + codes)).to_numpy())
    plain = [_plain(value) for value in dictionary.to_pylist()]
    found: list[bytes | None] = [None] * groups.count
    for number, chosen in _by_group(pairs // max(1, len(plain)), pairs % max(1, len(plain))):
        sketch = ds.hll_sketch(LG_K)
        update = sketch.update
        for code in chosen.tolist():
            update(plain[code])
        found[number] = sketch.serialize_compact()
    return pa.array(found, pa.binary())


def merge_distinct(sketches: pa.Array, groups: Groups) -> pa.Array:
    """The sketches of groups by those of their parts."""
    import datasketches as ds  # noqa: PLC0415 - likewise

    def one(parts: list[bytes]) -> bytes:
        union = ds.hll_union(LG_K)
        for part in parts:
            union.update(ds.hll_sketch.deserialize(part))
        return bytes(union.get_result().serialize_compact())

    return _merge(sketches, groups, one)


def estimates(sketches: pa.Array) -> pa.Array:
    """How many different values each sketch has seen, about."""
    import datasketches as ds  # noqa: PLC0415 - likewise

    found = [round(ds.hll_sketch.deserialize(s).get_estimate()) if s else 0 for s in sketches.to_pylist()]
    return pa.array(found, pa.int64())


def quantiles(values: pa.Array, groups: Groups) -> pa.Array:
    """A KLL sketch of the numbers of each group; null for a group without any.

    Large groups get other bytes each time they are sketched: which numbers are kept is drawn by chance.
    """
    import datasketches as ds  # noqa: PLC0415 - likewise

    values, ids = present(values, groups)
    order = np.argsort(ids, kind="stable")
    found: list[bytes | None] = [None] * groups.count
    for number, chosen in _by_group(ids[order], to_floats(values)[order]):
        sketch = ds.kll_doubles_sketch(K)
        sketch.update(chosen)
        found[number] = sketch.serialize()
    return pa.array(found, pa.binary())


def merge_quantiles(sketches: pa.Array, groups: Groups) -> pa.Array:
    """The sketches of groups by those of their parts."""
    import datasketches as ds  # noqa: PLC0415 - likewise

    def one(parts: list[bytes]) -> bytes:
        first: ds.kll_doubles_sketch = ds.kll_doubles_sketch.deserialize(parts[0])
        for part in parts[1:]:
            first.merge(ds.kll_doubles_sketch.deserialize(part))
        return bytes(first.serialize())

    return _merge(sketches, groups, one)


def quantile(sketches: pa.Array, share: float) -> pa.Array:
    """The number below or at which about a share of each sketch's numbers lie."""
    import datasketches as ds  # noqa: PLC0415 - likewise

    found = [
        ds.kll_doubles_sketch.deserialize(s).get_quantile(share, inclusive=True) if s else None
        for s in sketches.to_pylist()
    ]
    return pa.array(found, pa.float64())


def _merge(sketches: pa.Array, groups: Groups, one: Callable[[list[bytes]], bytes]) -> pa.Array:
    order = np.argsort(groups.ids, kind="stable")
    parts = np.array([*sketches.to_pylist(), None], dtype=object)[:-1]  # the None keeps it one-dimensional
    found: list[bytes | None] = [None] * groups.count
    for number, chosen in _by_group(groups.ids[order], parts[order]):
        known = [part for part in chosen if part is not None]
        found[number] = one(known) if len(known) > 1 else (known or [None])[0]
    return pa.array(found, pa.binary())


def _by_group(ids: Ints, values: Any) -> Iterator[tuple[int, Any]]:
    """For each group, its values; `ids` ascend."""
    edges = np.flatnonzero(np.diff(ids, prepend=-1))
    for start, stop in zip(edges.tolist(), [*edges[1:].tolist(), len(ids)], strict=True):
        yield int(ids[start]), values[start:stop]


def _plain(value: Any) -> int | float | str:
    """A value as a sketch takes it: equal values of different types or units, such as 1 and 1.0, are one."""
    match value:
        case bool():
            return int(value)
        case int() if -_WIDEST <= value < _WIDEST:
            return value
        case float() if value.is_integer() and abs(value) < _WIDEST:
            return int(value)
        case float():
            return value
        case Decimal() if value == value.to_integral_value() and abs(value) < _WIDEST:
            return int(value)
        case Decimal():
            return str(value.normalize())
        case datetime() if value.tzinfo:
            return value.astimezone(UTC).isoformat()
        case datetime():
            return value.isoformat()
        case "":
            return "\0"  # the library passes over an empty text
    return str(value)
