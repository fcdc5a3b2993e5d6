"""How delimited text is written: the characters that part and quote its fields, and the shape of a record."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import islice
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class Dialect:
    """Characters that decide where records and fields end.

    Attributes:
        delimiter: One ASCII character.
        quote: One ASCII character; None where quotes mean nothing.
        escape: A character that takes the meaning from the next one.
        initial_space: Whether blanks after a delimiter are no part of a field.
        comment: What a line that is no record begins with.
        surplus: Empty fields that records have at their end, beyond the names of the header.
    """

    delimiter: str = ","
    quote: str | None = '"'
    escape: str | None = None
    initial_space: bool = False
    comment: str | None = None
    surplus: int = 0

    @property
    def plain(self) -> bool:
        """Tell whether pyarrow reads such text as it is."""
        return self.escape is None and not self.initial_space and self.comment is None and not self.surplus


class Shapes(NamedTuple):
    """Patterns of a dialect. Each record's own text is the first group.

    Attributes:
        clean: A record in which every quoted field ends at a delimiter or with the record.
        run: Any number of such records.
        undone: A record in which a quote that does not do so is plain text: it ends with its line.
        loose: A record in which quotes may stand inside of quoted fields.
        open: A record whose last field has a quote that opens and has not closed when the text ends.
        inner: A quote that nothing but text is beside.
        torn: A field with a quote in its midst, and a later one with a quote at its end: a delimiter is missing.
        skipped: Blank lines and comments.
        field: One field of a clean or undone record: the text within quotes, else the plain text.
    """

    clean: re.Pattern[bytes]
    run: re.Pattern[bytes]
    undone: re.Pattern[bytes]
    loose: re.Pattern[bytes]
    open: re.Pattern[bytes]
    inner: re.Pattern[bytes]
    torn: re.Pattern[bytes]
    skipped: re.Pattern[bytes]
    field: re.Pattern[bytes]


@cache
def shapes(dialect: Dialect) -> Shapes:
    """Compile the patterns of a dialect."""
    d = re.escape(dialect.delimiter)
    end = rf"(?=[{d}\r\n]|\Z)"
    space = r"\ *+" if dialect.initial_space else ""
    e = "" if dialect.escape is None else re.escape(dialect.escape)
    plain = rf"[^{d}\r\n]*+" if not e else rf"(?:[^{d}\r\n{e}]|{e}(?:[^\r\n]|\Z))*+"
    strict, undone, loose, opened, field = plain, plain, plain, r"(?!)", rf"{space}(?P<plain>{plain})"
    if dialect.quote is not None:
        q = re.escape(dialect.quote)
        pair = f"{q}{q}" if not e or e == q else rf"(?:{q}{q}|{e}[\s\S])"
        stop = q if not e or e == q else q + e
        inner = rf"[^{stop}]*+(?:{pair}[^{stop}]*+)*+"
        strict = rf"(?>{space}{q}{inner}{q}{end}|(?!{space}{q}){plain})"
        undone = rf"(?>{space}{q}{inner}{q}{end}|{plain})"
        loose = rf"(?>{space}{q}(?:[^{q}]|{q}(?![{d}\r\n]|\Z))*+{q}|{plain})"
        opened = rf"(?:{strict}{d})*+{space}{q}{inner}\Z"
        field = rf"(?>{space}{q}(?P<quoted>{inner}){q}{end}|{space}(?P<plain>{plain}))"
    q = re.escape(dialect.quote or '"')
    some, pairs = rf"[^{d}{q}\r\n]", rf"(?:[^{d}{q}\r\n]|{q}{q})"
    torn = rf"(?:\A|{d}){some}*[^\s{d}{q}]{q}[^\s{d}{q}]{pairs}*(?:{d}{pairs}*)*?{d}{pairs}+{q}(?!{q})(?={d}|\Z)"
    mark = "" if dialect.comment is None else re.escape(dialect.comment)
    comment = rf"|{mark}[^\r\n]*+(?:\r\n|\r|\n|\Z)" if mark else ""
    skipped = rf"(?:[\r\n]{comment})*+"
    ended = r"(?:\r\n|\r|\n)"

    def record(text: str) -> str:
        return rf"{skipped}((?=[\s\S]){text}(?:{d}{text})*+)"

    return Shapes(
        clean=re.compile(f"{record(strict)}(?:{ended}|\\Z)".encode()),
        run=re.compile(f"(?:{skipped}(?=[\\s\\S]){strict}(?:{d}{strict})*+{ended})*+".encode()),
        undone=re.compile(f"{record(undone)}(?:{ended}|\\Z)".encode()),
        loose=re.compile(f"{record(loose)}(?:{ended}|\\Z)".encode()),
        open=re.compile(f"{skipped}{opened}".encode()),
        inner=re.compile((rf"[^\s{d}{q}]{q}[^\s{d}{q}]" if dialect.quote else "(?!)").encode()),
        torn=re.compile((torn if dialect.quote else "(?!)").encode()),
        skipped=re.compile(skipped.encode()),
        field=re.compile(f"{field}(?P<more>{d})?".encode()),
    )


def fields(record: bytes, dialect: Dialect) -> list[bytes]:
    """Split a record without its line end. Quotes that open no field are text."""
    pattern, texts, at = shapes(dialect).field, [], 0
    while True:
        match = pattern.match(record, at)
        if match is None:  # an escape character that ends the record
            texts.append(record[at:])
            return texts
        quoted = match.groupdict().get("quoted")
        texts.append(_text(match["plain"] if quoted is None else quoted, dialect, quoted=quoted is not None))
        if not match["more"]:
            return texts
        at = match.end()


def records(text: bytes, dialect: Dialect, at: int = 0) -> Iterator[re.Match[bytes]]:
    """Yield matches of the records from `at` on. Group 1 is a record's own text."""
    shape = shapes(dialect)
    while match := shape.clean.match(text, at) or shape.undone.match(text, at):
        yield match
        at = match.end()


def split_records(text: bytes, dialect: Dialect, at: int = 0, most: int = 1000) -> list[tuple[int, list[str]]]:
    """Split the first records of a text into fields.

    Args:
        text: It may end in the midst of a record.
        dialect: How it is written.
        at: Offset of the first record.
        most: Records to look at.

    Returns:
        Of each record, where it begins and its fields.
    """
    spans = islice(records(text, dialect, at), most)
    return [
        (match.start(1), [field.decode(errors="replace") for field in fields(match[1], dialect)]) for match in spans
    ]


def width(record: bytes, dialect: Dialect) -> int:
    """Count the fields of a record."""
    return len(fields(record, dialect))


def _text(value: bytes, dialect: Dialect, *, quoted: bool) -> bytes:
    """Unquote and unescape a field."""
    quote, escape = (dialect.quote or "").encode(), (dialect.escape or "").encode()
    if escape and escape != quote and escape in value:
        pattern = re.escape(escape) + rb"([\s\S])"
        if quoted:
            pattern += b"|(" + re.escape(quote) + b")" + re.escape(quote)
        return re.sub(pattern, lambda m: m[1] if m[1] is not None else m[2], value)
    return value.replace(quote + quote, quote) if quoted else value
