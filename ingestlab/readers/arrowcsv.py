"""One call of pyarrow's CSV parser: it alone decides what a value means, but for times of a given format."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.csv
from pyarrow.csv import ConvertOptions, ParseOptions, ReadOptions

from ingestlab.readers.body import Body
from ingestlab.readers.columns import cast, one_array, strictly_timed
from ingestlab.readers.dialects import Dialect

Ragged = list[tuple[int, int]]  # records with too many or too few fields, as (number, fields)


@dataclass(frozen=True, slots=True)
class Layout:
    """What pyarrow has to know to read records.

    Attributes:
        names: The file's columns, in its order.
        types: The columns that are wanted, and their types; None to infer types for all.
        dialect: How fields are separated and quoted.
        nulls: Texts that stand for no value.
        timestamp_format: For strptime; None for ISO 8601.
    """

    names: tuple[str, ...]
    types: Mapping[str, pa.DataType] | None
    dialect: Dialect
    nulls: tuple[str, ...]
    timestamp_format: str | None = None

    @property
    def plain(self) -> Mapping[str, pa.DataType] | None:
        """The types that the parser itself makes: texts of a time format come out as texts."""
        if self.types is None or self.timestamp_format is None:
            return self.types
        return {n: pa.string() if strictly_timed(k, self.timestamp_format) else k for n, k in self.types.items()}


def convert(body: Body, layout: Layout) -> tuple[pa.Table, Ragged]:
    """The records of a body, and the ragged ones, which are not among them.

    Raises:
        pa.ArrowInvalid: A value is not of its column's type.
    """
    table, ragged = _read(body, layout, layout.plain)
    if layout.timestamp_format is None:
        return table, ragged
    if layout.types is None:
        return _without_false_times(table, body, layout), ragged
    for i, name in enumerate(table.column_names):
        if table.column(i).type != layout.types[name]:
            times = cast(one_array(table.column(i)), layout.types[name], layout.timestamp_format)
            table = table.set_column(i, name, times)
    return table, ragged


def readable(kind: pa.DataType) -> bool:
    """Whether pyarrow can make values of a type from text."""
    try:
        convert(Body(b"", 0, 0, Dialect()), Layout(("a",), {"a": kind}, Dialect(), ()))
    except pa.ArrowNotImplementedError:
        return False
    return True


def _read(body: Body, layout: Layout, types: Mapping[str, pa.DataType] | None) -> tuple[pa.Table, Ragged]:
    ragged: Ragged = []

    def skip(row: Any) -> str:
        ragged.append((row.number - 1, row.actual_columns))
        return "skip"

    dialect, data = layout.dialect, body.parsable
    size = len(data)
    table = pyarrow.csv.read_csv(
        pa.BufferReader(pa.py_buffer(data) if size else b"\n"),
        # One block for all: a field may be as long as it likes. One more byte, so that the end is seen at once.
        read_options=ReadOptions(use_threads=False, block_size=size + 1, column_names=layout.names),
        parse_options=ParseOptions(
            delimiter=dialect.delimiter,
            quote_char=(dialect.quote or False) if dialect.plain else '"',
            newlines_in_values=True,
            invalid_row_handler=skip,
        ),
        convert_options=_options(layout, types),
    )
    return table, ragged


def _options(layout: Layout, types: Mapping[str, pa.DataType] | None) -> ConvertOptions:
    return ConvertOptions(
        check_utf8=False,  # checked when the bytes were loaded
        column_types=types,
        include_columns=None if types is None else list(types),
        null_values=layout.nulls,
        strings_can_be_null=True,
        timestamp_parsers=None if layout.timestamp_format is None else [layout.timestamp_format],
    )


def _without_false_times(table: pa.Table, body: Body, layout: Layout) -> pa.Table:
    """Where types are inferred: a column that only Arrow takes for times is text."""
    timed = [f.name for f in table.schema if strictly_timed(f.type, layout.timestamp_format)]
    if not timed:
        return table
    texts, _ = _read(body, layout, dict.fromkeys(timed, pa.string()))
    for name in timed:
        values = one_array(texts[name])
        with suppress(pa.ArrowInvalid):
            values = cast(values, table.schema.field(name).type, layout.timestamp_format)
        table = table.set_column(table.column_names.index(name), name, values)
    return table
