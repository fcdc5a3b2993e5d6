"""The header line of delimited text: where it is, the names of its columns, and whether it is one at all."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Sequence
from functools import lru_cache
from itertools import count
from typing import NamedTuple

from ingestlab.core.errors import TerminalError
from ingestlab.formats.common.dialects import Dialect, fields, records, shapes

_LINE = re.compile(rb"[^\r\n]*+(?:\r\n|\r|\n|\Z)")
# Answers of servers that call an error a success, pointers, markup
_LFS = re.compile(r"version https://git-lfs\.github\.com/spec/")
_MARKUP = re.compile(r"<(?:\?xml\b|!doctype\b|html\b)", re.IGNORECASE)
_TAG = re.compile(r"</?[a-z][\w:.-]*(?:\s[^<>]*)?/?>", re.IGNORECASE)
_JSON = re.compile(r'\[?\s*\{\s*(?:"[^"]*"\s*:|\}|\Z)|\[\s*\]?\Z')
_TALL = 64  # lines that one quoted field before the header may have


class Place(NamedTuple):
    """Where a header is: its text, and where the first record begins."""

    start: int
    stop: int
    begin: int


def locate(data: bytes, dialect: Dialect, skip: int = 0, nth: int | None = 0) -> Place:
    """Locate the header of a text.

    Args:
        data: The text, or enough of its begin.
        dialect: How it is written.
        skip: Lines before the first record. A line break within quotes ends no line.
        nth: Which record is the header, 0 for the first; None for no header.

    Returns:
        Its place; `stop` is the length of `data` where the header is longer than that, or might be.
    """
    at = 0
    for _ in range(skip):
        at = next_line(data, at, dialect)
    if nth is None:
        return Place(at, at, at)
    start = stop = at
    for _ in range(nth + 1):
        start, stop, at = first_record(data, dialect, at)
    return Place(start, stop, at)


def first_record(data: bytes, dialect: Dialect, at: int = 0) -> Place:
    """Locate the first record from `at` on. A quote that opens in it and never ends a field is plain text."""
    match = next(records(data, dialect, at), None)
    return Place(*[len(data)] * 3) if match is None else Place(match.start(1), match.end(1), match.end())


def next_line(data: bytes, at: int, dialect: Dialect) -> int:
    """Return the offset of the line after the one at `at`."""
    plain = _LINE.match(data, at)
    end = len(data) if plain is None else plain.end()
    if data[at : at + 1] not in (b"\n", b"\r"):
        whole = shapes(dialect).clean.match(data, at)
        if whole is not None and whole.end() > end and len(_LINE.findall(data, at, whole.end())) <= _TALL:
            return whole.end()
    return end


@lru_cache(maxsize=64)  # many small files have one header
def names_of(record: bytes, dialect: Dialect) -> tuple[str, ...]:
    """Split a header's text into names, as they are there."""
    return tuple(name.decode(errors="replace") for name in fields(record, dialect))


def numbered(names: Sequence[str]) -> tuple[tuple[str, ...], str]:
    """Replace blank and repeated names, and describe the replacements."""
    taken = {name for name in names if name.strip()}
    seen: set[str] = set()
    done, notes = [], []
    for place, name in enumerate(names, 1):
        new = name
        if not name.strip():
            new = free_name(f"column_{place}", taken)
            notes.append(f"column {place} has no name: {new}")
        elif name in seen:
            new = free_name(name, taken)
            notes.append(f"{name} again: {new}")
        seen.add(new)
        taken.add(new)
        done.append(new)
    return tuple(done), _listed(notes)


def other_delimiter(names: Sequence[str], used: str) -> str:
    """Suggest a delimiter for a header of one wide column."""
    other = next((c for c in ",;\t|" if c != used and c in names[0]), None) if len(names) == 1 else None
    return "" if other is None else f"The delimiter may be {other!r}: Csv(delimiter={other!r})."


def free_name(name: str, taken: Collection[str]) -> str:
    """Return a free name that resembles another; numbered names may stay."""
    if name.startswith("column_") and name not in taken:
        return name
    return next(f"{name}_{i}" for i in count(2) if f"{name}_{i}" not in taken)


def _listed(notes: Sequence[str]) -> str:
    return "; ".join(notes[:5]) + (f"; and {len(notes) - 5} more" if len(notes) > 5 else "")


def check_header(header: str, names: Sequence[str], file: str) -> None:
    """Refuse a document of another kind by its first line.

    Args:
        header: The line that was taken for the names of columns.
        names: What its columns are called.
        file: Whose it is.

    Raises:
        TerminalError: It is the begin of a JSON, XML or HTML document, or of a pointer of Git LFS.
    """
    text, fix = header.strip(), "See what the producer, or the server, has sent instead of the file."
    if _LFS.match(text):
        got, fix = "a pointer of Git LFS", "Fetch the file itself, e.g. with `git lfs pull`."
    elif _MARKUP.match(text) or (len(names) == 1 and _TAG.match(text)):
        got = "markup such as XML or HTML"
    elif _JSON.match(text) and (len(names) == 1 or not _whole(names[0])):
        got, fix = "JSON", f"{fix} If it is what you want, name it .json or .jsonl, or read it with JsonLines()."
    else:
        return
    got = f"{got}, whose first line is no header: {text[:80]!r}"
    raise TerminalError(f"There is no delimited text in {file}", got=got, fix=fix, code="wrong_format")


def _whole(name: str) -> bool:
    """Tell whether a field is a JSON document, as cells may be."""
    try:
        json.loads(name)
    except ValueError:
        return False
    return True
