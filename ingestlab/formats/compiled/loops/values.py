"""Numbers, dates, times and texts, where they are written in the one way that needs no second thought.

Nothing here decides that a value is wrong: what takes more care is left to pyarrow.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ingestlab.formats.compiled.loops.memory import (
    CR,
    LF,
    ONES,
    TOPS,
    bits_of,
    byte,
    double,
    high_product,
    highest,
    i64,
    inner,
    int32,
    int64,
    load,
    lowest,
    real_of,
    set8,
    set16,
    set32,
    set64,
    set_double,
    set_float,
    set_word,
    u64,
)
from ingestlab.formats.compiled.words import (
    BOOLEAN,
    DATE,
    DAY,
    DIGITS,
    FLOAT32,
    FLOAT64,
    FORMAT,
    FRACTION,
    HEAD,
    HEAP,
    HEAP_SIZE,
    HIGH,
    HIGHEST_POWER,
    HOUR,
    INTEGER,
    LAST,
    LAST_DAY,
    LITERAL,
    LOW,
    LOWEST_POWER,
    MARK,
    MARK_COUNT,
    MARKS,
    MINUTE,
    MONTH,
    NULLS,
    OUT,
    STEPS,
    TIME,
    UNIT,
    VALID,
    WIDTH,
    WORDS,
    YEAR,
    ZONED,
)

NO_VALUE, NO_ROOM = -1, -2  # in place of where a value ends
BLANK, _PLUS, MINUS, POINT, ZERO, _T, _Z, _E = (ord(c) for c in " +-.0TZe")
_MOST_DIGITS = 19  # that surely fit in 64 bits
_MOST_FLOAT32, _LEAST_FLOAT32 = 3.4e38, 1.2e-38

# Eight bytes at once
_BYTE = u64(0xFF)
LFS, CRS = u64(LF) * ONES, u64(CR) * ONES
ZEROS = u64(0x3030303030303030)
PAST_NINE = u64(0x7676767676767676)
TEN, EIGHT, SIXTEEN, BITS_32, _64 = (u64(number) for number in (10, 8, 16, 32, 64))
PAIRS, MILLIONS, TENS = (u64(n) for n in (0x000000FF000000FF, 0x000F424000000064, 0x0000271000000001))
_DATE = u64(0x2D30302D30303030)  # 0000-00-
_DASHES = u64(0xFF0000FF00000000)
_CLOCK = u64(0x30303A30303A3030)  # 00:00:00
_COLON, _MINUTES = u64(0xFF0000), u64(0x0000008080008080)
_SECOND_COLON = u64(0xFF0000000000)
_TRUE = tuple(u64(int.from_bytes(text, "little")) for text in (b"true", b"True", b"TRUE"))
_FALSE = tuple(u64(int.from_bytes(text, "little")) for text in (b"false", b"False", b"FALSE"))

# Floats
_EXACT = u64(1 << 53)
_PRECISION = u64(0x1FF)
_UNSURE = u64(0xFFFFFFFFFFFFFFFF)  # in place of the bits of a number
_BELOW, _MIDDLE = u64((1 << 29) - 1), u64(1 << 28)  # what a float64 has beyond a float32


@inner
def word_at(at: int, end: int) -> Any:
    """Load eight bytes; those from `end` on count as zero."""
    if at + 8 <= end:
        return load(at)
    word = u64(0)
    for i in range(end - at):
        word |= u64(byte(at + i)) << u64(8 * i)
    return word


@inner
def same(word: Any, pattern: Any) -> Any:
    """Set the top bits of equal bytes. It is exact up to the first."""
    difference = word ^ pattern
    return (difference - ONES) & ~difference & TOPS


@inner
def field_end(at: int, end: int, stopper: Any, quote: Any) -> int:
    """Find the first stopper, line end or quote; `end` where none is."""
    while at < end:
        word = word_at(at, end)
        mask = same(word, stopper) | same(word, LFS) | same(word, CRS) | same(word, quote)
        if mask:
            return at + (lowest(mask) >> 3)
        at += 8
    return end


@inner
def _digit_count(word: Any) -> int:
    """Count the digits that a word begins with."""
    digits = word ^ ZEROS
    return lowest(((digits + PAST_NINE) | digits) & TOPS) >> 3


@inner
def _number(word: Any, count: int) -> Any:
    """Read the first one to eight digits of a word."""
    digits = (word ^ ZEROS) << (_64 - (u64(count) << u64(3)))
    digits = digits * TEN + (digits >> EIGHT)
    return ((digits & PAIRS) * MILLIONS + ((digits >> SIXTEEN) & PAIRS) * TENS) >> BITS_32


@inner
def _shifted(value: Any, count: int) -> Any:
    """Multiply by ten so often, at most eight times."""
    if count == 8:
        return value * u64(100_000_000)
    for _ in range(count):
        value *= TEN
    return value


@inner
def _integer(at: int, end: int) -> Any:
    """Read up to 19 digits. Returns (value, where they end), or NO_VALUE as the end."""
    word = word_at(at, end)
    count = _digit_count(word)
    if count == 0:
        return u64(0), NO_VALUE
    value = _number(word, count)
    if count < 8:
        return value, at + count
    total = 8
    while count == 8:
        at += 8
        word = word_at(at, end)
        count = _digit_count(word)
        total += count
        if total > _MOST_DIGITS:
            return value, NO_VALUE
        if count:
            value = _shifted(value, count) + _number(word, count)
    return value, at + count


@inner
def _mantissa(at: int, end: int, value: Any, count: int) -> Any:
    """Read digits after `count` significant ones. Returns (value, significant digits, where they end)."""
    while True:
        word = word_at(at, end)
        more = _digit_count(word)
        if not more:
            return value, count, at
        part = _number(word, more)
        if value:
            count += more
        else:
            rest = part
            while rest:
                count += 1
                rest //= TEN
        if count > _MOST_DIGITS:
            return value, count, at
        value = _shifted(value, more) + part
        at += more
        if more < 8:
            return value, count, at


@inner
def _float(at: int, end: int, powers: int) -> Any:
    """Read a number. Returns (its float64, where it ends), or NO_VALUE as the end where that takes more care."""
    negative = at < end and byte(at) == MINUS
    at += negative
    value, count, stop = _mantissa(at, end, u64(0), 0)
    seen, at, exponent = stop - at, stop, 0
    if at < end and byte(at) == POINT and count <= _MOST_DIGITS:
        value, count, stop = _mantissa(at + 1, end, value, count)
        exponent = at + 1 - stop
        seen, at = seen - exponent, stop
    if seen == 0 or count > _MOST_DIGITS:
        return 0.0, NO_VALUE
    if at < end and (byte(at) | 32) == _E:
        at += 1
        sign = byte(at) if at < end else 0
        at += sign in (MINUS, _PLUS)
        word = word_at(at, end)
        count = _digit_count(word)
        if not 0 < count < 4:
            return 0.0, NO_VALUE
        power = i64(_number(word, count))
        exponent += -power if sign == MINUS else power
        at += count
    if value <= _EXACT and -22 <= exponent <= 22:
        number: Any = np.float64(value)
        if exponent < 0:
            number /= double(powers - 8 * exponent)
        else:
            number *= double(powers + 8 * exponent)
    elif value == 0:
        number = 0.0
    else:
        bits = _rounded(value, exponent, powers + 8 * 23)
        if bits == _UNSURE:
            return 0.0, NO_VALUE
        number = real_of(bits)
    return -number if negative else number, at


@inner
def _rounded(value: Any, exponent: int, powers: int) -> Any:
    """Return the bits of the nearest float64. _UNSURE where that takes more care.

    The algorithm is Eisel and Lemire's ("Number parsing at a gigabyte per second", 2021), without subnormals.
    """
    if not LOWEST_POWER <= exponent <= HIGHEST_POWER:
        return _UNSURE
    zeros = highest(value)
    value <<= u64(zeros)
    place = powers + 16 * (exponent - LOWEST_POWER)
    factor = load(place)
    high, low = high_product(value, factor), value * factor
    if high & _PRECISION == _PRECISION:
        more = high_product(value, load(place + 8))
        low += more
        if more > low:
            high += u64(1)
    top = i64(high >> u64(63))
    shift = u64(top + 9)
    mantissa = high >> shift
    power = ((217706 * exponent) >> 16) + 63 + top - zeros + 1023
    if power <= 0:
        return _UNSURE
    even = low <= u64(1) and -4 <= exponent <= 23 and mantissa & u64(3) == u64(1)
    if even and mantissa << shift == high:  # half between two numbers: to the even one
        mantissa &= ~u64(1)
    mantissa = (mantissa + (mantissa & u64(1))) >> u64(1)
    if mantissa >= u64(1 << 53):
        mantissa = u64(1 << 52)
        power += 1
    if power >= 0x7FF:
        return _UNSURE
    return (mantissa & ~u64(1 << 52)) | (u64(power) << u64(52))


@inner
def _boolean(at: int, stop: int, end: int) -> int:
    """Read 0, 1, true and false. NO_VALUE for another spelling."""
    size, word = stop - at, word_at(at, end)
    if size == 1:
        digit = i64(word & _BYTE) - ZERO
        return digit if 0 <= digit <= 1 else NO_VALUE
    if size == 4:
        word &= u64(0xFFFFFFFF)
        return 1 if word in (_TRUE[0], _TRUE[1], _TRUE[2]) else NO_VALUE
    if size == 5:
        word &= u64(0xFFFFFFFFFF)
        return 0 if word in (_FALSE[0], _FALSE[1], _FALSE[2]) else NO_VALUE
    return NO_VALUE


@inner
def _days(year: int, month: int) -> int:
    """Count the days from 1970 to a month, and those of it.

    Returns:
        The former times 32, plus the latter.
    """
    leap = (year & 3 == 0) and (year % 100 != 0 or year % 400 == 0)
    length = 28 + leap if month == 2 else 30 + ((month + (month >> 3)) & 1)
    past = year - (month <= 2)
    month += 9 if month <= 2 else -3
    days = 365 * past + past // 4 - past // 100 + past // 400 + (153 * month + 2) // 5 - 719468
    return days * 32 + length


@inner
def _date(at: int, end: int, spec: int) -> Any:
    """Read YYYY-MM-DD. Returns (days since 1970, whether it is a day)."""
    if at + 10 > end:
        return 0, False
    word, day = word_at(at, end), (byte(at + 8) - ZERO) * 10 + byte(at + 9) - ZERO
    if not (48 <= byte(at + 8) <= 57 and 48 <= byte(at + 9) <= 57):
        return 0, False
    if word != load(spec + 8 * LAST):  # mostly the month is that of the record before
        digits = word ^ _DATE
        if ((digits + PAST_NINE) | digits) & TOPS or digits & _DASHES:
            return 0, False
        year = i64(
            (digits & _BYTE) * u64(1000)
            + (digits >> EIGHT & _BYTE) * u64(100)
            + (digits >> SIXTEEN & _BYTE) * TEN
            + (digits >> u64(24) & _BYTE)
        )
        month = i64((digits >> u64(40) & _BYTE) * TEN + (digits >> u64(48) & _BYTE))
        if not (int64(spec + 8 * LOW) <= year <= int64(spec + 8 * HIGH) and 1 <= month <= 12):
            return 0, False
        set_word(spec + 8 * LAST, word)
        set64(spec + 8 * LAST_DAY, _days(year, month))
    first = int64(spec + 8 * LAST_DAY)
    return (first >> 5) + day - 1, 1 <= day <= first & 31


@inner
def _time(at: int, end: int, spec: int) -> Any:
    """Read a time in ISO form. Returns (units since 1970, where it ends), or NO_VALUE as the end."""
    days, sound = _date(at, end, spec)
    if not sound:
        return 0, NO_VALUE
    seconds, unit, zoned = days * 86400, int64(spec + 8 * UNIT), int64(spec + 8 * ZONED)
    at += 10
    if at >= end or (byte(at) not in (_T, BLANK)):
        return seconds * unit, NO_VALUE if zoned else at
    word = word_at(at + 1, end)
    digits = word ^ _CLOCK
    if digits & _COLON or ((digits + PAST_NINE) | digits) & _MINUTES:
        return 0, NO_VALUE
    hour = i64((digits & _BYTE) * TEN + (digits >> EIGHT & _BYTE))
    minute = i64((digits >> u64(24) & _BYTE) * TEN + (digits >> BITS_32 & _BYTE))
    second, fraction, at = 0, 0, at + 6
    if digits & _SECOND_COLON == 0:
        if ((digits + PAST_NINE) | digits) & TOPS:
            return 0, NO_VALUE
        second = i64((digits >> u64(48) & _BYTE) * TEN + (digits >> u64(56)))
        at += 3
        if at < end and byte(at) == POINT:
            value, stop = _integer(at + 1, end)
            missing = int64(spec + 8 * DIGITS) - (stop - at - 1)
            if stop == NO_VALUE or missing < 0:
                return 0, NO_VALUE
            fraction, at = i64(value), stop
            for _ in range(missing):
                fraction *= 10
    if hour > 23 or minute > 59 or second > 59:
        return 0, NO_VALUE
    if zoned:
        if at >= end or byte(at) != _Z:
            return 0, NO_VALUE
        at += 1
    return (seconds + hour * 3600 + minute * 60 + second) * unit + fraction, at


@inner
def _time_by_format(at: int, end: int, spec: int) -> Any:
    """Read a time by its format. Each number has all its digits."""
    year, month, day, hour, minute, second, fraction = 0, 0, 0, 0, 0, 0, 0
    place = int64(spec + 8 * FORMAT)
    for step in range(place, place + int64(spec + 8 * STEPS)):
        directive = byte(step)
        if directive >= LITERAL:
            if at >= end or byte(at) != directive - LITERAL:
                return 0, NO_VALUE
            at += 1
            continue
        word = word_at(at, end)
        count = _digit_count(word)
        if directive == FRACTION:
            if not 0 < count < 7:
                return 0, NO_VALUE
            fraction = i64(_number(word, count))
            for _ in range(6 - count):
                fraction *= 10
            at += count
            continue
        width = 4 if directive == YEAR else 2
        if count < width:
            return 0, NO_VALUE
        value = i64(_number(word, width))
        at += width
        if directive == YEAR:
            year = value
        elif directive == MONTH:
            month = value
        elif directive == DAY:
            day = value
        elif directive == HOUR:
            hour = value
        elif directive == MINUTE:
            minute = value
        else:
            second = value
    if not (int64(spec + 8 * LOW) <= year <= int64(spec + 8 * HIGH) and 1 <= month <= 12):
        return 0, NO_VALUE
    first = _days(year, month)
    if not 1 <= day <= first & 31 or hour > 23 or minute > 59 or second > 59:
        return 0, NO_VALUE
    unit = int64(spec + 8 * UNIT)
    if unit < 1_000_000:
        step = 1_000_000 // unit
        if fraction % step:
            return 0, NO_VALUE
        fraction //= step
    else:
        fraction *= unit // 1_000_000
    seconds = ((first >> 5) + day - 1) * 86400 + hour * 3600 + minute * 60 + second
    return seconds * unit + fraction, at


@inner
def is_null(at: int, stop: int, end: int, spec: int) -> bool:
    """Tell whether a text is a null marker of the column."""
    size, word, checked = stop - at, u64(0), False
    mark = int64(spec + 8 * MARKS)
    for _ in range(int64(spec + 8 * MARK_COUNT)):
        if int64(mark) == size:
            if not checked and size:
                word = word_at(at, end)
                if size < 8:
                    word &= (u64(1) << u64(8 * size)) - u64(1)
            checked = True
            if load(mark + 8) == word and (size <= 8 or equal(at + 8, int64(mark + 16) + 8, size - 8)):
                return True
        mark += 8 * MARK
    return False


@inner
def equal(first: int, second: int, size: int) -> bool:
    """Tell whether two places hold the same bytes."""
    i = 0
    while i < size and byte(first + i) == byte(second + i):
        i += 1
    return i == size


@inner
def store(out: int, row: int, width: int, value: int) -> None:
    """Store an integer of so many bytes."""
    if width == 2:
        set16(out + 2 * row, value)
    elif width == 1:
        set8(out + row, value)
    elif width == 8:
        set64(out + 8 * row, value)
    else:
        set32(out + 4 * row, value)


@inner
def scalar(kind: int, at: int, end: int, spec: int, row: int, stopper: Any, quote: Any, powers: int) -> int:
    """Read one value that is no text, and store it. Returns where it ends, or NO_VALUE."""
    out = int64(spec + 8 * OUT)
    if kind == INTEGER:
        least = int64(spec + 8 * LOW)
        negative = i64(least != 0 and at < end and byte(at) == MINUS)
        value, stop = _integer(at + negative, end)
        if value > u64(least if negative else int64(spec + 8 * HIGH)):
            return NO_VALUE
        number = i64(value)
        store(out, row, int64(spec + 8 * WIDTH), (number ^ -negative) + negative)
        return stop
    if kind == TIME:
        number, stop = _time(at, end, spec)
        set64(out + 8 * row, number)
        return stop
    if kind == FLOAT64:
        real, stop = _float(at, end, powers)
        set_double(out + 8 * row, real)
        return stop
    if kind == FLOAT32:
        real, stop = _float(at, end, powers)
        size = abs(real)
        # a float64 half between two of them may have been rounded to there
        if bits_of(real) & _BELOW == _MIDDLE or size > _MOST_FLOAT32 or 0 < size < _LEAST_FLOAT32:
            return NO_VALUE
        set_float(out + 4 * row, np.float32(real))
        return stop
    if kind == DATE:
        number, sound = _date(at, end, spec)
        set32(out + 4 * row, number)
        return at + 10 if sound else NO_VALUE
    if kind == BOOLEAN:
        stop = field_end(at, end, stopper, quote)
        number = _boolean(at, stop, end)
        set8(out + row, number)
        return stop if number >= 0 else NO_VALUE
    number, stop = _time_by_format(at, end, spec)
    set64(out + 8 * row, number)
    return stop


@inner
def text_at(at: int, end: int, spec: int, row: int, stopper: Any, quote: Any) -> int:
    """Copy a text while looking for its end. Returns where it ends, or NO_VALUE where the heap is full."""
    offsets = int64(spec + 8 * OUT) + 4 * row
    heap = int64(spec + 8 * HEAP)
    to = heap + int32(offsets)
    last = heap + int64(spec + 8 * HEAP_SIZE) - 8
    stop = end
    while at < end:
        if to > last:
            return NO_VALUE
        word = word_at(at, end)
        set_word(to, word)
        mask = same(word, stopper) | same(word, LFS) | same(word, CRS) | same(word, quote)
        if mask:
            size = lowest(mask) >> 3
            stop = at + size
            to += size
            break
        step = min(8, end - at)
        at += step
        to += step
    set32(offsets + 4, to - heap)
    return stop


@inner
def nullify(spec: int, row: int, most: int) -> None:
    """Mark a value as null. A column's first null makes its bitmap."""
    valid, count = int64(spec + 8 * VALID), int64(spec + 8 * NULLS)
    if count == 0:
        for i in range((most + 7) // 8):
            set8(valid + i, 255)
    set64(spec + 8 * NULLS, count + 1)
    set8(valid + (row >> 3), byte(valid + (row >> 3)) & ~(1 << (row & 7)))


@inner
def undo_nulls(job: int, row: int, columns: int) -> None:
    """Take back the null marks of a record that is left."""
    for column in range(columns):
        spec = job + 8 * (HEAD + WORDS * column)
        place, bit = int64(spec + 8 * VALID) + (row >> 3), 1 << (row & 7)
        count = int64(spec + 8 * NULLS)
        if count and not byte(place) & bit:
            set8(place, byte(place) | bit)
            set64(spec + 8 * NULLS, count - 1)


@inner
def short_integer(at: int, stop: int, spec: int, row: int) -> bool:
    """Read a number of one to eight digits and nothing else."""
    least = int64(spec + 8 * LOW)
    negative = i64((byte(at) == MINUS) & (least != 0))
    size = stop - at - negative
    if not 1 <= size <= 8:
        return False
    before = u64(64 - 8 * size)
    digits = ((load(stop - 8) ^ ZEROS) >> before) << before
    if ((digits + PAST_NINE) | digits) & TOPS:
        return False
    digits = digits * TEN + (digits >> EIGHT)
    value = i64(((digits & PAIRS) * MILLIONS + ((digits >> SIXTEEN) & PAIRS) * TENS) >> BITS_32)
    if value > (least if negative else int64(spec + 8 * HIGH)) and int64(spec + 8 * WIDTH) < 8:
        return False
    store(int64(spec + 8 * OUT), row, int64(spec + 8 * WIDTH), (value ^ -negative) + negative)
    return True
