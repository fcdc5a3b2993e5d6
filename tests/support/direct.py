"""Aggregates the long way: all rows of a group in a list, and then what Python and pandas make of it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from datetime import UTC
from fractions import Fraction
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from ingestlab.pipeline.aggregate import Aggregate, Key, Measure

Rows = list[dict[str, Any]]
EXACT: dict[str, Callable[[list[Any]], Any]] = {
    "count": len,
    "sum": sum,
    "min": lambda values: min(values, default=None),
    "max": lambda values: max(values, default=None),
}


def direct(table: pa.Table, aggregate: Aggregate) -> dict[tuple[Any, ...], Rows]:
    """The rows of each group, by its keys."""
    groups: dict[tuple[Any, ...], Rows] = {}
    for row in table.to_pylist():
        groups.setdefault(tuple(_cut(row[k.column], k) for k in aggregate.keys), []).append(row)
    return groups


def compare(result: pa.Table, table: pa.Table, aggregate: Aggregate) -> None:
    """The result must be what the rows say: exactly, floats but for rounding, sketches within their error."""
    groups = direct(table, aggregate)
    names = [key.name for key in aggregate.keys]
    rows = result.to_pylist()
    assert len(rows) == len(groups)
    for row in rows:
        members = groups[tuple(row[name] for name in names)]
        for measure in aggregate.answers:
            _compare(measure, row[measure.name], members)


def _compare(measure: Measure, got: Any, rows: Rows) -> None:
    if measure.kind in ("first", "last"):
        assert got == _pick(measure, rows), measure
        return
    values = [row[measure.column] for row in rows if not _missing(row.get(measure.column))]
    if not measure.column:
        assert got == len(rows)
    elif measure.kind in ("median", "quantile"):
        _compare_quantile(got, sorted(map(float, values)), float(measure.argument or 0))
    elif measure.kind == "distinct":
        exact = len(set(values))
        assert abs(got - exact) <= 0.05 * exact
    elif measure.kind == "sum" and values and isinstance(values[0], float):
        assert got == pytest.approx(math.fsum(values), rel=1e-12, abs=1e-9)
    elif measure.kind in ("mean", "std"):
        _compare_exact(measure, got, [Fraction(v) for v in values])
    else:
        assert got == EXACT[measure.kind](values), measure


def _compare_exact(measure: Measure, got: float | None, values: list[Fraction]) -> None:
    """Fractions lose nothing; pandas itself does when large numbers all but cancel each other."""
    if len(values) < (1 if measure.kind == "mean" else 2):
        assert got is None
        return
    exact = statistics.mean(values) if measure.kind == "mean" else statistics.stdev(values)
    least = 1e-300 if measure.kind == "mean" else 1e-150  # squares of less are no floats
    room = least + 1e-14 * float(max(map(abs, values)))
    assert got == pytest.approx(float(exact), rel=1e-12, abs=room), measure


def _compare_quantile(got: float | None, values: list[float], share: float) -> None:
    """The rank of a quantile may be off; small groups are exact."""
    if not values:
        assert got is None
        return
    assert got is not None
    near = min(values, key=lambda v: abs(v - got))
    assert got == pytest.approx(near, rel=1e-15)  # decimals become floats, give or take the last bit
    got = near
    room = 0 if len(values) < 200 else 3 * 0.0133 * len(values)
    rank = max(1, math.ceil(share * len(values)))
    low, high = sum(v < got for v in values) + 1, sum(v <= got for v in values)
    assert low - room <= rank <= high + room, (got, share, rank, low, high)


def _pick(measure: Measure, rows: Rows) -> Any:
    time = str(measure.argument)
    known = [r for r in rows if not _missing(r[measure.column]) and not _missing(r[time])]
    known.sort(key=lambda r: (r[time], r["_source"], r["_row"]))
    if not known:
        return None
    return known[0 if measure.kind == "first" else -1][measure.column]


def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _cut(value: Any, key: Key) -> Any:
    if _missing(value) or key.unit is None:
        return None if _missing(value) else value
    at = pd.Timestamp(value)
    if key.unit in ("second", "minute", "hour"):
        floor = (
            at.tz_convert(UTC).floor(key.unit[0].replace("m", "min")).tz_convert(at.tz)
            if at.tz
            else at.floor({"second": "s", "minute": "min", "hour": "h"}[key.unit])
        )
        return floor.to_pydatetime()
    start = at.tz_localize(None).to_period(
        {"day": "D", "week": "W-SUN", "month": "M", "quarter": "Q", "year": "Y"}[key.unit]
    )
    return start.start_time.tz_localize(at.tz).to_pydatetime()
