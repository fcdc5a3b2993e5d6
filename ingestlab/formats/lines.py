r"""Raw logs: records told by a regular expression, one a line or several lines each."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import ClassVar, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ingestlab.core.errors import TerminalError
from ingestlab.core.models import FetchedFile, Piece
from ingestlab.formats.common.bytes import Limits
from ingestlab.formats.common.columns import castable, check_format, convert_columns, declared, hash_of, types_in
from ingestlab.formats.common.cutting import Ints, Spans
from ingestlab.formats.common.damage import without_damaged
from ingestlab.formats.common.excerpts import listed, shorten
from ingestlab.formats.common.linewise import (
    Raw,
    blocks,
    check_encoding,
    lines_of,
    load_lines,
    split_lines,
    split_lines_early,
)
from ingestlab.formats.common.nulls import EMPTY, NullValues, checked, marks_of, nulled
from ingestlab.interfaces import Bad, LateError, Records, Store


@dataclass(frozen=True, kw_only=True)
class Lines:
    r"""Read text whose records match a regular expression with named groups.

    A record is one line, or all lines from one that `start` matches up to the next such line; empty lines are
    none. Records that do not fit are set apart as :class:`~ingestlab.pipeline.pipeline.Bad`, by these rules:
    ``pattern`` (the expression does not match the whole record), ``type`` (a value is not of its column's
    type) and ``record_size``.

    Expressions are RE2's where they can be, which takes time in proportion to the text whatever it is; there
    ``\d``, ``\s`` and ``\w`` mean ASCII. Ones with unnamed groups (write ``(?:…)``), look-ahead or
    back-references are run by Python, one record at a time.

    Attributes:
        pattern: Matches a whole record without its line end; ``(?P<name>…)`` makes a column. For records of
            several lines begin it with ``(?s)``, so that ``.`` takes line ends too.
        columns: Group to Arrow type, as in :class:`~ingestlab.formats.csv.reader.Csv`; groups not named are text.
        start: Matches the begin of the first line of a record; None where every line is one.
        null_values: Texts that stand for no value, in all columns or by column; the empty one in those of which
            nothing is said. A group that takes no part in a match has none anyway.
        timestamp_format: For strptime; None for ISO 8601.
        encoding: Any text encoding that Python knows; None to have it detected.
        max_record_bytes: Longest record.
        limits: How far a compressed file may grow.

    Examples:
        >>> from ingestlab import Lines
        >>> list(Lines(pattern=r"(?P<level>\w+) (?P<message>.*)").columns)
        ['level', 'message']
    """

    suffixes: ClassVar[tuple[str, ...]] = (".log",)
    generic: ClassVar[str] = "encoding=None"
    pattern: str = "(?P<line>.*)"
    columns: Mapping[str, str | pa.DataType] = field(default_factory=dict)
    start: str | None = None
    null_values: NullValues = EMPTY
    timestamp_format: str | None = None
    encoding: str | None = "utf-8"
    max_record_bytes: int = 1 << 20
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        names = _engine(self.pattern).names
        unknown = [name for name in self.columns if name not in names]
        if unknown or not names:
            raise TerminalError(
                f"No named groups in the pattern{f' for the columns {listed(self.columns)}' if unknown else ''}",
                got=listed(names) or "no named group",
                code="reader_invalid",
                fix="Write (?P<name>…) for every column.",
            )
        if self.start is not None:
            _start(self.start)
        check_encoding(self.encoding)
        check_format(self.timestamp_format)
        types = declared(self.columns, castable, "text") if self.columns else {}
        object.__setattr__(self, "columns", {name: types.get(name, pa.string()) for name in names})
        object.__setattr__(self, "null_values", checked(self.null_values, self.columns))

    def __hash__(self) -> int:
        return hash_of(self)

    def split(self, file: FetchedFile, store: Store, size: int) -> list[Piece]:
        """Cut a file into pieces of about `size` bytes. Row numbers are exact."""
        return split_lines(file, store, size, self.encoding, self._starts if self.start else None)

    def split_early(self, file: FetchedFile, store: Store, size: int) -> Iterator[Piece]:
        """Yield the pieces of `split`, as early as each is known."""
        if self.start:
            raise LateError
        yield from split_lines_early(file, store, size, self.encoding)

    def read(self, piece: Piece, store: Store) -> Records:
        """Read one piece.

        Raises:
            TerminalError: It is empty, damaged, binary, or not in the declared encoding.
        """
        starts = self._starts if self.start else None
        data, spans, facts, damaged = load_lines(piece, store, self.encoding, self.limits, starts)
        tables = [pa.schema(list(types_in(self.columns).items())).empty_table()]
        kept: list[Ints] = []
        bad: list[Bad] = []
        for first, part in blocks(spans):
            table, numbers, wrong = self._parse(data, part, piece.first_row + first)
            tables.append(table)
            kept.append(numbers)
            bad += wrong
        rows = np.concatenate([np.empty(0, np.int64), *kept])
        table = pa.concat_tables(tables)
        bad.sort(key=lambda b: b.row)
        records = Records(table, rows, tuple(bad), Raw(data, spans, piece.first_row), facts)
        return without_damaged(records, damaged, piece.first_row)

    def _parse(self, data: bytes, spans: Spans, first: int) -> tuple[pa.Table, Ints, list[Bad]]:
        numbers = np.arange(first, first + len(spans.starts), dtype=np.int64)
        texts = pc.ascii_rtrim(lines_of(data, spans), characters="\r\n")
        long = pc.greater(pc.binary_length(texts), self.max_record_bytes).to_numpy(zero_copy_only=False)
        bad = [Bad(int(n), "record_size", None, shorten(texts[i].as_py())) for i, n in _where(long, numbers)]
        if bad:
            texts, numbers = texts.filter(pa.array(~long)), numbers[~long]
        captured = _match(self.pattern, texts)
        if captured.null_count:
            missed = captured.is_null().to_numpy(zero_copy_only=False)
            bad += [Bad(int(n), "pattern", None, shorten(texts[i].as_py())) for i, n in _where(missed, numbers)]
            captured, numbers = captured.filter(pa.array(~missed)), numbers[~missed]
        groups = dict(zip(_engine(self.pattern).names, captured.flatten(), strict=True))
        marks = {name: marks_of(self.null_values, name, pa.string(), EMPTY) for name in groups}
        table = pa.table({name: nulled(texts, marks[name]) for name, texts in groups.items()})
        table, numbers, wrong = convert_columns(table, types_in(self.columns), numbers, self.timestamp_format)
        return table, numbers, bad + wrong

    def _starts(self, lines: pa.Array) -> Ints:
        assert self.start is not None
        return _start(self.start)(lines)


class _Engine(NamedTuple):
    """Names of the groups, and Python's expression, or None for RE2."""

    names: tuple[str, ...]
    python: re.Pattern[str] | None  # None: RE2


@cache
def _engine(pattern: str) -> _Engine:
    try:
        captured = pc.extract_regex(pa.array([], pa.string()), pattern=_anchored(pattern))
        return _Engine(tuple(f.name for f in captured.type), None)
    except pa.ArrowInvalid:
        own = _compiled(pattern)
        return _Engine(tuple(own.groupindex), own)


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        problem, fix = "Not a regular expression", f"Correct {shorten(pattern)!r}."
        raise TerminalError.wrap(error, problem, fix, code="reader_invalid") from error


class _Start:
    """Finds the lines that begin a record."""

    def __init__(self, pattern: str) -> None:
        self._pattern = f"^(?:{pattern})"
        self._python: re.Pattern[str] | None = None
        try:
            pc.match_substring_regex(pa.array([""]), pattern=self._pattern)  # of no text it would not even be read
        except pa.ArrowInvalid:
            self._python = _compiled(pattern)

    def __call__(self, lines: pa.Array) -> Ints:
        if self._python is None:
            hits = pc.match_substring_regex(lines, pattern=self._pattern).to_numpy(zero_copy_only=False)
        else:
            hits = np.array([self._python.match(line) is not None for line in lines.to_pylist()], bool)
        return np.flatnonzero(hits).astype(np.int64)


_start = cache(_Start)


def _anchored(pattern: str) -> str:
    return f"^(?:{pattern})$"


def _match(pattern: str, texts: pa.Array) -> pa.StructArray:
    """Match each text, giving its groups; null where it does not match."""
    names, python = _engine(pattern)
    if python is None:
        return pc.extract_regex(texts, pattern=_anchored(pattern))
    matches = (python.fullmatch(text) for text in texts.to_pylist())
    kind = pa.struct([(name, pa.string()) for name in names])
    return pa.array([m.groupdict() if m else None for m in matches], kind)


def _where(mask: np.ndarray[tuple[int], np.dtype[np.bool_]], numbers: Ints) -> list[tuple[int, int]]:
    rows = np.flatnonzero(mask)
    return list(zip(rows.tolist(), numbers[rows].tolist(), strict=True))
