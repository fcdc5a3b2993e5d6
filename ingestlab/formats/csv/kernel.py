"""The compiled loop that reads plain records of declared types; :mod:`~ingestlab.formats.csv.fast` calls it.

It takes a record only where every field is written in the one way that needs no second thought, and leaves
any other to pyarrow: nothing here decides that a value is wrong. All memory is reached by address, so that one
compiled function serves every schema, holds no interpreter lock, and costs little to call.

Importing this module imports numba: only :mod:`~ingestlab.formats.csv.fast` does so.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from ingestlab.formats.csv.job import (
    BOOLEAN,
    COLUMNS,
    DATA,
    DATE,
    DAY,
    DELIMITER,
    DIGITS,
    DONE,
    EARLY,
    END,
    ENDS,
    FLOAT32,
    FLOAT64,
    FORMAT,
    FRACTION,
    FULL,
    GIVEN_UP,
    HEAD,
    HEAP,
    HEAP_FULL,
    HEAP_SIZE,
    HIGH,
    HIGHEST_POWER,
    HOUR,
    INTEGER,
    KIND,
    LAST,
    LAST_DAY,
    LEFT,
    LEFT_MOST,
    LEFT_OUT,
    LITERAL,
    LOW,
    LOWEST_POWER,
    MARK_COUNT,
    MARKS,
    MINUTE,
    MONTH,
    NULLS,
    OUT,
    POS,
    POWERS,
    QUOTE,
    RECORD,
    ROW,
    ROW_MOST,
    SKIP,
    STARTS,
    STEPS,
    STRING,
    TIME,
    UNIT,
    VALID,
    WIDTH,
    WORDS,
    YEAR,
    ZONED,
)

_NO_VALUE = -1  # in place of where a value ends
_LF, _CR, _BLANK, _PLUS, _MINUS, _POINT, _ZERO, _T, _Z, _E = (ord(c) for c in "\n\r +-.0TZe")
_MOST_DIGITS = 19  # that surely fit in 64 bits
_MOST_FLOAT32, _LEAST_FLOAT32 = 3.4e38, 1.2e-38

# Eight bytes at once
_BYTE = np.uint64(0xFF)
_ONES = np.uint64(0x0101010101010101)
_TOPS = np.uint64(0x8080808080808080)
_LFS, _CRS = np.uint64(_LF) * _ONES, np.uint64(_CR) * _ONES
_ZEROS = np.uint64(0x3030303030303030)
_PAST_NINE = np.uint64(0x7676767676767676)
_TEN, _8, _16, _32, _64 = (np.uint64(number) for number in (10, 8, 16, 32, 64))
_PAIRS, _MILLIONS, _TENS = (np.uint64(n) for n in (0x000000FF000000FF, 0x000F424000000064, 0x0000271000000001))
_DATE = np.uint64(0x2D30302D30303030)  # 0000-00-
_DASHES = np.uint64(0xFF0000FF00000000)
_CLOCK = np.uint64(0x30303A30303A3030)  # 00:00:00
_COLON, _MINUTES = np.uint64(0xFF0000), np.uint64(0x0000008080008080)
_SECOND_COLON = np.uint64(0xFF0000000000)
_TRUE = tuple(np.uint64(int.from_bytes(text, "little")) for text in (b"true", b"True", b"TRUE"))
_FALSE = tuple(np.uint64(int.from_bytes(text, "little")) for text in (b"false", b"False", b"FALSE"))

# Floats
_EXACT = np.uint64(1 << 53)
_PRECISION = np.uint64(0x1FF)
_UNSURE = np.uint64(0xFFFFFFFFFFFFFFFF)  # in place of the bits of a number
_BELOW, _MIDDLE = np.uint64((1 << 29) - 1), np.uint64(1 << 28)  # what a float64 has beyond a float32


def _loads(bits: int, result: Any, real: Any = None) -> Any:
    """Make a function that loads from an address; 8 bits are a number without a sign, 32 bits one with it."""

    @intrinsic
    def load(_context: Any, address: Any) -> Any:  # noqa: ARG001 - named for numba
        def code(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            kind = real or ir.IntType(bits)
            value = builder.load(builder.inttoptr(arguments[0], kind.as_pointer()), typ=kind, align=1)
            if bits == 64:
                return value
            return builder.zext(value, ir.IntType(64)) if bits == 8 else builder.sext(value, ir.IntType(64))

        return result(types.int64), code

    return load


def _stores(bits: int, argument: Any, real: Any = None) -> Any:
    """Make a function that stores at an address."""

    @intrinsic
    def store(_context: Any, address: Any, value: Any) -> Any:  # noqa: ARG001 - named for numba
        def code(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            kind = real or ir.IntType(bits)
            value = arguments[1] if real or bits == 64 else builder.trunc(arguments[1], kind)
            builder.store(value, builder.inttoptr(arguments[0], kind.as_pointer()), align=1)
            return context.get_dummy_value()

        return types.void(types.int64, argument), code

    return store


def _computes(result: Any, arguments: tuple[Any, ...], make: Callable[..., Any]) -> Any:
    """Make a function of one or two arguments from instructions."""

    def code(_context: Any, builder: Any, _signature: Any, values: Any) -> Any:
        return make(builder, *values)

    if len(arguments) == 1:

        @intrinsic
        def one(_context: Any, value: Any) -> Any:  # noqa: ARG001 - named for numba
            return result(*arguments), code

        return one

    @intrinsic
    def two(_context: Any, first: Any, second: Any) -> Any:  # noqa: ARG001 - named for numba
        return result(*arguments), code

    return two


def _upper(builder: Any, first: Any, second: Any) -> Any:
    wide = ir.IntType(128)
    product = builder.mul(builder.zext(first, wide), builder.zext(second, wide))
    return builder.trunc(builder.lshr(product, ir.Constant(wide, 64)), ir.IntType(64))


_byte, _int32, _int = _loads(8, types.int64), _loads(32, types.int64), _loads(64, types.int64)
_load, _double = _loads(64, types.uint64), _loads(64, types.float64, ir.DoubleType())
_set8, _set16, _set32, _set64 = (_stores(bits, types.int64) for bits in (8, 16, 32, 64))
_set_word = _stores(64, types.uint64)
_set_double, _set_float = _stores(64, types.float64, ir.DoubleType()), _stores(32, types.float32, ir.FloatType())
_no = ir.Constant(ir.IntType(1), 0)
_lowest = _computes(types.int64, (types.uint64,), lambda b, word: b.cttz(word, _no))  # zero bits below the lowest one
_highest = _computes(types.int64, (types.uint64,), lambda b, word: b.ctlz(word, _no))  # those above the highest one
_bits = _computes(types.uint64, (types.float64,), lambda b, real: b.bitcast(real, ir.IntType(64)))
_real = _computes(types.float64, (types.uint64,), lambda b, bits: b.bitcast(bits, ir.DoubleType()))
_high_product = _computes(types.uint64, (types.uint64, types.uint64), _upper)


_inner = numba.njit(nogil=True, error_model="numpy", boundscheck=False)


@_inner
def _word(at: int, end: int) -> Any:
    """Load eight bytes; those from `end` on count as zero."""
    if at + 8 <= end:
        return _load(at)
    word = np.uint64(0)
    for i in range(end - at):
        word |= np.uint64(_byte(at + i)) << np.uint64(8 * i)
    return word


@_inner
def _same(word: Any, pattern: Any) -> Any:
    """Set the top bit of bytes that are equal, exact up to the first one."""
    other = word ^ pattern
    return (other - _ONES) & ~other & _TOPS


@_inner
def _field_end(at: int, end: int, stopper: Any, quote: Any) -> int:
    """Find the first stopper, line end or quote; `end` where none is."""
    while at < end:
        word = _word(at, end)
        found = _same(word, stopper) | _same(word, _LFS) | _same(word, _CRS) | _same(word, quote)
        if found:
            return at + (_lowest(found) >> 3)
        at += 8
    return end


@_inner
def _digit_count(word: Any) -> int:
    """Count the digits that a word begins with."""
    digits = word ^ _ZEROS
    return _lowest(((digits + _PAST_NINE) | digits) & _TOPS) >> 3


@_inner
def _number(word: Any, count: int) -> Any:
    """Read the first one to eight digits of a word."""
    digits = (word ^ _ZEROS) << (_64 - (np.uint64(count) << np.uint64(3)))
    digits = digits * _TEN + (digits >> _8)
    return ((digits & _PAIRS) * _MILLIONS + ((digits >> _16) & _PAIRS) * _TENS) >> _32


@_inner
def _shifted(value: Any, count: int) -> Any:
    """Multiply by ten so often, at most eight times."""
    if count == 8:
        return value * np.uint64(100_000_000)
    for _ in range(count):
        value *= _TEN
    return value


@_inner
def _integer(at: int, end: int) -> Any:
    """Read up to 19 digits. Returns (value, where they end), or _NO_VALUE as the end."""
    word = _word(at, end)
    count = _digit_count(word)
    if count == 0:
        return np.uint64(0), _NO_VALUE
    value = _number(word, count)
    if count < 8:
        return value, at + count
    total = 8
    while count == 8:
        at += 8
        word = _word(at, end)
        count = _digit_count(word)
        total += count
        if total > _MOST_DIGITS:
            return value, _NO_VALUE
        if count:
            value = _shifted(value, count) + _number(word, count)
    return value, at + count


@_inner
def _mantissa(at: int, end: int, value: Any, count: int) -> Any:
    """Read digits after `count` significant ones. Returns (value, significant digits, where they end)."""
    while True:
        word = _word(at, end)
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
                rest //= _TEN
        if count > _MOST_DIGITS:
            return value, count, at
        value = _shifted(value, more) + part
        at += more
        if more < 8:
            return value, count, at


@_inner
def _float(at: int, end: int, powers: int) -> Any:
    """Read a number. Returns (its float64, where it ends), or _NO_VALUE as the end where that takes more care."""
    negative = at < end and _byte(at) == _MINUS
    at += negative
    value, count, stop = _mantissa(at, end, np.uint64(0), 0)
    seen, at, exponent = stop - at, stop, 0
    if at < end and _byte(at) == _POINT and count <= _MOST_DIGITS:
        value, count, stop = _mantissa(at + 1, end, value, count)
        exponent = at + 1 - stop
        seen, at = seen - exponent, stop
    if seen == 0 or count > _MOST_DIGITS:
        return 0.0, _NO_VALUE
    if at < end and (_byte(at) | 32) == _E:
        at += 1
        sign = _byte(at) if at < end else 0
        at += sign in (_MINUS, _PLUS)
        word = _word(at, end)
        count = _digit_count(word)
        if not 0 < count < 4:
            return 0.0, _NO_VALUE
        power = np.int64(_number(word, count))
        exponent += -power if sign == _MINUS else power
        at += count
    if value <= _EXACT and -22 <= exponent <= 22:
        number = np.float64(value)
        if exponent < 0:
            number /= _double(powers - 8 * exponent)
        else:
            number *= _double(powers + 8 * exponent)
    elif value == 0:
        number = 0.0
    else:
        bits = _rounded(value, exponent, powers + 8 * 23)
        if bits == _UNSURE:
            return 0.0, _NO_VALUE
        number = _real(bits)
    return -number if negative else number, at


@_inner
def _rounded(value: Any, exponent: int, powers: int) -> Any:
    """Return the bits of the float64 nearest to value * 10**exponent, by Eisel and Lemire; _UNSURE at the margins."""
    if not LOWEST_POWER <= exponent <= HIGHEST_POWER:
        return _UNSURE
    zeros = _highest(value)
    value <<= np.uint64(zeros)
    place = powers + 16 * (exponent - LOWEST_POWER)
    factor = _load(place)
    high, low = _high_product(value, factor), value * factor
    if high & _PRECISION == _PRECISION:
        more = _high_product(value, _load(place + 8))
        low += more
        if more > low:
            high += np.uint64(1)
    top = np.int64(high >> np.uint64(63))
    shift = np.uint64(top + 9)
    mantissa = high >> shift
    power = ((217706 * exponent) >> 16) + 63 + top - zeros + 1023
    if power <= 0:
        return _UNSURE
    if low <= np.uint64(1) and -4 <= exponent <= 23 and mantissa & np.uint64(3) == np.uint64(1):
        if mantissa << shift == high:  # half between two numbers: to the even one
            mantissa &= ~np.uint64(1)
    mantissa = (mantissa + (mantissa & np.uint64(1))) >> np.uint64(1)
    if mantissa >= np.uint64(1 << 53):
        mantissa = np.uint64(1 << 52)
        power += 1
    if power >= 0x7FF:
        return _UNSURE
    return (mantissa & ~np.uint64(1 << 52)) | (np.uint64(power) << np.uint64(52))


@_inner
def _boolean(at: int, stop: int, end: int) -> int:
    """Read 0 or 1, and true or false in three spellings; _NO_VALUE for others."""
    size, word = stop - at, _word(at, end)
    if size == 1:
        digit = np.int64(word & _BYTE) - _ZERO
        return digit if 0 <= digit <= 1 else _NO_VALUE
    if size == 4:
        word &= np.uint64(0xFFFFFFFF)
        return 1 if word in (_TRUE[0], _TRUE[1], _TRUE[2]) else _NO_VALUE
    if size == 5:
        word &= np.uint64(0xFFFFFFFFFF)
        return 0 if word in (_FALSE[0], _FALSE[1], _FALSE[2]) else _NO_VALUE
    return _NO_VALUE


@_inner
def _days(year: int, month: int) -> int:
    """Count the days from 1970 to a month's first, times 32, plus how many days the month has."""
    leap = (year & 3 == 0) and (year % 100 != 0 or year % 400 == 0)
    length = 28 + leap if month == 2 else 30 + ((month + (month >> 3)) & 1)
    past = year - (month <= 2)
    month += 9 if month <= 2 else -3
    days = 365 * past + past // 4 - past // 100 + past // 400 + (153 * month + 2) // 5 - 719468
    return days * 32 + length


@_inner
def _date(at: int, end: int, spec: int) -> Any:
    """Read YYYY-MM-DD. Returns (days since 1970, whether it is a day)."""
    if at + 10 > end:
        return 0, False
    word, day = _word(at, end), (_byte(at + 8) - _ZERO) * 10 + _byte(at + 9) - _ZERO
    if not (48 <= _byte(at + 8) <= 57 and 48 <= _byte(at + 9) <= 57):
        return 0, False
    if word != _load(spec + 8 * LAST):  # mostly the month is that of the record before
        digits = word ^ _DATE
        if ((digits + _PAST_NINE) | digits) & _TOPS or digits & _DASHES:
            return 0, False
        year = np.int64(
            (digits & _BYTE) * np.uint64(1000)
            + (digits >> _8 & _BYTE) * np.uint64(100)
            + (digits >> _16 & _BYTE) * _TEN
            + (digits >> np.uint64(24) & _BYTE)
        )
        month = np.int64((digits >> np.uint64(40) & _BYTE) * _TEN + (digits >> np.uint64(48) & _BYTE))
        if not (_int(spec + 8 * LOW) <= year <= _int(spec + 8 * HIGH) and 1 <= month <= 12):
            return 0, False
        _set_word(spec + 8 * LAST, word)
        _set64(spec + 8 * LAST_DAY, _days(year, month))
    first = _int(spec + 8 * LAST_DAY)
    return (first >> 5) + day - 1, 1 <= day <= first & 31


@_inner
def _time(at: int, end: int, spec: int) -> Any:
    """Read a time in ISO form. Returns (units since 1970, where it ends), or _NO_VALUE as the end."""
    days, sound = _date(at, end, spec)
    if not sound:
        return 0, _NO_VALUE
    seconds, unit, zoned = days * 86400, _int(spec + 8 * UNIT), _int(spec + 8 * ZONED)
    at += 10
    if at >= end or (_byte(at) not in (_T, _BLANK)):
        return seconds * unit, _NO_VALUE if zoned else at
    word = _word(at + 1, end)
    digits = word ^ _CLOCK
    if digits & _COLON or ((digits + _PAST_NINE) | digits) & _MINUTES:
        return 0, _NO_VALUE
    hour = np.int64((digits & _BYTE) * _TEN + (digits >> _8 & _BYTE))
    minute = np.int64((digits >> np.uint64(24) & _BYTE) * _TEN + (digits >> _32 & _BYTE))
    second, fraction, at = 0, 0, at + 6
    if digits & _SECOND_COLON == 0:
        if ((digits + _PAST_NINE) | digits) & _TOPS:
            return 0, _NO_VALUE
        second = np.int64((digits >> np.uint64(48) & _BYTE) * _TEN + (digits >> np.uint64(56)))
        at += 3
        if at < end and _byte(at) == _POINT:
            value, stop = _integer(at + 1, end)
            missing = _int(spec + 8 * DIGITS) - (stop - at - 1)
            if stop == _NO_VALUE or missing < 0:
                return 0, _NO_VALUE
            fraction, at = np.int64(value), stop
            for _ in range(missing):
                fraction *= 10
    if hour > 23 or minute > 59 or second > 59:
        return 0, _NO_VALUE
    if zoned:
        if at >= end or _byte(at) != _Z:
            return 0, _NO_VALUE
        at += 1
    return (seconds + hour * 3600 + minute * 60 + second) * unit + fraction, at


@_inner
def _time_by_format(at: int, end: int, spec: int) -> Any:
    """Read a time as its format says, each number with all its digits."""
    year, month, day, hour, minute, second, fraction = 0, 0, 0, 0, 0, 0, 0
    place = _int(spec + 8 * FORMAT)
    for step in range(place, place + _int(spec + 8 * STEPS)):
        directive = _byte(step)
        if directive >= LITERAL:
            if at >= end or _byte(at) != directive - LITERAL:
                return 0, _NO_VALUE
            at += 1
            continue
        word = _word(at, end)
        count = _digit_count(word)
        if directive == FRACTION:
            if not 0 < count < 7:
                return 0, _NO_VALUE
            fraction = np.int64(_number(word, count))
            for _ in range(6 - count):
                fraction *= 10
            at += count
            continue
        width = 4 if directive == YEAR else 2
        if count < width:
            return 0, _NO_VALUE
        value = np.int64(_number(word, width))
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
    if not (_int(spec + 8 * LOW) <= year <= _int(spec + 8 * HIGH) and 1 <= month <= 12):
        return 0, _NO_VALUE
    first = _days(year, month)
    if not 1 <= day <= first & 31 or hour > 23 or minute > 59 or second > 59:
        return 0, _NO_VALUE
    unit = _int(spec + 8 * UNIT)
    if unit < 1_000_000:
        step = 1_000_000 // unit
        if fraction % step:
            return 0, _NO_VALUE
        fraction //= step
    else:
        fraction *= unit // 1_000_000
    seconds = ((first >> 5) + day - 1) * 86400 + hour * 3600 + minute * 60 + second
    return seconds * unit + fraction, at


@_inner
def _is_null(at: int, size: int, spec: int) -> bool:
    """Tell whether a text is one of the column's null markers, a list of (size, address)."""
    mark = _int(spec + 8 * MARKS)
    for _ in range(_int(spec + 8 * MARK_COUNT)):
        if _int(mark) == size:
            text, i = _int(mark + 8), 0
            while i < size and _byte(text + i) == _byte(at + i):
                i += 1
            if i == size:
                return True
        mark += 16
    return False


@_inner
def _store(out: int, row: int, width: int, value: int) -> None:
    if width == 2:
        _set16(out + 2 * row, value)
    elif width == 1:
        _set8(out + row, value)
    elif width == 8:
        _set64(out + 8 * row, value)
    else:
        _set32(out + 4 * row, value)


@_inner
def _scalar(kind: int, at: int, end: int, spec: int, row: int, stopper: Any, quote: Any, powers: int) -> int:
    """Read one value that is no text, and store it. Returns where it ends, or _NO_VALUE."""
    out = _int(spec + 8 * OUT)
    if kind == INTEGER:
        least = _int(spec + 8 * LOW)
        negative = np.int64(least != 0 and at < end and _byte(at) == _MINUS)
        value, stop = _integer(at + negative, end)
        if value > np.uint64(least if negative else _int(spec + 8 * HIGH)):
            return _NO_VALUE
        number = np.int64(value)
        _store(out, row, _int(spec + 8 * WIDTH), (number ^ -negative) + negative)
        return stop
    if kind == TIME:
        number, stop = _time(at, end, spec)
        _set64(out + 8 * row, number)
        return stop
    if kind == FLOAT64:
        real, stop = _float(at, end, powers)
        _set_double(out + 8 * row, real)
        return stop
    if kind == FLOAT32:
        real, stop = _float(at, end, powers)
        size = abs(real)
        # a float64 half between two of them may have been rounded to there
        if _bits(real) & _BELOW == _MIDDLE or size > _MOST_FLOAT32 or 0 < size < _LEAST_FLOAT32:
            return _NO_VALUE
        _set_float(out + 4 * row, np.float32(real))
        return stop
    if kind == DATE:
        number, sound = _date(at, end, spec)
        _set32(out + 4 * row, number)
        return at + 10 if sound else _NO_VALUE
    if kind == BOOLEAN:
        stop = _field_end(at, end, stopper, quote)
        number = _boolean(at, stop, end)
        _set8(out + row, number)
        return stop if number >= 0 else _NO_VALUE
    number, stop = _time_by_format(at, end, spec)
    _set64(out + 8 * row, number)
    return stop


@_inner
def _text(at: int, end: int, spec: int, row: int, stopper: Any, quote: Any) -> int:
    """Copy a text while looking for its end. Returns where it ends, or _NO_VALUE where the heap is full."""
    offsets = _int(spec + 8 * OUT) + 4 * row
    heap = _int(spec + 8 * HEAP)
    to = heap + _int32(offsets)
    last = heap + _int(spec + 8 * HEAP_SIZE) - 8
    begin, stop = to, end
    while at < end:
        if to > last:
            return _NO_VALUE
        word = _word(at, end)
        _set_word(to, word)
        found = _same(word, stopper) | _same(word, _LFS) | _same(word, _CRS) | _same(word, quote)
        if found:
            size = _lowest(found) >> 3
            stop = at + size
            to += size
            break
        step = min(8, end - at)
        at += step
        to += step
    _set32(offsets + 4, to - heap)
    return stop


@_inner
def _nullify(spec: int, row: int, most: int) -> None:
    """Mark a value as null. A column's first null makes its bitmap."""
    valid, count = _int(spec + 8 * VALID), _int(spec + 8 * NULLS)
    if count == 0:
        for i in range((most + 7) // 8):
            _set8(valid + i, 255)
    _set64(spec + 8 * NULLS, count + 1)
    _set8(valid + (row >> 3), _byte(valid + (row >> 3)) & ~(1 << (row & 7)))


@_inner
def _undo_nulls(job: int, row: int, columns: int) -> None:
    """Take back the null marks of a record that is left."""
    for column in range(columns):
        spec = job + 8 * (HEAD + WORDS * column)
        place, bit = _int(spec + 8 * VALID) + (row >> 3), 1 << (row & 7)
        count = _int(spec + 8 * NULLS)
        if count and not _byte(place) & bit:
            _set8(place, _byte(place) | bit)
            _set64(spec + 8 * NULLS, count - 1)


@_inner
def _record_end(at: int, end: int, delimiter: int, quote: int, quotes: Any) -> int:
    """Find the line end of a record that is left; _NO_VALUE where quotes leave doubt."""
    stopper = np.uint64(delimiter) * _ONES
    while True:
        if at < end and _byte(at) == quote:
            while True:
                at = _quote_after(at + 1, end, quotes)
                if at >= end:
                    return _NO_VALUE
                if at + 1 < end and _byte(at + 1) == quote:
                    at += 1
                    continue
                break
            at += 1
        else:
            at = _field_end(at, end, stopper, quotes)
        if at >= end or _byte(at) in (_LF, _CR):
            return at
        if _byte(at) != delimiter:
            return _NO_VALUE
        at += 1


@_inner
def _quote_after(at: int, end: int, quotes: Any) -> int:
    while at < end:
        found = _same(_word(at, end), quotes)
        if found:
            return at + (_lowest(found) >> 3)
        at += 8
    return end


def _read(job: int) -> int:
    """Read records until the text, or the heap of a column of texts, is at its end."""
    data = _int(job + 8 * DATA)
    at, end = data + _int(job + 8 * POS), data + _int(job + 8 * END)
    row, record, left = _int(job + 8 * ROW), _int(job + 8 * RECORD), _int(job + 8 * LEFT)
    most, left_most = _int(job + 8 * ROW_MOST), _int(job + 8 * LEFT_MOST)
    delimiter, quote, columns = _int(job + 8 * DELIMITER), _int(job + 8 * QUOTE), _int(job + 8 * COLUMNS)
    starts, ends, left_out = _int(job + 8 * STARTS), _int(job + 8 * ENDS), _int(job + 8 * LEFT_OUT)
    powers = _int(job + 8 * POWERS)
    delimiters = np.uint64(delimiter) * _ONES
    quotes = np.uint64(delimiter if quote < 0 else quote) * _ONES
    outcome = DONE
    while at < end:
        if _byte(at) in (_LF, _CR):
            at += 1
            continue
        start, column, sound = at, 0, False
        while True:
            spec = job + 8 * (HEAD + WORDS * column)
            kind = _int(spec + 8 * KIND)
            quoted = quote >= 0 and at < end and _byte(at) == quote
            at += quoted
            stopper = quotes if quoted else delimiters
            if kind == SKIP:
                stop = _field_end(at, end, stopper, quotes)
            elif kind == STRING:
                stop = _text(at, end, spec, row, stopper, quotes)
                if stop == _NO_VALUE:
                    outcome = HEAP_FULL
                    break
                if _is_null(at, stop - at, spec):
                    _nullify(spec, row, most)
                    offsets = _int(spec + 8 * OUT) + 4 * row
                    _set32(offsets + 4, _int32(offsets))
            else:
                stop = _NO_VALUE
                if not _int(spec + 8 * EARLY):
                    stop = _scalar(kind, at, end, spec, row, stopper, quotes, powers)
                if stop == _NO_VALUE:
                    stop = _field_end(at, end, stopper, quotes)
                    if _is_null(at, stop - at, spec):
                        _nullify(spec, row, most)
                    elif not _int(spec + 8 * EARLY):
                        break
                    else:
                        stop = _scalar(kind, at, end, spec, row, stopper, quotes, powers)
                        if stop == _NO_VALUE:
                            break
            if quoted:
                if stop >= end or _byte(stop) != quote:
                    break
                stop += 1
            byte = _byte(stop) if stop < end else _LF
            if byte == delimiter:
                column += 1
                at = stop + 1
                if column == columns:
                    break
            elif byte in (_LF, _CR):
                sound = column == columns - 1
                at = stop
                break
            else:
                break
        if not sound:
            _undo_nulls(job, row, columns)
            if outcome == HEAP_FULL:
                _set64(job + 8 * FULL, column)
                at = start
                break
            at = _record_end(start, end, delimiter, quote, quotes)
            if at == _NO_VALUE or left == left_most:
                return GIVEN_UP
            _set64(left_out + 8 * left, record)
            left += 1
        if at < end:
            at += 2 if _byte(at) == _CR and at + 1 < end and _byte(at + 1) == _LF else 1
        _set64(starts + 8 * record, start - data)
        _set64(ends + 8 * record, at - data)
        record += 1
        row += sound
    _set64(job + 8 * POS, at - data)
    _set64(job + 8 * ROW, row)
    _set64(job + 8 * RECORD, record)
    _set64(job + 8 * LEFT, left)
    return outcome


def compiled() -> Callable[[int], int]:
    """Compile the loop, or load what was compiled before.

    Returns:
        A function of the address of a job; it moves the words of the job, and says what came of it.
    """
    options = {"nogil": True, "error_model": "numpy", "boundscheck": False}
    try:
        return numba.njit("int64(int64)", cache=True, **options)(_read)  # type: ignore[no-any-return]
    except RuntimeError:  # no folder to keep it in
        return numba.njit("int64(int64)", **options)(_read)  # type: ignore[no-any-return]
