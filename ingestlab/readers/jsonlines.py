"""JSON Lines: one object a line, declared columns, broken lines kept apart."""

from __future__ import annotations

import re
from codecs import BOM_UTF8
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Literal

import numpy as np
import pyarrow as pa

from ingestlab.errors import TerminalError, attempt
from ingestlab.models import FetchedFile, Piece
from ingestlab.pipeline import Bad, Records, SchemaDrift
from ingestlab.readers.arrowjson import Shape, json_as, read_objects, readable
from ingestlab.readers.badjson import sift
from ingestlab.readers.bytes import Limits
from ingestlab.readers.columns import (
    MAX_COLUMNS,
    Types,
    check_extra,
    check_format,
    check_width,
    convert_columns,
    declared,
    one_array,
)
from ingestlab.readers.cutting import Ints, Spans, scan
from ingestlab.readers.drift import settle, told
from ingestlab.readers.inference import named
from ingestlab.readers.jsonraw import document, may_be_document
from ingestlab.readers.jsontext import flaw, suspects, unknown_names
from ingestlab.readers.jsontexts import JsonLooks, as_texts, json_looks, plain_texts
from ingestlab.readers.linewise import (
    LINES,
    Lined,
    Raw,
    blocks,
    check_encoding,
    load_lines,
    split_lines,
    whole,
    without,
)
from ingestlab.readers.mending import set_apart
from ingestlab.readers.typed import as_chosen
from ingestlab.readers.typed import settled as settled_pieces
from ingestlab.storage import Store

MAX_CELLS = 1 << 28  # rows times columns, where columns are inferred
_NAME = re.compile(rb'"((?:[^"\\]++|\\.)*+)"[ \t]*+:')
_LOST = "\ufffd".encode()  # in place of bytes that are no text
Parsed = tuple[pa.Table, Ints, list[Bad]]


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
            types = declared(columns, readable, "JSON")
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
        head = store.read(file.path, 0, min(file.size, self.max_record_bytes)) if file.size > size else b""
        first = head.removeprefix(BOM_UTF8).lstrip().partition(b"\n")[0]
        if may_be_document(first) or not first:
            return [whole(file)]
        pieces = split_lines(file, store, size, self.encoding)
        return self._settled(pieces, store) if self.columns is None and len(pieces) > 1 else pieces

    def read(self, piece: Piece, store: Store) -> Records:
        """Reads one piece.

        Raises:
            TerminalError: It is empty, damaged, binary, not in the declared encoding, or one JSON document
                in place of one a line; or its columns have no types that could be inferred.
        """
        lined = self.lines(piece, store)
        if self.columns is None:
            return self._typed(self.read_lines(lined, piece), piece)
        if self.drift is None:
            return self.read_lines(lined, piece)
        unknown = unknown_names(lined.data, lined.spans, self.columns, self.max_record_bytes, self.max_depth)
        if self.drift == "freeze":
            check_extra([*self.columns, *unknown], self.columns, piece.name, drop=False)
        known = self._declared

        def loosely(names: Iterable[str]) -> Records:
            loose = dict.fromkeys([*names, *unknown], pa.json_())
            return replace(self, columns=known | loose, extra_columns="drop", drift=None).read_lines(lined, piece)

        retype = partial(json_as, timestamp_format=self.timestamp_format)
        return settle(loosely(()), self.drift, known, unknown, loosely, retype)

    def lines(self, piece: Piece, store: Store) -> Lined:
        """The records of a piece, one a line, as which those of a document are written.

        Raises:
            TerminalError: What :meth:`read` raises of its bytes.
        """
        lined = load_lines(piece, store, self.encoding, self.limits)
        if piece.start or piece.stop is not None:
            return lined
        if not lined.data.strip():
            got, fix = "blanks alone (0 records)", "See what the producer left out."
            raise TerminalError(f"records in {piece.name}", got, fix)
        found = document(lined.data, piece.name)
        if found is None:
            return lined
        data = found.lines.encode()
        spans = scan(data, LINES, 0, len(data))
        return Lined(data, spans, {**lined.facts, "note": found.what}, _still_damaged(data, spans, lined))

    def read_lines(self, lined: Lined, piece: Piece) -> Records:
        """The records of a piece as declared."""
        parts = [self._parse(lined.data, part, piece.first_row + first) for first, part in blocks(lined.spans)]
        empty = pa.schema(list(self._shape.types.items())).empty_table()
        try:
            table = pa.concat_tables([empty, *(p[0] for p in parts)], promote_options="permissive")
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise _undecided(error) from error
        rows = np.concatenate([np.empty(0, np.int64), *(p[1] for p in parts)])
        bad = sorted((b for p in parts for b in p[2]), key=lambda b: b.row)
        records = Records(table, rows, tuple(bad), Raw(lined.data, lined.spans, piece.first_row), lined.facts)
        return set_apart(records, {number + piece.first_row: octet for number, octet in lined.damaged.items()})

    def _typed(self, found: Records, piece: Piece) -> Records:
        """Records of JSON text as what was chosen for their file, or is chosen here."""
        types = piece.settled.get("types") or _named(self._looks(found.table))
        if not types and len(found.rows):
            got, fix = "empty objects alone", "See what the producer left out."
            raise TerminalError(f"names in the objects of {piece.name}", got, fix)
        columns = {n: plain_texts(one_array(found.table[n])) for n in found.table.column_names}
        lacking = {n: pa.nulls(len(found.rows), pa.string()) for n in types if n not in columns}
        table = pa.table({**columns, **lacking}).select(list(types))
        settled = piece.model_copy(update={"settled": {**piece.settled, "types": types}})
        return as_chosen(replace(found, table=table), settled, lambda _name, _kind: (), self.timestamp_format)

    def _texts_of(self, piece: Piece, store: Store) -> Records:
        return self.read_lines(self.lines(piece, store), piece)

    def _looks(self, table: pa.Table) -> dict[str, JsonLooks]:
        return {n: json_looks(one_array(table[n]), self.timestamp_format) for n in table.column_names}

    def _settled(self, pieces: list[Piece], store: Store) -> list[Piece]:
        """Pieces for which the types of the whole file are chosen."""
        looks: dict[str, JsonLooks] = {}
        for piece in pieces:
            found = attempt(self._texts_of, piece, store)
            if isinstance(found, TerminalError):  # `read` says why
                return pieces
            for name, more in self._looks(found.table).items():
                looks[name] = looks.get(name, JsonLooks()) | more
        return settled_pieces(pieces, "types", _named(looks))

    @cached_property
    def _shape(self) -> Shape:
        return Shape(None if self.columns is None else self._declared, self.extra_columns == "reject")

    @property
    def _declared(self) -> Types:
        return {name: kind for name, kind in (self.columns or {}).items() if isinstance(kind, pa.DataType)}

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
            texts = as_texts(text, numbers, None)
            keep = ~np.isin(numbers, [b.row for b in texts.bad])
            return texts.table, numbers[keep], bad + texts.bad
        try:
            table = read_objects(text, len(numbers), self._shape)
        except pa.ArrowInvalid:
            text, numbers, more = sift(text, numbers, self._shape)
            bad += more
            try:
                table = read_objects(text, len(numbers), self._shape)
            except pa.ArrowInvalid as again:
                raise _undecided(again) from again
        return self._finish(table, text, numbers, bad)

    def _finish(self, table: pa.Table, text: bytes, numbers: Ints, bad: list[Bad]) -> Parsed:
        """The table in its declared shape: with JSON text, times and dates."""
        assert self.columns is not None
        if kept := self._shape.texts:
            # The parser was told to leave other names, since it cannot read these.
            found = as_texts(text, numbers, kept, closed=self.columns if self.extra_columns == "reject" else None)
            if found.bad:
                keep = ~np.isin(numbers, [b.row for b in found.bad])
                table, numbers, bad = table.filter(pa.array(keep)), numbers[keep], bad + found.bad
            for name in kept:
                table = table.append_column(name, found.columns[name])
        table = table.select(list(self.columns))
        table, numbers, wrong = convert_columns(table, self._shape.types, numbers, self.timestamp_format)
        return table, numbers, bad + wrong

    def _check_inferred(self, text: bytes, count: int) -> None:
        names = set(_NAME.findall(text))
        if len(names) > self.max_columns or len(names) * count > MAX_CELLS:
            raise TerminalError(
                f"at most {self.max_columns:,} names, and {MAX_CELLS:,} values, to infer columns from",
                f"{len(names):,} names in {count:,} records",
                "Declare the columns that matter.",
            )


def _undecided(error: pa.ArrowInvalid) -> TerminalError:
    return TerminalError.wrap(error, "values that fit one type in each column", "Declare the columns.")


def _named(looks: Mapping[str, JsonLooks]) -> dict[str, str]:
    return {name: named(found.type) for name, found in looks.items()}


def _still_damaged(data: bytes, spans: Spans, lined: Lined) -> dict[int, int]:
    """The records of a document that have a byte that was no text, if it had any."""
    if not lined.damaged:
        return {}
    octet = next(iter(lined.damaged.values()))
    places = zip(spans.starts.tolist(), spans.ends.tolist(), strict=True)
    return {i: octet for i, (start, end) in enumerate(places) if data.find(_LOST, start, end) >= 0}
