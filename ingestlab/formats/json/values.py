"""Values of JSON as they came: of an object, as columns of many objects, and the records of a whole document."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from ingestlab.core.errors import TerminalError
from ingestlab.formats.common.cutting import Ints
from ingestlab.formats.common.excerpts import listed, shorten
from ingestlab.formats.json.text import refuse
from ingestlab.interfaces import Bad

MAX_DOCUMENT = 512 << 20  # bytes of a document, which is taken into memory as text
_BLANK = re.compile(r"[ \t\n\r]*+")
_PAIR = re.compile(  # a name and a simple value, without escapes: what most objects are made of
    r'[ \t]*+"([^"\\\x00-\x1f]*+)"[ \t]*+:[ \t]*+'
    r'("[^"\\\x00-\x1f]*+"|-?(?:0|[1-9]\d*+)(?:\.\d++)?(?:[eE][-+]?\d++)?|true|false|null)[ \t]*+([,}])'
)
_LINE_END = re.compile(rb"[\r\n]")
_BREAKS = str.maketrans("\r\n", "  ")
_LOOKED_AT = 50  # lines that tell lines of JSON from a document
_FIX = "Fetch it again from its producer; or make JSON lines of it, e.g. with `jq -c '.[]'` or `jq -c .`."
_DECODER = json.JSONDecoder(parse_constant=refuse, parse_float=str, parse_int=str)  # values are not wanted


class Document(NamedTuple):
    """Records of a JSON document, one a line, with a description."""

    lines: str
    what: str


def values(text: str) -> Iterator[tuple[str, str]]:
    """Yield the names and the texts of the values of an object.

    Raises:
        ValueError: It is none; what came before is given.
    """
    at = _blank(text, 0)
    if not text.startswith("{", at):
        raise ValueError("no object")
    at = _blank(text, at + 1)
    more = not text.startswith("}", at)
    while more:
        simple = _PAIR.match(text, at)
        if simple:
            name, value, end = simple.groups()
            at = simple.end()
        else:
            name, value, at = _pair(text, at)
            end = text[at : at + 1]
            at += 1
        yield name, value
        if end not in (",", "}"):
            raise json.JSONDecodeError("Expecting ',' or '}'", text, at - 1)
        more = end == ","
    if not more and text.startswith("}", at):
        at += 1
    if _blank(text, at) < len(text):
        raise json.JSONDecodeError("Extra data", text, at)


@dataclass(frozen=True)
class Texts:
    """Columns of JSON text, null where there is none, and bad records."""

    columns: dict[str, pa.Array]
    bad: list[Bad]


@dataclass(frozen=True)
class _Column:
    """Values of a name, and the records that have it. Names may be many, and rare."""

    rows: list[int] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)

    def array(self, keep: Ints) -> pa.Array:
        """Return the values of the records that are kept."""
        places = np.full(int(keep[-1]) + 1 if keep.size else 0, -1, np.int64)
        rows = np.array(self.rows, np.int64)
        inside = rows < places.size
        places[rows[inside]] = np.flatnonzero(inside)
        places = places[keep]
        return pa.array(self.texts, pa.string()).take(pa.array(places, mask=places < 0))


def as_texts(text: bytes, numbers: Ints, wanted: Collection[str], *, closed: Collection[str] | None = None) -> Texts:
    """Extract the values of lines of objects as JSON text.

    Args:
        text: The lines.
        numbers: Of their records in the file.
        wanted: The names to look for.
        closed: The names that there may be; None where there may be any.
    """
    columns: dict[str, _Column] = {name: _Column() for name in wanted}
    bad: list[Bad] = []
    for row, line in enumerate(line for line in text.splitlines() if line):
        try:
            fields, twice = _object(line)
        except (ValueError, RecursionError) as error:
            bad.append(Bad(int(numbers[row]), "json", None, shorten(str(error))))
            continue
        if twice := twice.intersection(wanted):
            bad.append(Bad(int(numbers[row]), "json", min(twice), "more than once"))
        elif closed is not None and (others := [name for name in fields if name not in closed]):
            bad.append(Bad(int(numbers[row]), "columns", None, shorten(f"also {listed(others)}")))
        else:
            for name, column in columns.items():
                if (value := fields.get(name, "null")) != "null":
                    column.rows.append(row)
                    column.texts.append(value)
    keep = np.flatnonzero(~np.isin(numbers, [b.row for b in bad]))
    return Texts({name: column.array(keep) for name, column in columns.items()}, bad)


def _object(line: bytes) -> tuple[dict[str, str], set[str]]:
    """Return the values of an object by name, and its repeated names."""
    fields: dict[str, str] = {}
    twice: set[str] = set()
    for name, value in values(line.decode()):
        if name in fields:
            twice.add(name)
        fields[name] = value
    if rb"\ud" in line.lower():  # half a character may be escaped, and be no text
        "".join([*fields, *map(str, map(json.loads, fields.values()))]).encode()
    return fields, twice


def document(data: bytes, name: str) -> Document | None:
    """Split a JSON array, or objects over several lines, into records. None if it is lines of JSON.

    Args:
        data: The bytes of a file.
        name: Of the file, for errors.

    Raises:
        TerminalError: It is a document and not whole, or too long; its inner lines are no records.
    """
    begin = len(data) - len(data.lstrip())
    line = data[begin : _line_end(data, begin)].rstrip()
    if not may_be_document(line) or (line.startswith(b"[") and _is_whole(line) and data[begin:].rstrip() != line):
        return None  # of arrays, one a line, each is a bad record
    what = "one JSON array" if line.startswith(b"[") else "JSON objects over several lines"
    if len(data) > MAX_DOCUMENT:
        problem, expected = f"{name}, {what}, is too large", f"at most {MAX_DOCUMENT:,} bytes"
        raise TerminalError(problem, expected=expected, got=f"{len(data):,}", fix=_FIX, code="limit_exceeded")
    try:
        text = data.decode()
        at = _blank(text, 0)
        return _elements(text, at) if text.startswith("[", at) else _objects(text, at)
    except (ValueError, RecursionError) as error:
        if line.startswith(b"{") and _in_lines(data, _line_end(data, begin)):
            return None
        raise TerminalError.wrap(error, f"{name}, {what}, is not whole", _FIX, code="bad_file") from error


def may_be_document(first_line: bytes) -> bool:
    """Tell whether a text with this first line may be one document."""
    if first_line.startswith(b"{"):
        with suppress(ValueError, RecursionError):
            _DECODER.raw_decode(first_line.decode())
            return False
        return True
    return first_line.startswith(b"[")


def _elements(text: str, begin: int) -> Document:
    """Split an array into its elements; nothing may follow it."""
    elements, at = [], _blank(text, begin + 1)
    if text.startswith("]", at):
        end = at + 1
    else:
        while True:
            _, stop = _DECODER.raw_decode(text, at)
            elements.append(text[at:stop])
            end = _blank(text, stop) + 1
            if text[end - 1 : end] == "]":
                break
            if text[end - 1 : end] != ",":
                raise json.JSONDecodeError("Expecting ',' or ']'", text, end - 1)
            at = _blank(text, end)
    if _blank(text, end) < len(text):
        raise json.JSONDecodeError("Extra data", text, end)
    return Document(_lines(elements), f"one JSON array of {len(elements):,}")


def _objects(text: str, begin: int) -> Document:
    """Split values that follow each other. Each may take several lines."""
    objects, at = [], begin
    while at < len(text):
        _, stop = _DECODER.raw_decode(text, at)
        objects.append(text[at:stop])
        at = _blank(text, stop)
    return Document(_lines(objects), "one JSON object" if len(objects) == 1 else f"{len(objects):,} JSON objects")


def _lines(records: list[str]) -> str:
    """Put each value in a line; line ends become blanks."""
    return "".join([f"{value.translate(_BREAKS)}\n" for value in records])


def _in_lines(data: bytes, at: int) -> bool:
    """Tell whether the lines from here on are mostly objects."""
    lines = [line.strip() for line in data[at : at + (1 << 20)].splitlines()[:_LOOKED_AT]]
    lines = [line for line in lines if line]
    return bool(lines) and sum(line.startswith(b"{") and _is_whole(line) for line in lines) * 2 > len(lines)


def _is_whole(line: bytes) -> bool:
    with suppress(ValueError, RecursionError):
        text = line.decode()
        return _DECODER.raw_decode(text)[1] == len(text)
    return False


def _pair(text: str, at: int) -> tuple[str, str, int]:
    """Return a name, its value's text, and the offset after it."""
    if not text.startswith('"', at := _blank(text, at)):
        raise json.JSONDecodeError("Expecting a name in double quotes", text, at)
    name, at = _DECODER.raw_decode(text, at)
    at = _blank(text, at)
    if not text.startswith(":", at):
        raise json.JSONDecodeError("Expecting ':'", text, at)
    start = _blank(text, at + 1)
    _, stop = _DECODER.raw_decode(text, start)
    return name, text[start:stop], _blank(text, stop)


def _blank(text: str, at: int) -> int:
    match = _BLANK.match(text, at)
    assert match is not None  # it takes nothing, too
    return match.end()


def _line_end(data: bytes, at: int) -> int:
    match = _LINE_END.search(data, at)
    return match.start() if match else len(data)
