"""Plain objects of declared types in front of pyarrow's parser, by a compiled loop that is several times as fast.

Without numba, and until the loop is compiled or loaded, pyarrow reads everything, with the same result.
"""

from __future__ import annotations

import json
from functools import lru_cache

import numpy as np
import pyarrow as pa

from ingestlab.formats.common.cutting import Spans
from ingestlab.formats.compiled import loader, words
from ingestlab.formats.compiled.columns import Column, Plan, Taken, describe, powers, program_of, run, spec_of
from ingestlab.formats.compiled.loader import Loop
from ingestlab.formats.json.arrow import Shape


def take(data: bytes, spans: Spans, shape: Shape, timestamp_format: str | None, longest: int) -> Taken | None:
    """Read the plain records of a piece.

    Args:
        data: Its bytes.
        spans: Where its records are.
        shape: Columns to read.
        timestamp_format: For strptime; None for ISO 8601.
        longest: Bytes of a record, at most; longer ones are left.

    Returns:
        Them, and which ones are left; None where all are.
    """
    if not shape.columns or shape.texts or not spans.starts.size:
        return None
    loops = loader.loops(len(data))
    plan = _plan(tuple(shape.columns.items()), timestamp_format) if loops else None
    return _run(loops.json, data, spans, plan, shape, longest) if loops and plan else None


@lru_cache(maxsize=64)
def _plan(columns: tuple[tuple[str, pa.DataType], ...], timestamp_format: str | None) -> Plan | None:
    """Prepare a job. None where the loop does not know a type."""
    job = np.zeros(words.HEAD + words.WORDS * len(columns), np.int64)
    plan_columns, named = [], []
    for place, (name, kind) in enumerate(columns):
        program = program_of(kind, timestamp_format, {'"', "\\"})
        if program is None:
            return None
        column = Column(name, kind, place, program)
        key = json.dumps(name, ensure_ascii=False).encode() + b":"
        text, spec = np.frombuffer(key + bytes(-len(key) % 8), np.uint8), spec_of(job, place)
        named += [text, describe(job, column)]
        spec[words.KEY], spec[words.KEY_SIZE] = text.ctypes.data, len(key)
        plan_columns.append(column)
    job[words.COLUMNS], job[words.POWERS] = len(columns), powers().ctypes.data
    return Plan(job, tuple(plan_columns), named)


def _run(read: Loop, data: bytes, spans: Spans, plan: Plan, shape: Shape, longest: int) -> Taken | None:
    """Read records."""
    job, text = plan.words.copy(), pa.py_buffer(data)
    starts, ends = (np.ascontiguousarray(places, np.int64) for places in (spans.starts, spans.ends))
    job[[words.DATA, words.END, words.ROW_MOST]] = text.address, len(data), len(starts)
    job[[words.STARTS, words.ENDS]] = starts.ctypes.data, ends.ctypes.data
    job[[words.LONGEST, words.CLOSED]] = longest, shape.closed
    begin = int(starts[0])
    return run(read, job, plan.columns, begin, int(ends[-1]) - begin)
