"""Values of JSON as they came: of an object, and as columns of many objects."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from ingestlab.formats.common.cutting import Ints
from ingestlab.formats.common.excerpts import listed, shorten
from ingestlab.formats.json.text import refuse
from ingestlab.interfaces import Bad

_BLANK = re.compile(r"[ \t\n\r]*+")
_PAIR = re.compile(  # a name and a simple value, without escapes: what most objects are made of
    r'[ \t]*+"([^"\\\x00-\x1f]*+)"[ \t]*+:[ \t]*+'
    r'("[^"\\\x00-\x1f]*+"|-?(?:0|[1-9]\d*+)(?:\.\d++)?(?:[eE][-+]?\d++)?|true|false|null)[ \t]*+([,}])'
)
_DECODER = json.JSONDecoder(parse_constant=refuse, parse_float=str, parse_int=str)  # values are not wanted


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
