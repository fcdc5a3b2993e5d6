"""Records of text that is not written as RFC 4180 says, at the speed of regular expressions.

A quote that opens a field and closes before anything but a delimiter or a line end is damage. What follows
decides how far it reaches: it is undone at the end of its own line, so that its neighbours are whole, unless
the record has its right number of fields only when read on to a later quote that does end a field. Either
way its record is set apart.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

import numpy as np

from ingestlab.formats.common.cutting import Cut, Spans, plain_scan
from ingestlab.formats.common.dialects import Dialect, fields, shapes, width

REACH = 1 << 20  # bytes that a damaged record may reach over lines
_PLAIN = 16 << 10  # bytes that are taken by the fast scanner where it finds nothing suspect
_HELD = 64 << 20  # bytes in which a quoted field closes, where a file is cut


def scan(data: bytes, dialect: Dialect, begin: int = 0, end: int | None = None, names: int = 0) -> Spans:
    """Find all records in `data[begin:end]`; damaged ones are listed as broken.

    Args:
        data: The text.
        dialect: How it is written.
        begin: Where the first record begins.
        end: Where the last one ends.
        names: How many fields a record should have; 0 if that is not known.
    """
    end = len(data) if end is None else end
    plain = plain_scan(data, dialect, begin, end) if dialect.plain else None
    if plain is not None:
        return plain
    starts, ends, broken, _ = _records(data, dialect, begin, end, names, final=True)
    return Spans(np.array(starts, np.int64), np.array(ends, np.int64), tuple(broken))


def careful_cuts(blocks: Iterable[bytes], dialect: Dialect, begin: int, step: int, names: int) -> list[Cut]:
    """Choose places to cut, for any dialect and with damaged records."""
    cuts: list[Cut] = []
    seen, multiple, offset, held = 0, 1, begin, b""
    for block, final in _marked_last(blocks):
        held += block
        _, ends, _, used = _records(held, dialect, 0, len(held), names, final=final)
        for i, end in enumerate(ends):
            if (offset + end) // step >= multiple:
                cuts.append(Cut(offset + end, seen + i + 1))
            multiple = max(multiple, (offset + end) // step + 1)
        seen += len(ends)
        held, offset = held[used:], offset + used
    return [c for c in cuts if c.records < seen]


def translated(data: bytes, dialect: Dialect, names: int) -> bytes:
    """Rewrite clean records for pyarrow's parser, in double quotes without comments."""
    out = []
    delimiter = dialect.delimiter.encode()
    special = re.compile(rb'^"|^$|[\r\n]|' + re.escape(delimiter))
    for match in shapes(dialect).clean.finditer(data):
        texts = fields(match[1], dialect)
        if dialect.surplus and names < len(texts) <= names + dialect.surplus and not any(texts[names:]):
            del texts[names:]
        cells = (b'"' + t.replace(b'"', b'""') + b'"' if special.search(t) else t for t in texts)
        out.append(delimiter.join(cells) + b"\n")
    return b"".join(out)


def _records(
    data: bytes, dialect: Dialect, begin: int, end: int, names: int, *, final: bool
) -> tuple[list[int], list[int], list[int], int]:
    """Return starts, ends, broken numbers, and how much data is used up."""
    shape = shapes(dialect)
    starts: list[int] = []
    ends: list[int] = []
    broken: list[int] = []
    at, usable = (
        begin,
        end if final else 1 + max(data.rfind(b"\n", 0, end), data.rfind(b"\r", 0, end - 1)),
    )  # the last bytes hang on what follows
    while at < usable:
        limit = min(data.find(b"\n", at + _PLAIN, usable) + 1 or usable, usable)
        plain = plain_scan(data, dialect, at, limit) if dialect.plain and limit < usable else None
        if plain is not None:
            starts += plain.starts.tolist()
            ends += plain.ends.tolist()
            at = limit
            continue
        run = shape.run.match(data, at, limit)
        stop = run.end() if run else at
        inner = shape.inner.search(data, at, stop) is not None
        for match in shape.clean.finditer(data, at, stop):
            if match.end(1) > match.start(1):
                if inner and shape.torn.search(match[1]):
                    broken.append(len(starts))
                starts.append(match.start(1))
                ends.append(match.end())
        blank = shape.skipped.match(data, stop, limit)
        at = blank.end() if blank else stop
        if at >= limit:
            continue
        if not (final or usable - at > _HELD or (usable - at > REACH and shape.open.match(data, at, usable) is None)):
            break
        stop, damaged = _one(data, at, usable, dialect, names)
        if damaged:
            broken.append(len(starts))
        starts.append(at)
        ends.append(stop)
        at = stop
    return starts, ends, broken, at


def _one(data: bytes, at: int, end: int, dialect: Dialect, names: int) -> tuple[int, bool]:
    """Return where the record at `at` ends, and whether it is damaged."""
    shape = shapes(dialect)
    clean = shape.clean.match(data, at, end)
    if clean is not None:
        return clean.end(), False
    line = shape.undone.match(data, at, end)
    if line is None:
        match = re.compile(rb"\r\n|\r|\n").search(data, at, end)
        return (match.end() if match else end), True
    if not names or width(line[1], dialect) == names:
        return line.end(), True
    wide = shape.loose.match(data, at, min(end, at + REACH))
    if wide is None or wide.end() <= line.end() or _loose_width(wide[1], dialect) != names:
        return line.end(), True
    return (line.end() if _fit(data, line.end(), wide.end(), dialect, names) else wide.end()), True


def _fit(data: bytes, at: int, end: int, dialect: Dialect, names: int) -> bool:
    """Tell whether the lines in a part of the text are records."""
    lines = re.split(rb"\r\n|\r|\n", data[at:end])
    return all(width(line, dialect) == names for line in lines if line)


def _loose_width(record: bytes, dialect: Dialect) -> int:
    d, q = re.escape(dialect.delimiter), re.escape(dialect.quote or "")
    loose = rf"(?>{q}(?:[^{q}]|{q}(?!{d}|\Z))*+{q}(?={d}|\Z)|[^{d}]*+)"
    return len(re.findall(rf"{loose}(?:{d}|\Z)".encode(), record)) - (not record.endswith(dialect.delimiter.encode()))


def _marked_last(blocks: Iterable[bytes]) -> Iterator[tuple[bytes, bool]]:
    for block in blocks:
        yield block, False
    yield b"", True
