"""The row groups of a Parquet file, read from its footer in Python.

pyarrow ends the process when it is asked for the metadata of a column that is damaged or encrypted, though it
reports the same damage well when it reads the data. So what has to be known before reading, where the row
groups are and what they will take, is looked up here: a walk through Thrift's compact encoding.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ingestlab.core.errors import TerminalError
from ingestlab.interfaces import Store

MAX_FOOTER = 64 << 20  # bytes; ten thousand columns in hundreds of row groups
MAX_DEPTH = 16  # of structs and lists in the footer, where Parquet needs seven
WIDTH = 8  # bytes that any value takes at least in memory, about
_TAIL = 8  # bytes: the footer's length, and the magic number

_BOOLEANS, _BYTE, _INTEGERS, _DOUBLE, _BINARY, _LISTS, _STRUCT = (1, 2), 3, (4, 5, 6), 7, 8, (9, 10), 12
# Field numbers of Parquet's format
_FILE_GROUPS, _GROUP_COLUMNS, _GROUP_ROWS, _COLUMN_DATA = 4, 1, 3, 3
_ENCODINGS, _PATH, _VALUES, _UNCOMPRESSED, _DATA_PAGE, _DICTIONARY_PAGE = 2, 3, 5, 6, 9, 11
_DELTA_TEXT = {6, 7}  # DELTA_LENGTH_BYTE_ARRAY and DELTA_BYTE_ARRAY


class Group(NamedTuple):
    """Row group of a file."""

    begin: int  # offset of its first column in the file
    rows: int
    memory: int  # bytes that it takes at least when it is read
    delta: tuple[str, ...] = ()  # columns of which a text is told by how it differs from the one before
    longest: int = 0  # bytes that one such text can have


def row_groups(path: str, store: Store, size: int) -> list[Group]:
    """Read the row groups of a file of `size` bytes.

    Raises:
        ValueError: The footer is damaged.
        TerminalError: It is too long, or its columns are encrypted.
    """
    tail = store.read(path, max(0, size - _TAIL), size)
    length = int.from_bytes(tail[:4], "little")
    if not tail.endswith(b"PAR1") or length + _TAIL > size:
        raise ValueError("no Parquet footer at its end")
    if length > MAX_FOOTER:
        problem, expected = "The Parquet footer is too large", f"a footer of at most {MAX_FOOTER:,} bytes"
        fix = "Write fewer row groups."
        raise TerminalError(problem, expected=expected, got=f"{length:,}", fix=fix, code="limit_exceeded")
    data = store.read(path, size - _TAIL - length, size - _TAIL)
    try:
        groups = _Walker(data).struct().get(_FILE_GROUPS) or []
        return [_group(group) for group in groups]
    except (IndexError, TypeError, AttributeError, KeyError) as error:
        raise ValueError(f"a damaged footer ({error})") from error


def _group(fields: dict[int, Any]) -> Group:
    begin = memory = longest = 0
    delta = []
    for number, column in enumerate(fields[_GROUP_COLUMNS]):
        if _COLUMN_DATA not in column:
            fix = "Have it written without encryption."
            raise TerminalError("A Parquet column without metadata is encrypted", fix=fix, code="bad_file")
        data = column[_COLUMN_DATA]
        memory += max(0, data[_UNCOMPRESSED], data[_VALUES] * WIDTH)
        if _DELTA_TEXT.intersection(data[_ENCODINGS]):
            delta.append(data[_PATH][0].decode(errors="replace"))
            longest = max(longest, data[_UNCOMPRESSED])
        if not number:
            begin = min(data[_DATA_PAGE], data.get(_DICTIONARY_PAGE) or data[_DATA_PAGE])
    return Group(begin, fields[_GROUP_ROWS], memory, tuple(delta), longest)


class _Walker:
    """Reader of one value after the other. Structs become dicts by field number."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def struct(self, depth: int = 0) -> dict[int, Any]:
        if depth > MAX_DEPTH:
            raise ValueError("a footer nested too deep")
        fields: dict[int, Any] = {}
        number = 0
        while head := self._byte():
            number = number + (head >> 4) if head >> 4 else self._zigzag()
            kind = head & 15
            fields[number] = kind == _BOOLEANS[0] if kind in _BOOLEANS else self._value(kind, depth)
        return fields

    def _value(self, kind: int, depth: int) -> Any:
        if kind in _INTEGERS:
            return self._zigzag()
        if kind == _BINARY:
            return self._take(self._varint())
        if kind == _STRUCT:
            return self.struct(depth + 1)
        if kind in _LISTS:
            return self._list(depth)
        if kind == _DOUBLE:
            return self._take(8)
        if kind in (*_BOOLEANS, _BYTE):
            return self._byte()
        raise ValueError(f"a value of kind {kind} in the footer")

    def _list(self, depth: int) -> list[Any]:
        head = self._byte()
        size = head >> 4 if head >> 4 < 15 else self._varint()
        if size > len(self._data) - self._at:
            raise ValueError("a list longer than the footer")
        if depth > MAX_DEPTH:
            raise ValueError("a footer nested too deep")
        return [self._value(head & 15, depth + 1) for _ in range(size)]

    def _byte(self) -> int:
        byte = self._data[self._at]
        self._at += 1
        return byte

    def _varint(self) -> int:
        value = shift = 0
        while True:
            byte = self._byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
            shift += 7
            if shift > 63:
                raise ValueError("a number too long in the footer")

    def _zigzag(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)

    def _take(self, size: int) -> bytes:
        self._at += size
        if self._at > len(self._data):
            raise ValueError("a text longer than the footer")
        return self._data[self._at - size : self._at]
