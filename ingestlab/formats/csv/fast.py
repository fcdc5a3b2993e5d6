"""Plain records of declared types in front of pyarrow's parser, by a compiled loop that is several times as fast.

The loop needs numba. Without it, and until it is compiled or loaded, pyarrow reads everything, with the same result.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from ingestlab.formats.common.cutting import Ints, Spans
from ingestlab.formats.common.nulls import Marks
from ingestlab.formats.compiled import loader, words
from ingestlab.formats.compiled.columns import (
    Column,
    Taken,
    describe,
    grow,
    memory_of,
    powers,
    program_of,
    spec_of,
    taken_of,
)
from ingestlab.formats.compiled.loader import Loop
from ingestlab.formats.csv.arrow import Layout
from ingestlab.formats.csv.body import Body

_INDEXED = 32 << 10  # bytes that the loop looks at for delimiters before it reads their values
_IN_VALUES = frozenset("+-.:")  # characters of numbers and times, beside letters and digits


def take(body: Body, layout: Layout) -> Taken | None:
    """Read the plain records of a body.

    Returns:
        Them, and which ones are left; None where the body as a whole is.
    """
    loops = loader.loops(body.end - body.begin)
    if loops is None:
        return None
    if body.dialect != layout.dialect or not body.dialect.plain or not layout.types:
        return None
    columns = tuple((name, kind, layout.nulls.get(name, ())) for name, kind in layout.types.items())
    plan = _plan(layout.names, columns, body.dialect.delimiter, body.dialect.quote, layout.timestamp_format)
    return None if plan is None else _run(loops.csv, body, plan)


class _Plan(NamedTuple):
    """What jobs of one layout share."""

    words: Ints
    columns: tuple[Column, ...]
    named: list[Any]  # memory that the words name


@lru_cache(maxsize=64)
def _plan(
    names: tuple[str, ...],
    columns: tuple[tuple[str, pa.DataType, Marks], ...],
    delimiter: str,
    quote: str | None,
    timestamp_format: str | None,
) -> _Plan | None:
    """Prepare a job. None where the loop does not know a type or the dialect."""
    if any(c.isalnum() or c in _IN_VALUES for c in (delimiter, quote or ",")):
        return None
    job = np.zeros(words.HEAD + words.WORDS * len(names), np.int64)
    found, named = [], []
    for name, kind, marks in columns:
        program = program_of(kind, timestamp_format, {delimiter, quote})
        if program is None:
            return None
        column = Column(name, kind, names.index(name), program)
        texts = [np.frombuffer(mark.encode().ljust(8, b"\0"), np.uint8) for mark in marks]
        table = np.array(
            [[len(m.encode()), t[:8].view(np.int64)[0], t.ctypes.data] for m, t in zip(marks, texts, strict=True)]
            or [[0, 0, 0]]
        )
        named += [texts, table, describe(job, column)]
        spec = spec_of(job, column.place)
        spec[words.MARKS], spec[words.MARK_COUNT] = table.ctypes.data, len(marks)
        spec[words.EARLY] = any(_like_a_value(mark, program.kind) for mark in marks)
        found.append(column)
    job[words.DELIMITER], job[words.QUOTE] = ord(delimiter), -1 if quote is None else ord(quote)
    job[words.COLUMNS], job[words.POWERS] = len(names), powers().ctypes.data
    return _Plan(job, tuple(found), named)


def _like_a_value(mark: str, kind: int) -> bool:
    """Tell whether a null marker may be read as a value: such ones are looked for first."""
    if kind == words.TIME_BY_FORMAT:
        return bool(mark)
    return mark[:1] in {*"0123456789-."} or mark.lower() in {"true", "false"}


def _run(read: Loop, body: Body, plan: _Plan) -> Taken | None:
    """Read a body. Columns of texts get more memory as they need it."""
    job, data, size = plan.words.copy(), pa.py_buffer(body.data), body.end - body.begin
    job[[words.DATA, words.POS, words.END]] = data.address, body.begin, body.end
    read(job.ctypes.data)  # while there is no room for records it counts them
    most = int(job[words.ROW_MOST])
    starts, ends, left = (
        np.empty(most, np.int64),
        np.empty(most, np.int64),
        np.empty((most + words.FEW) // words.ONE_IN + 2, np.int64),
    )
    header = np.frombuffer(body.header or b"\0", np.uint8)
    job[[words.HEADER, words.HEADER_SIZE]] = header.ctypes.data, len(body.header)
    index = np.empty(min(size, _INDEXED) + 1, np.int32)
    job[[words.INDEX, words.INDEXED]] = index.ctypes.data, _INDEXED
    job[[words.STARTS, words.ENDS, words.LEFT_OUT]] = starts.ctypes.data, ends.ctypes.data, left.ctypes.data
    if not body.quoted:
        job[words.QUOTE] = -1
    heap = min(size, 4 * size // len(plan.columns))
    memory = {column.place: memory_of(job, column, most, heap) for column in plan.columns}
    while (outcome := read(job.ctypes.data)) == words.HEAP_FULL:
        done = int(job[words.POS]) - body.begin
        grow(job, memory, done / size, size - done)
    taken = taken_of(job, plan.columns, memory, left) if outcome == words.DONE else None
    if taken is not None:  # they would be looked for again where a record's text is asked for
        body.__dict__["spans"] = Spans(starts[: taken.total], ends[: taken.total])
    return taken
