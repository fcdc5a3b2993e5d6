"""What JSON may be in a record, said more strictly than Arrow's parser does.

Arrow takes NaN for a number and several objects in a line for as many rows, and it does not survive a bare
``null`` or very deep nesting. Lines that could be such are found at the speed of numpy, and looked at alone.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any, NoReturn

import numpy as np
import pyarrow as pa

from ingestlab.formats.common.cutting import Ints, Spans

_NOT_FINITE = re.compile(rb"[:\[,][ \t]*+-?(?:NaN|Inf)")
_WORDS_OF_NUMBERS = (b"NaN", b"Inf")
_NAME = re.compile(rb'"((?:[^"\\]++|\\.)*+)"[ \t]*+:')
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"')
_OPEN, _CLOSE = b"{[", b"}]"
_BLANK = np.frombuffer(b" \t\r\n", np.uint8)

Flaw = tuple[str, str | None, str]  # rule, column, what came


def suspects(data: bytes, spans: Spans, max_bytes: int, max_depth: int) -> Ints:
    """Find records that are long, deep, or not plainly objects."""
    begin, end = int(spans.starts[0]), int(spans.ends[-1])
    view = np.frombuffer(data, np.uint8)
    last = spans.ends - 1
    for _ in range(2):  # the line end
        last = last - np.isin(view[last], _BLANK)
    odd = (view[spans.starts] != ord("{")) | (view[last] != ord("}")) | (spans.ends - spans.starts > max_bytes)
    rows = [np.flatnonzero(odd)]
    if any(data.find(word, begin, end) >= 0 for word in _WORDS_OF_NUMBERS):  # ten times as fast as the expression
        hits = [match.start() for match in _NOT_FINITE.finditer(data, begin, end)]
        rows.append(np.searchsorted(spans.ends, np.array(hits, np.int64), side="right"))
    opened = sum(int(np.count_nonzero(view[begin:end] == bracket)) for bracket in _OPEN)
    if opened > len(spans.starts) + max_depth - 1:  # else every record has its one, and none too many
        brackets = np.isin(view[begin:end], np.frombuffer(_OPEN, np.uint8))
        counts = np.add.reduceat(brackets, spans.starts - begin, dtype=np.int64)
        rows.append(np.flatnonzero(counts > max_depth))
    return np.unique(np.concatenate(rows)).astype(np.int64)


def flaw(line: bytes, max_bytes: int, max_depth: int) -> Flaw | None:
    """Return what is wrong with a record, columns apart."""
    if len(line) > max_bytes:
        return "record_size", None, f"{len(line):,} bytes, at most {max_bytes:,}"
    if depth(line) > max_depth:
        return "json", None, f"nested {depth(line):,} deep, at most {max_depth:,}"
    try:
        loads(line)
    except ValueError as error:
        return "json", None, str(error)[:200]
    return None


def loads(line: bytes) -> dict[str, Any]:
    """Parse the one object in a line. Raises ValueError with the reason where there is not exactly one."""
    value = json.loads(line.strip(), parse_constant=refuse, parse_float=_finite)
    if not isinstance(value, dict):
        raise ValueError(f"{_WORDS.get(type(value), 'a number')}, expected an object")  # noqa: TRY004 - one kind for all
    return value


def dumps(value: Any, *, quote: bool = True) -> str | None:
    """Write a value as compact JSON; None where there is none."""
    if value is None or (not quote and isinstance(value, str)):
        return value
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def unknown_names(data: bytes, spans: Spans, known: Iterable[str], max_bytes: int, max_depth: int) -> list[str]:
    """List the names that are not known. Where there may be some, each line is read in Python.

    Args:
        data: Lines of JSON.
        spans: Where each line begins and ends, in bytes.
        known: Names of columns.
        max_bytes: That a value may have.
        max_depth: That values may be nested.
    """
    if {match[1] for match in _NAME.finditer(data)} <= {name.encode() for name in known}:
        return []
    names: set[str] = set()
    for start, end in zip(spans.starts.tolist(), spans.ends.tolist(), strict=True):
        line = data[start:end]
        if len(line) <= max_bytes and depth(line) <= max_depth:
            with suppress(ValueError):
                names |= loads(line).keys()
    return sorted(names.difference(known))


def plain(text: str | None) -> str | None:
    """Convert a JSON string to what it says, and leave anything else."""
    if text is None or not text.startswith('"'):
        return text
    return str(json.loads(text)) if "\\" in text else text[1:-1]


def misfits(record: Mapping[str, Any], types: Mapping[str, pa.DataType]) -> list[str]:
    """List the values of another kind than their columns. Nested columns are not checked."""
    return [name for name, kind in types.items() if record.get(name) is not None and not _fits(record[name], kind)]


def _fits(value: Any, kind: pa.DataType) -> bool:
    if pa.types.is_integer(kind):
        signed = pa.types.is_signed_integer(kind)
        low, high = (-1 << kind.bit_width - 1, 1 << kind.bit_width - 1) if signed else (0, 1 << kind.bit_width)
        return type(value) is int and low <= value < high
    if pa.types.is_floating(kind):
        return isinstance(value, int | float) and not isinstance(value, bool)
    if pa.types.is_string(kind):
        return isinstance(value, str)
    return isinstance(value, bool) or not pa.types.is_boolean(kind)


def repeated(line: bytes) -> set[str]:
    """Find the names that an object has more than once."""
    pairs: list[tuple[str, Any]] = []

    def note(members: list[tuple[str, Any]]) -> dict[str, Any]:
        pairs[:] = members  # the outermost object comes last
        return dict(members)

    json.loads(line.strip(), object_pairs_hook=note)
    return {name for name, count in Counter(name for name, _ in pairs).items() if count > 1}


def depth(line: bytes) -> int:
    """Measure how deep arrays and objects are nested. Brackets in strings do not count."""
    view = np.frombuffer(_STRING.sub(b"", line), np.uint8)
    opened = np.isin(view, np.frombuffer(_OPEN, np.uint8)).astype(np.int64)
    closed = np.isin(view, np.frombuffer(_CLOSE, np.uint8))
    return int(np.cumsum(opened - closed).max(initial=0))


_WORDS = {list: "an array", str: "a string", bool: "a truth value", type(None): "null"}


def refuse(name: str) -> NoReturn:
    """Raise ValueError for numbers of Python that JSON lacks."""
    raise ValueError(f"{name} is no JSON")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"the number {text[:40]} is too large")
    return number
