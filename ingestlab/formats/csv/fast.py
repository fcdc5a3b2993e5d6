"""Plain records of declared types in front of pyarrow's parser, by a compiled loop that is several times as fast.

The loop needs numba. Without it, and until it is compiled or loaded, pyarrow reads everything, with the same result.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pyarrow as pa

from ingestlab.formats.common.cutting import Spans
from ingestlab.formats.common.nulls import Marks
from ingestlab.formats.compiled import loader, words
from ingestlab.formats.compiled.columns import Column, Plan, Taken, describe, powers, program_of, run, spec_of
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


@lru_cache(maxsize=64)
def _plan(
    names: tuple[str, ...],
    columns: tuple[tuple[str, pa.DataType, Marks], ...],
    delimiter: str,
    quote: str | None,
    timestamp_format: str | None,
) -> Plan | None:
    """Prepare a job. None where the loop does not know a type or the dialect."""
    if any(c.isalnum() or c in _IN_VALUES for c in (delimiter, quote or ",")):
        return None
    job = np.zeros(words.HEAD + words.WORDS * len(names), np.int64)
    plan_columns, named = [], []
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
        plan_columns.append(column)
    job[words.DELIMITER], job[words.QUOTE] = ord(delimiter), -1 if quote is None else ord(quote)
    job[words.COLUMNS], job[words.POWERS] = len(names), powers().ctypes.data
    return Plan(job, tuple(plan_columns), named)


def _like_a_value(mark: str, kind: int) -> bool:
    """Tell whether a null marker may be read as a value: such ones are looked for first."""
    if kind == words.TIME_BY_FORMAT:
        return bool(mark)
    return mark[:1] in {*"0123456789-."} or mark.lower() in {"true", "false"}


def _run(read: Loop, body: Body, plan: Plan) -> Taken | None:
    """Read a body."""
    job, data, size = plan.words.copy(), pa.py_buffer(body.data), body.end - body.begin
    job[[words.DATA, words.POS, words.END]] = data.address, body.begin, body.end
    read(job.ctypes.data)  # while there is no room for records it counts them
    starts, ends = np.empty((2, int(job[words.ROW_MOST])), np.int64)
    header = np.frombuffer(body.header or b"\0", np.uint8)
    job[[words.HEADER, words.HEADER_SIZE]] = header.ctypes.data, len(body.header)
    index = np.empty(min(size, _INDEXED) + 1, np.int32)
    job[[words.INDEX, words.INDEXED]] = index.ctypes.data, _INDEXED
    job[[words.STARTS, words.ENDS]] = starts.ctypes.data, ends.ctypes.data
    if not body.quoted:
        job[words.QUOTE] = -1
    taken = run(read, job, plan.columns, body.begin, size)
    if taken is not None:  # they would be looked for again where a record's text is asked for
        body.__dict__["spans"] = Spans(starts[: taken.total], ends[: taken.total])
    return taken
