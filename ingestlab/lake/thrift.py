"""Thrift's compact protocol, in which Parquet writes its headers and footers, as plain Python values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

TRUE, FALSE, BYTE, I16, I32, I64, DOUBLE, BINARY, LIST, SET, MAP, STRUCT = range(1, 13)
_FIXED = {BYTE: 1, DOUBLE: 8}


class Items(NamedTuple):
    """A list of values of one type."""

    kind: int
    values: Sequence[Any]


Struct = Mapping[int, tuple[int, Any]]  # by the field's number its type and value


def encode(struct: Struct) -> bytes:
    """Write a struct.

    Args:
        struct: Integers as such, texts as bytes, booleans as their type alone, lists as :class:`Items`.
    """
    out = bytearray()
    _write(out, STRUCT, struct)
    return bytes(out)


def decode(data: bytes) -> Struct:
    """Read a struct, as :func:`encode` takes it.

    Args:
        data: All of it.
    """
    return _Reader(data).read(STRUCT)  # type: ignore[no-any-return]


def _write(out: bytearray, kind: int, value: Any) -> None:
    if kind in (I16, I32, I64):
        out += varint((value << 1) ^ (value >> 63))
    elif kind == BINARY:
        out += varint(len(value)) + value
    elif kind == LIST:
        count = len(value.values)
        out += bytes([count << 4 | value.kind]) if count < 15 else bytes([0xF0 | value.kind]) + varint(count)
        for item in value.values:
            _write(out, value.kind, item)
    elif kind == STRUCT:
        last = 0
        for number, (of, item) in sorted(value.items()):
            step = number - last
            out += bytes([step << 4 | of]) if step < 16 else bytes([of]) + varint(number << 1)
            last = number
            if of not in (TRUE, FALSE):
                _write(out, of, item)
        out.append(0)
    else:  # a byte or a double, kept as it was written
        out += value


def varint(number: int) -> bytes:
    """Write a whole number, seven bits a byte.

    Args:
        number: Not below 0.
    """
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


class _Reader:
    """Read values one after the other."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def read(self, kind: int) -> Any:
        if kind in (I16, I32, I64):
            number = self._varint()
            return (number >> 1) ^ -(number & 1)
        if kind == BINARY:
            return self._take(self._varint())
        if kind == LIST:
            head = self._take(1)[0]
            count, of = head >> 4, head & 15
            count = self._varint() if count == 15 else count
            return Items(of, [self.read(of) for _ in range(count)])
        if kind == STRUCT:
            return self._struct()
        return self._take(_FIXED[kind])

    def _struct(self) -> Struct:
        fields: dict[int, tuple[int, Any]] = {}
        number = 0
        while head := self._take(1)[0]:
            kind, step = head & 15, head >> 4
            number = number + step if step else self.read(I16)
            fields[number] = kind, None if kind in (TRUE, FALSE) else self.read(kind)
        return fields

    def _take(self, size: int) -> bytes:
        self._at += size
        return self._data[self._at - size : self._at]

    def _varint(self) -> int:
        number = shift = 0
        while True:
            byte = self._take(1)[0]
            number |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return number
