"""JSON Lines: one object a line, declared columns, broken lines kept apart."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa

from ingestlab.core.errors import IngestError, TerminalError, attempt
from ingestlab.core.models import FetchedFile, Piece
from ingestlab.formats.common.bytes import HEAD, Limits
from ingestlab.formats.common.columns import (
    MAX_COLUMNS,
    Types,
    check_extra,
    check_format,
    check_width,
    convert_columns,
    declared,
    hash_of,
    types_in,
)
from ingestlab.formats.common.cutting import Ints, Spans
from ingestlab.formats.common.damage import without_damaged
from ingestlab.formats.common.drift import Sight, apply_drift, types_of_file, under_drift
from ingestlab.formats.common.inference import type_of
from ingestlab.formats.common.linewise import (
    LINES,
    Lined,
    Raw,
    blocks,
    check_encoding,
    cut_at,
    divisible,
    even_step,
    load_lines,
    only,
    read_blocks,
    split_lines,
    split_lines_early,
    whole_file,
    without,
)
from ingestlab.formats.common.quoting import scan
from ingestlab.formats.common.typed import check_exact, fitted, kept, types_fact, with_settled
from ingestlab.formats.json.arrow import Shape, read_objects, readable
from ingestlab.formats.json.bad_lines import sift, unbroken
from ingestlab.formats.json.documents import (
    Layout,
    as_lines,
    cut_document,
    describe,
    layout_of,
    refuse_wrapped,
    wrapped_in,
)
from ingestlab.formats.json.extended import plain, texts_of, typed
from ingestlab.formats.json.fast import take
from ingestlab.formats.json.text import flaw, suspects, unknown_names
from ingestlab.formats.json.types import Found, chosen, intersected, look_at, retyped, survey
from ingestlab.formats.json.values import as_texts
from ingestlab.interfaces import Bad, LateError, Records, SchemaDrift, Store

MAX_CELLS = 1 << 28  # rows times columns, where columns are inferred
_NAME = re.compile(rb'"((?:[^"\\]++|\\.)*+)"[ \t]*+:')
_CHANGED = re.compile(r"Column\(/(.*)\) changed from (\w+) to (\w+)", re.DOTALL)  # what the parser says
_LOST = "\ufffd".encode()  # in place of bytes that are no text
Parsed = tuple[pa.Table, Ints, list[Bad]]
_DECLARE = "Declare the columns, e.g. as 'json'."


@dataclass(frozen=True, kw_only=True)
class JsonLines:
    """Read one JSON object a line; empty lines are no records. docs/formats.md says what becomes of the rest.

    A file that is one array of objects, or objects that follow each other otherwise, is read as its records.

    Records that do not fit are set apart as :class:`~ingestlab.pipeline.pipeline.Bad`, by these rules: ``json`` (not
    one object, NaN or Infinity, a number too large, a name twice among those that are read, nested too deep),
    ``type`` (a value is not of its column's type), ``columns`` (names that are not declared, if so wished) and
    ``record_size``.

    Attributes:
        columns: Name to Arrow type, as in :class:`~ingestlab.formats.csv.reader.Csv`. Nested values are declared as
            struct or list types, or as ``"json"``, which keeps the text of any value as it came (at about half
            the speed). A name that a record lacks is null. Numbers do not become text, nor text numbers. None
            has the types chosen, once for the whole file, by the rules in docs/reference/types.md: no digit is lost.
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
        extended: Whether the file is MongoDB's extended JSON, canonical or relaxed: identifiers, dates, numbers and
            bytes become plain values. docs/reference/formats.md has the table.

    Examples:
        >>> from ingestlab import JsonLines
        >>> JsonLines(columns={"id": "int64", "tags": "json"}).columns["id"]
        DataType(int64)
    """

    suffixes: ClassVar[tuple[str, ...]] = (".jsonl", ".ndjson", ".json")  # one document says so itself
    generic: ClassVar[str] = "encoding=None"
    columns: Mapping[str, str | pa.DataType] | None = None
    timestamp_format: str | None = None
    encoding: str | None = "utf-8"
    extra_columns: Literal["drop", "reject"] = "drop"
    drift: SchemaDrift | None = None
    max_record_bytes: int = 16 << 20
    max_depth: int = 64
    max_columns: int = MAX_COLUMNS
    limits: Limits = field(default_factory=Limits)
    extended: bool = False

    def __post_init__(self) -> None:
        check_encoding(self.encoding)
        check_format(self.timestamp_format)
        if self.columns is not None:
            columns = {n: pa.json_() if kind == "json" else kind for n, kind in self.columns.items()}
            types = declared(columns, readable, "JSON")
            check_width(list(types), "the declaration", self.max_columns)
            object.__setattr__(self, "columns", types)

    def __hash__(self) -> int:
        return hash_of(self)

    def drifting(self, word: SchemaDrift) -> JsonLines:
        """Return a copy under a pipeline's `schema_drift`."""
        return under_drift(self, word)

    def split(self, file: FetchedFile, store: Store, size: int) -> list[Piece]:
        """Cut a file into pieces of about `size` bytes. Row numbers are exact."""
        head = store.read(file.path, 0, min(file.size, self.max_record_bytes)) if file.size > size else b""
        layout = layout_of(head)
        if head.isspace():  # it is refused as a whole, if that is all
            return [whole_file(file)]
        if layout == "lines":
            pieces = split_lines(file, store, size, self.encoding)
        else:
            pieces = self._split_document(file, store, size, layout)
        if len(pieces) == 1 or (self.columns is not None and self.drift != "evolve"):
            return pieces
        types = attempt(self._types_of, pieces, store)
        if isinstance(types, TerminalError):  # the file fails for it as a whole, when it is read
            return [pieces[0].model_copy(update={"stop": None})]
        return with_settled(pieces, "types", types)

    def split_early(self, file: FetchedFile, store: Store, size: int) -> Iterator[Piece]:
        """Yield the pieces of `split`, as early as each is known."""
        if self.columns is None or self.drift == "evolve":
            raise LateError
        head = store.read(file.path, 0, min(file.size, self.max_record_bytes))
        if head.isspace() or layout_of(head) != "lines":
            raise LateError
        yield from split_lines_early(file, store, size, self.encoding)

    def _split_document(self, file: FetchedFile, store: Store, size: int, layout: Layout) -> list[Piece]:
        """Cut an array between elements, or objects that follow each other. One that is refused stays whole."""
        whole, encoding = divisible(file, store, size, self.encoding)
        if encoding is None:
            return [whole]
        blocks, step = read_blocks(store, file.path, file.size), even_step(file.size, size)
        outline = attempt(cut_document, blocks, layout, step, file.name)
        if isinstance(outline, TerminalError):
            return with_settled([whole], "refused", outline.to_dict())
        if outline.records == 1 and file.size > self.max_record_bytes:
            head = store.read(file.path, 0, HEAD)
            if key := wrapped_in(head):
                return with_settled([whole], "refused", refuse_wrapped(file.name, key).to_dict())
        pieces = with_settled([*cut_at(whole, outline.cuts)], "layout", layout)
        return with_settled(pieces, "records", outline.records)

    def read(self, piece: Piece, store: Store) -> Records:
        """Read one piece.

        Raises:
            TerminalError: It is empty, damaged, binary, not in the declared encoding, or a JSON document that is
                not whole; or its columns have no types that could be inferred.
        """
        lined = self.lines(piece, store)
        try:
            return self._read(lined, piece)
        except pa.ArrowException as error:
            problem = f"Values in {piece.name} do not fit the reader's columns"
            raise TerminalError.wrap(error, problem, _DECLARE, code="types_conflict") from error

    def _read(self, lined: Lined, piece: Piece) -> Records:
        if self.columns is None:
            return self._read_undeclared(lined, piece)
        if self.drift is None:
            return self.read_lines(lined, piece)
        if self.drift == "freeze":
            check_extra([*self.columns, *self._unknown(lined)], self.columns, piece.name, drop=False)
        sight, retype = self._sight(lined, piece), partial(retyped, timestamp_format=self.timestamp_format)
        of_file = piece.settled.get("types")
        return apply_drift(sight.records, self.drift, self._declared, sight.unknown, sight.loosely, retype, of_file)

    def _unknown(self, lined: Lined) -> list[str]:
        return unknown_names(lined.data, lined.spans, self.columns or (), self.max_record_bytes, self.max_depth)

    def _sight(self, lined: Lined, piece: Piece) -> Sight:
        """Read a piece, with undeclared names as JSON text."""
        unknown = self._unknown(lined)

        def loosely(names: Iterable[str]) -> Records:
            columns = self._declared | dict.fromkeys([*names, *unknown], pa.json_())
            return replace(self, columns=columns, extra_columns="drop", drift=None).read_lines(lined, piece)

        return Sight(loosely(()), unknown, loosely)

    def lines(self, piece: Piece, store: Store) -> Lined:
        """Load the records of a piece or document, one a line.

        Args:
            piece: Of a file.
            store: The lake.

        Raises:
            TerminalError: What :meth:`read` raises of its bytes.
        """
        if "refused" in piece.settled:
            raise IngestError.from_dict(piece.settled["refused"])
        lined = load_lines(piece, store, self.encoding, self.limits)
        alone = not piece.start and piece.stop is None
        if alone and (not lined.data or lined.data.isspace()):
            got, fix = "blanks alone (0 records)", "See what the producer left out."
            raise TerminalError(f"There are no records in {piece.name}", got=got, fix=fix, code="no_rows")
        layout: Layout = layout_of(lined.data) if alone else piece.settled.get("layout", "lines")
        if layout != "lines":
            lined = _unfolded(lined, layout, piece)
        single = self.columns is None and alone and layout != "array" and len(lined.spans.starts) == 1
        if single and (key := wrapped_in(lined.data)):
            raise refuse_wrapped(piece.name, key)
        return self._plainly(lined) if self.extended else lined

    def read_lines(self, lined: Lined, piece: Piece) -> Records:
        """Parse the records of a piece as declared.

        Args:
            lined: What :meth:`lines` returned.
            piece: The same one.
        """
        texts = texts_of(self._declared) if self.extended else {}
        if texts:
            reader = replace(self, columns={**self._declared, **texts}, extended=False)
            return typed(reader.read_lines(lined, piece), self._declared, self.timestamp_format)
        taken = take(lined.data, lined.spans, self._shape, self.timestamp_format, self.max_record_bytes)
        data, spans = lined.data, lined.spans
        numbers = np.arange(piece.first_row, piece.first_row + len(spans.starts), dtype=np.int64)
        parts: list[Parsed] = []
        if taken is not None:
            parts = [(taken.table, numbers[taken.kept], [])]
            data, spans, numbers = *only(data, spans, taken.left), numbers[taken.left]
        for first, part in blocks(spans):
            parts.append(self._finish(*self._parsed(data, part, numbers[first : first + len(part.starts)])))
        empty = pa.schema(list(self._shape.types.items())).empty_table()
        table = pa.concat_tables([empty, *(p[0] for p in parts)])
        rows = np.concatenate([np.empty(0, np.int64), *(p[1] for p in parts)])
        if taken is not None and taken.left.size:
            order = np.argsort(rows, kind="stable")
            table, rows = table.combine_chunks().take(pa.array(order)), rows[order]
        bad = sorted((b for p in parts for b in p[2]), key=lambda b: b.row)
        records = Records(table, rows, tuple(bad), Raw(lined.data, lined.spans, piece.first_row), lined.facts)
        return without_damaged(records, lined.damaged, piece.first_row)

    def _plainly(self, lined: Lined) -> Lined:
        """Rewrite extended JSON. Each record stays where it is among the others."""
        data = plain(lined.data, whole=self.columns is not None)
        return lined._replace(data=data, spans=scan(data, LINES, 0, len(data)))

    def _read_undeclared(self, lined: Lined, piece: Piece) -> Records:
        """Read a piece in its file's types, chosen here if need be."""
        own = piece.settled.get("types")
        if own is None:
            own = chosen(self._look(lined, piece), piece.name)
        if not own:
            return self.read_lines(lined, piece)
        types = fitted(own, piece.settled.get("wanted") or {}, piece.name)
        columns = {name: kept(type_of(own[name]), kind) for name, kind in types.items()}
        records = replace(self, columns=columns, extra_columns="drop", drift=None).read_lines(lined, piece)
        for name in types:
            check_exact(name, records.table[name], own[name], piece.name)
        return replace(records, facts={**records.facts, "types": types_fact(types)})

    def _types_of(self, pieces: Sequence[Piece], store: Store) -> dict[str, str]:
        """Choose the types of a file's columns."""

        def sights() -> Iterator[Sight]:
            return (self._sight(self.lines(p, store), p) for p in pieces)

        if self.columns is not None:
            retype = partial(retyped, timestamp_format=self.timestamp_format)
            return types_of_file(sights, self._declared, look_at, retype)
        columns: dict[str, Found] = {}
        for piece in pieces:
            columns = intersected(columns, self._look(self.lines(piece, store), piece))
        return chosen(columns, pieces[0].name)

    def _look(self, lined: Lined, piece: Piece) -> dict[str, Found]:
        """Collect what the columns of a piece may be."""
        columns: dict[str, Found] = {}
        count = 0
        for first, part in blocks(lined.spans):
            damaged = [n - first for n in lined.damaged if first <= n < first + len(part.starts)]
            numbers = np.arange(len(part.starts), dtype=np.int64) + (piece.first_row + first)
            table, text, numbers, _ = self._parsed(lined.data, part, numbers, damaged)
            count += len(numbers)
            columns = intersected(columns, survey(text, table, self.timestamp_format))
        if not columns and count:
            got, fix = "empty objects alone", "See what the producer left out."
            raise TerminalError(f"There are no names in the objects of {piece.name}", got=got, fix=fix, code="no_rows")
        return columns

    @cached_property
    def _shape(self) -> Shape:
        return Shape(None if self.columns is None else self._declared, self.extra_columns == "reject")

    @property
    def _declared(self) -> Types:
        return types_in(self.columns)

    def _parsed(
        self, data: bytes, spans: Spans, numbers: Ints, passed_over: Sequence[int] = ()
    ) -> tuple[pa.Table, bytes, Ints, list[Bad]]:
        """Parse a block as pyarrow does, keeping its text. Some records may be passed over."""
        flaws = {
            i: fault
            for i in suspects(data, spans, self.max_record_bytes, self.max_depth).tolist()
            if (fault := flaw(data[spans.starts[i] : spans.ends[i]], self.max_record_bytes, self.max_depth))
        }
        bad = [Bad(int(numbers[i]), *fault) for i, fault in flaws.items()]
        cut = np.union1d(np.array([*flaws], np.int64), np.array(passed_over, np.int64))
        text, numbers = without(data, spans, cut), np.delete(numbers, cut)
        if self.columns is None:
            self._check_inferred(text, len(numbers))
        try:
            table = read_objects(text, len(numbers), self._shape)
        except pa.ArrowInvalid as error:
            if self.columns is None and "changed from" in str(error):
                text, numbers, broken = unbroken(text, numbers)
                if not broken:
                    raise _undecided(error) from error
                bad += broken
            text, numbers, more = sift(text, numbers, self._shape)
            bad += more
            try:
                table = read_objects(text, len(numbers), self._shape)
            except pa.ArrowInvalid as again:
                raise _undecided(again) from again
        return table, text, numbers, bad

    def _finish(self, table: pa.Table, text: bytes, numbers: Ints, bad: list[Bad]) -> Parsed:
        """Convert a table to its declared shape: JSON text, times and dates."""
        if self.columns is None:
            return table, numbers, bad
        if texts := self._shape.texts:
            # The parser was told to leave other names, since it cannot read these.
            columns = as_texts(text, numbers, texts, closed=self.columns if self.extra_columns == "reject" else None)
            if columns.bad:
                keep = ~np.isin(numbers, [b.row for b in columns.bad])
                table, numbers, bad = table.filter(pa.array(keep)), numbers[keep], bad + columns.bad
            for name in texts:
                table = table.append_column(name, columns.columns[name])
        table = table.select(list(self.columns))
        table, numbers, wrong = convert_columns(table, self._shape.types, numbers, self.timestamp_format)
        return table, numbers, bad + wrong

    def _check_inferred(self, text: bytes, count: int) -> None:
        names = set(_NAME.findall(text))
        if len(names) > self.max_columns or len(names) * count > MAX_CELLS:
            raise TerminalError(
                "There are too many columns to infer",
                expected=f"at most {self.max_columns:,} names, and {MAX_CELLS:,} values, to infer columns from",
                got=f"{len(names):,} names in {count:,} records",
                code="limit_exceeded",
                fix="Declare the columns that matter.",
            )


def _undecided(error: pa.ArrowInvalid) -> TerminalError:
    problem, fix = "Not all values fit one type in each column", _DECLARE
    if match := _CHANGED.search(str(error)):
        got = f"values of {match[1]!r} that are {match[2]}s, and {match[3]}s"
        return TerminalError(problem, got=got, fix=fix, code="types_conflict")
    return TerminalError.wrap(error, problem, fix, code="types_conflict")


def _unfolded(lined: Lined, layout: Layout, piece: Piece) -> Lined:
    """Put the records of a piece of a document in lines."""
    data = as_lines(lined.data, layout, piece.name, begun=piece.start > 0, last=piece.stop is None)
    spans = scan(data, LINES, 0, len(data))
    note = describe(layout, piece.settled.get("records", len(spans.starts)))
    return Lined(data, spans, {**lined.facts, "note": note}, _still_damaged(data, spans, lined))


def _still_damaged(data: bytes, spans: Spans, lined: Lined) -> dict[int, int]:
    """Find the records of a document that hold damaged bytes."""
    if not lined.damaged:
        return {}
    octet = next(iter(lined.damaged.values()))
    places = zip(spans.starts.tolist(), spans.ends.tolist(), strict=True)
    return {i: octet for i, (start, end) in enumerate(places) if data.find(_LOST, start, end) >= 0}
