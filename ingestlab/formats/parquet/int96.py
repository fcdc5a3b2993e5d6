"""Times that Parquet keeps as INT96, a day and the nanoseconds in it, over their whole range.

Arrow makes them nanoseconds from 1970 unless told otherwise, and wraps those before 1677 and after 2262. Here
a column is in microseconds, which reach from the year 1 to 9999, unless that would cost more times their last
digits than nanoseconds would cost their place. What does not fit the unit is no value, but a bad record.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ingestlab.core.errors import TerminalError
from ingestlab.formats.common.columns import one_array
from ingestlab.formats.common.cutting import Ints
from ingestlab.interfaces import Bad

Unit = Literal["us", "ns"]
OpenAs = Callable[[str], pq.ParquetFile]  # the file with its INT96 in a unit; "s" reaches beyond every year

FIRST, LAST = -62_135_596_800, 253_402_300_799  # seconds from 1970 to the years that Python and pandas know
_NANOS = 9_223_372_035  # seconds around 1970 that nanoseconds reach


class _Misfits(NamedTuple):
    """Masks of the times beyond a unit's reach, or between its ticks."""

    far: dict[Unit, np.ndarray[tuple[int], np.dtype[np.bool_]]]
    fine: np.ndarray[tuple[int], np.dtype[np.bool_]]  # not in whole microseconds


def int96_columns(file: pq.ParquetFile) -> list[str]:
    """List the columns with INT96 times in them."""
    schema = file.schema
    paths = [schema.column(i).path for i in range(len(schema)) if schema.column(i).physical_type == "INT96"]
    return [name for name in file.schema_arrow.names if any(p == name or p.startswith(f"{name}.") for p in paths)]


def choose_units(open_as: OpenAs, names: Iterable[str], groups: Sequence[int]) -> dict[str, Unit]:
    """Choose the unit of each column from a file's row groups."""
    units: dict[str, Unit] = {}
    for name in names:
        far = fine = 0
        for group in groups:
            for misfits in _misfits(*(_column(open_as(unit), name, [group]) for unit in ("s", "us", "ns"))):
                far += int(misfits.far["ns"].sum())
                fine += int(misfits.fine.sum())
        units[name] = "ns" if fine > far else "us"
    return units


def with_int96(
    table: pa.Table, open_as: OpenAs, groups: Sequence[int], units: Mapping[str, Unit], first: int
) -> tuple[pa.Table, list[Bad]]:
    """Convert INT96 columns to their units. Times that do not fit become null and bad records.

    Args:
        table: What was read of some row groups, such times in any unit.
        open_as: Gives the file in another unit.
        groups: The row groups.
        units: The unit of each such column.
        first: Number of the first record.

    Raises:
        TerminalError: A time within a list or a struct does not fit, so that its record cannot be told.
    """
    bad: list[Bad] = []
    for name, unit in units.items():
        seconds, micros, nanos = (_column(open_as(u), name, groups) for u in ("s", "us", "ns"))
        values = micros if unit == "us" else nanos
        for misfits in _misfits(seconds, micros, nanos):
            odd = misfits.far[unit] | (misfits.fine if unit == "us" else False)
            if odd.any() and not pa.types.is_timestamp(values.type):
                problem = f"Not all times in {name!r} are from the year 1 to 9999 in whole microseconds"
                got, fix = f"{int(odd.sum()):,} others", "Leave the column out, or correct it."
                raise TerminalError(problem, got=got, fix=fix, code="values_invalid")
            bad += [
                Bad(first + i, "range", name, _in_words(seconds[i], nanos[i], far=bool(misfits.far[unit][i])))
                for i in np.flatnonzero(odd).tolist()
            ]
            values = pc.if_else(pa.array(odd), pa.scalar(None, values.type), values) if odd.any() else values
        table = table.set_column(table.column_names.index(name), name, values)
    return table, bad


def _column(file: pq.ParquetFile, name: str, groups: Sequence[int]) -> pa.Array:
    return one_array(file.read_row_groups(list(groups), columns=[name], use_threads=False)[name])


def _misfits(seconds: pa.Array, micros: pa.Array, nanos: pa.Array) -> Iterator[_Misfits]:
    """Find the times that do not fit, nested ones too."""
    for leaves in zip(*(_leaves(values) for values in (seconds, micros, nanos)), strict=True):
        if leaves[0].type.unit != "s":  # a neighbour of another kind
            continue
        secs, mics, nans = (_ticks(values) for values in leaves)
        there = leaves[0].is_valid().to_numpy(zero_copy_only=False)
        beyond = (secs < FIRST) | (secs > LAST)
        far_nanos = np.abs(secs) > _NANOS
        fine = ~far_nanos & (nans != mics * 1000)
        yield _Misfits({"us": beyond & there, "ns": (beyond | far_nanos) & there}, fine & there)


def _leaves(values: pa.Array) -> Iterator[pa.Array]:
    kind = values.type
    if pa.types.is_timestamp(kind):
        yield values
    elif pa.types.is_struct(kind):
        for child in values.flatten():
            yield from _leaves(child)
    elif pa.types.is_nested(kind):
        yield from _leaves(values.flatten())


def _ticks(times: pa.Array) -> Ints:
    ticks: Ints = times.cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False)
    return ticks


def _in_words(seconds: pa.Scalar, nanos: pa.Scalar, *, far: bool) -> str:
    if far:
        return f"{seconds.cast(pa.int64()).as_py()} seconds from 1970"
    return f"{nanos.cast(pa.int64()).as_py()} nanoseconds from 1970"
