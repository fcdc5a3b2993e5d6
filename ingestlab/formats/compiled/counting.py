"""The different values of a column, counted by a compiled loop."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from ingestlab.analytics.profiles.counting import Counted, Ends
from ingestlab.analytics.profiles.sketches import SIZE
from ingestlab.formats.compiled import loader, words
from ingestlab.interfaces import Places

_MOST = 1 << 14  # different values; where there are more, few come twice, and Arrow is as fast
_SLOTS = 1 << 15
_AFTER = 24  # bytes that the loop may write behind what is packed


def count(array: pa.Array, ends: Ends, factor: int) -> Counted | None:
    """Count the different values of a column.

    Args:
        array: Integers, float64s, texts or bytes.
        ends: The least and the greatest of integers that are to be counted by place; others are counted by hash.
        factor: From its integers to those that a sketch sees.

    Returns:
        Them, in their own order if counted by place, else in the order of first rows. None where the loop is not
        loaded, does not know the type, or finds too many.
    """
    loops = loader.loops(0)
    if loops is None or not len(array):
        return None
    job = np.zeros(words.COUNT_WORDS, np.int64)
    if not _describe(job, array):
        return None
    registers = np.zeros(SIZE, np.uint8)
    job[[words.FACTOR, words.REGISTERS]] = factor, registers.ctypes.data
    valid = len(array) - array.null_count
    places, packed = np.empty(valid, np.uint16), np.empty(2 * valid + _AFTER, np.uint8)
    job[[words.PLACES, words.PACKED]] = places.ctypes.data, packed.ctypes.data
    if ends:
        span = ends[1] - ends[0] + 1
        job[[words.LEAST, words.RANGE]] = ends[0], span
        job[words.BITS] = _bits(array.type)
        counts = np.zeros(2 * span, np.int64)
        job[words.COUNTS] = counts.ctypes.data
        loops.count(job.ctypes.data)
        counts = counts[:span]
        kept = np.flatnonzero(counts)
        values = pa.array((kept + ends[0]).astype(array.type.to_pandas_dtype()))
        return Counted(values, counts[kept], registers, _packed(packed, len(kept), valid))
    entries, slots = np.empty((_MOST, words.ENTRY), np.int64), np.zeros(_SLOTS, np.int32)
    job[[words.ENTRIES, words.MOST]] = entries.ctypes.data, _MOST
    job[[words.SLOTS, words.SLOT_COUNT]] = slots.ctypes.data, _SLOTS
    if loops.count(job.ctypes.data) != words.DONE:
        return None
    entries = entries[: job[words.FOUND]]
    values = array.take(pa.array(entries[:, 2]))
    made = _packed(packed, len(entries), valid)
    numbers = places if pa.types.is_string(array.type) and not array.null_count else None
    return Counted(values, entries[:, 3].copy(), registers, made._replace(numbers=numbers))


def _packed(packed: np.ndarray[tuple[int], np.dtype[np.uint8]], values: int, rows: int) -> Places:
    """Cut off what was not needed."""
    width = max(1, (values - 1).bit_length())
    return Places(width, packed[: -(-rows // 8) * width].data)


def _describe(job: np.ndarray[tuple[int], np.dtype[np.int64]], array: pa.Array) -> bool:
    """Tell a job where the values are. False where the loop does not know the type."""
    kind, (valid, first, *rest) = array.type, array.buffers()
    job[[words.ROWS, words.NULL_OFFSET]] = len(array), array.offset
    job[words.NULL_BITS] = valid.address if valid and array.null_count else 0
    types = pa.types
    if types.is_integer(kind) or types.is_float64(kind):
        size = kind.bit_width // 8
        job[[words.VALUES, words.SIZE]] = first.address + array.offset * size, size
        job[words.REAL] = types.is_floating(kind)
        job[words.BITS] = _bits(kind) if types.is_unsigned_integer(kind) else -1
        return True
    if types.is_string(kind) or types.is_binary(kind) or types.is_large_string(kind) or types.is_large_binary(kind):
        size = 8 if types.is_large_string(kind) or types.is_large_binary(kind) else 4
        job[[words.OFFSETS, words.SIZE]] = first.address + array.offset * size, size
        job[words.VALUES] = rest[0].address if rest[0] else first.address
        return True
    return False


def _bits(kind: pa.DataType) -> int:
    return (1 << kind.bit_width) - 1 if kind.bit_width < 64 else -1
