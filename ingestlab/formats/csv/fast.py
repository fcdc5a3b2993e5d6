"""Plain records of declared types in front of pyarrow's parser, by a compiled loop that is several times as fast.

The loop needs numba. Without it, and until it is compiled or loaded, pyarrow reads everything, with the same result.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from functools import cache, lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from ingestlab.core.errors import TerminalError
from ingestlab.formats.common.cutting import Ints, Spans
from ingestlab.formats.common.nulls import Marks, textual
from ingestlab.formats.common.times import has_zone, steps_of
from ingestlab.formats.csv import compiled
from ingestlab.formats.csv import job as words
from ingestlab.formats.csv.arrow import Layout
from ingestlab.formats.csv.body import Body

_SLACK = 16  # bytes beyond the last text: the loop writes eight at once
_HEAP = 64 << 10  # bytes that a column of texts begins with, at most
_INDEXED = 32 << 10  # bytes that the loop looks at for delimiters before it reads their values
_MUCH = 64 << 20  # bytes
_IN_VALUES = frozenset("+-.:")  # characters of numbers and times, beside letters and digits
_UNITS = {"s": (1, 0), "ms": (1_000, 3), "us": (1_000_000, 6), "ns": (1_000_000_000, 9)}  # in a second, and as digits
_YEARS, _NS_YEARS = (1, 9999), (1678, 2261)  # whole ones that Python's times, and nanoseconds, reach
_DIRECTIVES = {
    "Y": words.YEAR, "m": words.MONTH, "d": words.DAY, "H": words.HOUR, "M": words.MINUTE, "S": words.SECOND,
    "f": words.FRACTION,
}  # fmt: skip

log = logging.getLogger(__name__)
_read: Callable[[int], int] | None = None
_loading = threading.Lock()
_read_slowly = 0  # bytes


class Taken(NamedTuple):
    """What the loop made of a body: `kept[i]` is the number of the record in `table[i]`."""

    table: pa.Table
    kept: Ints
    left: Ints  # the numbers of records that are pyarrow's to read
    total: int


def warm() -> None:
    """Load the loop. Where no process of this machine has done so before, it is compiled, which takes seconds."""
    global _read  # noqa: PLW0603 - one for the process
    if not compiled.installed():
        return
    with _loading:
        if _read is None:
            try:
                _read = compiled.load()
            except (TerminalError, OSError, RuntimeError) as error:
                log.warning("%s", error)  # and pyarrow reads all


def _warm_later(size: int) -> None:
    """Load the loop in the background. A process that nobody warmed does so."""
    global _read_slowly
    before, _read_slowly = _read_slowly, _read_slowly + size
    if before < _MUCH <= _read_slowly:
        threading.Thread(target=warm, name="ingestlab-csv", daemon=True).start()


def take(body: Body, layout: Layout) -> Taken | None:
    """Read the plain records of a body.

    Returns:
        Them, and which ones are left; None where the body as a whole is.
    """
    if _read is None:
        _warm_later(body.end - body.begin)
        return None
    if body.dialect != layout.dialect or not body.dialect.plain or not layout.types:
        return None
    columns = tuple((name, kind, layout.nulls.get(name, ())) for name, kind in layout.types.items())
    plan = _plan(layout.names, columns, body.dialect.delimiter, body.dialect.quote, layout.timestamp_format)
    return None if plan is None else _run(_read, body, plan)


class _Program(NamedTuple):
    """What the loop is told of a type."""

    kind: int
    width: int  # bytes of a value
    low: int = 0
    high: int = 0
    unit: int = 0
    digits: int = 0
    zoned: bool = False
    steps: bytes = b""


class _Column(NamedTuple):
    name: str
    type: pa.DataType
    place: int  # in the file
    program: _Program


class _Plan(NamedTuple):
    """What jobs of one layout share."""

    words: Ints
    columns: tuple[_Column, ...]
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
        program = _program(kind, timestamp_format, {delimiter, quote})
        if program is None:
            return None
        place = names.index(name)
        texts = [np.frombuffer(mark.encode().ljust(8, b"\0"), np.uint8) for mark in marks]
        table = np.array(
            [[len(m.encode()), t[:8].view(np.int64)[0], t.ctypes.data] for m, t in zip(marks, texts, strict=True)]
            or [[0, 0, 0]]
        )
        steps = np.frombuffer(program.steps or b"\0", np.uint8)
        named += [texts, table, steps]
        spec = _spec(job, place)
        spec[words.KIND], spec[words.WIDTH] = program.kind, program.width
        spec[words.LOW], spec[words.HIGH] = np.array([program.low, program.high], np.uint64).view(np.int64)
        spec[words.UNIT], spec[words.DIGITS], spec[words.ZONED] = program.unit, program.digits, program.zoned
        spec[words.FORMAT], spec[words.STEPS] = steps.ctypes.data, len(program.steps)
        spec[words.MARKS], spec[words.MARK_COUNT] = table.ctypes.data, len(marks)
        spec[words.EARLY] = any(_like_a_value(mark, program.kind) for mark in marks)
        found.append(_Column(name, kind, place, program))
    job[words.DELIMITER], job[words.QUOTE] = ord(delimiter), -1 if quote is None else ord(quote)
    job[words.COLUMNS], job[words.POWERS] = len(names), _powers().ctypes.data
    return _Plan(job, tuple(found), named)


def _spec(job: Ints, place: int) -> Ints:
    """Return the words of a column."""
    begin = words.HEAD + words.WORDS * place
    return job[begin : begin + words.WORDS]


def _like_a_value(mark: str, kind: int) -> bool:
    """Tell whether a null marker may be read as a value: such ones are looked for first."""
    if kind == words.TIME_BY_FORMAT:
        return bool(mark)
    return mark[:1] in {*"0123456789-."} or mark.lower() in {"true", "false"}


def _program(kind: pa.DataType, timestamp_format: str | None, dialect: set[str | None]) -> _Program | None:
    """Return how to read a type. None where the loop does not know it."""
    types = pa.types
    if textual(kind):
        return _Program(words.STRING, 4)
    if types.is_integer(kind):
        signed, bits = types.is_signed_integer(kind), kind.bit_width
        high = (1 << (bits - signed)) - 1
        return _Program(words.INTEGER, bits // 8, high + 1 if signed else 0, high)
    if types.is_float64(kind) or types.is_float32(kind):
        return _Program(words.FLOAT64 if types.is_float64(kind) else words.FLOAT32, kind.bit_width // 8)
    if types.is_boolean(kind):
        return _Program(words.BOOLEAN, 1)
    if types.is_date32(kind):
        return _Program(words.DATE, 4, *_YEARS)
    return _timed(kind, timestamp_format, dialect) if types.is_timestamp(kind) else None


def _timed(kind: pa.DataType, timestamp_format: str | None, dialect: set[str | None]) -> _Program | None:
    unit, digits = _UNITS[kind.unit]
    years = _NS_YEARS if kind.unit == "ns" else _YEARS
    if timestamp_format is None:
        return None if " " in dialect else _Program(words.TIME, 8, *years, unit, digits, kind.tz is not None)
    steps = [*steps_of(timestamp_format)]
    found, text = [step for step, _ in steps if step], "".join(text for _, text in steps)
    if (
        kind.tz is not None
        or has_zone(timestamp_format)
        or not {"Y", "m", "d"} <= {*found} <= {*_DIRECTIVES}
        or len({*found}) < len(found)
        or not (text.isascii() and text.isprintable())
        or dialect & {*text}
        or any(len(text) > 1 and not text.strip() for _, text in steps)
        or any(one == "f" and after for (one, _), (after, _) in pairwise(steps))  # nothing says where it ends
    ):
        return None
    codes = [[_DIRECTIVES[step]] if step else [words.LITERAL + ord(c) for c in text] for step, text in steps]
    return _Program(words.TIME_BY_FORMAT, 8, *years, unit, digits, steps=bytes(code for some in codes for code in some))


def _run(read: Callable[[int], int], body: Body, plan: _Plan) -> Taken | None:
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
    heap = min(size, _HEAP, 4 * size // len(plan.columns))
    memory = {column.place: _memory(job, column, most, heap) for column in plan.columns}
    while (outcome := read(job.ctypes.data)) == words.HEAP_FULL:
        _grow(job, memory, body)
    count, rows = int(job[words.RECORD]), int(job[words.ROW])
    if outcome != words.DONE or not count:
        return None
    spans = Spans(starts[:count], ends[:count])
    body.__dict__["spans"] = spans  # which would be looked for again where a record's text is asked for
    left = left[: job[words.LEFT]]
    arrays = [_array(job, column, rows, memory[column.place]) for column in plan.columns]
    table = pa.Table.from_arrays(arrays, names=[column.name for column in plan.columns])
    kept = np.arange(count, dtype=np.int64)
    return Taken(table, np.delete(kept, left) if left.size else kept, left, count)


def _memory(job: Ints, column: _Column, most: int, heap: int) -> list[pa.Buffer]:
    """Allocate what a column needs for so many records: null bits, values or places of texts, and texts."""
    spec, text = _spec(job, column.place), column.program.kind == words.STRING
    valid = pa.allocate_buffer((most + 7) // 8)
    values = pa.allocate_buffer((most + text) * column.program.width)
    spec[words.VALID], spec[words.OUT] = valid.address, values.address
    if not text:
        return [valid, values]
    np.frombuffer(values, np.int32, 1)[0] = 0
    texts = pa.allocate_buffer(heap + _SLACK, resizable=True)
    spec[words.HEAP], spec[words.HEAP_SIZE] = texts.address, texts.size
    return [valid, values, texts]


def _grow(job: Ints, memory: dict[int, list[pa.Buffer]], body: Body) -> None:
    """Enlarge a column of texts as those read suggest."""
    place = int(job[words.FULL])
    spec, texts = _spec(job, place), memory[place][2]
    read, rest = int(job[words.POS]) - body.begin, body.end - int(job[words.POS])
    likely = int(1.1 * texts.size * (read + rest) / max(read, 1))
    texts.resize(min(max(likely, 2 * texts.size), texts.size + rest) + _SLACK)
    spec[words.HEAP], spec[words.HEAP_SIZE] = texts.address, texts.size


def _array(job: Ints, column: _Column, rows: int, memory: list[pa.Buffer]) -> pa.Array:
    """Build a column, without a copy but for booleans."""
    kind, nulls = column.type, int(_spec(job, column.place)[words.NULLS])
    valid = memory[0].slice(0, (rows + 7) // 8) if nulls else None
    if column.program.kind == words.STRING:
        size = int(np.frombuffer(memory[1], np.int32, rows + 1)[-1])
        parts = [valid, memory[1].slice(0, (rows + 1) * 4), memory[2].slice(0, size)]
        return pa.Array.from_buffers(pa.string(), rows, parts, nulls).cast(kind)
    if column.program.kind == words.BOOLEAN:
        values = pa.py_buffer(np.packbits(np.frombuffer(memory[1], np.uint8, rows), bitorder="little"))
    else:
        values = memory[1].slice(0, rows * column.program.width)
    return pa.Array.from_buffers(kind, rows, [valid, values], nulls)


@cache
def _powers() -> Ints:
    """Return powers of ten for floats.

    The first 23 are float64s; then there are the first 128 bits of all from 1e-342 to 1e308, as Eisel and Lemire
    take them: those of a negative power rounded up.
    """
    exact = np.array([float(10**i) for i in range(23)]).view(np.uint64)
    table = []
    for power in range(words.LOWEST_POWER, words.HIGHEST_POWER + 1):
        five = 5 ** abs(power)
        if power >= 0:
            bits = five << 128 >> five.bit_length()
        else:
            bits = (
                1 << ((five - 1).bit_length() + (127 if power >= -27 else 128 + (five - 1).bit_length()))
            ) // five + 1
            bits >>= max(0, bits.bit_length() - 128)
        table += [bits >> 64, bits & 0xFFFFFFFFFFFFFFFF]
    return np.concatenate([exact, np.array(table, np.uint64)]).view(np.int64)
