"""Records of JSON that is not one object a line: the elements of an array, and objects that follow each other.

Where records end is found in blocks, without parsing them, so that a file of any size is cut in constant memory. A
record that is no JSON is left to the parser of lines; an array or object that does not end is an error of the file.
"""

from __future__ import annotations

import json
import re
from codecs import BOM_UTF8
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, Literal, NamedTuple

import numpy as np

from ingestlab.core.errors import TerminalError
from ingestlab.formats.common.bytes import HEAD
from ingestlab.formats.common.cutting import Bytes, Cut, Ints
from ingestlab.formats.json.text import refuse

Layout = Literal["lines", "array", "objects"]
_Flags = np.ndarray[Any, np.dtype[np.bool_]]

_QUOTE, _BACKSLASH, _COMMA, _LF, _CR = (ord(c) for c in '"\\,\n\r')
_DEPTH = np.zeros(256, np.int8)
_DEPTH[[ord("["), ord("{")]] = 1
_DEPTH[[ord("]"), ord("}")]] = -1
_MARKS = _DEPTH != 0
_MARKS[[_QUOTE, _COMMA]] = True
_BLANK = np.zeros(256, np.bool_)
_BLANK[[ord(c) for c in " \t\n\r"]] = True
_STEP = 1 << 18  # bytes looked at in one go: masks of this size stay in the processor's cache
_NONE = np.empty(0, np.int64)
_BAD_BREAK = 0x1F  # in place of a line end inside a string: no JSON has either, so the record stays a bad one
_WRAPPED = re.compile(rb'\s*+\{[^\[{]*?("(?:[^"\\]|\\.)*+")\s*+:\s*+\[\s*+\{')  # only simple values before the array
_NO_ROW = 1 << 20  # bytes of an object with an array of objects that are more than a row
_MANY = 100  # objects of an array, likewise
_LOOKED_AT = 50  # lines that tell lines of JSON from a document
_FIX = "Fetch it again from its producer; or make JSON lines of it, e.g. with `jq -c '.[]'` or `jq -c .`."
_DECODER = json.JSONDecoder(parse_constant=refuse, parse_float=str, parse_int=str)  # values are not wanted


class Cutting(NamedTuple):
    """Places to cut a document, and how many records it has."""

    cuts: list[Cut]
    records: int


def layout_of(head: bytes) -> Layout:
    """Tell how the records of a file are laid out.

    Args:
        head: Of its text, as UTF-8 or another encoding with ASCII's brackets; all of it, if it is short.
    """
    text = head.removeprefix(BOM_UTF8).lstrip()
    line, _, rest = text.partition(b"\r" if b"\n" not in text else b"\n")
    line = line.rstrip()
    if line.startswith(b"["):
        return "lines" if rest.strip() and _is_whole(line) else "array"  # of arrays, one a line, each is a bad record
    if not line.startswith(b"{"):
        return "lines"
    try:
        decoded = line.decode()
        _, end = _DECODER.raw_decode(decoded)
    except (ValueError, RecursionError):
        return "lines" if _in_lines(rest) else "objects"
    return "objects" if decoded[end:].lstrip().startswith("{") else "lines"


class Structure:
    """Finds where records end, in blocks of bytes as they come.

    Args:
        layout: Of the file.
        name: Of the file, for errors.
        begun: Whether the first block is a later piece of the file.
    """

    def __init__(self, layout: Layout, name: str, *, begun: bool = False) -> None:
        self._what = f"{name}, {'one JSON array' if layout == 'array' else 'JSON objects'}, is not whole"
        self._base = 1 if layout == "array" else 0  # how deep records are
        self._depth = self._base if begun else 0
        self._before = _COMMA  # the last bracket or comma outside of strings
        self._inside = self._loose = False
        self._tail: Bytes = np.empty(0, np.uint8)
        self._offset = 0
        self.end = -1  # offset after an array's closing bracket
        self.breaks: list[Ints] | None = None  # offsets of line ends inside of strings, if they are looked for

    def check_whole(self) -> None:
        """Raise TerminalError if something is left open, or follows the last record."""
        if self._depth or self._inside or self._tail.size:
            raise self.broken("its last bracket is not closed")
        if self._loose:
            raise self.broken("something follows its last record")

    def broken(self, why: str) -> TerminalError:
        """Make the error for a document that is not whole."""
        return TerminalError(self._what, got=why, fix=_FIX, code="bad_file")

    def feed(self, block: bytes | memoryview) -> Ints:
        """Look at the next block.

        Returns:
            Offsets of the bytes that end records: the comma after an element, the bracket that closes an object.

        Raises:
            TerminalError: Brackets do not match, or two elements have no comma between them.
        """
        data = np.frombuffer(block, np.uint8)
        if self._tail.size:
            data = np.concatenate([self._tail, data])
        size = data.size
        while size and data[size - 1] == _BACKSLASH:  # what they escape follows
            size -= 1
        self._tail, data = data[size:], data[:size]
        marks = np.flatnonzero(_MARKS[data])
        kinds = data[marks]
        quotes = _unescaped(data, marks, kinds == _QUOTE)
        toggled = np.cumsum(quotes, dtype=np.uint8)  # the last bit is what counts
        outside = (((toggled - quotes) & 1) == self._inside) & (kinds != _QUOTE)
        if self.breaks is not None:
            breaks = np.flatnonzero((data == _LF) | (data == _CR))
            inside = (np.searchsorted(marks[quotes], breaks) & 1) != self._inside
            self.breaks.append(breaks[inside] + self._offset)
        ends = self._ends(marks[outside], kinds[outside])
        self._see_rest(data, ends)
        self._inside ^= bool(toggled.size and toggled[-1] & 1)
        begin, self._offset = self._offset, self._offset + size
        return ends + begin

    def _ends(self, marks: Ints, kinds: Bytes) -> Ints:
        if not marks.size:
            return _NONE
        steps = _DEPTH[kinds]
        depths = np.cumsum(steps, dtype=np.int32) + self._depth
        self._check(marks, depths < 0, "a bracket is closed that is not open")
        closed: Ints = marks[(steps < 0) & (depths == 0)]
        if self._base:
            before = np.concatenate([[self._before], kinds[:-1]])
            begins = (steps > 0) & (depths == self._base + 1)
            self._check(marks, begins & (before != _COMMA) & (before != ord("[")), "there is no comma between elements")
            if self.end < 0 and closed.size:
                self.end = self._offset + int(closed[0]) + 1
            closed = marks[(kinds == _COMMA) & (depths == self._base)]
        self._depth, self._before = int(depths[-1]), int(kinds[-1])
        return closed

    def _check(self, marks: Ints, wrong: _Flags, problem: str) -> None:
        if wrong.any():
            raise self.broken(f"{problem}, at offset {self._offset + int(marks[np.argmax(wrong)]):,}")

    def _see_rest(self, data: Bytes, ends: Ints) -> None:
        """Note whether more than blanks follows the last record."""
        last = self.end - self._offset if self._base else int(ends[-1]) + 1 if ends.size else 0
        if self._base and self.end < 0:
            return
        more = not _BLANK[data[max(last, 0) :]].all()
        self._loose = more or (self._loose and not (ends.size and not self._base))


def cut_document(blocks: Iterable[bytes], layout: Layout, step: int, name: str) -> Cutting:
    """Choose places to cut a document, about `step` bytes apart.

    Args:
        blocks: The file's bytes, in order; one block is held at a time.
        layout: Of the file.
        step: Bytes from one cut to the next, about.
        name: Of the file, for errors.

    Raises:
        TerminalError: It is not whole.
    """
    structure, cuts = Structure(layout, name), list[Cut]()
    records, multiple = 0, 1
    for view in (view for block in blocks for view in _views(block)):
        ends = structure.feed(view)
        if ends.size:
            last = int(ends[-1]) // step
            targets = np.arange(multiple, last + 1, dtype=np.int64) * step
            places = np.unique(np.searchsorted(ends, targets))
            cuts += [Cut(int(ends[i]) + 1, records + i + 1) for i in places.tolist()]
            records, multiple = records + ends.size, max(multiple, last + 1)
    structure.check_whole()
    records += layout == "array"
    return Cutting([cut for cut in cuts if cut.records < records], records)


def as_lines(data: bytes, layout: Layout, name: str, *, begun: bool = False, last: bool = True) -> bytes:
    """Put each record of a piece in a line. Line ends in it become blanks.

    Args:
        data: Of a piece, as UTF-8.
        layout: Of its file.
        name: Of the file, for errors.
        begun: Whether the piece is not the first one.
        last: Whether it is the last one.

    Raises:
        TerminalError: The document is not whole, or an element of its array is empty.
    """
    structure = Structure(layout, name, begun=begun)
    structure.breaks = [_NONE]
    ends = np.concatenate([structure.feed(view) for view in _views(data)])
    if last:
        structure.check_whole()
    text = np.frombuffer(data, np.uint8).copy()
    starts, stops = _spans(data, ends, structure, layout, begun=begun)
    starts, stops = _trim(text, starts, stops)
    if (starts >= stops).any():
        if len(starts) > 1 or begun:
            raise structure.broken("an element between two commas is empty")
        return b""
    text[(text == _LF) | (text == _CR)] = ord(" ")
    text[np.concatenate(structure.breaks)] = _BAD_BREAK
    covered = np.zeros(text.size + 1, np.int8)
    covered[starts] += 1
    covered[stops] -= 1
    text[np.cumsum(covered[:-1], dtype=np.int8) == 0] = _LF
    return np.insert(text, stops[:-1][stops[:-1] == starts[1:]], _LF).tobytes()


def _spans(data: bytes, ends: Ints, structure: Structure, layout: Layout, *, begun: bool) -> tuple[Ints, Ints]:
    """Return where records begin and end, with the blanks around them."""
    if layout == "objects":
        return np.concatenate([[0], ends[:-1] + 1])[: ends.size], ends + 1
    stops = np.append(ends, structure.end - 1) if structure.end >= 0 else ends
    return np.concatenate([[0 if begun else data.index(b"[") + 1], ends + 1])[: stops.size], stops


def _trim(text: Bytes, starts: Ints, stops: Ints) -> tuple[Ints, Ints]:
    """Leave out the blanks around records."""
    starts, stops = starts.copy(), stops.copy()
    for places, step, shift in ((starts, 1, 0), (stops, -1, -1)):
        moving = np.arange(places.size)
        while moving.size:
            moving = moving[(starts[moving] < stops[moving])]
            moving = moving[_BLANK[text[places[moving] + shift]]]
            places[moving] += step
    return starts, stops


def _unescaped(data: Bytes, marks: Ints, quotes: _Flags) -> _Flags:
    """Tell which marks are quotes that no backslash escapes."""
    slashes = np.flatnonzero(data == _BACKSLASH)
    if not slashes.size:
        return quotes
    begins = np.flatnonzero(np.diff(slashes, prepend=-2) != 1)  # of runs of backslashes
    lengths = np.diff(begins, append=slashes.size)
    escaped = np.zeros(data.size + 1, np.bool_)
    escaped[(slashes[begins] + lengths)[lengths & 1 == 1]] = True
    return quotes & ~escaped[marks]


def _views(data: bytes) -> Iterable[memoryview]:
    view = memoryview(data)
    return (view[at : at + _STEP] for at in range(0, len(data), _STEP))


def wrapped_in(text: bytes) -> str | None:
    """Find the name under which an object keeps an array of records.

    Args:
        text: Of the object, or its beginning.
    """
    match = _WRAPPED.match(text, 0, HEAD)
    if match is None:
        return None
    key: str = json.loads(match[1])
    if len(text) >= _NO_ROW:
        return key
    with suppress(ValueError, RecursionError):
        fields = json.loads(text)
        return key if len(fields) == 1 or len(fields[key]) >= _MANY else None
    return None


def refuse_wrapped(name: str, key: str) -> TerminalError:
    """Make the error for a file whose records are below a name.

    Args:
        name: Of the file.
        key: The name in its object.
    """
    path = f".{key}[]" if key.isidentifier() and key.isascii() else f".[{json.dumps(key)}][]"
    return TerminalError(
        f"{name} is one JSON object: its records are in the array {key!r}",
        expected="objects one a line, one after another, or in one array",
        fix=f"Make lines of it: `jq -c '{path}' {name} > {name}l`. For one row in all, declare the columns.",
        code="wrong_format",
    )


def describe(layout: Layout, records: int) -> str:
    """Describe a document.

    Args:
        layout: Of it.
        records: How many it has.
    """
    if layout == "array":
        return f"one JSON array of {records:,}"
    return "one JSON object" if records == 1 else f"{records:,} JSON objects"


def _in_lines(text: bytes) -> bool:
    """Tell whether lines are mostly objects."""
    lines = [line.strip() for line in text[: 1 << 20].splitlines()[:_LOOKED_AT]]
    lines = [line for line in lines if line]
    return bool(lines) and sum(line.startswith(b"{") and _is_whole(line) for line in lines) * 2 > len(lines)


def _is_whole(line: bytes) -> bool:
    with suppress(ValueError, RecursionError):
        text = line.decode()
        return _DECODER.raw_decode(text)[1] == len(text)
    return False
