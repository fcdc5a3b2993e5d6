"""The commonest checks of contracts as single passes over Arrow memory.

What is told here is told as pandera would tell it; a test compares the two. Whatever is not certain to be alike
(other checks, other types, a user's own functions) is left to pandera, which then sees all rows.
"""

from __future__ import annotations

import copy
import functools
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from ingestlab.core.errors import let_pass
from ingestlab.engine.task.patterns import TESTS, ask_alike

if TYPE_CHECKING:
    from pandera.pandas import Check, Column, DataFrameSchema

Ints = np.ndarray[Any, np.dtype[np.int64]]
_UNSCREENABLE = (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError)
_NUMBERS = (pa.types.is_integer, pa.types.is_floating)
_TEXTS = (pa.types.is_string, pa.types.is_large_string)
_TIMES = (pa.types.is_timestamp, pa.types.is_date)
_NOTHING = np.empty(0, np.int64)
NOT_NULL = -1  # the number of the rule that comes before a column's checks


@dataclass(frozen=True)
class Question:
    """Some checks of a contract. `numbers[column][i]` is the place of check `i` among all of its column."""

    schema: DataFrameSchema
    numbers: Mapping[str, tuple[int, ...]]
    only_checks: bool = False  # of single columns, and no value is changed

    @property
    def checks(self) -> list[Check]:
        """Return all checks of columns."""
        return [check for column in self.schema.columns.values() for check in column.checks]


@dataclass(frozen=True)
class Finding:
    """Rows that break one rule.

    Attributes:
        column: Whose rule it is.
        number: Its place among the column's checks, or NOT_NULL.
        rule: What pandera calls it.
        rows: Places in the frame, ascending.
    """

    column: str
    number: int
    rule: str
    rows: Ints


@dataclass(frozen=True)
class Screened:
    """Findings of the fast checks, and what is left to pandera.

    Attributes:
        findings: Of the checks that were screened.
        rest: The contract without those, to be asked about all rows.
        complete: Whether the frame has all columns of the contract.
    """

    findings: tuple[Finding, ...]
    rest: Question
    complete: bool

    @property
    def rest_has_a_say(self) -> bool:
        """Tell whether `rest` checks anything: values, their type, or a column's presence."""
        columns = self.rest.schema.columns.values()
        of_values = any(c.dtype is not None or c.unique or not c.nullable for c in columns)
        return not self.complete or of_values or bool(self.rest.checks)

    @property
    def rest_compares_rows(self) -> bool:
        """Tell whether `rest` may compare rows. Its answer then depends on which there are."""
        return any(c.unique for c in self.rest.schema.columns.values()) or any(c.native for c in self.rest.checks)


def screen(frame: pd.DataFrame, schema: DataFrameSchema) -> Screened | None:
    """Find rows that break a contract. None where pandera has to see all."""
    if not _only_checks_columns(schema) or not frame.columns.is_unique:
        return None
    findings: list[Finding] = []
    rest, numbers = {}, {}
    for name, column in schema.columns.items():
        findings_of_column = _screen(frame[name], column) if name in frame.columns else None
        findings += [f for f in findings_of_column.values() if f.rows.size] if findings_of_column else []
        rest[name], numbers[name] = _without(column, findings_of_column)
    left = copy.copy(schema)
    left.columns = rest
    return Screened(
        tuple(findings), Question(left, numbers, only_checks=True), set(schema.columns) <= set(frame.columns)
    )


def rule_of(check: Check) -> str:
    """Return pandera's name of a check in reports."""
    return str(check.error if check.error is not None else check.name)


def failures_of(series: pd.Series[Any], check: Check) -> pd.Series[Any] | None:
    """Return values that fail a check, as pandera finds them. None where it would do more than that."""
    from pandera.api.hypotheses import Hypothesis  # noqa: PLC0415 - slow, and not all have a contract

    more = check.groupby or check.raise_warning or check.n_failure_cases or isinstance(check, Hypothesis)
    if more or not check.name:
        return None
    try:
        result = check(series)
        if result.check_passed:
            return series.iloc[:0]
        failures = result.failure_cases.dropna() if check.ignore_na else result.failure_cases
    except BaseException as error:  # noqa: BLE001 - it is a user's function, and pandera has the words for all
        let_pass(error)
        return None
    return failures if isinstance(failures, pd.Series) and len(failures) else None


def _only_checks_columns(schema: DataFrameSchema) -> bool:
    """Tell whether a contract only checks single columns, and changes no value."""
    whole = (schema.checks, schema.parsers, schema.index, schema.unique, schema.dtype, schema.strict, schema.ordered)
    actions = (schema.coerce, schema.drop_invalid_rows, schema.add_missing_columns, schema.unique_column_names)
    return not any((*whole, *actions)) and not any(
        column.regex or column.coerce or column.parsers or column.drop_invalid_rows or column.default is not None
        for column in schema.columns.values()
    )


def _screen(series: pd.Series[Any], column: Column) -> dict[int, Finding] | None:
    """Check a column, by number of its rules. None if that is not possible here, and no number for other rules."""
    kind = series.dtype.pyarrow_dtype if isinstance(series.dtype, pd.ArrowDtype) else pa.null()
    if not _is_any(kind, *_NUMBERS, *_TEXTS, *_TIMES):
        return None
    values = pa.chunked_array(series.array.__arrow_array__())
    nulls = _nulls(series, values)
    findings = {NOT_NULL: Finding(column.name, NOT_NULL, "not_nullable", _NOTHING if column.nullable else nulls)}
    for number, check in enumerate(column.checks):
        passes = _passes(values, check)
        if passes is not None:
            findings[number] = Finding(column.name, number, rule_of(check), _failing(passes, nulls))
    return findings


def _nulls(series: pd.Series[Any], values: pa.ChunkedArray) -> Ints:
    """Find the rows without a value. Whether NaN is one is for pandas to say."""
    if not values.null_count and not pa.types.is_floating(values.type):
        return _NOTHING
    rows: Ints = np.flatnonzero(series.isna().to_numpy())
    return rows


def _failing(passes: pa.ChunkedArray, nulls: Ints) -> Ints:
    """Find the rows that do not pass, nulls apart."""
    if pc.all(passes, skip_nulls=True, min_count=0).as_py():
        return _NOTHING
    fails = ~pc.fill_null(passes, fill_value=True).to_numpy()
    fails[nulls] = False
    rows: Ints = np.flatnonzero(fails)
    return rows


def _passes(values: pa.ChunkedArray, check: Check) -> pa.ChunkedArray | None:
    """Evaluate one of pandera's own checks; None where Arrow might differ."""
    usual = not (check.native or check.element_wise or check.groupby or check.raise_warning or check.n_failure_cases)
    test = _TESTS.get(check.registry_name or "")
    if not usual or not check.ignore_na or test is None:
        return None
    try:
        return test(values, **(check.statistics or {}))
    except (*_UNSCREENABLE, _UnlikeError, TypeError, re.error):
        return None


class _UnlikeError(Exception):
    """Raised where a bound is of another kind than the values."""


def _bound(values: pa.ChunkedArray, bound: Any) -> pa.Scalar:
    """Convert a bound so that Arrow compares as pandas does."""
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
    return lambda values, **options: compare(values, _bound(values, options.pop(name)), **options)


def _in_range(
    values: pa.ChunkedArray, *, min_value: Any, max_value: Any, include_min: bool, include_max: bool
) -> pa.ChunkedArray:
    low = (pc.greater_equal if include_min else pc.greater)(values, _bound(values, min_value))
    return pc.and_(low, (pc.less_equal if include_max else pc.less)(values, _bound(values, max_value)))


def _is_in(values: pa.ChunkedArray, wanted: Collection[Any]) -> pa.ChunkedArray:
    known = pa.array([_bound(values, value).as_py() for value in wanted])
    known = known.cast(values.type)  # pa.array(…, type) would make 0 of 0.5
    if pa.types.is_floating(values.type):  # Arrow hashes -0.0 apart from 0.0
        nothing = pa.scalar(0.0, values.type)
        values, known = pc.add(values, nothing), pc.add(known, nothing)
    return pc.is_in(values, known)


def _str_length(
    values: pa.ChunkedArray, *, min_value: int | None, max_value: int | None, exact_value: int | None
) -> pa.ChunkedArray:
    if not _is_any(values.type, *_TEXTS):
        raise _UnlikeError
    lengths = pc.utf8_length(values)
    low, high = (min_value, max_value) if exact_value is None else (exact_value, exact_value)
    bounds = [(pc.greater_equal, low), (pc.less_equal, high)]
    return functools.reduce(pc.and_, [compare(lengths, bound) for compare, bound in bounds if bound is not None])


def _by_pattern(registered: str) -> Callable[..., pa.ChunkedArray]:
    def passes(values: pa.ChunkedArray, **said: Any) -> pa.ChunkedArray:
        if not _is_any(values.type, *_TEXTS):
            raise _UnlikeError
        return ask_alike(values, registered, **said)

    return passes


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
    **{name: _by_pattern(name) for name in TESTS},
}


def _is_any(kind: pa.DataType, *tests: Callable[[pa.DataType], bool]) -> bool:
    return any(test(kind) for test in tests)


def _without(column: Column, screened: Collection[int] | None) -> tuple[Column, tuple[int, ...]]:
    """Return a column with the checks left to pandera, and their numbers."""
    others = tuple(n for n in range(len(column.checks)) if n not in (screened or ()))
    rest = copy.copy(column)
    rest.checks = [column.checks[n] for n in others]
    rest.nullable = column.nullable or screened is not None
    return rest, others
