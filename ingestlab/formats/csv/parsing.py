"""CSV bytes to Arrow: plain records by a compiled loop, others by pyarrow, and what to do with those it refuses.

pyarrow alone decides what a value means; the loop takes only what leaves no doubt. Records that pyarrow cannot convert
are found by asking it again about fewer and fewer of them; then their bytes are left out, and the rest is read as if
they had never been there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ingestlab.core.errors import TerminalError
from ingestlab.formats.common.cutting import Ints
from ingestlab.formats.common.dialects import fields
from ingestlab.formats.common.excerpts import shorten
from ingestlab.formats.common.nulls import textual
from ingestlab.formats.compiled.columns import Taken
from ingestlab.formats.csv import fast
from ingestlab.formats.csv.arrow import Layout, Ragged, convert
from ingestlab.formats.csv.bad_cells import bad_cells, wrong_by_looks
from ingestlab.formats.csv.body import Body
from ingestlab.interfaces import Bad

MAX_BLOCK = 1 << 30  # bytes; pyarrow takes less than 2 GiB at once


class Parsed(NamedTuple):
    """What became of the records of a body: `kept[i]` is the number of the record in `table[i]`."""

    table: pa.Table
    kept: Ints
    bad: list[Bad]
    total: int  # records in all


def parse(body: Body, layout: Layout) -> Parsed:
    """Parse all sound records, and list the others with their faults.

    Raises:
        TerminalError: The parser fails for another reason than the values of single records.
    """
    if body.end - body.begin <= MAX_BLOCK:
        return _parse_whole(body, layout)
    parts = [(first, _parse_whole(part, layout)) for first, part in _divide(body, MAX_BLOCK)]
    return Parsed(
        pa.concat_tables([p.table for _, p in parts], promote_options="permissive"),
        np.concatenate([p.kept + first for first, p in parts]),
        [Bad(bad.row + first, bad.rule, bad.column, bad.value) for first, p in parts for bad in p.bad],
        sum(p.total for _, p in parts),
    )


def _divide(body: Body, size: int) -> Iterator[tuple[int, Body]]:
    """Divide a body too large for one call of the parser. Yields (number of its first record, part)."""
    starts, ends, _ = body.spans
    first = 0
    while first < len(starts):
        last = max(first + 1, int(np.searchsorted(ends, starts[first] + size, side="right")))
        yield first, replace(body, begin=int(starts[first]), end=int(ends[last - 1]))
        first = last


def _parse_whole(body: Body, layout: Layout) -> Parsed:
    return _parse_fast(body, layout) or _parse_block(body, layout)


def _parse_fast(body: Body, layout: Layout) -> Parsed | None:
    """Parse plain records by the compiled loop. None where that is no gain."""
    taken = fast.take(body, layout) if body.end - body.begin <= MAX_BLOCK else None
    if taken is None or _holds_header(taken.table, body, layout):
        return None
    if not taken.left.size:
        return Parsed(taken.table, taken.kept, [], taken.total)
    parsed = _parse_left(body, layout, taken)
    return parsed and _merged(taken, parsed)


def _holds_header(table: pa.Table, body: Body, layout: Layout) -> bool:
    """Tell whether a header in other quotes has passed for a record."""
    if not body.header or not all(textual(field.type) for field in table.schema):
        return False
    cells = dict(zip(layout.names, fields(body.header, body.dialect), strict=False))
    for name in table.column_names:
        table = table.filter(pc.equal(table[name], cells.get(name, b"").decode()))
        if not table.num_rows:
            return False
    return bool(table.num_rows)


def _passes(body: Body, layout: Layout) -> bool:
    """Tell whether headers of numbers may be among the records taken: others that fail make them headers."""
    if not body.header or all(map(textual, layout.types.values())):
        return False
    line = body.header + b"\n"
    alone = fast.take(replace(body, data=line, begin=0, end=len(line), header=b""), layout)
    return alone is None or not alone.left.size


def _parse_left(body: Body, layout: Layout, taken: Taken) -> Parsed | None:
    """Parse the records that the loop left. None where they fail as a whole."""
    if _passes(body, layout):
        return None
    try:
        heads = np.flatnonzero(np.isin(taken.left, body.repeating(taken.left)))
        parsed = _parse_block(body.only(taken.left).with_repeats(heads.tolist()), layout)
    except (TerminalError, pa.ArrowInvalid):  # which names the record by its number in the body
        return None
    return parsed if parsed.total == taken.left.size else None


def _merged(taken: Taken, parsed: Parsed) -> Parsed:
    """Put records that were left back in their places."""
    left = taken.left.tolist()
    bad = [cell.at(left[cell.row]) for cell in parsed.bad]
    if not parsed.table.num_rows:
        return Parsed(taken.table, taken.kept, bad, taken.total)
    kept = np.concatenate([taken.kept, taken.left[parsed.kept]])
    order = np.argsort(kept, kind="stable")
    table = pa.concat_tables([taken.table, parsed.table]).combine_chunks().take(pa.array(order))
    return Parsed(table, kept[order], bad, taken.total)


def _parse_block(body: Body, layout: Layout, *, heads: bool = False) -> Parsed:
    """Parse a body. Repeated headers are looked for where they pass for records, else after a failure."""
    damaged = body.damaged
    if heads or layout.types is None or all(map(textual, layout.types.values())):
        damaged = dict(sorted({**body.repeats, **damaged}.items()))
    broken = np.array(list(damaged), np.int64)
    bad = [Bad(i, damaged[i], None, shorten(text)) for i, text in body.texts(damaged).items()] if damaged else []
    try:
        table, ragged = convert(body.without(broken), layout)
    except pa.ArrowInvalid as error:
        again = not heads and layout.types is not None and body.repeats
        return _parse_block(body, layout, heads=True) if again else _parse_dirty(body, layout, broken, bad, error)
    return _account(table, ragged, broken, bad, layout)


def _parse_dirty(body: Body, layout: Layout, broken: Ints, bad: list[Bad], error: pa.ArrowInvalid) -> Parsed:
    """Find the records that cannot be converted, and parse the others."""
    texts = replace(layout, types=dict.fromkeys(layout.types, pa.string()))
    table, ragged = convert(body.without(broken), texts)
    plain = _account(table, ragged, broken, [], layout)
    if plain.total != len(body.spans.starts):
        problem = "The bounds of records are unclear"
        raise TerminalError.wrap(error, problem, "Repair the quotes in the file.", code="bad_file") from error
    for suspects in (wrong_by_looks(table, layout), np.arange(len(plain.kept))):
        rows = plain.kept[suspects]
        cells = bad_cells(body.only(rows), layout, table.take(pa.array(suspects)))
        numbers = rows.tolist()
        wrong = [Bad(numbers[i], "type", name, shorten(value)) for i, name, value in cells]
        kept = plain.kept[~np.isin(plain.kept, [cell.row for cell in wrong])]
        try:
            rest, _ = convert(body.without(np.delete(np.arange(plain.total), kept)), layout)
        except pa.ArrowInvalid as again:
            error = again
            continue
        return Parsed(rest, kept, bad + plain.bad + wrong, plain.total)
    raise TerminalError.wrap(error, "Records cannot be converted one by one", code="types_conflict") from error


def _account(table: pa.Table, ragged: Ragged, cut: Ints, bad: list[Bad], layout: Layout) -> Parsed:
    """Give records their numbers, including those cut out before parsing."""
    count = table.num_rows + len(ragged) + cut.size
    kept = np.arange(count, dtype=np.int64)
    if cut.size:
        kept = np.delete(kept, cut)
    if ragged:
        expected = len(layout.names)
        for number, fields in ragged:
            bad.append(Bad(int(kept[number]), "columns", None, f"{fields} fields, expected {expected}"))
        kept = np.delete(kept, [number for number, _ in ragged])
    return Parsed(table, kept, bad, count)
