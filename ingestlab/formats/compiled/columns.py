"""Columns of a job of a compiled loop: what it is told of their types, their memory, and the arrays they become."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from ingestlab.formats.common.cutting import Ints
from ingestlab.formats.common.nulls import textual
from ingestlab.formats.common.times import has_zone, steps_of
from ingestlab.formats.compiled import words
from ingestlab.formats.compiled.loader import Loop

_SLACK = 16  # bytes beyond the last text: the loops write eight at once
_HEAP = 64 << 10  # bytes that a column of texts begins with, at most
_UNITS = {"s": (1, 0), "ms": (1_000, 3), "us": (1_000_000, 6), "ns": (1_000_000_000, 9)}  # in a second, and as digits
_YEARS, _NS_YEARS = (1, 9999), (1678, 2261)  # whole ones that Python's times, and nanoseconds, reach
_DIRECTIVES = {
    "Y": words.YEAR, "m": words.MONTH, "d": words.DAY, "H": words.HOUR, "M": words.MINUTE, "S": words.SECOND,
    "f": words.FRACTION,
}  # fmt: skip


class Taken(NamedTuple):
    """What a loop made of some records: `kept[i]` is the number of the record in `table[i]`."""

    table: pa.Table
    kept: Ints
    left: Ints  # the numbers of records that are pyarrow's to read
    total: int


class Program(NamedTuple):
    """What a loop is told of a type.

    Attributes:
        kind: Of the words' kinds.
        width: Bytes of a value.
        low: Least value without its sign; of times the first year.
        high: Largest value; of times the last year.
        unit: Units in a second.
        digits: Of a fraction of a second.
        zoned: Whether times end in Z.
        steps: Of a format of times.
    """

    kind: int
    width: int
    low: int = 0
    high: int = 0
    unit: int = 0
    digits: int = 0
    zoned: bool = False
    steps: bytes = b""


class Column(NamedTuple):
    """A column that a loop reads, at a place in the job."""

    name: str
    type: pa.DataType
    place: int
    program: Program


class Plan(NamedTuple):
    """What jobs of the same columns share: their words, and the memory that these name."""

    words: Ints
    columns: tuple[Column, ...]
    named: list[Any]


def spec_of(job: Ints, place: int) -> Ints:
    """Return the words of a column."""
    begin = words.HEAD + words.WORDS * place
    return job[begin : begin + words.WORDS]


def describe(job: Ints, column: Column) -> object:
    """Tell a job of a column.

    Returns:
        Memory that its words name.
    """
    spec, program = spec_of(job, column.place), column.program
    steps = np.frombuffer(program.steps or b"\0", np.uint8)
    spec[words.KIND], spec[words.WIDTH] = program.kind, program.width
    spec[words.LOW], spec[words.HIGH] = np.array([program.low, program.high], np.uint64).view(np.int64)
    spec[words.UNIT], spec[words.DIGITS], spec[words.ZONED] = program.unit, program.digits, program.zoned
    spec[words.FORMAT], spec[words.STEPS] = steps.ctypes.data, len(program.steps)
    return steps


def program_of(kind: pa.DataType, timestamp_format: str | None, dialect: set[str | None]) -> Program | None:
    """Tell how to read a type.

    Args:
        kind: The type.
        timestamp_format: For strptime; None for ISO 8601.
        dialect: Characters that values cannot have.

    Returns:
        None where the loops do not know it.
    """
    types = pa.types
    if textual(kind):
        return Program(words.STRING, 4)
    if types.is_integer(kind):
        signed, bits = types.is_signed_integer(kind), kind.bit_width
        high = (1 << (bits - signed)) - 1
        return Program(words.INTEGER, bits // 8, high + 1 if signed else 0, high)
    if types.is_float64(kind) or types.is_float32(kind):
        return Program(words.FLOAT64 if types.is_float64(kind) else words.FLOAT32, kind.bit_width // 8)
    if types.is_boolean(kind):
        return Program(words.BOOLEAN, 1)
    if types.is_date32(kind):
        return Program(words.DATE, 4, *_YEARS)
    return _timed(kind, timestamp_format, dialect) if types.is_timestamp(kind) else None


def _timed(kind: pa.DataType, timestamp_format: str | None, dialect: set[str | None]) -> Program | None:
    unit, digits = _UNITS[kind.unit]
    years = _NS_YEARS if kind.unit == "ns" else _YEARS
    if timestamp_format is None:
        return None if " " in dialect else Program(words.TIME, 8, *years, unit, digits, kind.tz is not None)
    steps = [*steps_of(timestamp_format)]
    directives, text = [step for step, _ in steps if step], "".join(text for _, text in steps)
    if (
        kind.tz is not None
        or has_zone(timestamp_format)
        or not {"Y", "m", "d"} <= {*directives} <= {*_DIRECTIVES}
        or len({*directives}) < len(directives)
        or not (text.isascii() and text.isprintable())
        or dialect & {*text}
        or any(len(text) > 1 and not text.strip() for _, text in steps)
        or any(code == "f" and after for (code, _), (after, _) in pairwise(steps))  # nothing says where it ends
    ):
        return None
    codes = [[_DIRECTIVES[step]] if step else [words.LITERAL + ord(c) for c in text] for step, text in steps]
    return Program(words.TIME_BY_FORMAT, 8, *years, unit, digits, steps=bytes(code for some in codes for code in some))


def _memory_of(job: Ints, column: Column, most: int, heap: int) -> list[pa.Buffer]:
    """Allocate what a column needs for so many records.

    Args:
        job: It is told of the memory.
        column: The column.
        most: Records, at most.
        heap: Bytes that its texts are likely to take, at most.

    Returns:
        Null bits, values or places of texts, and texts.
    """
    heap = min(heap, _HEAP)
    spec, text = spec_of(job, column.place), column.program.kind == words.STRING
    valid = pa.allocate_buffer((most + 7) // 8)
    values = pa.allocate_buffer((most + text) * column.program.width)
    spec[words.VALID], spec[words.OUT] = valid.address, values.address
    if not text:
        return [valid, values]
    np.frombuffer(values, np.int32, 1)[0] = 0
    texts = pa.allocate_buffer(heap + _SLACK, resizable=True)
    spec[words.HEAP], spec[words.HEAP_SIZE] = texts.address, texts.size
    return [valid, values, texts]


def _grow(job: Ints, memory: dict[int, list[pa.Buffer]], done: float, rest: int) -> None:
    """Enlarge the column of texts that is full.

    Args:
        job: It names the column.
        memory: Of all columns by place.
        done: Share of the bytes that was read.
        rest: Bytes that were not.
    """
    place = int(job[words.FULL])
    spec, texts = spec_of(job, place), memory[place][2]
    likely = int(1.1 * texts.size / max(done, 1e-6))
    texts.resize(min(max(likely, 2 * texts.size), texts.size + rest) + _SLACK)
    spec[words.HEAP], spec[words.HEAP_SIZE] = texts.address, texts.size


def run(read: Loop, job: Ints, columns: Sequence[Column], begin: int, size: int) -> Taken | None:
    """Read records. Columns of texts get more memory as they need it.

    Args:
        read: The loop.
        job: It is told of all but the columns' memory, and of the room for records that are left.
        columns: They become the table's.
        begin: Of the bytes that it reads.
        size: Of them.

    Returns:
        None where it gave up, or found no record.
    """
    most = int(job[words.ROW_MOST])
    left = np.empty((most + words.FEW) // words.ONE_IN + 2, np.int64)
    job[words.LEFT_OUT] = left.ctypes.data
    heap = min(size, 4 * size // len(columns))
    memory = {column.place: _memory_of(job, column, most, heap) for column in columns}
    while (outcome := read(job.ctypes.data)) == words.HEAP_FULL:
        done = int(job[words.POS]) - begin
        _grow(job, memory, done / size, size - done)
    count, rows = int(job[words.RECORD]), int(job[words.ROW])
    if outcome != words.DONE or not count:
        return None
    left = left[: job[words.LEFT]]
    arrays = [_array_of(job, column, rows, memory[column.place]) for column in columns]
    kept = np.arange(count, dtype=np.int64)
    kept = np.delete(kept, left) if left.size else kept
    return Taken(pa.Table.from_arrays(arrays, names=[column.name for column in columns]), kept, left, count)


def _array_of(job: Ints, column: Column, rows: int, memory: list[pa.Buffer]) -> pa.Array:
    """Build a column, without a copy but for booleans."""
    kind, nulls = column.type, int(spec_of(job, column.place)[words.NULLS])
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
def powers() -> Ints:
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
