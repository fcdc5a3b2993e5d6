"""The loop that counts the different values of a column; :mod:`ingestlab.formats.compiled.counting` calls it.

Integers of a small range are counted by place, others by hash, in the order of their first rows. On the way it builds
the sketch of :mod:`ingestlab.analytics.profiles.sketches`, register by register, and tells which of the values each
row has, in as few bits as that takes, as Parquet writes it.
"""

from __future__ import annotations

from typing import Any

from ingestlab.formats.compiled.loops.memory import (
    bits_of,
    byte,
    double,
    highest,
    i64,
    inner,
    int16,
    int32,
    int64,
    load,
    real_of,
    set8,
    set16,
    set32,
    set64,
    set_word,
    u64,
)
from ingestlab.formats.compiled.loops.values import equal, word_at
from ingestlab.formats.compiled.words import (
    BITS,
    COUNTS,
    DONE,
    ENTRIES,
    ENTRY,
    FACTOR,
    FOUND,
    GIVEN_UP,
    LEAST,
    MOST,
    NULL_BITS,
    NULL_OFFSET,
    OFFSETS,
    PACKED,
    PLACES,
    RANGE,
    REAL,
    REGISTERS,
    ROWS,
    SIZE,
    SLOT_COUNT,
    SLOTS,
    VALUES,
)

_ODD = u64(0x9E3779B97F4A7C15)
_MIXERS = u64(0xBF58476D1CE4E5B9), u64(0x94D049BB133111EB)
_HASHED_BYTES = 256  # as sketches hash
_PLACE_SHIFT, _RANK_BITS = 55, 52
_BEYOND = 2.0**63  # what an integer of 64 bits is not


@inner
def _mix(word: Any) -> Any:
    word += _ODD
    word = (word ^ (word >> u64(30))) * _MIXERS[0]
    word = (word ^ (word >> u64(27))) * _MIXERS[1]
    return word ^ (word >> u64(31))


@inner
def _register(registers: int, hashed: Any) -> None:
    """Let a sketch see a hash."""
    place = registers + i64(hashed >> u64(_PLACE_SHIFT))
    rest = hashed & u64((1 << _RANK_BITS) - 1)
    rank = _RANK_BITS + 1 - (64 - highest(rest) if rest else 0)
    if byte(place) < rank:
        set8(place, rank)


@inner
def _null(bits: int, offset: int, row: int) -> bool:
    return bits != 0 and not (byte(bits + ((offset + row) >> 3)) >> ((offset + row) & 7)) & 1


@inner
def _value(values: int, row: int, size: int) -> int:
    if size == 2:
        return int16(values + 2 * row)
    if size == 8:
        return int64(values + 8 * row)
    if size == 4:
        return int32(values + 4 * row)
    return byte(values + row)


@inner
def _by_place(job: int) -> int:
    """Count integers from LEAST on. Neighbours of a row go to another half: a count soon after itself has to wait."""
    values, bits, offset = int64(job + 8 * VALUES), int64(job + 8 * NULL_BITS), int64(job + 8 * NULL_OFFSET)
    rows, size, counts = int64(job + 8 * ROWS), int64(job + 8 * SIZE), int64(job + 8 * COUNTS)
    least, places = int64(job + 8 * LEAST), int64(job + 8 * RANGE)
    factor, registers, mask = int64(job + 8 * FACTOR), int64(job + 8 * REGISTERS), int64(job + 8 * BITS)
    half = 0
    for row in range(rows):
        if not _null(bits, offset, row):
            at = counts + 8 * (((_value(values, row, size) - least) & mask) + half)
            set64(at, int64(at) + 1)
        half = places - half
    found = 0
    for place in range(places):
        count = int64(counts + 8 * place) + int64(counts + 8 * (place + places))
        set64(counts + 8 * place, count)
        set64(counts + 8 * (place + places), found)
        if count:
            found += 1
            _register(registers, _mix(u64((place + least) * factor)))
    set64(job + 8 * FOUND, found)
    out, numbers = int64(job + 8 * PLACES), counts + 8 * places
    for row in range(rows if out else 0):
        if not _null(bits, offset, row):
            set16(out, int64(numbers + 8 * ((_value(values, row, size) - least) & mask)))
            out += 2
    return DONE


@inner
def _text_word(at: int, size: int, end: int) -> Any:
    """Return a short text itself, or a longer one's hash."""
    if size < 8:
        return word_at(at, end) & ((u64(1) << u64(8 * size)) - u64(1))
    word = load(at)
    for done in range(8, size - 7, 8):
        word = (word ^ (word >> u64(29))) * _MIXERS[0] ^ load(at + done)
    if size > 8:
        word = (word ^ (word >> u64(29))) * _MIXERS[0] ^ load(at + size - 8)
    return word


@inner
def _text_hash(at: int, size: int, end: int) -> Any:
    """Hash a text as sketches do."""
    hashed, done, until = u64(size) * _ODD, 0, min(size, _HASHED_BYTES)
    while done < until:
        word = word_at(at + done, end)
        if size - done < 8:
            word &= (u64(1) << u64(8 * (size - done))) - u64(1)
        hashed = _mix(hashed ^ word)
        done += 8
    return _mix(hashed)


@inner
def _number_word(values: int, row: int, size: int, mask: int, real: int) -> Any:
    if real:  # all that are no number are one
        value = double(values + 8 * row)
        return bits_of(value) if value == value else u64(0x7FF8000000000000)  # noqa: PLR0124
    return u64(_value(values, row, size) & mask)


@inner
def _number_hash(word: Any, factor: int, real: int) -> Any:
    """Hash a number as sketches do: a whole one of floats like the integer."""
    if real:
        value = real_of(word)
        if -_BEYOND <= value < _BEYOND and i64(value) == value:
            return _mix(u64(i64(value)))
        return _mix(word)
    return _mix(u64(i64(word) * factor))


@inner
def _by_hash(job: int) -> int:
    """Count any values, in the order of their first rows. Gives up where there are too many."""
    values, bits, offset = int64(job + 8 * VALUES), int64(job + 8 * NULL_BITS), int64(job + 8 * NULL_OFFSET)
    rows, size, offsets = int64(job + 8 * ROWS), int64(job + 8 * SIZE), int64(job + 8 * OFFSETS)
    factor, real, registers = int64(job + 8 * FACTOR), int64(job + 8 * REAL), int64(job + 8 * REGISTERS)
    entries, most = int64(job + 8 * ENTRIES), int64(job + 8 * MOST)
    slots, mask, unsigned = int64(job + 8 * SLOTS), u64(int64(job + 8 * SLOT_COUNT) - 1), int64(job + 8 * BITS)
    end = values + _value(offsets, rows, size) if offsets else 0
    found, at, length, out = 0, 0, 0, int64(job + 8 * PLACES)
    for row in range(rows):
        if _null(bits, offset, row):
            continue
        if offsets:
            begin = _value(offsets, row, size)
            at, length = values + begin, _value(offsets, row + 1, size) - begin
            word = _text_word(at, length, end)
        else:
            word = _number_word(values, row, size, unsigned, real)
        place = (word ^ (word >> u64(32)) ^ u64(length)) * _ODD >> u64(40)
        while True:
            slot = slots + 4 * i64(place & mask)
            number = int32(slot)
            if number == 0:
                if found == most:
                    return GIVEN_UP
                entry = entries + 8 * ENTRY * found
                set_word(entry, word)
                set64(entry + 8, length)
                set64(entry + 16, row)
                set64(entry + 24, 1)
                found += 1
                set32(slot, found)
                number = found
                break
            entry = entries + 8 * ENTRY * (number - 1)
            short = length <= 8  # then the word is all of it
            if (
                load(entry) == word
                and int64(entry + 8) == length
                and (short or equal(at, values + _value(offsets, int64(entry + 16), size), length))
            ):
                set64(entry + 24, int64(entry + 24) + 1)
                break
            place += u64(1)
        if out:
            set16(out, number - 1)
            out += 2
    for number in range(found):
        entry = entries + 8 * ENTRY * number
        if offsets:
            at = values + _value(offsets, int64(entry + 16), size)
            _register(registers, _text_hash(at, int64(entry + 8), end))
        else:
            word = load(entry)
            if not real or real_of(word) == real_of(word):  # not NaN
                _register(registers, _number_hash(word, factor, real))
    set64(job + 8 * FOUND, found)
    return DONE


@inner
def _pack(job: int) -> None:
    """Write the places of values in as few bits as possible."""
    places, out, found = int64(job + 8 * PLACES), int64(job + 8 * PACKED), int64(job + 8 * FOUND)
    rows, bits, offset = int64(job + 8 * ROWS), int64(job + 8 * NULL_BITS), int64(job + 8 * NULL_OFFSET)
    width = 1 if found < 3 else 64 - highest(u64(found - 1))
    word, filled = u64(0), 0
    for row in range(rows):
        if _null(bits, offset, row):
            continue
        place = u64(int16(places) & 0xFFFF)
        places += 2
        word |= place << u64(filled)
        filled += width
        if filled >= 64:
            set_word(out, word)
            out += 8
            filled -= 64
            word = place >> u64(width - filled) if filled else u64(0)
    set_word(out, word)
    set_word(out + 8, u64(0))  # values are written by eight
    set_word(out + 16, u64(0))


def count(job: int) -> int:
    """Count the values of a column."""
    state = _by_place(job) if int64(job + 8 * RANGE) else _by_hash(job)
    if state == DONE and int64(job + 8 * PLACES):
        _pack(job)
    return state
