"""What a search asks of columns, as the values that a collection keeps.

What comes out of a search's own frame can go in again: numpy's and pandas' values mean Python's, a missing one
means null. Times, dates and decimals are asked for as payload has them, which is text in UTC, or a number.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

import numpy as np
import pandas as pd
import pyarrow as pa

from ingestlab.core.errors import TerminalError
from ingestlab.sinks.milvus.vector_values import BASE, Collection, Column, Scalar

PRIMARY = Column(name="pk", length=64)
NEVER_NULL = frozenset({PRIMARY.name, *(column.name for column in BASE)})
_INT64 = range(-(2**63), 2**63)


@dataclass(frozen=True)
class Wish:
    """What a column must be: one of these values, or null where that is asked for."""

    forms: tuple[Scalar, ...]
    null: bool = False

    def holds(self, value: Any) -> bool:
        """Tell whether a column's value is one that is asked for."""
        return self.null if value is None else value in self.forms


def wishes(only: Mapping[str, Any], made: Collection) -> dict[str, Wish]:
    """Give a filter values of the kinds that its columns have.

    Args:
        only: For each column a value, or several of which one must be it.
        made: Whose columns they are.

    Raises:
        TerminalError: There is no such column, or a value is none that it could have.
    """
    columns = {column.name: column for column in (PRIMARY, *made.columns)}
    by_column = {}
    for name, asked in only.items():
        if name not in columns:
            raise TerminalError(
                "The filter names an unknown column",
                expected=f"one of the columns {', '.join(columns)}",
                got=f"a filter on '{name}'",
                code="filter_invalid",
            )
        given = [_plain(value) for value in _each(asked)]
        values = dict.fromkeys(v for value in given if value is not None for v in _stored(value, columns[name]))
        by_column[name] = Wish(tuple(values), None in given and name not in NEVER_NULL)
    return by_column


def _each(asked: Any) -> Iterable[Any]:
    """Give the values asked for, where there may be several."""
    if isinstance(asked, np.ndarray):
        return list(asked.ravel())  # not tolist(), which makes numbers of times
    many = isinstance(asked, Iterable) and not isinstance(asked, str | bytes | bytearray | Mapping | pa.Scalar)
    return list(asked) if many else [asked]


def _plain(value: Any) -> Any:
    """Convert a value of numpy, pandas, Arrow or an enumeration to Python's. What stands for none is None."""
    if isinstance(value, pa.Scalar):
        value = value.as_py()
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, np.datetime64):
        value = pd.Timestamp(value)
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or value is pd.NA or value is pd.NaT:
        return None
    nan = isinstance(value, float | Decimal) and math.isnan(value)
    return None if nan else value


def _stored(value: Any, column: Column) -> Iterator[Scalar]:
    """List the forms in which a column may have a value."""
    if column.kind == "bool" and isinstance(value, bool):
        yield value
    elif column.kind == "int" and _is_number(value):
        if math.isfinite(value) and value == int(value) and int(value) in _INT64:
            yield int(value)
    elif column.kind == "float" and _is_number(value):
        if math.isfinite(value) and abs(value) <= np.finfo(np.float64).max:  # payload has null for the others
            yield float(value)
    elif column.kind == "text" and (texts := _texts(value)):
        yield from (text for text in texts if _is_text(text))
    else:
        wanted = f"{column.kind} values for the filter on '{column.name}'"
        fix = "Give them as the frame of a search has them."
        raise TerminalError(
            "The filter's value cannot be compared",
            expected=wanted,
            got=f"{type(value).__name__} {value!r:.100}",
            fix=fix,
            code="filter_invalid",
        )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | Decimal) and not isinstance(value, bool)


def _is_text(text: str) -> bool:
    """Tell whether a column can hold it. Half of a character is in none."""
    return not any("\ud800" <= char <= "\udfff" for char in text)


def _texts(value: Any) -> tuple[str, ...]:
    """List the forms of a value in text columns. A filter does not know which hold times."""
    if isinstance(value, str):
        return (str(value),)
    if isinstance(value, UUID):
        return (str(value),)
    if isinstance(value, dt.datetime):
        return _moments(value)
    if isinstance(value, dt.date):
        return (value.isoformat(), *_moments(dt.datetime.combine(value, dt.time())))
    if isinstance(value, dt.time) and value.tzinfo is None:
        return _clocks(value)
    return ()


def _moments(value: dt.datetime) -> tuple[str, ...]:
    """Write a time as payload has it, with six decimals. One without a zone is UTC."""
    if value.tzinfo is not None:
        return (f"{_moment(value.astimezone(dt.UTC))}Z",)
    text = _moment(value)
    midnight = (value.date().isoformat(),) if value.time() == dt.time() else ()
    return (text, f"{text}Z", *midnight)


def _moment(value: dt.datetime) -> str:
    return dt.datetime.isoformat(value.replace(tzinfo=None), " ", "microseconds")  # pandas' own has nine decimals


def _clocks(value: dt.time) -> tuple[str, ...]:
    """Write a time of day with none, three, six or nine decimals."""
    micros = value.isoformat("microseconds")
    millis = [] if value.microsecond % 1000 else [value.isoformat("milliseconds")]
    return (*([] if value.microsecond else [value.isoformat("seconds")]), *millis, micros, f"{micros}000")
