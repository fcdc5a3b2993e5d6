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
        data: It begins there; what follows is left.
    """
    return _Reader(data).struct()


def _write(out: bytearray, kind: int, value: Any) -> None:
    if kind in (I16, I32, I64):
        zigzag = (value << 1) ^ (value >> 63)
        if zigzag < 0x80:
            out.append(zigzag)
        else:
            out += varint(zigzag)
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
            if step < 16:
                out.append(step << 4 | of)
            else:
                out.append(of)
                out += varint(number << 1)
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

    def struct(self) -> Struct:
        fields: dict[int, tuple[int, Any]] = {}
        number = 0
        while head := self._byte():
            kind, step = head & 15, head >> 4
            number = number + step if step else self._read(I16)
            fields[number] = kind, None if kind in (TRUE, FALSE) else self._read(kind)
        return fields

    def _read(self, kind: int) -> Any:
        if kind in (I16, I32, I64):
            number = self._number()
            return (number >> 1) ^ -(number & 1)
        if kind == BINARY:
            return self._take(self._number())
        if kind == STRUCT:
            return self.struct()
        if kind == LIST:
            head = self._byte()
            count, kind = head >> 4, head & 15
            return Items(kind, [self._read(kind) for _ in range(self._number() if count == 15 else count)])
        return self._take(_FIXED[kind])

    def _byte(self) -> int:
        self._at += 1
        return self._data[self._at - 1]

    def _take(self, size: int) -> bytes:
        self._at += size
        return self._data[self._at - size : self._at]

    def _number(self) -> int:
        number, shift = self._byte(), 7
        if number < 0x80:
            return number
        number &= 0x7F
        while True:
            byte = self._byte()
            number |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return number
