"""The compiled loop that reads plain records of declared types; :mod:`~ingestlab.formats.csv.fast` calls it.

It takes a record only where every field is written in the one way that needs no second thought, and leaves
any other to pyarrow: nothing here decides that a value is wrong. All memory is reached by address, so that one
compiled function serves every schema, holds no interpreter lock, and costs little to call.

Importing this module imports numba, which takes half a second and a hundred megabytes. Only the process that
:mod:`~ingestlab.formats.csv.compiled` starts does so: others load what it writes.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm
import numba
import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from ingestlab.formats.csv.compiled import ENTRY, machine, name
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
    FEW,
    FLOAT32,
    FLOAT64,
    FORMAT,
    FRACTION,
    FULL,
    GIVEN_UP,
    HEAD,
    HEADER,
    HEADER_SIZE,
    HEAP,
    HEAP_FULL,
    HEAP_SIZE,
    HIGH,
    HIGHEST_POWER,
    HOUR,
    INDEX,
    INDEXED,
    INTEGER,
    KIND,
    LAST,
    LAST_DAY,
    LEFT,
    LEFT_OUT,
    LITERAL,
    LOW,
    LOWEST_POWER,
    MARK,
    MARK_COUNT,
    MARKS,
    MINUTE,
    MONTH,
    NULLS,
    ONE_IN,
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

_i64: Any = np.int64
_u64: Any = np.uint64
_NO_VALUE, _FULL = -1, -2  # in place of where a value ends
_LF, _CR, _BLANK, _PLUS, _MINUS, _POINT, _ZERO, _T, _Z, _E = (ord(c) for c in "\n\r +-.0TZe")
_MOST_DIGITS = 19  # that surely fit in 64 bits
_MOST_FLOAT32, _LEAST_FLOAT32 = 3.4e38, 1.2e-38

# Eight bytes at once
_BYTE = _u64(0xFF)
_ONES = _u64(0x0101010101010101)
_TOPS = _u64(0x8080808080808080)
_LFS, _CRS = _u64(_LF) * _ONES, _u64(_CR) * _ONES
_ZEROS = _u64(0x3030303030303030)
_PAST_NINE = _u64(0x7676767676767676)
_TEN, _8, _16, _32, _64 = (_u64(number) for number in (10, 8, 16, 32, 64))
_PAIRS, _MILLIONS, _TENS = (_u64(n) for n in (0x000000FF000000FF, 0x000F424000000064, 0x0000271000000001))
_DATE = _u64(0x2D30302D30303030)  # 0000-00-
_DASHES = _u64(0xFF0000FF00000000)
_CLOCK = _u64(0x30303A30303A3030)  # 00:00:00
_COLON, _MINUTES = _u64(0xFF0000), _u64(0x0000008080008080)
_SECOND_COLON = _u64(0xFF0000000000)
_TRUE = tuple(_u64(int.from_bytes(text, "little")) for text in (b"true", b"True", b"TRUE"))
_FALSE = tuple(_u64(int.from_bytes(text, "little")) for text in (b"false", b"False", b"FALSE"))

# Floats
_EXACT = _u64(1 << 53)
_PRECISION = _u64(0x1FF)
_UNSURE = _u64(0xFFFFFFFFFFFFFFFF)  # in place of the bits of a number
_BELOW, _MIDDLE = _u64((1 << 29) - 1), _u64(1 << 28)  # what a float64 has beyond a float32


def _loads(bits: int, result: Any, real: Any = None) -> Any:
    """Make a function that loads from an address. Only 32 bits have a sign."""

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


@intrinsic
def _specials(_context: Any, address: Any, delimiter: Any, quote: Any) -> Any:  # noqa: ARG001 - named for numba
    """Find delimiters, quotes and line ends among 64 bytes."""

    def code(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        kind = ir.VectorType(ir.IntType(8), 64)
        text = builder.load(builder.inttoptr(arguments[0], kind.as_pointer()), typ=kind, align=1)
        found = None
        for character in (_LF, _CR, *arguments[1:]):
            if isinstance(character, int):
                wanted: Any = ir.Constant(kind, [character] * 64)
            else:
                one = builder.insert_element(
                    ir.Constant(kind, ir.Undefined),
                    builder.trunc(character, ir.IntType(8)),
                    ir.Constant(ir.IntType(32), 0),
                )
                lanes = ir.Constant(ir.VectorType(ir.IntType(32), 64), [0] * 64)
                wanted = builder.shuffle_vector(one, ir.Constant(kind, ir.Undefined), lanes)
            same = builder.icmp_unsigned("==", text, wanted)
            found = same if found is None else builder.or_(found, same)
        return builder.bitcast(found, ir.IntType(64))

    return types.uint64(types.int64, types.int64, types.int64), code


_byte, _int32, _int = _loads(8, types.int64), _loads(32, types.int64), _loads(64, types.int64)
_load, _double = _loads(64, types.uint64), _loads(64, types.float64, ir.DoubleType())
_set8, _set16, _set32, _set64 = (_stores(bits, types.int64) for bits in (8, 16, 32, 64))
_set_word = _stores(64, types.uint64)
_set_double, _set_float = _stores(64, types.float64, ir.DoubleType()), _stores(32, types.float32, ir.FloatType())
_no = ir.Constant(ir.IntType(1), 0)
_lowest = _computes(types.int64, (types.uint64,), lambda b, word: b.cttz(word, _no))  # zero bits below the lowest one
_highest = _computes(types.int64, (types.uint64,), lambda b, word: b.ctlz(word, _no))  # those above the highest one
_ones = _computes(types.int64, (types.uint64,), lambda b, word: b.ctpop(word))
_bits = _computes(types.uint64, (types.float64,), lambda b, real: b.bitcast(real, ir.IntType(64)))
_real = _computes(types.float64, (types.uint64,), lambda b, bits: b.bitcast(bits, ir.DoubleType()))
_high_product = _computes(types.uint64, (types.uint64, types.uint64), _upper)


_inner = numba.njit(nogil=True, error_model="numpy", boundscheck=False)


@_inner
def _word(at: int, end: int) -> Any:
    """Load eight bytes; those from `end` on count as zero."""
    if at + 8 <= end:
        return _load(at)
    word = _u64(0)
    for i in range(end - at):
        word |= _u64(_byte(at + i)) << _u64(8 * i)
    return word


@_inner
def _same(word: Any, pattern: Any) -> Any:
    """Set the top bits of equal bytes. It is exact up to the first."""
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
    digits = (word ^ _ZEROS) << (_64 - (_u64(count) << _u64(3)))
    digits = digits * _TEN + (digits >> _8)
    return ((digits & _PAIRS) * _MILLIONS + ((digits >> _16) & _PAIRS) * _TENS) >> _32


@_inner
def _shifted(value: Any, count: int) -> Any:
    """Multiply by ten so often, at most eight times."""
    if count == 8:
        return value * _u64(100_000_000)
    for _ in range(count):
        value *= _TEN
    return value


@_inner
def _integer(at: int, end: int) -> Any:
    """Read up to 19 digits. Returns (value, where they end), or _NO_VALUE as the end."""
    word = _word(at, end)
    count = _digit_count(word)
    if count == 0:
        return _u64(0), _NO_VALUE
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
    value, count, stop = _mantissa(at, end, _u64(0), 0)
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
        power = _i64(_number(word, count))
        exponent += -power if sign == _MINUS else power
        at += count
    if value <= _EXACT and -22 <= exponent <= 22:
        number: Any = np.float64(value)
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
    """Return the bits of the nearest float64. _UNSURE where that takes more care.

    The algorithm is Eisel and Lemire's ("Number parsing at a gigabyte per second", 2021), without subnormals.
    """
    if not LOWEST_POWER <= exponent <= HIGHEST_POWER:
        return _UNSURE
    zeros = _highest(value)
    value <<= _u64(zeros)
    place = powers + 16 * (exponent - LOWEST_POWER)
    factor = _load(place)
    high, low = _high_product(value, factor), value * factor
    if high & _PRECISION == _PRECISION:
        more = _high_product(value, _load(place + 8))
        low += more
        if more > low:
            high += _u64(1)
    top = _i64(high >> _u64(63))
    shift = _u64(top + 9)
    mantissa = high >> shift
    power = ((217706 * exponent) >> 16) + 63 + top - zeros + 1023
    if power <= 0:
        return _UNSURE
    even = low <= _u64(1) and -4 <= exponent <= 23 and mantissa & _u64(3) == _u64(1)
    if even and mantissa << shift == high:  # half between two numbers: to the even one
        mantissa &= ~_u64(1)
    mantissa = (mantissa + (mantissa & _u64(1))) >> _u64(1)
    if mantissa >= _u64(1 << 53):
        mantissa = _u64(1 << 52)
        power += 1
    if power >= 0x7FF:
        return _UNSURE
    return (mantissa & ~_u64(1 << 52)) | (_u64(power) << _u64(52))


@_inner
def _boolean(at: int, stop: int, end: int) -> int:
    """Read 0, 1, true and false. _NO_VALUE for another spelling."""
    size, word = stop - at, _word(at, end)
    if size == 1:
        digit = _i64(word & _BYTE) - _ZERO
        return digit if 0 <= digit <= 1 else _NO_VALUE
    if size == 4:
        word &= _u64(0xFFFFFFFF)
        return 1 if word in (_TRUE[0], _TRUE[1], _TRUE[2]) else _NO_VALUE
    if size == 5:
        word &= _u64(0xFFFFFFFFFF)
        return 0 if word in (_FALSE[0], _FALSE[1], _FALSE[2]) else _NO_VALUE
    return _NO_VALUE


@_inner
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
        year = _i64(
            (digits & _BYTE) * _u64(1000)
            + (digits >> _8 & _BYTE) * _u64(100)
            + (digits >> _16 & _BYTE) * _TEN
            + (digits >> _u64(24) & _BYTE)
        )
        month = _i64((digits >> _u64(40) & _BYTE) * _TEN + (digits >> _u64(48) & _BYTE))
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
    hour = _i64((digits & _BYTE) * _TEN + (digits >> _8 & _BYTE))
    minute = _i64((digits >> _u64(24) & _BYTE) * _TEN + (digits >> _32 & _BYTE))
    second, fraction, at = 0, 0, at + 6
    if digits & _SECOND_COLON == 0:
        if ((digits + _PAST_NINE) | digits) & _TOPS:
            return 0, _NO_VALUE
        second = _i64((digits >> _u64(48) & _BYTE) * _TEN + (digits >> _u64(56)))
        at += 3
        if at < end and _byte(at) == _POINT:
            value, stop = _integer(at + 1, end)
            missing = _int(spec + 8 * DIGITS) - (stop - at - 1)
            if stop == _NO_VALUE or missing < 0:
                return 0, _NO_VALUE
            fraction, at = _i64(value), stop
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
    """Read a time by its format. Each number has all its digits."""
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
            fraction = _i64(_number(word, count))
            for _ in range(6 - count):
                fraction *= 10
            at += count
            continue
        width = 4 if directive == YEAR else 2
        if count < width:
            return 0, _NO_VALUE
        value = _i64(_number(word, width))
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
def _is_null(at: int, stop: int, end: int, spec: int) -> bool:
    """Tell whether a text is a null marker of the column."""
    size, word, checked = stop - at, _u64(0), False
    mark = _int(spec + 8 * MARKS)
    for _ in range(_int(spec + 8 * MARK_COUNT)):
        if _int(mark) == size:
            if not checked and size:
                word = _word(at, end)
                if size < 8:
                    word &= (_u64(1) << _u64(8 * size)) - _u64(1)
            checked = True
            if _load(mark + 8) == word and (size <= 8 or _equal(at + 8, _int(mark + 16) + 8, size - 8)):
                return True
        mark += 8 * MARK
    return False


@_inner
def _equal(first: int, second: int, size: int) -> bool:
    i = 0
    while i < size and _byte(first + i) == _byte(second + i):
        i += 1
    return i == size


@_inner
def _is_header(at: int, end: int, header: int, size: int) -> bool:
    """Tell whether a line repeats the header."""
    stop = at + size
    return (
        at + size <= end
        and _byte(at) == _byte(header)
        and _equal(at, header, size)
        and (stop == end or _byte(stop) in (_LF, _CR))
    )


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
        negative = _i64(least != 0 and at < end and _byte(at) == _MINUS)
        value, stop = _integer(at + negative, end)
        if value > _u64(least if negative else _int(spec + 8 * HIGH)):
            return _NO_VALUE
        number = _i64(value)
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
    stop = end
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
    """Find where a record ends. _NO_VALUE where quotes leave doubt."""
    stopper = _u64(delimiter) * _ONES
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


@_inner
def _count_line_ends(at: int, end: int) -> int:
    count = 0
    while at + 64 <= end:
        count += _ones(_specials(at, _LF, _LF))
        at += 64
    while at < end:
        count += _byte(at) in (_LF, _CR)
        at += 1
    return count


@_inner
def _index(at: int, end: int, out: int, delimiter: int, quote: int) -> int:
    """List where delimiters, quotes and line ends are, counted from `at`. Returns how many there are."""
    begin, count = at, 0
    while at + 64 <= end:
        found = _specials(at, delimiter, quote)
        to = out + 4 * count
        count += _ones(found)
        while found:
            _set32(to, at - begin + _lowest(found))
            to += 4
            found &= found - _u64(1)
        at += 64
    while at < end:
        if _byte(at) in (_LF, _CR, delimiter, quote):
            _set32(out + 4 * count, at - begin)
            count += 1
        at += 1
    return count


@_inner
def _plain_record(
    job: int, start: int, begin: int, index: int, end: int, row: int, most: int, stopper: Any, quote: Any, powers: int
) -> bool:
    """Read a record by the places of its delimiters. Returns False where that needs a closer look."""
    delimiter, columns = _int(job + 8 * DELIMITER), _int(job + 8 * COLUMNS)
    at = start
    for column in range(columns):
        spec = job + 8 * (HEAD + WORDS * column)
        stop = begin + _int32(index + 4 * column)
        if column < columns - 1:
            if _byte(stop) != delimiter:
                return False
        elif _byte(stop) not in (_LF, _CR):
            return False
        kind = _int(spec + 8 * KIND)
        if kind == STRING:
            offsets = _int(spec + 8 * OUT) + 4 * row
            to, size = _int32(offsets), stop - at
            if to + size + 16 > _int(spec + 8 * HEAP_SIZE):
                return False
            if _is_null(at, stop, end, spec):
                _nullify(spec, row, most)
                _set32(offsets + 4, to)
            else:
                _set32(offsets + 4, to + size)
                to += _int(spec + 8 * HEAP)
                _set_word(to, _load(at))
                _set_word(to + 8, _load(at + 8))
                while size > 16:
                    size -= 8
                    at += 8
                    to += 8
                    _set_word(to + 8, _load(at + 8))
        elif kind != SKIP:
            if _int(spec + 8 * EARLY) and _is_null(at, stop, end, spec):
                _nullify(spec, row, most)
            elif not (kind == INTEGER and _short_integer(at, stop, spec, row)) and (
                stop == at or _scalar(kind, at, end, spec, row, stopper, quote, powers) != stop
            ):
                if not _is_null(at, stop, end, spec):
                    return False
                _nullify(spec, row, most)
        at = stop + 1
    return True


@_inner
def _short_integer(at: int, stop: int, spec: int, row: int) -> bool:
    """Read a number of one to eight digits and nothing else."""
    least = _int(spec + 8 * LOW)
    negative = _i64((_byte(at) == _MINUS) & (least != 0))
    size = stop - at - negative
    if not 1 <= size <= 8:
        return False
    before = _u64(64 - 8 * size)
    digits = ((_load(stop - 8) ^ _ZEROS) >> before) << before
    if ((digits + _PAST_NINE) | digits) & _TOPS:
        return False
    digits = digits * _TEN + (digits >> _8)
    value = _i64(((digits & _PAIRS) * _MILLIONS + ((digits >> _16) & _PAIRS) * _TENS) >> _32)
    if value > (least if negative else _int(spec + 8 * HIGH)) and _int(spec + 8 * WIDTH) < 8:
        return False
    _store(_int(spec + 8 * OUT), row, _int(spec + 8 * WIDTH), (value ^ -negative) + negative)
    return True


@_inner
def _careful_record(
    job: int, at: int, end: int, row: int, most: int, stopper: Any, quotes: Any, powers: int
) -> tuple[int, int]:
    """Read a record field by field. Returns where it ends and its column; _NO_VALUE or _FULL in place of the end."""
    delimiter, quote, columns = _int(job + 8 * DELIMITER), _int(job + 8 * QUOTE), _int(job + 8 * COLUMNS)
    column = 0
    while True:
        spec = job + 8 * (HEAD + WORDS * column)
        kind = _int(spec + 8 * KIND)
        quoted = quote >= 0 and at < end and _byte(at) == quote
        at += quoted
        until = quotes if quoted else stopper
        if kind == SKIP:
            stop = _field_end(at, end, until, quotes)
        elif kind == STRING:
            stop = _text(at, end, spec, row, until, quotes)
            if stop == _NO_VALUE:
                return _FULL, column
            if _is_null(at, stop, end, spec):
                _nullify(spec, row, most)
                offsets = _int(spec + 8 * OUT) + 4 * row
                _set32(offsets + 4, _int32(offsets))
        else:
            stop, early = _NO_VALUE, _int(spec + 8 * EARLY)
            if not early:
                stop = _scalar(kind, at, end, spec, row, until, quotes, powers)
            if stop == _NO_VALUE:
                stop = _field_end(at, end, until, quotes)
                if _is_null(at, stop, end, spec):
                    _nullify(spec, row, most)
                elif not early:
                    return _NO_VALUE, column
                else:
                    stop = _scalar(kind, at, end, spec, row, until, quotes, powers)
                    if stop == _NO_VALUE:
                        return _NO_VALUE, column
        if quoted:
            if stop >= end or _byte(stop) != quote:
                return _NO_VALUE, column
            stop += 1
        byte = _byte(stop) if stop < end else _LF
        if byte in (_LF, _CR):
            return stop if column == columns - 1 else _NO_VALUE, column
        column += 1
        at = stop + 1
        if byte != delimiter or column == columns:
            return _NO_VALUE, column


def _read(job: int) -> int:
    """Read records up to the end, or until a heap is full."""
    data = _int(job + 8 * DATA)
    at, end = data + _int(job + 8 * POS), data + _int(job + 8 * END)
    row, record, left = _int(job + 8 * ROW), _int(job + 8 * RECORD), _int(job + 8 * LEFT)
    most = _int(job + 8 * ROW_MOST)
    if not most:
        _set64(job + 8 * ROW_MOST, _count_line_ends(at, end) + 1)
        return DONE
    delimiter, quote, columns = _int(job + 8 * DELIMITER), _int(job + 8 * QUOTE), _int(job + 8 * COLUMNS)
    starts, ends, left_out = _int(job + 8 * STARTS), _int(job + 8 * ENDS), _int(job + 8 * LEFT_OUT)
    powers, index, room = _int(job + 8 * POWERS), _int(job + 8 * INDEX), _int(job + 8 * INDEXED)
    header, header_size = _int(job + 8 * HEADER), _int(job + 8 * HEADER_SIZE)
    stopper = _u64(delimiter) * _ONES
    quotes = _u64(delimiter if quote < 0 else quote) * _ONES
    begin, place, found, limit = at, 0, 0, at  # what is indexed, from begin to limit, and how much of it is read
    while at < end:
        if _byte(at) in (_LF, _CR):
            at += 1
            continue
        while place < found and begin + _int32(index + 4 * place) < at:
            place += 1
        if place + columns > found and limit < end:
            begin, place, limit = at, 0, min(at + room, end)
            found = _index(at, limit, index, delimiter, delimiter if quote < 0 else quote)
        start, sound, at = at, False, _NO_VALUE
        head = header_size > 0 and _is_header(start, end, header, header_size)
        if not head and start >= data + 8 and place + columns <= found:
            stop = begin + _int32(index + 4 * (place + columns - 1))
            if stop + 24 <= end:
                sound = _plain_record(job, start, begin, index + 4 * place, end, row, most, stopper, quotes, powers)
                if sound:
                    at = stop
                    place += columns
                else:
                    _undo_nulls(job, row, columns)
        if not sound:
            if not head:
                at, column = _careful_record(job, start, end, row, most, stopper, quotes, powers)
            sound = at >= 0
            if not sound:
                _undo_nulls(job, row, columns)
                if at == _FULL:
                    _set64(job + 8 * FULL, column)
                    at = start
                    break
                at = _record_end(start, end, delimiter, quote, quotes)
                if at == _NO_VALUE or left * ONE_IN > record + FEW:
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
    return DONE if at >= end else HEAP_FULL


def main(path: str) -> None:
    """Compile the loop for this processor into an object file."""
    if Path(path).name != name():
        raise SystemExit("another build was asked for")
    os.nice(10)  # others are at it meanwhile, by the slower way
    loop = numba.cfunc("int64(int64)", nopython=True, error_model="numpy", boundscheck=False)(_read)
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    module = llvm.parse_assembly(loop.inspect_llvm().replace(loop.native_name, ENTRY))
    module.verify()
    unfinished = Path(f"{path}.{os.getpid()}")
    unfinished.write_bytes(machine().emit_object(module))
    unfinished.replace(path)


if __name__ == "__main__":
    main(sys.argv[1])
