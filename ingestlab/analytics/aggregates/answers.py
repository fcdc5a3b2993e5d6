"""What a user sees of merged states: one column a measure, sorted by the keys."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ingestlab.analytics.aggregates import sketches
from ingestlab.pipeline.aggregate import Aggregate, Measure


def answer(states: pa.Table, aggregate: Aggregate) -> pa.Table:
    """Compute key columns and measures, one row for each group, nulls last.

    Args:
        states: Each group once, as :func:`ingestlab.analytics.aggregates.partials.merge` gives them.
        aggregate: What they are of.
    """
    keys = [key.name for key in aggregate.keys]
    columns = {name: states[name] for name in keys}
    table = pa.table(columns | {m.name: _column(m, states) for m in aggregate.answers})
    sortable = [(name, "ascending") for name in keys if not pa.types.is_null(states[name].type)]
    return table.take(pc.sort_indices(table, sort_keys=sortable)) if sortable else table


def no_rows(aggregate: Aggregate) -> pa.Table:
    """Build the result for a table without rows, with unknown types."""
    names = [*(key.name for key in aggregate.keys), *(m.name for m in aggregate.answers)]
    return pa.table({name: pa.nulls(0) for name in names})


def _column(measure: Measure, states: pa.Table) -> pa.ChunkedArray | pa.Array:
    match measure.kind:
        case "mean":
            total = states[measure.state("sum").name].cast(pa.float64())
            return pc.divide(total, _at_least(1, measure, states).cast(pa.float64()))
        case "std":
            name, less = measure.state("moments").name, pc.subtract(_at_least(2, measure, states), 1)
            return pc.sqrt(pc.divide(states[f"{name}.squares"], less.cast(pa.float64())))
        case "median" | "quantile":
            return sketches.quantile(states[measure.states[0].name], float(measure.argument or 0))
        case "distinct":
            return sketches.estimates(states[measure.states[0].name])
        case "sum":
            return _shortest(states[measure.states[0].name])
    return states[measure.states[0].name]


def _at_least(least: int, measure: Measure, states: pa.Table) -> pa.ChunkedArray:
    """Count the values of each group; null where they are too few."""
    size = states[measure.state("count").name]
    return pc.if_else(pc.greater_equal(size, least), size, pa.scalar(None, size.type))


def _shortest(total: pa.ChunkedArray) -> pa.ChunkedArray:
    """Convert whole sums to int64, where all fit."""
    if not pa.types.is_decimal(total.type) or total.type.scale != 0:
        return total
    fits = np.iinfo(np.int64)
    ends = pc.min_max(total)
    if total.length() and (int(ends["min"].as_py()) < fits.min or int(ends["max"].as_py()) > fits.max):
        return total
    return total.cast(pa.int64())
