"""CSV and its kin (TSV, semicolons): declared columns, exact row numbers, bad records kept apart."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from functools import partial
from typing import ClassVar, Literal

import pyarrow as pa
import pyarrow.compute as pc

from ingestlab.core.errors import TerminalError, attempt
from ingestlab.core.models import FetchedFile, Piece
from ingestlab.formats.common.bytes import Limits, load_text
from ingestlab.formats.common.columns import (
    MAX_COLUMNS,
    check_extra,
    check_format,
    check_optional,
    check_width,
    declared,
    hash_of,
    set_apart,
    types_in,
)
from ingestlab.formats.common.cutting import Ints, SuspectError, cut
from ingestlab.formats.common.damage import without_damaged
from ingestlab.formats.common.dialects import Dialect
from ingestlab.formats.common.drift import (
    Sight,
    apply_drift,
    looks,
    refuses,
    text_as,
    types_of_file,
    under_drift,
    with_missing,
)
from ingestlab.formats.common.excerpts import shorten
from ingestlab.formats.common.inference import Looks, look, merged, or_text
from ingestlab.formats.common.linewise import check_encoding, cut_at, divisible, even_step, read_blocks, targets
from ingestlab.formats.common.nulls import KNOWN, Marks, NullValues, checked, marks_of, nulled, textual
from ingestlab.formats.common.quoting import careful_cuts
from ingestlab.formats.common.typed import as_chosen, chosen, looks_of, marked, with_settled
from ingestlab.formats.csv.arrow import Layout, readable
from ingestlab.formats.csv.body import Body
from ingestlab.formats.csv.copies import Watch, alike, without_copies
from ingestlab.formats.csv.headers import check_header, other_delimiter
from ingestlab.formats.csv.packs import Opened, read_pack
from ingestlab.formats.csv.parsing import Parsed, parse
from ingestlab.formats.csv.settling import (
    SAMPLE,
    Header,
    Settled,
    check_characters,
    paired,
    sample,
    settle_file,
    settled_ahead,
    where_else,
)
from ingestlab.interfaces import Bad, LateError, Records, SchemaDrift, Store

NULLS = KNOWN


@dataclass(frozen=True)
class Ahead:
    """What the beginning of a file tells of how it is cut."""

    settled: Settled
    begin: int  # offset of the first record
    encoding: str
    read: Callable[[], Iterator[bytes]]  # blocks from there on

    @property
    def dialect(self) -> Dialect:
        """Return how fields are separated and quoted."""
        return self.settled.dialect

    def watch(self) -> Watch:
        """Look for a second header."""
        return Watch(self.settled.names, self.settled.header, self.dialect, self.encoding)

    def blocks(self, watch: Watch) -> Iterator[bytes]:
        """Read the file under a watch."""
        return watch.over(self.read(), self.begin)

    def known_to(self, whole: Piece) -> Piece:
        """Tell a piece how it is written."""
        return whole.model_copy(update={"settled": {**whole.settled, "dialect": self.settled.plain()}})


@dataclass(frozen=True, kw_only=True)
class Csv:
    r"""Read delimited text.

    Records that do not fit are set apart as :class:`~ingestlab.pipeline.pipeline.Bad`, by these rules: ``columns``
    (too many or too few fields), ``type`` (a value is not of its column's type), ``field_size``, ``quote``
    (a quote that opens a field and does not end it), ``header`` (the header again), ``duplicate``
    (a record of a table that the file holds twice) and ``encoding`` (a byte
    that is no text). They never stop the file. A record with several bad values has an entry for each of
    them. A file that is altogether different from what is told fails, with what to write.

    Attributes:
        columns: Name to Arrow type, by pyarrow's name (``"int64"``, ``"timestamp[s]"``) or as a DataType, in
            the order that the table shall have; the file's order may differ. None has the types chosen, once
            for the whole file, by the rules in docs/reference/types.md: no text becomes a value that would not give it
            back. A column that is empty is string.
        delimiter: One ASCII character, ``"\t"`` for TSV; None to have it found, with quotes, header line and
            what else is not told.
        quote: One ASCII character; None where quotes are plain text, as they are by themselves in
            tab-separated files without any quoted field.
        encoding: Any text encoding that Python knows; None to have it detected, once for the whole file.
        null_values: Texts that stand for no value, quoted or not: for columns of every type, or by column. Where
            nothing is said it is the empty field in text, and also NA, N/A, NULL, null, NaN and nan in others.
        timestamp_format: For strptime; None for ISO 8601.
        header: Which record holds the names, 0 for the first; None where none does: the names are then those
            of `columns`, in their order, else ``column_1`` and so on. ``"auto"`` is 0 for a first record that
            does not look like data.
        skip: Lines before the first record, blank ones too.
        comment: What a line begins with that is no record.
        escape: A character that takes the meaning from the next one, such as the backslash.
        skip_initial_space: Whether blanks after a delimiter are no part of a field.
        optional: Declared columns that a file may lack; they are null in it.
        extra_columns: What to do with columns that are in the file but not declared, if the pipeline's
            `schema_drift` does not say it.
        drift: What the pipeline's `schema_drift` says; set by the pipeline.
        max_columns: Most columns in a file.
        max_field_bytes: Longest text in a column of strings.
        limits: How far a compressed file may grow.

    Examples:
        >>> from ingestlab import Csv
        >>> reader = Csv(columns={"id": "int64", "name": "string"}, delimiter=";")
        >>> list(reader.columns)
        ['id', 'name']
    """

    suffixes: ClassVar[tuple[str, ...]] = (".csv", ".tsv")
    generic: ClassVar[str] = "delimiter=None, encoding=None"
    columns: Mapping[str, str | pa.DataType] | None = None
    delimiter: str | None = ","
    quote: str | None = '"'
    encoding: str | None = "utf-8"
    null_values: NullValues = None
    timestamp_format: str | None = None
    header: Header = "auto"
    skip: int = 0
    comment: str | None = None
    escape: str | None = None
    skip_initial_space: bool = False
    optional: Sequence[str] = ()
    extra_columns: Literal["fail", "drop"] = "fail"
    drift: SchemaDrift | None = None
    max_columns: int = MAX_COLUMNS
    max_field_bytes: int = 1 << 20
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        if self.delimiter == "auto":
            object.__setattr__(self, "delimiter", None)
        check_characters(self.delimiter, self.quote, self.escape, self.comment)
        if self.skip < 0 or (isinstance(self.header, int) and self.header < 0):
            problem, got = "Not 0 or more as skip and header", f"{self.skip} and {self.header}"
            raise TerminalError(problem, got=got, fix="Count from 0.", code="reader_invalid")
        check_encoding(self.encoding)
        check_format(self.timestamp_format)
        if self.columns is not None:
            object.__setattr__(self, "columns", declared(self.columns, readable, "CSV"))
            check_optional(self.optional, self.columns)
        object.__setattr__(self, "null_values", checked(self.null_values, self.columns))
        object.__setattr__(self, "optional", tuple(self.optional))

    def __hash__(self) -> int:
        return hash_of(self)

    def drifting(self, word: SchemaDrift) -> Csv:
        """Return a copy under a pipeline's `schema_drift`."""
        return under_drift(self, word)

    def split(self, file: FetchedFile, store: Store, size: int) -> list[Piece]:
        """Cut a file into pieces of about `size` bytes. Row numbers are exact.

        Small and compressed files, and those in encodings such as UTF-16, stay whole. The file is scanned
        once, in constant memory.
        """
        whole, ahead = self._ahead(file, store, size)
        if ahead is None:
            return [whole]
        watch = ahead.watch()
        try:
            cuts = list(cut(ahead.blocks(watch), ahead.dialect, ahead.begin, targets(file.size, size), 0))
        except SuspectError:
            step, blocks = even_step(file.size, size), ahead.blocks(watch)
            cuts = careful_cuts(blocks, ahead.dialect, ahead.begin, step, len(ahead.settled.names))
        if watch.place is not None and self._twice(file, store, ahead.begin, watch.place, ahead.dialect):
            return [whole]  # its second half is told by its first one
        return self._with_types(list(cut_at(ahead.known_to(whole), cuts)), store)

    def split_early(self, file: FetchedFile, store: Store, size: int) -> Iterator[Piece]:
        """Yield the pieces of `split`, as early as each is known."""
        if self.columns is None or self.drift == "evolve" or self.encoding is None:
            raise LateError
        whole, ahead = self._ahead(file, store, size)
        if ahead is None:
            raise LateError
        watch = ahead.watch()
        try:
            cuts = cut(ahead.blocks(watch), ahead.dialect, ahead.begin, targets(file.size, size), 0)
            yield from cut_at(ahead.known_to(whole), cuts)
        except SuspectError:
            raise LateError from None
        if watch.place is not None:
            raise LateError

    def _ahead(self, file: FetchedFile, store: Store, size: int) -> tuple[Piece, Ahead | None]:
        """Give a file as one piece. If it can be cut also what its beginning tells."""
        whole, encoding = divisible(file, store, size, self.encoding)
        if encoding is None:
            return whole, None
        ahead = attempt(settled_ahead, self, whole, store, file.size, encoding)
        if isinstance(ahead, TerminalError):  # the file fails by itself when it is read
            return whole, None
        settled, begin = ahead
        if set(self.columns or ()) - {*settled.names, *self.optional}:  # likewise
            return whole, None
        return whole, Ahead(settled, begin, encoding, partial(read_blocks, store, file.path, file.size, begin))

    def read(self, piece: Piece, store: Store) -> Records:
        """Read one piece.

        Raises:
            TerminalError: It is empty, damaged, binary, not in the declared encoding, without records, or
                has other columns than declared.
        """
        opened = self.open_text(piece, store)
        return self.finish(self.read_text(opened, piece), opened, piece)

    def read_all(self, pieces: Sequence[Piece], store: Store) -> list[Records | TerminalError]:
        """Read pieces as `read` does. This is faster where they are many and small.

        Returns:
            For each piece, in their order: its records, or the error that `read` would raise.
        """
        if self.columns is None:  # a joint reading would infer joint types
            return [attempt(self.read, piece, store) for piece in pieces]
        return read_pack(self, pieces, store)

    def open_text(self, piece: Piece, store: Store) -> Opened:
        """Load a piece's text and header: the first part of `read`.

        Args:
            piece: Of a file.
            store: The lake.
        """
        data, facts, damage = load_text(piece, store, self.encoding, self.limits)
        settled = self._dialect_of(piece, data, store)
        begin = 0 if piece.start else settled.place(data).begin
        body = Body(data, begin, len(data), settled.dialect, len(settled.names), settled.header.encode())
        self._check(settled, data, piece.name)
        alone = piece.start == 0 and piece.stop is None
        damaged = {} if damage is None else damage.records(body.spans, alone=alone)
        return Opened(body, settled.names, {**facts, **settled.facts}, damaged)

    def read_text(self, opened: Opened, piece: Piece) -> Records:
        """Parse the records as declared: the second part of `read`.

        Args:
            opened: What :meth:`open_text` returned.
            piece: The same one.
        """
        parsed = self._parse(opened.body, opened.names)
        facts = dict(opened.facts)
        if not parsed.total and not piece.start:
            facts["note"] = "a header alone: no records"
        return self._records(parsed, replace(opened, facts=facts), piece)

    def finish(self, records: Records, opened: Opened, piece: Piece) -> Records:
        """Apply schema drift: the last part of `read`.

        Args:
            records: What :meth:`read_text` returned.
            opened: What :meth:`open_text` returned.
            piece: The same one.
        """
        records = _once(records, opened, piece)
        if self.columns is None:
            return as_chosen(records, piece, self._nulls, self.timestamp_format)
        loosely = partial(self._loosely, opened, piece)
        unknown, of_file = self._unknown(opened.names), piece.settled.get("types")
        return apply_drift(records, self.drift, self._types, unknown, loosely, self._retyped, of_file)

    def _loosely(self, opened: Opened, piece: Piece, names: AbstractSet[str]) -> Records:
        """Parse the records with some of the declared columns as texts."""
        return _once(self._records(self._parse(opened.body, opened.names, names), opened, piece), opened, piece)

    def _retyped(self, values: pa.Array, kind: pa.DataType | None) -> pa.Array:
        """Convert texts to a type; None for the one that is chosen."""
        kind = or_text(self._look(values).type) if kind is None else kind
        return text_as(nulled(values, self._nulls("", kind)), kind, self.timestamp_format)

    def _look(self, values: pa.Array) -> Looks:
        return look(nulled(values, self._nulls("", pa.int64())), self.timestamp_format)

    @staticmethod
    def _twice(file: FetchedFile, store: Store, begin: int, again: int, dialect: Dialect) -> bool:
        """Tell whether a table comes again after its header."""
        first = store.read(file.path, begin, min(again, begin + SAMPLE))
        later = store.read(file.path, again, min(file.size, again + SAMPLE))
        return alike(first + later, 0, len(first), dialect)

    def _dialect_of(self, piece: Piece, data: bytes, store: Store) -> Settled:
        """Return the file's dialect, decided here if `split` did not."""
        if "dialect" in piece.settled:
            return Settled.of(piece.settled["dialect"])
        if piece.start:
            return settled_ahead(self, piece, store, store.size(piece.path), self.encoding)[0]
        text = sample(data)
        return settle_file(self, text, piece.name, partial(paired, [data]), all_=len(text) == len(data))

    def _with_types(self, pieces: list[Piece], store: Store) -> list[Piece]:
        """Add the file's types, where they are not declared or may change."""
        if len(pieces) == 1 or (self.columns is not None and self.drift != "evolve"):
            return pieces
        types = attempt(self._types_over, pieces, store)
        if isinstance(types, TerminalError):  # the file fails for it as a whole, when it is read
            return [pieces[0].model_copy(update={"stop": None})]
        return with_settled(with_settled(pieces, "types", types[0]), "nulls", types[1])

    def _types_over(self, pieces: Sequence[Piece], store: Store) -> tuple[dict[str, str], dict[str, list[str]]]:
        sights = partial(self._sights, pieces, store)
        if self.columns is not None:
            return types_of_file(sights, self._types, self._look, self._retyped), {}
        looks: dict[str, Looks] = {}
        for sight in sights():
            looks = merged(looks, looks_of(sight.records.table, self._nulls, self.timestamp_format))
        return chosen(looks), marked(looks)

    def _sights(self, pieces: Sequence[Piece], store: Store) -> Iterator[Sight]:
        """Read each piece, one after the other."""
        for piece in pieces:
            opened = self.open_text(piece, store)
            records = self.read_text(opened, piece)
            yield Sight(records, self._unknown(opened.names), partial(self._loosely, opened, piece))

    def _nulls(self, column: str, kind: pa.DataType) -> Marks:
        """Return the null markers of a column of a type."""
        return marks_of(self.null_values, column, kind)

    @property
    def _types(self) -> Mapping[str, pa.DataType]:
        return types_in(self.columns)

    def _unknown(self, names: Sequence[str]) -> list[str]:
        """List the undeclared columns that are read."""
        return [] if self.columns is None or not looks(self.drift) else [n for n in names if n not in self.columns]

    def _check(self, settled: Settled, data: bytes, file: str) -> None:
        """Raise TerminalError for columns that are too many, or not as declared."""
        if self.columns is None:
            check_header(settled.header, settled.names, file)
        check_width(settled.names, file, self.max_columns)
        if self.columns is None:
            return
        named = [n for n in settled.names if n in self.columns or n not in settled.made or self.drift == "freeze"]
        missing = any(name not in named and name not in self.optional for name in self.columns)
        fix = other_delimiter(settled.names, settled.dialect.delimiter) if missing else ""
        fix = fix or (where_else(self.columns, sample(data), settled) if missing else "")
        drop = not refuses(self.drift, self.extra_columns)
        check_extra(named, self.columns, file, drop=drop, optional=self.optional, fix=fix)

    def _parse(self, body: Body, names: tuple[str, ...], loose: AbstractSet[str] = frozenset()) -> Parsed:
        """Parse the declared columns, and as text loose and undeclared ones."""
        types = {n: pa.string() if n in loose else kind for n, kind in self._types.items() if n in names}
        types |= dict.fromkeys(self._unknown(names), pa.string())
        if self.columns is None:  # texts, of which types are made when the whole file is known
            return parse(body, Layout(names, dict.fromkeys(names, pa.string()), body.dialect))
        nulls = {name: self._nulls(name, self._types.get(name, kind)) for name, kind in types.items()}
        layout = Layout(names, types, body.dialect, nulls, self.timestamp_format)
        return parse(body, layout)

    def _records(self, parsed: Parsed, opened: Opened, piece: Piece) -> Records:
        """Build records with facts. Long fields, and bytes that are no text, are set apart with their records."""
        table, first, body = parsed.table, piece.first_row, opened.body
        if self.optional:
            table = with_missing(table, self._types)
        wanted = table if self.drift != "discard_value" or self.columns is None else table.select(list(self.columns))
        rows = parsed.kept + first if first else parsed.kept
        long = _too_long(wanted, rows, self.max_field_bytes) if len(body.data) > self.max_field_bytes else []
        bad = [b.at(b.row + first) for b in parsed.bad] if first else parsed.bad
        ordered = tuple(sorted(bad, key=lambda b: b.row))
        records = Records(table, rows, ordered, partial(_raw, body, first, parsed.total), opened.facts)
        return without_damaged(set_apart(records, long), opened.damaged, first)


def _once(records: Records, opened: Opened, piece: Piece) -> Records:
    """Set apart what a file holds twice. Such a file is not cut."""
    return without_copies(records, opened.body) if piece.start == 0 and piece.stop is None else records


def _raw(body: Body, first: int, total: int, rows: Iterable[int]) -> dict[int, str]:
    """Return source texts of records; none where scanner and parser count differently."""
    if len(body.spans.starts) != total:
        return {}
    return {i + first: text for i, text in body.texts(int(row) - first for row in rows).items()}


def _too_long(table: pa.Table, rows: Ints, most: int) -> list[Bad]:
    """List texts of more than `most` bytes."""
    bad = []
    for name, column in zip(table.column_names, table.columns, strict=True):
        if textual(column.type) and column.nbytes > most and (pc.max(pc.binary_length(column)).as_py() or 0) > most:
            long = pc.indices_nonzero(pc.greater(pc.binary_length(column), most)).to_pylist()
            bad += [Bad(int(rows[i]), "field_size", name, shorten(column[i].as_py())) for i in long]
    return bad
