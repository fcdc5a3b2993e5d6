"""Which rows may break a contract: pandera's commonest checks as single passes over Arrow memory.

A screen never says why a row fails, and may suspect one that does not: pandera is asked about the suspects,
and about all that is not screened. What a screen lets pass, pandera would let pass. So a contract costs little
where the data keep it, and its words, rules and corner cases are pandera's.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from pandera.pandas import Check, Column, DataFrameSchema

Bools = np.ndarray[Any, np.dtype[np.bool_]]
_UNSCREENABLE = (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError)
_NUMBERS = (pa.types.is_integer, pa.types.is_floating)
_TEXTS = (pa.types.is_string, pa.types.is_large_string)
_TIMES = (pa.types.is_timestamp, pa.types.is_date)


@dataclass(frozen=True)
class Question:
    """Some checks of a contract; `numbers[column][i]` is the place of check `i` among all of its column."""

    schema: DataFrameSchema
    numbers: Mapping[str, tuple[int, ...]]

    @property
    def checks(self) -> list[Check]:
        """All checks of columns."""
        return [check for column in self.schema.columns.values() for check in column.checks]


@dataclass(frozen=True)
class Screened:
    """What a look at a frame has found.

    Attributes:
        suspects: For each row, whether `asked` must be asked about it.
        asked: The checks that were screened.
        rest: The contract without those, to be asked about all rows.
        complete: Whether the frame has all columns of the contract.
    """

    suspects: Bools
    asked: Question
    rest: Question
    complete: bool

    @property
    def rest_has_a_say(self) -> bool:
        """Whether `rest` checks anything: values, their type, or that a column is there."""
        columns = self.rest.schema.columns.values()
        of_values = any(c.dtype is not None or c.unique or not c.nullable for c in columns)
        return not self.complete or of_values or bool(self.rest.checks)

    @property
    def rest_compares_rows(self) -> bool:
        """Whether `rest` may look at several rows at once, so that its answer depends on which there are."""
        return any(c.unique for c in self.rest.schema.columns.values()) or any(c.native for c in self.rest.checks)


def screen(frame: pd.DataFrame, schema: DataFrameSchema) -> Screened | None:
    """Looks for rows that may break a contract; None where pandera has to see them all."""
    if not _only_checks_columns(schema) or not frame.columns.is_unique:
        return None
    suspects = np.zeros(len(frame), np.bool_)
    asked, rest = {}, {}
    for name, column in schema.columns.items():
        screened: set[int] | None = None
        if name in frame.columns:
            found, screened = _screen(frame[name], column)
            suspects |= found
        asked[name], rest[name] = _split(column, screened)
    complete = set(schema.columns) <= set(frame.columns)
    return Screened(suspects, _question(schema, asked), _question(schema, rest), complete)


def _only_checks_columns(schema: DataFrameSchema) -> bool:
    """Whether a contract does nothing but check columns one by one, and changes no value."""
    whole = (schema.checks, schema.parsers, schema.index, schema.unique, schema.dtype, schema.strict, schema.ordered)
    actions = (schema.coerce, schema.drop_invalid_rows, schema.add_missing_columns, schema.unique_column_names)
    return not any((*whole, *actions)) and not any(
        column.regex or column.coerce or column.parsers or column.drop_invalid_rows or column.default is not None
        for column in schema.columns.values()
    )


def _screen(series: pd.Series[Any], column: Column) -> tuple[Bools, set[int] | None]:
    """The suspects of a column, and the numbers of the checks that were screened; None if it cannot be screened."""
    suspects = np.zeros(len(series), np.bool_)
    kind = series.dtype.pyarrow_dtype if isinstance(series.dtype, pd.ArrowDtype) else pa.null()
    if not _is_any(kind, *_NUMBERS, *_TEXTS, *_TIMES):
        return suspects, None
    values = pa.chunked_array(series.array.__arrow_array__())
    screened = set()
    for number, check in enumerate(column.checks):
        passes = _passes(values, check)
        if passes is not None:
            screened.add(number)
            suspects |= _fails(passes, values)
    if pa.types.is_floating(values.type):  # whether NaN is null is for pandas to say
        suspects |= _true(pc.is_nan(values))
    if not column.nullable and values.null_count:
        suspects |= _true(values.is_null())
    return suspects, screened


def _fails(passes: pa.ChunkedArray, values: pa.ChunkedArray) -> Bools:
    """Which values do not pass; nulls are not asked."""
    if pc.all(passes, min_count=0).as_py() and not values.null_count:
        return np.zeros(len(values), np.bool_)
    return _true(pc.and_(pc.invert(pc.fill_null(passes, fill_value=True)), values.is_valid()))


def _true(flags: pa.ChunkedArray) -> Bools:
    found: Bools = pc.fill_null(flags, fill_value=False).to_numpy()
    return found


def _passes(values: pa.ChunkedArray, check: Check) -> pa.ChunkedArray | None:
    """Which values pass a check of pandera's own; None where Arrow might see it in another way."""
    usual = not (check.native or check.element_wise or check.groupby or check.raise_warning or check.n_failure_cases)
    test = _TESTS.get(check.registry_name or "")
    if not usual or not check.ignore_na or test is None:
        return None
    try:
        return test(values, **(check.statistics or {}))
    except (*_UNSCREENABLE, _UnlikeError, TypeError):
        return None


class _UnlikeError(Exception):
    """A bound is of another kind than the values."""


def _bound(values: pa.ChunkedArray, bound: Any) -> pa.Scalar:
    """A bound that Arrow compares with the values as pandas does."""
    kinds = (
        (_NUMBERS, (int, float, np.integer, np.floating)),
        (_TEXTS, (str,)),
        (_TIMES, (datetime, date)),
    )
    for types, classes in kinds:
        if _is_any(values.type, *types) and isinstance(bound, classes) and not isinstance(bound, bool):
            return pa.scalar(bound)
    raise _UnlikeError


def _compared(compare: Callable[..., Any], name: str) -> Callable[..., pa.ChunkedArray]:
    return lambda values, **said: compare(values, _bound(values, said.pop(name)), **said)


def _in_range(
    values: pa.ChunkedArray, *, min_value: Any, max_value: Any, include_min: bool, include_max: bool
) -> pa.ChunkedArray:
    low = (pc.greater_equal if include_min else pc.greater)(values, _bound(values, min_value))
    return pc.and_(low, (pc.less_equal if include_max else pc.less)(values, _bound(values, max_value)))


def _is_in(values: pa.ChunkedArray, wanted: Collection[Any]) -> pa.ChunkedArray:
    return pc.is_in(values, pa.array([_bound(values, v).as_py() for v in wanted], values.type))


def _str_length(
    values: pa.ChunkedArray, *, min_value: int | None, max_value: int | None, exact_value: int | None
) -> pa.ChunkedArray:
    if not _is_any(values.type, *_TEXTS):
        raise _UnlikeError
    lengths = pc.utf8_length(values)
    low, high = (min_value, max_value) if exact_value is None else (exact_value, exact_value)
    bounds = [(pc.greater_equal, low), (pc.less_equal, high)]
    return functools.reduce(pc.and_, [compare(lengths, bound) for compare, bound in bounds if bound is not None])


_TESTS: dict[str, Callable[..., pa.ChunkedArray]] = {
    "equal_to": _compared(pc.equal, "value"),
    "not_equal_to": _compared(pc.not_equal, "value"),
    "greater_than": _compared(pc.greater, "min_value"),
    "greater_than_or_equal_to": _compared(pc.greater_equal, "min_value"),
    "less_than": _compared(pc.less, "max_value"),
    "less_than_or_equal_to": _compared(pc.less_equal, "max_value"),
    "in_range": _in_range,
    "isin": lambda values, *, allowed_values: _is_in(values, allowed_values),
    "notin": lambda values, *, forbidden_values: pc.invert(_is_in(values, forbidden_values)),
    "str_length": _str_length,
}


def _is_any(kind: pa.DataType, *tests: Callable[[pa.DataType], bool]) -> bool:
    return any(test(kind) for test in tests)


def _split(column: Column, screened: set[int] | None) -> tuple[tuple[Column, tuple[int, ...]], ...]:
    """A column with the screened checks, and one with the others and its type, each with the checks' numbers."""
    chosen = screened or set()
    asked, rest = copy.copy(column), copy.copy(column)
    some = tuple(n for n in range(len(column.checks)) if n in chosen)
    others = tuple(n for n in range(len(column.checks)) if n not in chosen)
    asked.checks, rest.checks = [column.checks[n] for n in some], [column.checks[n] for n in others]
    asked.unique = False
    if screened is None:
        asked.nullable = True
    else:
        rest.nullable = True
    return (asked, some), (rest, others)


def _question(schema: DataFrameSchema, columns: Mapping[str, tuple[Column, tuple[int, ...]]]) -> Question:
    part = copy.copy(schema)
    part.columns = {name: column for name, (column, _) in columns.items()}
    return Question(part, {name: numbers for name, (_, numbers) in columns.items()})
