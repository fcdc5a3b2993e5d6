"""Groups of rows: a number for each row, and what the rows of a group have in common."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ingestlab.core.errors import TerminalError
from ingestlab.lake.arrow_schema import decoded
from ingestlab.pipeline.aggregate import Unit

Ints = np.ndarray[Any, np.dtype[np.int64]]
_ROOM = 1 << 16  # numbers that may always be looked up in a table
_TOP = 1 << 63


@dataclass(frozen=True)
class Groups:
    """Group numbers of rows: `ids[i]` is that of row `i`, from 0. `keys` has one row for each group."""

    ids: Ints
    count: int
    keys: dict[str, pa.Array]


def group(keys: Mapping[str, pa.Array], rows: int) -> Groups:
    """Group rows by some columns, null being a value. Without columns all rows are one group."""
    ids, count = np.zeros(rows, np.int64), min(rows, 1)
    for name, values in keys.items():
        codes, size = _coded(name, values)
        ids, count = _dense(ids * size + codes, count * size)
    first = np.zeros(count, np.int64)
    first[ids[::-1]] = np.arange(rows - 1, -1, -1)
    return Groups(ids, count, {name: decoded(values.take(pa.array(first))) for name, values in keys.items()})


def joined(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """Combine a column into one array; a dictionary column stays one."""
    if isinstance(column, pa.ChunkedArray):
        shared = column.unify_dictionaries() if pa.types.is_dictionary(column.type) else column
        column = shared.combine_chunks()
    return column


def whole(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """Combine a column, with NaN as null. Only texts keep a dictionary, which makes them faster."""
    values = joined(column)
    if pa.types.is_dictionary(values.type) and not pa.types.is_string(values.type.value_type):
        values = decoded(values)
    if pa.types.is_float16(values.type):
        values = values.cast(pa.float32())  # few functions of Arrow know the half ones
    if pa.types.is_floating(values.type):
        odd = pc.is_nan(values)
        if pc.any(odd).as_py():
            values = pc.if_else(odd, pa.scalar(None, values.type), values)
    return values


def key_values(column: pa.Array, unit: Unit | None, name: str) -> pa.Array:
    """Prepare grouping values: -0.0 becomes 0.0, times the beginning of their unit.

    Raises:
        TerminalError: The column holds no times.
    """
    if pa.types.is_floating(column.type):
        return pc.add(column, pa.scalar(0.0, column.type))
    if not unit or pa.types.is_null(column.type):
        return column
    column = decoded(column)
    if not (pa.types.is_timestamp(column.type) or pa.types.is_date(column.type)):
        fix = "Let clean make a time of it, or group by the column as it is."
        raise TerminalError(
            "The column cannot be grouped by time",
            expected=f"times in '{name}', to cut down to the {unit}",
            got=str(column.type),
            fix=fix,
            code="types_conflict",
        )
    zone = getattr(column.type, "tz", None)
    if not zone:
        return pc.floor_temporal(column, unit=unit)
    local = pc.local_timestamp(column)
    floor = pc.floor_temporal(local, unit=unit)
    if unit in ("second", "minute", "hour"):  # what a clock shows may come twice a night: go back from each
        return pc.subtract(column, pc.subtract(local, floor))
    return pc.assume_timezone(floor, zone, ambiguous="earliest", nonexistent="latest")


def _coded(name: str, values: pa.Array) -> tuple[Ints, int]:
    """Code values as numbers, equal for equal values. Also returns a bound above all codes."""
    try:
        if pa.types.is_dictionary(values.type):
            nothing = len(values.dictionary)
            return values.indices.fill_null(nothing).to_numpy(zero_copy_only=False).astype(np.int64), nothing + 1
        if pa.types.is_null(values.type):
            return np.zeros(len(values), np.int64), 1
        if pa.types.is_integer(values.type) and (near := _near(values)):
            return near
        encoded = values.dictionary_encode(null_encoding="encode")
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid) as error:
        raise TerminalError.wrap(
            error,
            f"There are not single values in '{name}', to group by",
            "Group by another.",
            code="types_conflict",
        ) from error
    return encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64), max(1, len(encoded.dictionary))


def _near(values: pa.Array) -> tuple[Ints, int] | None:
    """Code whole numbers that are close together. This is several times faster than hashing."""
    ends = pc.min_max(values)
    low, high = ends["min"].as_py() or 0, ends["max"].as_py() or 0
    nothing = high - low + 1
    if nothing > _ROOM or high >= _TOP:
        return None
    known = values.fill_null(high).to_numpy(zero_copy_only=False).astype(np.int64) - low
    if values.null_count:
        known[values.is_null().to_numpy(zero_copy_only=False)] = nothing
    return known, nothing + 1


def _dense(numbers: Ints, span: int) -> tuple[Ints, int]:
    """Renumber without gaps; `span` is above all numbers."""
    if span > max(_ROOM, 4 * len(numbers)):
        encoded = pa.array(numbers).dictionary_encode()
        return encoded.indices.to_numpy().astype(np.int64), len(encoded.dictionary)
    used = np.zeros(span, bool)
    used[numbers] = True
    return (np.cumsum(used) - 1)[numbers], int(used.sum())


def by_group(ids: Ints) -> Ints:
    """Sort rows by their groups."""
    small = ids.astype(np.uint16) if len(ids) and ids.max() < _ROOM else ids  # numpy sorts short ones in one go
    return np.argsort(small, kind="stable")


def pairs_of(ids: Ints, codes: Ints, size: int) -> tuple[Ints, Ints]:
    """List the different pairs of group and code, ascending. `size` is above all codes."""
    numbers = ids * size + codes
    span = int(numbers.max()) + 1 if len(numbers) else 0
    if span > max(_ROOM, 32 * len(numbers)):
        pairs = np.sort(pc.unique(pa.array(numbers)).to_numpy())
    else:
        used = np.zeros(span, bool)
        used[numbers] = True
        pairs = np.flatnonzero(used)
    return pairs // max(1, size), pairs % max(1, size)


def codes_of(values: pa.Array) -> tuple[Ints, pa.Array]:
    """Code values without nulls. Also returns what the codes stand for."""
    encoded = values if pa.types.is_dictionary(values.type) else values.dictionary_encode()
    return encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64), encoded.dictionary
