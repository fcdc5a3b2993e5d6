"""CSV text read with the compiled loop and without it, to compare."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa

from ingestlab.core.errors import TerminalError
from ingestlab.formats.common.quoting import scan
from ingestlab.formats.compiled import loader
from ingestlab.formats.compiled.columns import Taken
from ingestlab.formats.csv import fast, parsing
from ingestlab.formats.csv.arrow import Layout
from ingestlab.formats.csv.body import Body


def outcome(parse, body: Body, layout: Layout):
    """What a parser makes of a body, to compare."""
    try:
        table, kept, bad, total = parse(replace(body), layout)
    except (TerminalError, pa.ArrowInvalid) as error:
        return type(error), str(error)
    columns = [bits(column.combine_chunks()) for column in table.columns]
    nulls = [column.null_count for column in table.columns]
    return table.schema, columns, nulls, kept.tolist(), kept.dtype, sorted(bad, key=lambda each: each.row), total


def bits(values: pa.Array) -> pa.Array:
    """Floats as they lie in memory: no number is not itself, and zeros have signs."""
    values = pa.concat_arrays(values.chunks) if isinstance(values, pa.ChunkedArray) else values
    kind = {pa.float32(): pa.int32(), pa.float64(): pa.int64()}.get(values.type)
    return values if kind is None else values.view(kind)


def check(body: Body, layout: Layout) -> Taken | None:
    """Check that both make the same of a body; return what the loop took."""
    loader.warm()
    old, new = outcome(parsing._parse_block, body, layout), outcome(parsing.parse, body, layout)
    assert new == old
    fresh = replace(body)
    taken = fast.take(fresh, layout)
    if taken is not None:
        taken.table.validate(full=True)
        spans = scan(body.data, body.dialect, body.begin, body.end, body.names)
        assert fresh.spans.broken == spans.broken == ()
        assert np.array_equal(fresh.spans.starts, spans.starts)
        assert np.array_equal(fresh.spans.ends, spans.ends)
    return taken
