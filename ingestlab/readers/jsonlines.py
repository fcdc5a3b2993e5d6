"""JSON Lines: one object a line, declared columns, broken lines kept apart."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.json
from pyarrow.json import ParseOptions, ReadOptions

from ingestlab.errors import TerminalError
from ingestlab.models import FetchedFile, Piece
from ingestlab.pipeline import Bad, Records, SchemaDrift
from ingestlab.readers.bytes import Limits
from ingestlab.readers.columns import (
    MAX_COLUMNS,
    Types,
    cast,
    castable,
    check_extra,
    check_format,
    check_width,
    convert_columns,
    declared,
    failing,
    listed,
)
from ingestlab.readers.cutting import Ints, Spans, scan
from ingestlab.readers.drift import settle, told
from ingestlab.readers.jsontext import dumps, flaw, loads, misfits, plain, repeated, suspects, unknown_names
from ingestlab.readers.linewise import LINES, Lined, Raw, blocks, check_encoding, load_lines, split_lines, without
from ingestlab.readers.parsing import shorten
from ingestlab.storage import Store

MAX_CELLS = 1 << 28  # rows times columns, where columns are inferred
_NAME = re.compile(rb'"((?:[^"\\]++|\\.)*+)"[ \t]*+:')
_CHUNK = 256  # records that are looked at together once the parser has refused one of them
Parsed = tuple[pa.Table, Ints, list[Bad]]
Judge = Callable[[bytes, int], list[Bad]]  # of a line and its number


@dataclass(frozen=True, kw_only=True)
class JsonLines:
    """Reads one JSON object a line; empty lines are no records.

    Records that do not fit are set apart as :class:`~ingestlab.pipeline.Bad`, by these rules: ``json`` (not
    one object, NaN or Infinity, a number too large, a name twice among those that are read, nested too deep),
    ``type`` (a value is not of its column's type), ``columns`` (names that are not declared, if so wished) and
    ``record_size``.

    Attributes:
        columns: Name to Arrow type, as in :class:`~ingestlab.readers.csv.Csv`. Nested values are declared as
            struct or list types, or as ``"json"``, which keeps any value as JSON text (at about half the
            speed). A name that a record lacks is null. Numbers do not become text, nor text numbers. None
            infers types for each piece on its own; declare the columns of anything that is large or matters.
        timestamp_format: For strptime; None for ISO 8601.
        encoding: Any text encoding that Python knows; None to have it detected.
        extra_columns: What to do with names that are not declared: leave them, or reject the record; if the
            pipeline's `schema_drift` does not say it.
        drift: What the pipeline's `schema_drift` says; set by the pipeline. Values of names that are not
            declared become columns of simple types, or else of JSON text.
        max_record_bytes: Longest record.
        max_depth: How deep objects and arrays may be nested.
        max_columns: Most columns where they are inferred.
        limits: How far a compressed file may grow.
    """

    columns: Mapping[str, str | pa.DataType] | None = None
    timestamp_format: str | None = None
    encoding: str | None = "utf-8"
    extra_columns: Literal["drop", "reject"] = "drop"
    drift: SchemaDrift | None = None
    max_record_bytes: int = 16 << 20
    max_depth: int = 64
    max_columns: int = MAX_COLUMNS
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        check_encoding(self.encoding)
        check_format(self.timestamp_format)
        if self.columns is not None:
            columns = {n: pa.json_() if kind == "json" else kind for n, kind in self.columns.items()}
            types = declared(columns, _readable, "JSON")
            check_width(list(types), "the declaration", self.max_columns)
            object.__setattr__(self, "columns", types)

    def __hash__(self) -> int:
        columns = None if self.columns is None else tuple(self.columns.items())
        return hash((columns, self.timestamp_format, self.encoding, self.extra_columns, self.max_record_bytes))

    def drifting(self, word: SchemaDrift) -> JsonLines:
        """The same reader under a pipeline's `schema_drift`."""
        return told(self, word)

    def split(self, file: FetchedFile, store: Store, size: int) -> list[Piece]:
        """Cuts a file at line ends into pieces of about `size` bytes, with exact row numbers."""
        return split_lines(file, store, size, self.encoding)

    def read(self, piece: Piece, store: Store) -> Records:
        """Reads one piece.

        Raises:
            TerminalError: It is empty, damaged, binary, not in the declared encoding, or one JSON document
                in place of one a line; or its columns have no types that could be inferred.
        """
        lined = load_lines(piece, store, self.encoding, self.limits)
        if not piece.start:
            _refuse_document(lined, piece.name)
        if self.columns is None or self.drift is None:
            return self.read_lines(lined, piece)
        unknown = unknown_names(lined.data, lined.spans, self.columns, self.max_record_bytes, self.max_depth)
        if self.drift == "freeze":
            check_extra([*self.columns, *unknown], self.columns, piece.name, drop=False)
        known = {name: kind for name, kind in self.columns.items() if isinstance(kind, pa.DataType)}

        def loosely(names: Iterable[str]) -> Records:
            loose = dict.fromkeys([*names, *unknown], pa.json_())
            return replace(self, columns=known | loose, extra_columns="drop", drift=None).read_lines(lined, piece)

        return settle(loosely(()), self.drift, known, unknown, loosely, partial(json_as, self))

    def read_lines(self, lined: Lined, piece: Piece) -> Records:
        """The records of a piece as declared."""
        parts = [self._parse(lined.data, part, piece.first_row + first) for first, part in blocks(lined.spans)]
        try:
            table = pa.concat_tables([self._schema.empty_table(), *(p[0] for p in parts)], promote_options="permissive")
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise _undecided(error) from error
        if self.columns is None:
            table = _without_null_types(table)
            if not table.num_columns and any(len(p[1]) for p in parts):
                got, fix = "empty objects alone", "See what the producer left out."
                raise TerminalError(f"names in the objects of {piece.name}", got, fix)
        rows = np.concatenate([np.empty(0, np.int64), *(p[1] for p in parts)])
        bad = sorted((b for p in parts for b in p[2]), key=lambda b: b.row)
        return Records(table, rows, tuple(bad), Raw(lined.data, lined.spans, piece.first_row), lined.facts)

    @property
    def _types(self) -> Types:
        """Type of each declared column in the table that is made."""
        return {n: pa.string() if _is_json(k) else k for n, k in (self.columns or {}).items() if not isinstance(k, str)}

    @property
    def _schema(self) -> pa.Schema:
        return pa.schema(list(self._types.items()))

    @cached_property
    def parsed_types(self) -> Types | None:
        """What the parser makes of each column; text becomes times and dates later."""
        if self.columns is None:
            return None
        kinds = {n: k for n, k in self.columns.items() if not _is_json(k)}
        return {n: k if _native(k) else pa.string() for n, k in kinds.items() if not isinstance(k, str)}

    def _parse(self, data: bytes, spans: Spans, first: int) -> Parsed:
        """The records of a block; `first` is the number of its first one."""
        bad = [
            Bad(first + i, *found)
            for i in suspects(data, spans, self.max_record_bytes, self.max_depth).tolist()
            if (found := flaw(data[spans.starts[i] : spans.ends[i]], self.max_record_bytes, self.max_depth))
        ]
        numbers = np.arange(first, first + len(spans.starts), dtype=np.int64)
        cut = np.array([b.row - first for b in bad], np.int64)
        text, numbers = without(data, spans, cut), np.delete(numbers, cut)
        if self.columns is None:
            self._check_inferred(text, len(numbers))
        try:
            table = self._table(text, len(numbers))
        except pa.ArrowInvalid as error:
            if self.columns is None and "changed from" in str(error):
                raise _undecided(error) from error
            text, numbers, more = self._reject(text, numbers)
            bad += more
            try:
                table = self._table(text, len(numbers))
            except pa.ArrowInvalid as again:
                raise _undecided(again) from again
        return self._finish(table, text, numbers, bad)

    def _finish(self, table: pa.Table, text: bytes, numbers: Ints, bad: list[Bad]) -> Parsed:
        """The table in its declared shape: with JSON text, times and dates."""
        if self.columns is None:
            return table, numbers, bad
        kept = [n for n, kind in self.columns.items() if _is_json(kind)]
        if kept:
            objects = [loads(line) for line in text.splitlines() if line]
            for name in kept:
                table = table.append_column(name, pa.array([dumps(o.get(name)) for o in objects], pa.string()))
            if self.extra_columns == "reject":  # the parser was told to leave them, since it cannot read these
                more = [(i, [n for n in o if n not in self.columns]) for i, o in enumerate(objects)]
                extra = {i: names for i, names in more if names}
                bad = bad + [Bad(int(numbers[i]), "columns", None, _also(names)) for i, names in extra.items()]
                keep = np.setdiff1d(np.arange(len(objects)), list(extra))
                table, numbers = table.take(pa.array(keep)), numbers[keep]
        table = table.select(list(self.columns))
        table, numbers, wrong = convert_columns(table, self._types, numbers, self.timestamp_format)
        return table, numbers, bad + wrong

    def _table(self, text: bytes, count: int) -> pa.Table:
        table = _read(text, self.parsed_types, self._unexpected)
        if table.num_rows != count:
            raise pa.ArrowInvalid("several objects in one line")
        return table

    @property
    def _unexpected(self) -> str:
        if self.columns is None:
            return "infer"
        plain = self.extra_columns == "reject" and not any(_is_json(k) for k in self.columns.values())
        return "error" if plain else "ignore"

    def _reject(self, text: bytes, numbers: Ints) -> tuple[bytes, Ints, list[Bad]]:
        """Finds the records that the parser refuses: first those that are plainly wrong, since asking it is slow."""
        text, numbers, bad = self._sift(text, numbers, _CHUNK, self._plainly_wrong)
        text, numbers, more = self._sift(text, numbers, 1, self._reasons)
        return text, numbers, bad + more

    def _sift(self, text: bytes, numbers: Ints, step: int, judge: Judge) -> tuple[bytes, Ints, list[Bad]]:
        """Judges the runs of `step` records that the parser refuses, by asking it about ever fewer of them."""
        spans, count = scan(text, LINES, 0, len(text)), len(numbers)

        def fails(low: int, high: int) -> bool:
            first, last = low * step, min(high * step, count)
            try:
                self._table(text[spans.starts[first] : spans.ends[last - 1]], last - first)
            except pa.ArrowInvalid as error:
                return self.columns is not None or "changed from" not in str(error)
            return False

        runs = failing(fails, 0, -(-count // step))
        places = (i for run in runs for i in range(run * step, min((run + 1) * step, count)))
        judged = {i: judge(text[spans.starts[i] : spans.ends[i]], int(numbers[i])) for i in places}
        cut = np.array([i for i, found in judged.items() if found], np.int64)
        return without(text, spans, cut), np.delete(numbers, cut), [bad for found in judged.values() for bad in found]

    def _plainly_wrong(self, line: bytes, row: int) -> list[Bad]:
        """What the parser would refuse for sure; there may be more that it refuses."""
        try:
            record = loads(line)
        except ValueError as error:
            return [Bad(row, "json", None, shorten(str(error)))]
        wrong = misfits(record, self.parsed_types or {})
        return [Bad(row, "type", name, shorten(dumps(record[name], quote=False) or "null")) for name in wrong]

    def _reasons(self, line: bytes, row: int) -> list[Bad]:
        """What is wrong with a record that the parser refuses; at least one thing."""
        try:
            record = loads(line)
        except ValueError as error:
            return [Bad(row, "json", None, shorten(str(error)))]
        if said := _refused(line, {}, "ignore"):
            return [Bad(row, "json", None, shorten(said))]
        read = set(self.parsed_types or record)
        twice = sorted(repeated(line) & read)
        if twice:
            return [Bad(row, "json", twice[0], "more than once")]
        types = self.parsed_types or {}
        wrong = [n for n, kind in types.items() if n in record and _refused(line, {n: kind}, "ignore")]
        if wrong:
            return [Bad(row, "type", name, shorten(dumps(record[name], quote=False) or "null")) for name in wrong]
        if self.columns is not None and (extra := [n for n in record if n not in self.columns]):
            return [Bad(row, "columns", None, _also(extra))]
        said = _refused(line, self.parsed_types, self._unexpected)
        return [Bad(row, "json", None, shorten(said or "not one object"))]

    def _check_inferred(self, text: bytes, count: int) -> None:
        names = set(_NAME.findall(text))
        if len(names) > self.max_columns or len(names) * count > MAX_CELLS:
            raise TerminalError(
                f"at most {self.max_columns:,} names, and {MAX_CELLS:,} values, to infer columns from",
                f"{len(names):,} names in {count:,} records",
                "Declare the columns that matter.",
            )


def json_as(reader: JsonLines, values: pa.Array, kind: pa.DataType | None) -> pa.Array:
    """JSON text as values of a type; None for the type that they have, where that is a simple one.

    Raises:
        pa.ArrowInvalid: A value is not of this type.
    """
    if kind is None or pa.types.is_string(kind):
        guess = None if kind else _guess(reader, values)
        return pa.array([plain(text) for text in values.to_pylist()], pa.string()) if guess is None else guess
    text = b"".join(b'{"value":%s}\n' % (value or "null").encode() for value in values.to_pylist())
    one = replace(reader, columns={"value": kind}, extra_columns="drop", drift=None)
    column = _read(text, one.parsed_types, "ignore")["value"].combine_chunks()
    return column if column.type == kind else cast(column, kind, reader.timestamp_format)


def _guess(reader: JsonLines, values: pa.Array) -> pa.Array | None:
    """Values of the first simple type that takes them all."""
    for kind in (pa.bool_(), pa.int64(), pa.float64()):
        with suppress(pa.ArrowInvalid):
            return json_as(reader, values, kind)
    return None


def _read(text: bytes, types: Types | None, unexpected: str) -> pa.Table:
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


def _refused(line: bytes, types: Types | None, unexpected: str) -> str | None:
    try:
        _read(line, types, unexpected)
    except pa.ArrowInvalid as error:
        return str(error)
    return None


def _also(names: list[str]) -> str:
    return shorten(f"also {listed(names)}")


def _is_json(kind: str | pa.DataType) -> bool:
    return isinstance(kind, pa.JsonType)


def _native(kind: str | pa.DataType) -> bool:
    """Whether the parser itself makes values of a type; the others it reads as text."""
    types = pa.types
    tests = (types.is_integer, types.is_floating, types.is_boolean, types.is_decimal, types.is_nested)
    return any(test(kind) for test in tests)


def _readable(kind: pa.DataType) -> bool:
    if _is_json(kind):
        return True
    if not _native(kind):
        return castable(kind)
    try:
        _read(b'{"a":null}\n', {"a": kind}, "ignore")
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid):
        return False
    return True


def _without_null_types(table: pa.Table) -> pa.Table:
    """A column without any value is text until something else is known."""
    kinds = [pa.string() if pa.types.is_null(kind) else kind for kind in table.schema.types]
    return table.cast(pa.schema(list(zip(table.column_names, kinds, strict=True))))


def _refuse_document(lined: Lined, name: str) -> None:
    """Raises TerminalError for a file that is one JSON array, or one object over several lines."""
    start, end = int(lined.spans.starts[0]), int(lined.spans.ends[0])
    first = lined.data[start:end].strip()
    alone = len(lined.spans.starts) == 1
    array = first.startswith(b"[") and (alone or not first.endswith(b"]"))
    if array or (first == b"{" and not alone):
        what = "one JSON array" if array else "one object spread over several lines"
        raise TerminalError(
            f"one JSON object a line in {name}", what, "Write it as JSON Lines, e.g. with `jq -c '.[]'` or `jq -c .`."
        )


def _undecided(error: pa.ArrowInvalid) -> TerminalError:
    return TerminalError.wrap(error, "values that fit one type in each column", "Declare the columns.")
