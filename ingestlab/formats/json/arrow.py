"""pyarrow's JSON parser: what it is told of the objects that are wanted, and one call of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.json
from pyarrow.json import ParseOptions, ReadOptions

from ingestlab.formats.common.columns import Types, cast, castable
from ingestlab.formats.json.text import plain

Unexpected = Literal["infer", "error", "ignore"]  # what the parser does with names that it was not told


_BLOCK = 1 << 20  # bytes parsed at a time: they stay in the cache, at twice the speed of a whole piece


@dataclass(frozen=True)
class Shape:
    """Columns to read from JSON objects.

    Attributes:
        columns: Their names and types, ``json`` among them; None to infer them.
        closed: Whether other names are an error.
    """

    columns: Types | None
    closed: bool = False

    @property
    def types(self) -> Types:
        """Return the type of each declared column in the table."""
        return {n: pa.string() if is_json(k) else k for n, k in (self.columns or {}).items()}

    @property
    def texts(self) -> list[str]:
        """List the columns of JSON text, which the parser does not make."""
        return [n for n, kind in (self.columns or {}).items() if is_json(kind)]

    @cached_property
    def parsed(self) -> Types | None:
        """Return the types that the parser makes. Text becomes times and dates later."""
        if self.columns is None:
            return None
        return {n: k if _native(k) else pa.string() for n, k in self.columns.items() if not is_json(k)}

    @property
    def unexpected(self) -> Unexpected:
        """Return the policy for other names. The parser leaves them where it does not know all."""
        if self.columns is None:
            return "infer"
        return "error" if self.closed and not self.texts else "ignore"


def read_objects(text: bytes, count: int, shape: Shape) -> pa.Table:
    """Parse `count` lines of objects.

    Raises:
        pa.ArrowInvalid: One does not fit, or a line has several.
    """
    table = _read(text, shape.parsed, shape.unexpected)
    if table.num_rows != count:
        raise pa.ArrowInvalid("several objects in one line")
    return table


def refused(line: bytes, types: Types | None, unexpected: Unexpected = "ignore") -> str | None:
    """Return the parser's complaint about a line; None if it takes it."""
    try:
        _read(line, types, unexpected)
    except pa.ArrowInvalid as error:
        return str(error)
    return None


def readable(kind: pa.DataType) -> bool:
    """Tell whether values of a type can be made from JSON."""
    if is_json(kind):
        return True
    if not _native(kind):
        return castable(kind)
    try:
        _read(b'{"a":null}\n', {"a": kind}, "ignore")
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid):
        return False
    return True


def is_json(kind: pa.DataType) -> bool:
    """Tell whether a column keeps any value, as JSON text."""
    return isinstance(kind, pa.JsonType)


def json_as(values: pa.Array, kind: pa.DataType, timestamp_format: str | None = None) -> pa.Array:
    """Convert JSON texts to a type.

    Args:
        values: JSON texts.
        kind: The type.
        timestamp_format: As strptime takes it; None for ISO 8601.

    Raises:
        pa.ArrowInvalid: A value is not of this type.
    """
    if pa.types.is_string(kind):
        return pa.array([plain(text) for text in values.to_pylist()], pa.string())
    text = b"".join(b'{"value":%s}\n' % (value or "null").encode() for value in values.to_pylist())
    column = _read(text, Shape({"value": kind}).parsed, "ignore")["value"].combine_chunks()
    return column if column.type == kind else cast(column, kind, timestamp_format)


def _read(text: bytes, types: Types | None, unexpected: Unexpected) -> pa.Table:
    """Call the parser once. All lines must begin and end as objects: a bare `null` would kill it."""
    size = len(text) + 1  # one type for all: it is inferred by the block
    if types is not None and size > _BLOCK:
        breaks = np.flatnonzero(np.frombuffer(text, np.uint8) == ord("\n"))
        size = max(_BLOCK, int(np.diff(breaks, prepend=-1, append=len(text)).max()) + 1)  # no line is longer
    return pyarrow.json.read_json(
        pa.BufferReader(text or b"\n"),
        read_options=ReadOptions(use_threads=False, block_size=size),
        parse_options=ParseOptions(
            explicit_schema=None if types is None else pa.schema(list(types.items())),
            newlines_in_values=False,
            unexpected_field_behavior=unexpected,
        ),
    )


def _native(kind: pa.DataType) -> bool:
    """Tell whether the parser itself makes values of a type. Others it reads as text."""
    types = pa.types
    tests = (types.is_integer, types.is_floating, types.is_boolean, types.is_decimal, types.is_nested)
    return any(test(kind) for test in tests)
