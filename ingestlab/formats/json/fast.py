"""Plain objects of declared types in front of pyarrow's parser, by a compiled loop that is several times as fast.

Without numba, and until the loop is compiled or loaded, pyarrow reads everything, with the same result.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from ingestlab.formats.common.cutting import Ints, Spans
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


class _Plan(NamedTuple):
    """What jobs of the same columns share."""

    words: Ints
    columns: tuple[Column, ...]
    named: list[Any]  # memory that the words name


@lru_cache(maxsize=64)
def _plan(columns: tuple[tuple[str, pa.DataType], ...], timestamp_format: str | None) -> _Plan | None:
    """Prepare a job. None where the loop does not know a type."""
    job = np.zeros(words.HEAD + words.WORDS * len(columns), np.int64)
    found, named = [], []
    for place, (name, kind) in enumerate(columns):
        program = program_of(kind, timestamp_format, {'"', "\\"})
        if program is None:
            return None
        column = Column(name, kind, place, program)
        key = json.dumps(name, ensure_ascii=False).encode() + b":"
        text, spec = np.frombuffer(key + bytes(-len(key) % 8), np.uint8), spec_of(job, place)
        named += [text, describe(job, column)]
        spec[words.KEY], spec[words.KEY_SIZE] = text.ctypes.data, len(key)
        found.append(column)
    job[words.COLUMNS], job[words.POWERS] = len(columns), powers().ctypes.data
    return _Plan(job, tuple(found), named)


def _run(read: Loop, data: bytes, spans: Spans, plan: _Plan, shape: Shape, longest: int) -> Taken | None:
    """Read records. Columns of texts get more memory as they need it."""
    job, text, count = plan.words.copy(), pa.py_buffer(data), len(spans.starts)
    starts, ends = (np.ascontiguousarray(places, np.int64) for places in (spans.starts, spans.ends))
    left = np.empty((count + words.FEW) // words.ONE_IN + 2, np.int64)
    job[[words.DATA, words.END, words.ROW_MOST]] = text.address, len(data), count
    job[[words.STARTS, words.ENDS, words.LEFT_OUT]] = starts.ctypes.data, ends.ctypes.data, left.ctypes.data
    job[[words.LONGEST, words.CLOSED]] = longest, shape.closed
    begin, size = int(starts[0]), int(ends[-1]) - int(starts[0])
    memory = {
        column.place: memory_of(job, column, count, min(size, 4 * size // len(plan.columns))) for column in plan.columns
    }
    while (outcome := read(job.ctypes.data)) == words.HEAP_FULL:
        done = int(job[words.POS]) - begin
        grow(job, memory, done / size, size - done)
    return taken_of(job, plan.columns, memory, left) if outcome == words.DONE else None
