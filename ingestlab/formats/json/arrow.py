"""pyarrow's JSON parser: what it is told of the objects that are wanted, and one call of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import pyarrow as pa
import pyarrow.json
from pyarrow.json import ParseOptions, ReadOptions

from ingestlab.formats.common.columns import Types, cast, castable
from ingestlab.formats.json.text import plain

Unexpected = Literal["infer", "error", "ignore"]  # what the parser does with names that it was not told


@dataclass(frozen=True)
class Shape:
    """The objects that are wanted.

    Attributes:
        columns: Their names and types, ``json`` among them; None to infer them.
        closed: Whether other names are an error.
    """

    columns: Types | None
    closed: bool = False

    @property
    def types(self) -> Types:
        """Type of each declared column in the table that is made."""
        return {n: pa.string() if is_json(k) else k for n, k in (self.columns or {}).items()}

    @property
    def texts(self) -> list[str]:
        """The columns that keep any value as JSON text: the parser does not make these."""
        return [n for n, kind in (self.columns or {}).items() if is_json(kind)]

    @cached_property
    def parsed(self) -> Types | None:
        """What the parser makes of each column; text becomes times and dates later."""
        if self.columns is None:
            return None
        return {n: k if _native(k) else pa.string() for n, k in self.columns.items() if not is_json(k)}

    @property
    def unexpected(self) -> Unexpected:
        """What the parser is told to do with other names; it must leave them where it does not know all that are."""
        if self.columns is None:
            return "infer"
        return "error" if self.closed and not self.texts else "ignore"


def read_objects(text: bytes, count: int, shape: Shape) -> pa.Table:
    """The objects in lines of text, which are so many.

    Raises:
        pa.ArrowInvalid: One does not fit, or a line has several.
    """
    table = _read(text, shape.parsed, shape.unexpected)
    if table.num_rows != count:
        raise pa.ArrowInvalid("several objects in one line")
    return table


def refused(line: bytes, types: Types | None, unexpected: Unexpected = "ignore") -> str | None:
    """What the parser says against a line; None if it takes it."""
    try:
        _read(line, types, unexpected)
    except pa.ArrowInvalid as error:
        return str(error)
    return None


def readable(kind: pa.DataType) -> bool:
    """Whether values of a type can be made from JSON."""
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
    """Whether a column keeps any value, as JSON text."""
    return isinstance(kind, pa.JsonType)


def json_as(values: pa.Array, kind: pa.DataType, timestamp_format: str | None = None) -> pa.Array:
    """JSON text as values of a type.

    Raises:
        pa.ArrowInvalid: A value is not of this type.
    """
    if pa.types.is_string(kind):
        return pa.array([plain(text) for text in values.to_pylist()], pa.string())
    text = b"".join(b'{"value":%s}\n' % (value or "null").encode() for value in values.to_pylist())
    column = _read(text, Shape({"value": kind}).parsed, "ignore")["value"].combine_chunks()
    return column if column.type == kind else cast(column, kind, timestamp_format)


def _read(text: bytes, types: Types | None, unexpected: Unexpected) -> pa.Table:
    """One call of the parser. What it gets are lines that begin and end as objects: a bare `null` would kill it."""
    return pyarrow.json.read_json(
        pa.BufferReader(text or b"\n"),
        read_options=ReadOptions(use_threads=False, block_size=len(text) + 1),
        parse_options=ParseOptions(
            explicit_schema=None if types is None else pa.schema(list(types.items())),
            newlines_in_values=False,
            unexpected_field_behavior=unexpected,
        ),
    )


def _native(kind: pa.DataType) -> bool:
    """Whether the parser itself makes values of a type; the others it reads as text."""
    types = pa.types
    tests = (types.is_integer, types.is_floating, types.is_boolean, types.is_decimal, types.is_nested)
    return any(test(kind) for test in tests)
