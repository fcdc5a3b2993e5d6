"""The loop that reads plain objects of JSON; :mod:`ingestlab.formats.json.fast` calls it.

It takes a record only where names and texts have no escapes and every value is plain, and leaves any other to pyarrow.
"""

from __future__ import annotations

from typing import Any

from ingestlab.formats.compiled.loops.memory import (
    CR,
    LF,
    ONES,
    TOPS,
    byte,
    inner,
    int32,
    int64,
    load,
    lowest,
    set8,
    set32,
    set64,
    set_word,
    u64,
)
from ingestlab.formats.compiled.loops.values import (
    BLANK,
    MINUS,
    NO_ROOM,
    NO_VALUE,
    POINT,
    ZERO,
    equal,
    nullify,
    same,
    scalar,
    undo_nulls,
    word_at,
)
from ingestlab.formats.compiled.words import (
    ATTEMPT,
    BOOLEAN,
    CLOSED,
    COLUMNS,
    DATA,
    DONE,
    END,
    ENDS,
    FEW,
    FLOAT32,
    FLOAT64,
    FULL,
    GIVEN_UP,
    HEAD,
    HEAP,
    HEAP_FULL,
    HEAP_SIZE,
    INTEGER,
    KEY,
    KEY_SIZE,
    KIND,
    LEFT,
    LEFT_OUT,
    LONGEST,
    ONE_IN,
    OUT,
    POS,
    POWERS,
    RECORD,
    ROW,
    ROW_MOST,
    SEEN,
    STARTS,
    STRING,
    WORDS,
)

_OPEN, _CLOSE, _QUOTE, _COMMA, _COLON, _TAB, _PLUS, _E = (ord(c) for c in '{}",:\t+e')
_QUOTES, _BACKSLASHES, _BLANKS = (u64(ord(c)) * ONES for c in '"\\ ')
_PLAIN_SIZE = 25  # bytes of a number that nobody wants
_LOW_HALF, _FIVE = u64(0xFFFFFFFF), u64(0xFFFFFFFFFF)
_NULL, _TRUE, _FALSE = (u64(int.from_bytes(text, "little")) for text in (b"null", b"true", b"false"))


@inner
def _blanks_end(at: int, stop: int) -> int:
    while at < stop and byte(at) in (BLANK, _TAB):
        at += 1
    return at


@inner
def _odd(word: Any) -> Any:
    """Set the top bits of quotes, backslashes and control characters. It is exact up to the first."""
    return same(word, _QUOTES) | same(word, _BACKSLASHES) | ((word - _BLANKS) & ~word & TOPS)


@inner
def _text_end(at: int, end: int) -> int:
    """Find the quote that ends a text without escapes. NO_VALUE where there is none."""
    while at < end:
        mask = _odd(word_at(at, end))
        if mask:
            at += lowest(mask) >> 3
            return at if at < end and byte(at) == _QUOTE else NO_VALUE
        at += 8
    return NO_VALUE


@inner
def _text(at: int, end: int, spec: int, row: int) -> int:
    """Copy a text while looking for its quote. Returns what is behind it; NO_VALUE or NO_ROOM."""
    offsets = int64(spec + 8 * OUT) + 4 * row
    heap = int64(spec + 8 * HEAP)
    to = heap + int32(offsets)
    last = heap + int64(spec + 8 * HEAP_SIZE) - 8
    while at < end:
        if to > last:
            return NO_ROOM
        word = word_at(at, end)
        set_word(to, word)
        mask = _odd(word)
        if mask:
            size = lowest(mask) >> 3
            at += size
            if at >= end or byte(at) != _QUOTE:
                return NO_VALUE
            set32(offsets + 4, to + size - heap)
            return at + 1
        at += 8
        to += 8
    return NO_VALUE


@inner
def _begins_with(at: int, end: int, key: int, size: int) -> bool:
    while size >= 8:
        if word_at(at, end) != load(key):
            return False
        at += 8
        key += 8
        size -= 8
    return size == 0 or (word_at(at, end) ^ load(key)) << u64(64 - 8 * size) == u64(0)


@inner
def _name(job: int, at: int, stop: int, end: int, likely: int) -> tuple[int, int]:
    """Read a name and its colon. Returns its column, or how many there are, and what is behind; NO_VALUE for that."""
    columns = int64(job + 8 * COLUMNS)
    if likely < columns:
        spec = job + 8 * (HEAD + WORDS * likely)
        size = int64(spec + 8 * KEY_SIZE)
        if _begins_with(at, end, int64(spec + 8 * KEY), size):
            return likely, at + size
    if at >= stop or byte(at) != _QUOTE:
        return columns, NO_VALUE
    begin = at + 1
    at = _text_end(begin, end)
    if at == NO_VALUE:
        return columns, NO_VALUE
    size, column = at - begin, 0
    while column < columns:
        spec = job + 8 * (HEAD + WORDS * column)
        if int64(spec + 8 * KEY_SIZE) == size + 3 and equal(begin, int64(spec + 8 * KEY) + 1, size):
            break
        column += 1
    at = _blanks_end(at + 1, stop)
    return column, at + 1 if at < stop and byte(at) == _COLON else NO_VALUE


@inner
def _digits_end(at: int, end: int) -> int:
    while at < end and ZERO <= byte(at) <= ZERO + 9:
        at += 1
    return at


@inner
def _number_end(at: int, end: int) -> int:
    """Find where a number of JSON's grammar ends.

    It knows no leading zeros, nor points without digits.
    """
    at += at < end and byte(at) == MINUS
    stop = _digits_end(at, end)
    if stop == at or (byte(at) == ZERO and stop > at + 1):
        return NO_VALUE
    if stop < end and byte(stop) == POINT:
        at = stop + 1
        stop = _digits_end(at, end)
        if stop == at:
            return NO_VALUE
    if stop < end and (byte(stop) | 32) == _E:
        at = stop + 1
        at += at < end and byte(at) in (MINUS, _PLUS)
        stop = _digits_end(at, end)
        if stop == at:
            return NO_VALUE
    return stop


@inner
def _skipped(at: int, end: int) -> int:
    """Pass over a value that nobody wants. NO_VALUE for lists and objects."""
    if at < end and byte(at) == _QUOTE:
        stop = _text_end(at + 1, end)
        return stop + 1 if stop != NO_VALUE else NO_VALUE
    word = word_at(at, end)
    if word & _LOW_HALF in (_NULL, _TRUE):
        return at + 4
    if word & _FIVE == _FALSE:
        return at + 5
    stop = _number_end(at, end)
    if stop - at > _PLAIN_SIZE:  # it may be too large for a number
        return NO_VALUE
    for place in range(at, stop):
        if (byte(place) | 32) == _E:
            return NO_VALUE
    return stop


@inner
def _absent(spec: int, row: int, most: int) -> None:
    """Store a null."""
    nullify(spec, row, most)
    if int64(spec + 8 * KIND) == STRING:
        offsets = int64(spec + 8 * OUT) + 4 * row
        set32(offsets + 4, int32(offsets))


@inner
def _value(at: int, end: int, spec: int, row: int, most: int, powers: int) -> int:
    """Read a value of a column. Returns what is behind it; NO_VALUE or NO_ROOM."""
    kind, word = int64(spec + 8 * KIND), word_at(at, end)
    if word & _LOW_HALF == _NULL:
        _absent(spec, row, most)
        return at + 4
    if kind == STRING:
        return _text(at + 1, end, spec, row) if byte(at) == _QUOTE else NO_VALUE
    if kind in (INTEGER, FLOAT64, FLOAT32):
        stop = _number_end(at, end)
        if stop == NO_VALUE or scalar(kind, at, end, spec, row, _QUOTES, _QUOTES, powers) != stop:
            return NO_VALUE
        return stop
    if kind == BOOLEAN:
        if word & _LOW_HALF == _TRUE:
            set8(int64(spec + 8 * OUT) + row, 1)
            return at + 4
        if word & _FIVE == _FALSE:
            set8(int64(spec + 8 * OUT) + row, 0)
            return at + 5
        return NO_VALUE
    if byte(at) != _QUOTE:
        return NO_VALUE
    stop = scalar(kind, at + 1, end, spec, row, _QUOTES, _QUOTES, powers)
    return stop + 1 if stop != NO_VALUE and stop < end and byte(stop) == _QUOTE else NO_VALUE


@inner
def _record(job: int, at: int, stop: int, end: int, row: int, attempt: int) -> tuple[int, int]:
    """Read an object. Returns where it ends and a column; NO_VALUE or NO_ROOM in place of the end."""
    columns, closed = int64(job + 8 * COLUMNS), int64(job + 8 * CLOSED)
    most, powers = int64(job + 8 * ROW_MOST), int64(job + 8 * POWERS)
    at = _blanks_end(at, stop)
    if at >= stop or byte(at) != _OPEN:
        return NO_VALUE, 0
    at, missing, column, closing = _blanks_end(at + 1, stop), columns, -1, _COMMA
    if at < stop and byte(at) == _CLOSE:
        at, closing = at + 1, _CLOSE
    while closing == _COMMA:
        column, at = _name(job, _blanks_end(at, stop), stop, end, column + 1)
        if at == NO_VALUE:
            return NO_VALUE, column
        at = _blanks_end(at, stop)
        if column < columns:
            spec = job + 8 * (HEAD + WORDS * column)
            if at >= stop or int64(spec + 8 * SEEN) == attempt:
                return NO_VALUE, column
            set64(spec + 8 * SEEN, attempt)
            missing -= 1
            at = _value(at, end, spec, row, most, powers)
        elif closed:
            return NO_VALUE, column
        else:
            at = _skipped(at, end)
        if at < 0:
            return at, column
        at = _blanks_end(at, stop)
        if at >= stop:
            return NO_VALUE, column
        closing = byte(at)
        at += 1
    while at < stop and byte(at) in (BLANK, _TAB, CR, LF):
        at += 1
    if closing != _CLOSE or at != stop:
        return NO_VALUE, column
    if missing:
        for place in range(columns):
            spec = job + 8 * (HEAD + WORDS * place)
            if int64(spec + 8 * SEEN) != attempt:
                _absent(spec, row, most)
    return at, column


def read(job: int) -> int:
    """Read records whose places are known, until a heap is full."""
    data, columns = int64(job + 8 * DATA), int64(job + 8 * COLUMNS)
    end, longest = data + int64(job + 8 * END), int64(job + 8 * LONGEST)
    row, record, left = int64(job + 8 * ROW), int64(job + 8 * RECORD), int64(job + 8 * LEFT)
    starts, ends, left_out = int64(job + 8 * STARTS), int64(job + 8 * ENDS), int64(job + 8 * LEFT_OUT)
    most, attempt, outcome = int64(job + 8 * ROW_MOST), int64(job + 8 * ATTEMPT), DONE
    while record < most:
        start, stop = data + int64(starts + 8 * record), data + int64(ends + 8 * record)
        attempt += 1
        at, column = NO_VALUE, 0
        if stop - start <= longest:
            at, column = _record(job, start, stop, end, row, attempt)
        if at < 0:
            undo_nulls(job, row, columns)
            if at == NO_ROOM:
                set64(job + 8 * FULL, column)
                set64(job + 8 * POS, start - data)
                outcome = HEAP_FULL
                break
            if left * ONE_IN > record + FEW:
                return GIVEN_UP
            set64(left_out + 8 * left, record)
            left += 1
        else:
            row += 1
        record += 1
    set64(job + 8 * ROW, row)
    set64(job + 8 * RECORD, record)
    set64(job + 8 * LEFT, left)
    set64(job + 8 * ATTEMPT, attempt)
    return outcome
