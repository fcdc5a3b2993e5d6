"""States of groups: made of rows, and merged with those of other parts.

The columns of a state start with its name. What is merged has the same columns as what was made, so it can be
merged again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ingestlab.analytics.aggregates import sketches
from ingestlab.analytics.aggregates.groups import Groups, Ints, group, joined, key_values, whole
from ingestlab.analytics.aggregates.numbers import Floats, Values, extremes, is_number, merge_moments, moments, sums
from ingestlab.core.errors import TerminalError
from ingestlab.lake.arrow_schema import decoded
from ingestlab.pipeline.aggregate import ORIGIN, Aggregate, State

Columns = dict[str, pa.Array]
Get = Callable[[str], pa.Array]
Of = Callable[[str], Values]
_OF_NUMBERS = ("sum", "moments", "quantiles")
_MOMENTS = ("mean", "squares")  # the columns of a state of two
_PICKED = ("", ".time", ".source", ".row")  # and of one of four
_SIMPLE: dict[str, tuple[Callable[[Values], pa.Array], Callable[[pa.Array, Groups], pa.Array]]] = {
    "sum": (sums, lambda column, groups: sums(Values.of(column, groups))),
    "distinct": (sketches.distinct, sketches.merge_distinct),
    "quantiles": (sketches.quantiles, sketches.merge_quantiles),
}


def make(table: pa.Table, aggregate: Aggregate, folders: Sequence[str] = ()) -> pa.Table:
    """Compute the partial aggregates of rows by group.

    Args:
        table: The rows; a column that they lack is null.
        aggregate: What to compute.
        folders: Columns to group by as well, as they are; those of `aggregate.by` among them stay as they are.

    Returns:
        One row for each group that has rows: its keys, the columns of `folders`, and its states.

    Raises:
        TerminalError: A column has a type that the measure cannot be of.
    """

    @cache
    def column(name: str) -> pa.Array:
        return whole(table[name]) if name in table.column_names else pa.nulls(table.num_rows)

    keys = {key.name: key_values(column(key.column), key.unit, key.column) for key in aggregate.keys}
    groups = group(keys | {name: joined(table[name]) for name in folders}, table.num_rows)

    @cache
    def values(name: str) -> Values:
        return Values.of(column(name), groups)

    columns = dict(groups.keys)
    for state in aggregate.states:
        columns |= _make(state, column, values, groups)
    return pa.table(columns)


def merge(states: pa.Table, aggregate: Aggregate) -> pa.Table:
    """Merge the partial aggregates of groups, in no particular order.

    Raises:
        TerminalError: A sum has more than 38 digits.
    """

    @cache
    def column(name: str) -> pa.Array:
        return whole(states[name])

    @cache
    def kept(name: str) -> pa.Array:
        return decoded(joined(states[name]))  # a sum that is NaN is what infinities make, and no missing value

    keys = {key.name: key_values(column(key.name), None, key.name) for key in aggregate.keys}
    groups = group(keys, states.num_rows)
    columns = dict(groups.keys)
    for state in aggregate.states:
        columns |= _merge(state, kept if state.kind == "sum" else column, groups)
    return pa.table(columns)


def concat(tables: Sequence[pa.Table]) -> pa.Table:
    """Concatenate tables of partials. Types are widened; those with nothing in common become text."""
    try:
        return pa.concat_tables(tables, promote_options="permissive")
    except (pa.ArrowTypeError, pa.ArrowInvalid):
        return pa.table({name: _together([table[name] for table in tables]) for name in tables[0].column_names})


def _make(state: State, column: Get, values: Of, groups: Groups) -> Columns:
    if state.kind == "rows":
        return {state.name: pa.array(np.bincount(groups.ids, minlength=groups.count))}
    kind = column(state.column).type
    if state.kind in _OF_NUMBERS and not is_number(kind):
        fix = "Make numbers of it in clean, or ask for another measure."
        raise TerminalError(
            "The measure needs numbers",
            expected=f"numbers in '{state.column}', for {state.name}",
            got=str(kind),
            fix=fix,
            code="types_conflict",
        )
    try:
        return _compute(state, column, values, groups)
    except pa.ArrowNotImplementedError as error:
        fix = "Make single values of it in clean, or ask for another measure."
        raise TerminalError.wrap(
            error, f"The values in '{state.column}' cannot be used for {state.name}", fix, code="types_conflict"
        ) from error


def _compute(state: State, column: Get, values: Of, groups: Groups) -> Columns:
    match state.kind:
        case "count":
            return {state.name: pa.array(values(state.column).sizes)}
        case "moments":
            return _named(state, moments(values(state.column)))
        case "first" | "last":
            return _pick(state, [column(name) for name in (state.column, state.time, *ORIGIN)], groups)
        case "min" | "max":
            return {state.name: extremes(values(state.column), state.kind)}
    return {state.name: _SIMPLE[state.kind][0](values(state.column))}


def _merge(state: State, column: Get, groups: Groups) -> Columns:
    match state.kind:
        case "rows" | "count":
            return {state.name: sums(Values.of(column(state.name), groups)).cast(pa.int64())}
        case "moments":
            sizes = column(State("count", state.column).name).to_numpy()
            mean, squares = (column(f"{state.name}.{part}").fill_null(np.nan).to_numpy() for part in _MOMENTS)
            return _named(state, merge_moments(sizes, mean, squares, groups))
        case "first" | "last":
            return _pick(state, [column(state.name + part) for part in _PICKED], groups)
        case "min" | "max":
            return {state.name: extremes(Values.of(column(state.name), groups), state.kind)}
    return {state.name: _SIMPLE[state.kind][1](column(state.name), groups)}


def _named(state: State, moments: tuple[Floats, Floats]) -> Columns:
    return {f"{state.name}.{part}": pa.array(x) for part, x in zip(_MOMENTS, moments, strict=True)}


def _pick(state: State, columns: Sequence[pa.Array], groups: Groups) -> Columns:
    """Pick the value at each group's first or last time. What later merges compare comes along."""
    values, times, sources, numbers = columns
    known = np.flatnonzero(
        values.is_valid().to_numpy(zero_copy_only=False) & times.is_valid().to_numpy(zero_copy_only=False)
    )
    ends = _ends(state, times.take(pa.array(known)), groups.ids[known], groups.count)
    chosen = known[ends]
    order = np.lexsort((_ranks(numbers, chosen), _ranks(sources, chosen), groups.ids[chosen]))
    chosen = chosen[order if state.kind == "first" else order[::-1]]
    ids, at = np.unique(groups.ids[chosen], return_index=True)
    place = np.zeros(groups.count, np.int64)
    place[ids] = chosen[at]
    nobody = np.ones(groups.count, bool)
    nobody[ids] = False
    where = pa.array(place, mask=nobody)
    return {state.name + part: decoded(column.take(where)) for part, column in zip(_PICKED, columns, strict=True)}


def _ends(state: State, times: pa.Array, ids: Ints, count: int) -> Ints:
    """Find the times that are the first or last of their group."""
    if pa.types.is_null(times.type):
        return np.zeros(0, np.int64)
    if not (pa.types.is_temporal(times.type) or is_number(times.type)):
        fix = "Make a time of it in clean, or name another column."
        raise TerminalError(
            "The measure needs times",
            expected=f"times or numbers in '{state.time}', for {state.name}",
            got=str(times.type),
            fix=fix,
            code="types_conflict",
        )
    ends = extremes(Values(times, ids, count), "min" if state.kind == "first" else "max")
    same = pc.equal(times, ends.take(pa.array(ids))).to_numpy(zero_copy_only=False)
    places: Ints = np.flatnonzero(same)
    return places


def _ranks(values: pa.Array, chosen: Ints) -> Ints:
    """Rank some of the values; equal ones rank equal."""
    some = decoded(values.take(pa.array(chosen)))
    ranks: Ints = pc.rank(some, sort_keys="ascending", tiebreaker="min").to_numpy().astype(np.int64)
    return ranks


def _together(columns: Sequence[pa.ChunkedArray]) -> pa.ChunkedArray:
    """Concatenate columns, as text where the common type is too narrow."""
    kind = _common([column.type for column in columns])
    try:
        done = [column.cast(kind) for column in columns]
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        kind, done = pa.string(), [column.cast(pa.string()) for column in columns]
    return pa.chunked_array([chunk for column in done for chunk in column.chunks], kind)


def _common(kinds: Sequence[pa.DataType]) -> pa.DataType:
    try:
        both = pa.unify_schemas([pa.schema({"x": kind}) for kind in kinds], promote_options="permissive")
    except (pa.ArrowTypeError, pa.ArrowInvalid):
        return pa.string()
    return both.field("x").type
