"""One call of pyarrow's CSV parser: it alone decides what a value means, but for times of a given format."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
from pyarrow.csv import ConvertOptions, ParseOptions, ReadOptions

from ingestlab.formats.common.columns import (
    below_zero,
    cast,
    one_array,
    refuse_wrapped,
    refuse_year_zero,
    strictly_timed,
)
from ingestlab.formats.common.dialects import Dialect
from ingestlab.formats.common.drift import text_as
from ingestlab.formats.common.nulls import Marks, nulled, textual
from ingestlab.formats.csv.body import Body

_STEP = 1 << 18  # bytes looked at in one go: they stay in the processor's cache
_LOWER = 0x20  # the bit that letters have and capitals have not
Ragged = list[tuple[int, int]]  # records with too many or too few fields, as (number, fields)


@dataclass(frozen=True, slots=True)
class Layout:
    """What pyarrow has to know to read records.

    Attributes:
        names: The file's columns, in its order.
        types: The columns that are wanted, and their types.
        dialect: How fields are separated and quoted.
        nulls: By column, the texts that stand for no value; none where a column is not in it.
        timestamp_format: For strptime; None for ISO 8601.
    """

    names: tuple[str, ...]
    types: Mapping[str, pa.DataType]
    dialect: Dialect
    nulls: Mapping[str, Marks] = field(default_factory=dict)
    timestamp_format: str | None = None

    @property
    def shared(self) -> Marks:
        """Return the null markers that most columns have: the parser itself applies these."""
        counts = Counter(self.nulls.get(name, ()) for name, kind in self.types.items() if not self._later(kind))
        return counts.most_common(1)[0][0] if counts else ()

    def plain(self, shared: Marks) -> Mapping[str, pa.DataType]:
        """Return the types that the parser itself makes. Other columns it reads as text."""
        return {
            name: pa.string() if self._later(kind) or self.nulls.get(name, ()) != shared else kind
            for name, kind in self.types.items()
        }

    def _later(self, kind: pa.DataType) -> bool:
        return textual(kind) or strictly_timed(kind, self.timestamp_format)


def convert(body: Body, layout: Layout) -> tuple[pa.Table, Ragged]:
    """Parse the records of a body. Ragged ones are left out and listed.

    Raises:
        pa.ArrowInvalid: A value is not of its column's type.
    """
    shared = layout.shared
    plain = layout.plain(shared)
    table, ragged = _read(body, layout, plain, shared)
    _refuse_wrapped(table, body, layout)
    for column in table.columns:
        refuse_year_zero(column)
    if all(not textual(kind) and kind == layout.types[name] for name, kind in plain.items()):
        return table, ragged
    columns = []
    for name, column in zip(table.column_names, table.columns, strict=True):
        kind, values = layout.types[name], column
        if textual(plain[name]):
            values = pa.chunked_array([nulled(c, layout.nulls.get(name, ())) for c in column.chunks], plain[name])
        if values.type != kind:
            make = cast if strictly_timed(kind, layout.timestamp_format) else text_as
            values = make(one_array(values), kind, layout.timestamp_format)
        columns.append(values)
    return pa.Table.from_arrays(columns, names=table.column_names), ragged  # setting them one by one is quadratic


def _refuse_wrapped(table: pa.Table, body: Body, layout: Layout) -> None:
    """Raise ArrowInvalid for a hexadecimal number beyond its type: the parser makes it negative."""
    signed = [f.name for f in table.schema if pa.types.is_signed_integer(f.type)]
    suspects = [name for name in signed if below_zero(table[name])]
    if not suspects or not _has_hex(body):
        return
    texts, _ = _read(body, layout, dict.fromkeys(suspects, pa.string()), ())
    for name in suspects:
        refuse_wrapped(one_array(texts[name]), one_array(table[name]))


def _has_hex(body: Body) -> bool:
    """Tell whether a field may begin with `0x`. Among many zeros numpy is several times faster than `bytes.find`."""
    whole = np.frombuffer(body.data, np.uint8)
    for at in range(body.begin, body.end, _STEP):
        part = whole[at : min(at + _STEP + 1, body.end)]
        places = at + np.flatnonzero((part[1:] | _LOWER == ord("x")) & (part[:-1] == ord("0")))
        if any(place == body.begin or not chr(whole[place - 1]).isalnum() for place in places.tolist()):
            return True
    return False


def readable(kind: pa.DataType) -> bool:
    """Tell whether pyarrow can make values of a type from text."""
    try:
        convert(Body(b"", 0, 0, Dialect()), Layout(("a",), {"a": kind}, Dialect()))
    except pa.ArrowNotImplementedError:
        return False
    return True


def _read(body: Body, layout: Layout, types: Mapping[str, pa.DataType], nulls: Marks) -> tuple[pa.Table, Ragged]:
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
        convert_options=ConvertOptions(
            check_utf8=False,  # checked when the bytes were loaded
            column_types=types,
            include_columns=list(types),
            null_values=nulls,
            strings_can_be_null=False,  # which texts are null is said by column
            timestamp_parsers=None if layout.timestamp_format is None else [layout.timestamp_format],
        ),
    )
    return table, ragged
