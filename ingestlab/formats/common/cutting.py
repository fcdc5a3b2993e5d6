"""Where the records of a CSV file begin and end, at the speed of numpy.

Quoting is as in RFC 4180, and as in pyarrow's parser: a quote opens a quoted field only where a field
begins, a doubled quote inside stands for one quote, and any other quote is plain text. Line ends are LF,
CRLF or CR. Blank lines are no records. Text in which a quoted field ends before anything but a delimiter or
a line end is suspect: what its records are is for :mod:`~ingestlab.formats.common.quoting` to say.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from ingestlab.formats.common.dialects import Dialect

Ints = np.ndarray[Any, np.dtype[np.int64]]
Bytes = np.ndarray[Any, np.dtype[np.uint8]]

_LF, _CR = 10, 13
_STEP = 1 << 18  # bytes looked at in one go: masks of this size stay in the processor's cache
_NONE = np.empty(0, np.int64)


class Spans(NamedTuple):
    """Records as offsets: record `i` is `data[starts[i]:ends[i]]`, with its line end.

    `broken` are the numbers of records with a quote that opens and never closes.
    """

    starts: Ints
    ends: Ints
    broken: tuple[int, ...] = ()


class Cut(NamedTuple):
    """A place between two records."""

    offset: int
    records: int  # how many lie before it, the header among them


class Scanner:
    """Find records in blocks of bytes, as they come.

    Args:
        dialect: How fields are separated and quoted.
        offset: Where in the file the first block begins; it must be the begin of a record.
    """

    def __init__(self, dialect: Dialect, offset: int = 0) -> None:
        self._delimiter = ord(dialect.delimiter)
        self._quote = -1 if dialect.quote is None else ord(dialect.quote)
        self._ends = np.zeros(256, np.bool_)
        self._ends[[_LF, _CR, self._delimiter, self._quote]] = True
        self._offset = self._start = offset
        self._tail: Bytes = np.empty(0, np.uint8)
        self._before = _LF
        self._inside = False
        self.doubtful = False

    @property
    def suspect(self) -> bool:
        """Tell whether text followed a quoted field, or one is open."""
        return self.doubtful or self._inside

    def feed(self, block: bytes | memoryview) -> Spans:
        """Return the records that end in the next block."""
        data = np.frombuffer(block, np.uint8)
        if self._tail.size:
            data = np.concatenate([self._tail, data])
        end = data.size  # the meaning of these bytes hangs on what follows them
        while end and data[end - 1] in (_CR, self._quote):
            end -= 1
        self._tail = data[end:]
        return self._scan(data[:end])

    def count(self, block: bytes | memoryview) -> int | None:
        """Count the records that end in the next block, faster than `feed`.

        Returns:
            Their number; None, and nothing is taken in, where more than LF has to be looked at: a quote, a CR, a
            blank line, or something before the block that hangs on it.
        """
        text = bytes(block)  # searched by the C library
        special = _CR in text or (self._quote >= 0 and self._quote in text)
        if self._inside or self._tail.size or special:
            return None
        data = np.frombuffer(text, np.uint8)
        breaks = data == _LF
        if data.size and ((breaks[0] and self._before == _LF) or _has_pair(breaks)):
            return None
        if (last := text.rfind(b"\n")) >= 0:
            self._start = self._offset + last + 1
        if data.size:
            self._before = int(data[-1])
        self._offset += data.size
        return int(np.count_nonzero(breaks))

    def finish(self) -> Spans:
        """Return the last record, if no line end follows it."""
        starts, ends, _ = self._scan(self._tail)
        if self._start < self._offset:  # no line end after the last record
            starts, ends = np.append(starts, self._start), np.append(ends, self._offset)
        return Spans(starts, ends)

    def _scan(self, data: Bytes) -> Spans:
        if not data.size:
            return Spans(_NONE, _NONE)
        breaks = self._outside(data, _line_ends(data))
        begin, self._before = self._offset, int(data[-1])
        self._offset += data.size
        if not breaks.size:
            return Spans(_NONE, _NONE)
        ends = breaks + 1
        starts = np.concatenate([[self._start - begin], ends[:-1]])
        self._start = begin + int(ends[-1])
        width = ends - starts
        filled = (width > 2) | ((width == 2) & ((starts < 0) | (data[np.maximum(starts, 0)] != _CR)))
        if not filled.all():
            starts, ends = starts[filled], ends[filled]
        return Spans(starts + begin, ends + begin)

    def _outside(self, data: Bytes, breaks: Ints) -> Ints:
        """Return the line ends outside of quoted fields."""
        quotes = np.flatnonzero(data == self._quote) if self._quote >= 0 else _NONE
        if not quotes.size:
            return _NONE if self._inside else breaks
        was = self._inside
        toggles = self._toggles(data, quotes)
        self._inside = was ^ bool(len(toggles) & 1)
        after = toggles[int(not was) :: 2] + 1
        if after.size and after[-1] == data.size:  # the end of all: nothing follows
            after = after[:-1]
        self.doubtful |= not bool(self._ends[data[after]].all())
        outside: Ints = breaks[(np.searchsorted(toggles, breaks) & 1) == was]
        return outside

    def _toggles(self, data: Bytes, quotes: Ints) -> Ints:
        """Return the quotes that open or close a field. An escaped pair closes and opens."""
        before = data[quotes - 1]
        if quotes[0] == 0:
            before[0] = self._before
        begins = (before == self._delimiter) | (before == _LF) | (before == _CR)
        if (begins | (before == self._quote))[int(self._inside) :: 2].all():
            return quotes
        return self._toggles_one_by_one(data, quotes, begins)

    def _toggles_one_by_one(self, data: Bytes, quotes: Ints, begins: np.ndarray[Any, np.dtype[np.bool_]]) -> Ints:
        """Find the toggles where quotes also stand in plain text."""
        inside, skip, kept = self._inside, -1, []
        following = np.append(data[quotes[:-1] + 1], data[quotes[-1] + 1 : quotes[-1] + 2])
        doubled = np.append(following == self._quote, [False] * (quotes.size - following.size))
        for at, opens, double in zip(quotes.tolist(), begins.tolist(), doubled.tolist(), strict=True):
            if at == skip:
                continue
            if inside and double:
                skip = at + 1
            elif inside or opens:
                inside = not inside
                kept.append(at)
        plain = np.setdiff1d(quotes, kept)[:-1]  # a delimiter may be missing before such a quote
        parted = np.isin(data[[plain - 1, plain + 1]], (self._delimiter, self._quote, _LF, _CR, 32, 9)).any(axis=0)
        self.doubtful |= not bool(parted.all())
        return np.array(kept, np.int64)


def plain_scan(data: bytes, dialect: Dialect, begin: int = 0, end: int | None = None) -> Spans | None:
    """Find all records in `data[begin:end]`; None where the text is suspect."""
    end = len(data) if end is None else end
    scanner = Scanner(dialect, begin)
    cuts = []
    for part in _scan_blocks(scanner, _views(data, begin, end)):
        if scanner.doubtful:  # what follows would be looked at twice
            return None
        cuts.append(part)
    if scanner.suspect:
        return None
    return Spans(np.concatenate([part.starts for part in cuts]), np.concatenate([part.ends for part in cuts]))


class SuspectError(ValueError):
    """Text is suspect: what its records are is for :mod:`~ingestlab.formats.common.quoting` to say."""


def cut(blocks: Iterable[bytes], dialect: Dialect, begin: int, targets: Sequence[int], heads: int = 1) -> Iterator[Cut]:
    """Choose places to cut a file, as early as each is known.

    Args:
        blocks: The file's bytes from `begin` on, in order; one block is held at a time.
        dialect: How fields are separated and quoted.
        begin: Offset of the first record in the file.
        targets: Offsets, ascending. A cut is where the next record begins.
        heads: How many of the records are header.

    Yields:
        Cuts in order. Every piece between them has at least one record besides the header.

    Raises:
        SuspectError: The text is suspect, from some place on; or fields are written in ways of their own.
    """
    if not dialect.plain:
        raise SuspectError
    wanted = np.array(targets, np.int64)
    chosen: list[Cut] = []  # those after which no record has come yet
    seen, next_, at = 0, 0, begin
    scanner = Scanner(dialect, begin)
    for view in (view for block in blocks for view in _views(block, 0, len(block))):
        at += len(view)
        passed = next_ == wanted.size or at < wanted[next_]  # no place for a cut in it
        number = scanner.count(view) if passed else None
        if number is not None:
            seen += number
        else:
            ends = scanner.feed(view).ends
            if scanner.doubtful:
                raise SuspectError
            if ends.size:
                last = int(np.searchsorted(wanted, ends[-1], side="right"))
                places = np.unique(np.searchsorted(ends, wanted[next_:last]))
                chosen += [Cut(int(ends[i]), seen + i + 1) for i in places.tolist() if seen + i >= heads]
                seen, next_ = seen + ends.size, max(next_, last)
        while chosen and chosen[0].records < seen:
            yield chosen.pop(0)
    seen += scanner.finish().ends.size
    if scanner.suspect:
        raise SuspectError
    yield from (c for c in chosen if c.records < seen)


def _scan_blocks(scanner: Scanner, blocks: Iterable[bytes | memoryview]) -> Iterator[Spans]:
    for block in blocks:
        for view in _views(block, 0, len(block)):
            yield scanner.feed(view)
    yield scanner.finish()


def _views(data: bytes | memoryview, begin: int, end: int) -> Iterator[memoryview]:
    view = memoryview(data)
    return (view[at : min(at + _STEP, end)] for at in range(begin, end, _STEP))


def _has_pair(mask: np.ndarray[Any, np.dtype[np.bool_]]) -> bool:
    """Tell whether two neighbours are true, looking at eight at a time."""
    whole = mask.size // 8 * 8
    words = mask[:whole].view("<u8")
    within = (words & (words << np.uint64(8))).any()
    between = (mask[7 : whole - 1 : 8] & mask[8:whole:8]).any()
    rest = mask[max(whole - 1, 0) :]
    return bool(within or between or (rest[1:] & rest[:-1]).any())


def _line_ends(data: Bytes) -> Ints:
    """Find the last byte of each line end."""
    breaks = np.flatnonzero(data == _LF)
    returns = np.flatnonzero(data == _CR)
    if returns.size:
        lone = returns[data[np.minimum(returns + 1, data.size - 1)] != _LF]
        if lone.size:
            breaks = np.sort(np.concatenate([breaks, lone]))
    return breaks
