"""The loop that reads plain records of CSV; :mod:`ingestlab.formats.csv.fast` calls it.

It takes a record only where every field is plain, and leaves any other to pyarrow.
"""

from __future__ import annotations

from typing import Any

from ingestlab.formats.compiled.loops.memory import (
    CR,
    LF,
    ONES,
    byte,
    inner,
    int32,
    int64,
    load,
    lowest,
    ones,
    set32,
    set64,
    set_word,
    specials,
    u64,
)
from ingestlab.formats.compiled.loops.values import (
    NO_ROOM,
    NO_VALUE,
    equal,
    field_end,
    is_null,
    nullify,
    same,
    scalar,
    short_integer,
    text_at,
    undo_nulls,
    word_at,
)
from ingestlab.formats.compiled.words import (
    COLUMNS,
    DATA,
    DELIMITER,
    DONE,
    EARLY,
    END,
    ENDS,
    FEW,
    FULL,
    GIVEN_UP,
    HEAD,
    HEADER,
    HEADER_SIZE,
    HEAP,
    HEAP_FULL,
    HEAP_SIZE,
    INDEX,
    INDEXED,
    INTEGER,
    KIND,
    LEFT,
    LEFT_OUT,
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
    STRING,
    WORDS,
)


@inner
def _is_header(at: int, end: int, header: int, size: int) -> bool:
    """Tell whether a line repeats the header."""
    stop = at + size
    return (
        at + size <= end
        and byte(at) == byte(header)
        and equal(at, header, size)
        and (stop == end or byte(stop) in (LF, CR))
    )


@inner
def _record_end(at: int, end: int, delimiter: int, quote: int, quotes: Any) -> int:
    """Find where a record ends. NO_VALUE where quotes leave doubt."""
    stopper = u64(delimiter) * ONES
    while True:
        if at < end and byte(at) == quote:
            while True:
                at = _quote_after(at + 1, end, quotes)
                if at >= end:
                    return NO_VALUE
                if at + 1 < end and byte(at + 1) == quote:
                    at += 1
                    continue
                break
            at += 1
        else:
            at = field_end(at, end, stopper, quotes)
        if at >= end or byte(at) in (LF, CR):
            return at
        if byte(at) != delimiter:
            return NO_VALUE
        at += 1


@inner
def _quote_after(at: int, end: int, quotes: Any) -> int:
    while at < end:
        mask = same(word_at(at, end), quotes)
        if mask:
            return at + (lowest(mask) >> 3)
        at += 8
    return end


@inner
def _count_line_ends(at: int, end: int) -> int:
    count = 0
    while at + 64 <= end:
        count += ones(specials(at, LF, LF))
        at += 64
    while at < end:
        count += byte(at) in (LF, CR)
        at += 1
    return count


@inner
def _index(at: int, end: int, out: int, delimiter: int, quote: int) -> int:
    """List where delimiters, quotes and line ends are, counted from `at`. Returns how many there are."""
    begin, count = at, 0
    while at + 64 <= end:
        mask = specials(at, delimiter, quote)
        to = out + 4 * count
        count += ones(mask)
        while mask:
            set32(to, at - begin + lowest(mask))
            to += 4
            mask &= mask - u64(1)
        at += 64
    while at < end:
        if byte(at) in (LF, CR, delimiter, quote):
            set32(out + 4 * count, at - begin)
            count += 1
        at += 1
    return count


@inner
def _plain_record(
    job: int, start: int, begin: int, index: int, end: int, row: int, most: int, stopper: Any, quote: Any, powers: int
) -> bool:
    """Read a record by the places of its delimiters. Returns False where that needs a closer look."""
    delimiter, columns = int64(job + 8 * DELIMITER), int64(job + 8 * COLUMNS)
    at = start
    for column in range(columns):
        spec = job + 8 * (HEAD + WORDS * column)
        stop = begin + int32(index + 4 * column)
        if column < columns - 1:
            if byte(stop) != delimiter:
                return False
        elif byte(stop) not in (LF, CR):
            return False
        kind = int64(spec + 8 * KIND)
        if kind == STRING:
            offsets = int64(spec + 8 * OUT) + 4 * row
            to, size = int32(offsets), stop - at
            if to + size + 16 > int64(spec + 8 * HEAP_SIZE):
                return False
            if is_null(at, stop, end, spec):
                nullify(spec, row, most)
                set32(offsets + 4, to)
            else:
                set32(offsets + 4, to + size)
                to += int64(spec + 8 * HEAP)
                set_word(to, load(at))
                set_word(to + 8, load(at + 8))
                while size > 16:
                    size -= 8
                    at += 8
                    to += 8
                    set_word(to + 8, load(at + 8))
        elif kind != SKIP:
            if int64(spec + 8 * EARLY) and is_null(at, stop, end, spec):
                nullify(spec, row, most)
            elif not (kind == INTEGER and short_integer(at, stop, spec, row)) and (
                stop == at or scalar(kind, at, end, spec, row, stopper, quote, powers) != stop
            ):
                if not is_null(at, stop, end, spec):
                    return False
                nullify(spec, row, most)
        at = stop + 1
    return True


@inner
def _careful_record(
    job: int, at: int, end: int, row: int, most: int, stopper: Any, quotes: Any, powers: int
) -> tuple[int, int]:
    """Read a record field by field. Returns where it ends and its column; NO_VALUE or NO_ROOM in place of the end."""
    delimiter, quote, columns = int64(job + 8 * DELIMITER), int64(job + 8 * QUOTE), int64(job + 8 * COLUMNS)
    column = 0
    while True:
        spec = job + 8 * (HEAD + WORDS * column)
        kind = int64(spec + 8 * KIND)
        quoted = quote >= 0 and at < end and byte(at) == quote
        at += quoted
        until = quotes if quoted else stopper
        if kind == SKIP:
            stop = field_end(at, end, until, quotes)
        elif kind == STRING:
            stop = text_at(at, end, spec, row, until, quotes)
            if stop == NO_VALUE:
                return NO_ROOM, column
            if is_null(at, stop, end, spec):
                nullify(spec, row, most)
                offsets = int64(spec + 8 * OUT) + 4 * row
                set32(offsets + 4, int32(offsets))
        else:
            stop, early = NO_VALUE, int64(spec + 8 * EARLY)
            if not early:
                stop = scalar(kind, at, end, spec, row, until, quotes, powers)
            if stop == NO_VALUE:
                stop = field_end(at, end, until, quotes)
                if is_null(at, stop, end, spec):
                    nullify(spec, row, most)
                elif not early:
                    return NO_VALUE, column
                else:
                    stop = scalar(kind, at, end, spec, row, until, quotes, powers)
                    if stop == NO_VALUE:
                        return NO_VALUE, column
        if quoted:
            if stop >= end or byte(stop) != quote:
                return NO_VALUE, column
            stop += 1
        closing = byte(stop) if stop < end else LF
        if closing in (LF, CR):
            return stop if column == columns - 1 else NO_VALUE, column
        column += 1
        at = stop + 1
        if closing != delimiter or column == columns:
            return NO_VALUE, column


def read(job: int) -> int:
    """Read records up to the end, or until a heap is full."""
    data = int64(job + 8 * DATA)
    at, end = data + int64(job + 8 * POS), data + int64(job + 8 * END)
    row, record = int64(job + 8 * ROW), int64(job + 8 * RECORD)
    left, most = int64(job + 8 * LEFT), int64(job + 8 * ROW_MOST)
    if not most:
        set64(job + 8 * ROW_MOST, _count_line_ends(at, end) + 1)
        return DONE
    delimiter, quote, columns = int64(job + 8 * DELIMITER), int64(job + 8 * QUOTE), int64(job + 8 * COLUMNS)
    starts, ends, left_out = int64(job + 8 * STARTS), int64(job + 8 * ENDS), int64(job + 8 * LEFT_OUT)
    powers, index, room = int64(job + 8 * POWERS), int64(job + 8 * INDEX), int64(job + 8 * INDEXED)
    header, header_size = int64(job + 8 * HEADER), int64(job + 8 * HEADER_SIZE)
    stopper, quotes = u64(delimiter) * ONES, u64(delimiter if quote < 0 else quote) * ONES
    begin, place, indexed, limit = at, 0, 0, at  # what is indexed, from begin to limit, and how much of it is read
    while at < end:
        if byte(at) in (LF, CR):
            at += 1
            continue
        while place < indexed and begin + int32(index + 4 * place) < at:
            place += 1
        if place + columns > indexed and limit < end:
            begin, place, limit = at, 0, min(at + room, end)
            indexed = _index(at, limit, index, delimiter, delimiter if quote < 0 else quote)
        start, sound, at = at, False, NO_VALUE
        head = header_size > 0 and _is_header(start, end, header, header_size)
        if not head and start >= data + 8 and place + columns <= indexed:
            stop = begin + int32(index + 4 * (place + columns - 1))
            if stop + 24 <= end:
                sound = _plain_record(job, start, begin, index + 4 * place, end, row, most, stopper, quotes, powers)
                if sound:
                    at = stop
                    place += columns
                else:
                    undo_nulls(job, row, columns)
        if not sound:
            if not head:
                at, column = _careful_record(job, start, end, row, most, stopper, quotes, powers)
            sound = at >= 0
            if not sound:
                undo_nulls(job, row, columns)
                if at == NO_ROOM:
                    set64(job + 8 * FULL, column)
                    at = start
                    break
                at = _record_end(start, end, delimiter, quote, quotes)
                if at == NO_VALUE or left * ONE_IN > record + FEW:
                    return GIVEN_UP
                set64(left_out + 8 * left, record)
                left += 1
        if at < end:
            at += 2 if byte(at) == CR and at + 1 < end and byte(at + 1) == LF else 1
        set64(starts + 8 * record, start - data)
        set64(ends + 8 * record, at - data)
        record, row = record + 1, row + sound
    set64(job + 8 * POS, at - data)
    set64(job + 8 * ROW, row)
    set64(job + 8 * RECORD, record)
    set64(job + 8 * LEFT, left)
    return DONE if at >= end else HEAP_FULL
