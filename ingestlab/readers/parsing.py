"""CSV bytes to Arrow by pyarrow's parser, in one block, and what to do with the records it cannot convert.

pyarrow alone decides what a value means. Records that it cannot convert are found by asking it again about
fewer and fewer of them; then their bytes are left out, and the rest is read as if they had never been there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
from pyarrow.csv import ConvertOptions, ParseOptions, ReadOptions

from ingestlab.errors import TerminalError
from ingestlab.pipeline import Bad
from ingestlab.readers.cutting import Dialect, Ints, Spans, scan

MAX_VALUE = 256  # characters of a bad value that are kept
MAX_RAW = 4096  # bytes of a record's text that are kept
_CHUNK = 256  # records that are converted at once while looking for bad ones
_ROW = re.compile(r"Row #(\d+)")
# What a text must look like at least. It spares asking one by one where a whole column is something else.
_ISO = r"^[ \t]*\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])"
_NUMBER = r"^[ \t]*[-+.0-9]"
_COULD_BE = (
    (pa.types.is_integer, r"^[ \t]*-?[0-9a-fA-FxX]+[ \t]*$"),
    (pa.types.is_floating, _NUMBER + r"[-+.0-9eE]*[ \t]*$|(?i:inf|nan)"),
    (pa.types.is_decimal, _NUMBER + r"[-+.0-9eE]*[ \t]*$"),
    (pa.types.is_boolean, r"^(?i:true|false|0|1)$"),
    (pa.types.is_timestamp, _ISO),
    (pa.types.is_date, _ISO),
)

Fails = Callable[[int, int], int | None]


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

    def options(self) -> ConvertOptions:
        """The same in pyarrow's terms."""
        types = self.types
        return ConvertOptions(
            check_utf8=False,  # checked when the bytes were loaded
            column_types=types,
            include_columns=None if types is None else list(types),
            null_values=self.nulls,
            strings_can_be_null=True,
            timestamp_parsers=None if self.timestamp_format is None else [self.timestamp_format],
        )


@dataclass(frozen=True)
class Body:
    """The records of a piece, without the header: `data[begin:end]`."""

    data: bytes
    begin: int
    end: int
    dialect: Dialect

    @cached_property
    def spans(self) -> Spans:
        """Where the records are in `data`; found when first asked for."""
        return scan(self.data, self.dialect, self.begin, self.end)

    @property
    def quoted(self) -> bool:
        """Whether there is any quote."""
        return self.dialect.quote is not None and self.data.find(self.dialect.quote.encode(), self.begin, self.end) >= 0

    def without(self, numbers: Ints) -> Body:
        """The body with some records (ascending numbers) cut out."""
        if not numbers.size:
            return self
        view = memoryview(self.data)
        begins = [self.begin, *self.spans.ends[numbers].tolist()]
        ends = [*self.spans.starts[numbers].tolist(), self.end]
        data = b"".join([view[a:b] for a, b in zip(begins, ends, strict=True)])
        return Body(data, 0, len(data), self.dialect)

    def only(self, numbers: Ints) -> Body:
        """The body of some records (ascending numbers)."""
        view, (starts, ends, _) = memoryview(self.data), self.spans
        data = b"".join([view[starts[i] : ends[i]] for i in numbers.tolist()])
        return Body(data, 0, len(data), self.dialect)

    def texts(self, numbers: Iterable[int]) -> dict[int, str]:
        """The source text of records, without their line ends; the longest are cut."""
        starts, ends, _ = self.spans
        return {i: excerpt(self.data[starts[i] : ends[i]]) for i in numbers if 0 <= i < len(starts)}


class Parsed(NamedTuple):
    """What became of the records of a body: `kept[i]` is the number of the record in `table[i]`."""

    table: pa.Table
    kept: Ints
    bad: list[Bad]
    total: int  # records in all


def parse(body: Body, layout: Layout) -> Parsed:
    """Reads all records that can be read, and says what is wrong with the others.

    Raises:
        TerminalError: The parser fails for another reason than the values of single records.
    """
    broken = np.array(body.spans.broken if body.quoted else (), np.int64)
    bad = _unclosed(body, broken) if broken.size else []
    try:
        table, ragged = _convert(body.without(broken), layout)
    except pa.ArrowInvalid as error:
        return _parse_dirty(body, layout, broken, bad, error)
    return _account(table, ragged, broken, bad, layout)


def readable(kind: pa.DataType) -> bool:
    """Whether pyarrow can make values of a type from text."""
    try:
        _convert(Body(b"", 0, 0, Dialect()), Layout(("a",), {"a": kind}, Dialect(), ()))
    except pa.ArrowNotImplementedError:
        return False
    return True


def shorten(value: str) -> str:
    """A value of any length, for people to read."""
    return value if len(value) <= MAX_VALUE else value[:MAX_VALUE] + "…"


def excerpt(record: bytes) -> str:
    """A record as text without its line end; the longest are cut."""
    line = record.removesuffix(b"\n").removesuffix(b"\r")
    if len(line) <= MAX_RAW:
        return line.decode(errors="replace")
    return line[:MAX_RAW].decode(errors="ignore") + "…"  # the cut may go through a character


def _unclosed(body: Body, broken: Ints) -> list[Bad]:
    return [Bad(i, "quote", None, shorten(text)) for i, text in body.texts(broken.tolist()).items()]


def _parse_dirty(body: Body, layout: Layout, broken: Ints, bad: list[Bad], error: pa.ArrowInvalid) -> Parsed:
    """Finds the records that cannot be converted, and reads all others as if those were not there."""
    if layout.types is None:
        raise TerminalError.wrap(error, "records that pyarrow can parse") from error
    texts = replace(layout, types=dict.fromkeys(layout.types, pa.string()))
    table, ragged = _convert(body.without(broken), texts)
    plain = _account(table, ragged, broken, [], layout)
    if plain.total != len(body.spans.starts):
        raise TerminalError.wrap(error, "records whose bounds are clear", "Repair the quotes in the file.") from error
    for suspects in (_wrong_by_looks(table, layout), np.arange(len(plain.kept))):
        rows = plain.kept[suspects]
        cells = _bad_cells_of_all(body.only(rows), layout, table.take(pa.array(suspects)))
        wrong = [Bad(int(rows[i]), "type", name, shorten(value)) for i, name, value in cells]
        kept = plain.kept[~np.isin(plain.kept, [cell.row for cell in wrong])]
        try:
            rest, _ = _convert(body.without(np.delete(np.arange(plain.total), kept)), layout)
        except pa.ArrowInvalid as again:
            error = again
            continue
        return Parsed(rest, kept, bad + plain.bad + wrong, plain.total)
    raise TerminalError.wrap(error, "records that pyarrow can convert one by one") from error


def _convert(body: Body, layout: Layout) -> tuple[pa.Table, list[tuple[int, int]]]:
    """One call of the parser: the table, and the ragged records as (number, fields)."""
    ragged: list[tuple[int, int]] = []

    def skip(row: Any) -> str:
        ragged.append((row.number - 1, row.actual_columns))
        return "skip"

    size = body.end - body.begin
    options = layout.options()
    table = pyarrow.csv.read_csv(
        pa.BufferReader(pa.py_buffer(body.data).slice(body.begin, size) if size else b"\n"),
        # One block for all: a field may be as long as it likes. One more byte, so that the end is seen at once.
        read_options=ReadOptions(use_threads=False, block_size=size + 1, column_names=layout.names),
        parse_options=ParseOptions(
            delimiter=layout.dialect.delimiter,
            quote_char=layout.dialect.quote or False,
            newlines_in_values=True,
            invalid_row_handler=skip,
        ),
        convert_options=options,
    )
    return table, ragged


def _account(table: pa.Table, ragged: list[tuple[int, int]], cut: Ints, bad: list[Bad], layout: Layout) -> Parsed:
    """Numbers the records, those included that were cut out before the parser saw them."""
    count = table.num_rows + len(ragged) + cut.size
    kept = np.arange(count, dtype=np.int64)
    if cut.size:
        kept = np.delete(kept, cut)
    if ragged:
        expected = len(layout.names)
        for number, fields in ragged:
            bad.append(Bad(int(kept[number]), "columns", None, f"{fields} fields, expected {expected}"))
        kept = np.delete(kept, [number for number, _ in ragged])
    return Parsed(table, kept, bad, count)


def _wrong_by_looks(texts: pa.Table, layout: Layout) -> Ints:
    """The records with a cell that cannot be of its column's type, told by its looks."""
    types = {} if layout.types is None or layout.timestamp_format is not None else layout.types
    found = [_hopeless(texts[name], kind) for name, kind in types.items() if not _textual(kind)]
    return np.unique(np.concatenate([np.empty(0, np.int64), *found]))


def _bad_cells_of_all(body: Body, layout: Layout, texts: pa.Table) -> Iterator[tuple[int, str, str]]:
    """The cells that cannot be converted, as (number, column, text); no record of `body` is ragged."""
    for name, kind in (layout.types or {}).items():
        if not _textual(kind):
            for i, value in _bad_cells(body, replace(layout, types={name: kind}), kind, texts[name]):
                yield i, name, str(value)


def _bad_cells(body: Body, layout: Layout, kind: pa.DataType, texts: pa.ChunkedArray) -> list[tuple[int, str]]:
    """The same for one column, as (number, text)."""
    hopeless = _hopeless(texts, kind) if layout.timestamp_format is None else np.empty(0, np.int64)
    rest = body.without(hopeless)
    asked = np.delete(np.arange(len(texts), dtype=np.int64), hopeless)
    found = np.union1d(hopeless, asked[_search(rest, layout)])
    return list(zip(found.tolist(), texts.take(pa.array(found)).to_pylist(), strict=True))


def _hopeless(texts: pa.ChunkedArray, kind: pa.DataType) -> Ints:
    """Cells that cannot be of a type, told by their looks; all others may still be wrong."""
    with suppress(pa.ArrowInvalid, pa.ArrowNotImplementedError):
        texts.cast(kind)  # works for most columns, and faster than the look at each cell
        return np.empty(0, np.int64)
    pattern = next((pattern for is_kind, pattern in _COULD_BE if is_kind(kind)), "")
    possible = pc.fill_null(pc.match_substring_regex(texts, pattern), fill_value=True)
    return np.flatnonzero(~possible.to_numpy())


def _search(body: Body, layout: Layout) -> list[int]:
    """The records that cannot be converted, by asking the parser about ever shorter runs of them."""
    starts, ends, _ = body.spans

    def fails(low: int, high: int) -> int | None:
        part = Body(body.data, int(starts[low]), int(ends[high - 1]), body.dialect)
        try:
            _convert(part, layout)
        except pa.ArrowInvalid as error:
            return _named(error, low)
        return None

    if not len(starts) or fails(0, len(starts)) is None:
        return []
    chunks = ((low, min(low + _CHUNK, len(starts))) for low in range(0, len(starts), _CHUNK))
    return [number for low, high in chunks for number in _failing(fails, low, high)]


def _failing(fails: Fails, low: int, high: int) -> list[int]:
    """All records in `low:high` that fail on their own."""
    found = []
    while low < high and (named := fails(low, high)) is not None:
        found.append(named if _names_rows() else _halve(fails, low, high))
        low = found[-1] + 1
    return found


def _named(error: pa.ArrowInvalid, low: int) -> int:
    found = _ROW.search(str(error))
    return low + int(found[1]) - 1 if found else low


@cache
def _names_rows() -> bool:
    """Whether this pyarrow says in its message which record is the first that it cannot convert."""
    data = b"1\n2\nx\n4\nx\n"
    layout = Layout(("a",), {"a": pa.int64()}, Dialect(), ())
    try:
        _convert(Body(data, 0, len(data), layout.dialect), layout)
    except pa.ArrowInvalid as error:
        return _ROW.findall(str(error)) == ["3"]
    return False


def _halve(fails: Fails, low: int, high: int) -> int:
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if fails(low, middle) is not None else (middle, high)
    return low


def _textual(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))
