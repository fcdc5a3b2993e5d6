"""What is decided once for a whole file of delimited text, before any of its records is read."""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache, partial
from itertools import islice
from typing import Any, Literal, Protocol

from ingestlab.core.errors import TerminalError
from ingestlab.core.models import Piece
from ingestlab.formats.common.detection import detect
from ingestlab.formats.common.dialects import Dialect, fields, records, split_records
from ingestlab.formats.common.excerpts import listed, shorten
from ingestlab.formats.csv.evidence import kind_of
from ingestlab.formats.csv.headers import Place, first_record, free_name, locate, names_of, next_line, numbered
from ingestlab.formats.csv.short_headers import glued, has_row_names
from ingestlab.formats.csv.sniffing import Sniffed, other_in_most, sniff, unusual_delimiter
from ingestlab.interfaces import Store

SAMPLE = 256 << 10  # bytes of a text that are looked at
_RECORDS = 1000  # of them
_READ = 8 << 20
_NEARLY_ALL = 0.9

Header = int | Literal["auto"] | None


class Declared(Protocol):
    """Options of a reader; see :class:`~ingestlab.formats.csv.reader.Csv`."""

    @property
    def columns(self) -> Mapping[str, Any] | None: ...  # noqa: D102
    @property
    def delimiter(self) -> str | None: ...  # noqa: D102
    @property
    def quote(self) -> str | None: ...  # noqa: D102
    @property
    def escape(self) -> str | None: ...  # noqa: D102
    @property
    def comment(self) -> str | None: ...  # noqa: D102
    @property
    def skip_initial_space(self) -> bool: ...  # noqa: D102
    @property
    def skip(self) -> int: ...  # noqa: D102
    @property
    def header(self) -> Header: ...  # noqa: D102


@dataclass(frozen=True)
class Settled:
    """How a file is read.

    Attributes:
        dialect: How it is written.
        skip: Lines before the first record.
        nth: Which record is the header; None for none.
        names: Of the columns, in the order of the file.
        made: Those among them that the file does not have so: they were blank, or there twice.
        header: The text of the header line.
        facts: What was assumed.
    """

    dialect: Dialect
    skip: int
    nth: int | None
    names: tuple[str, ...]
    made: frozenset[str]
    header: str
    facts: dict[str, str]

    def plain(self) -> dict[str, Any]:
        """Return plain data that travels with a piece."""
        return asdict(self) | {"names": list(self.names), "made": sorted(self.made)}

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Settled:
        """Restore from :meth:`plain`."""
        said = {"dialect": Dialect(**data["dialect"]), "names": tuple(data["names"]), "made": frozenset(data["made"])}
        return cls(**{**data, **said})

    def place(self, data: bytes) -> Place:
        """Locate the header in the text."""
        return locate(data, self.dialect, self.skip, self.nth)


def sample(data: bytes) -> bytes:
    """Return the beginning of a text, cut at a line end."""
    if len(data) <= SAMPLE:
        return data
    end = max(data.rfind(b"\n", 0, SAMPLE), data.rfind(b"\r", 0, SAMPLE))
    return data[: end + 1] if end >= 0 else data[:SAMPLE]


def settle_file(said: Declared, text: bytes, file: str, paired: Callable[[Dialect], bool], *, all_: bool) -> Settled:
    """Decide how a file is read.

    Args:
        said: What the reader was told.
        text: A sample of the file: its begin.
        file: Its name.
        paired: Whether there is any quoted field in the whole file.
        all_: Whether the sample is the whole file.

    Raises:
        TerminalError: The text is not as told, or nobody can tell how it is written.
    """
    dialect, skip, nth, facts = _written(said, text, file)
    if dialect.delimiter == "\t" and said.quote == '"' and not paired(replace(dialect, quote='"')):
        if b'"' in text:
            facts["quote"] = "none"
        dialect = replace(dialect, quote=None)
    place = locate(text, dialect, skip, nth)
    header = text[place.start : place.stop]
    if nth is None:
        width = len(fields(_next(text, place.begin, dialect), dialect))
        names: tuple[str, ...] = tuple(said.columns or (f"column_{i}" for i in range(1, width + 1)))
        made: frozenset[str] = frozenset()
        facts["header"] = "none"
        header = _spelled(names, dialect) if said.columns is not None and len(names) > 1 else b""
        if said.columns is None:
            facts["names"] = f"the file has none: column_1 to column_{width}"
    else:
        names, made, note = _named(header, dialect)
        facts |= {"names": note} if note else {}
    there = len(names) if nth is not None else 0
    if all_ or place.stop < len(text):
        dialect, names = _fitting(said, text, place, dialect, names, made, file, facts)
    made = made | ({*names[:1]} if len(names) > there > 0 else set())
    return Settled(dialect, skip, nth, names, made & {*names}, header.decode(errors="replace"), facts)


def settled_ahead(said: Declared, piece: Piece, store: Store, size: int, encoding: str | None) -> tuple[Settled, int]:
    """Decide from its beginning how a file is cut. Also find where its records begin."""
    most = SAMPLE
    while True:
        raw = store.read(piece.path, 0, min(size, most))
        body = raw
        while body.startswith(codecs.BOM_UTF8):
            body = body.removeprefix(codecs.BOM_UTF8)
        mark = len(raw) - len(body)
        if len(raw) < size:
            end = max(body.rfind(b"\n"), body.rfind(b"\r", 0, len(body) - 1)) + 1
            body = body[:end] if end else body
        text = body.decode(encoding or detect(body).name, errors="replace").encode()
        settled = settle_file(said, text, piece.name, partial(_paired_in, piece, store, size), all_=len(raw) == size)
        place = settled.place(body)
        if place.begin < len(body) or len(raw) == size:
            return settled, mark + place.begin
        most *= 8


def paired(blocks: Iterable[bytes], dialect: Dialect) -> bool:
    """Tell whether any field in some blocks of text is within quotes."""
    d, q = re.escape(dialect.delimiter), re.escape(dialect.quote or '"')
    pattern = re.compile(rf"(?:^|(?<=[{d}\r\n])){q}[^{q}]*+(?:{q}{q}[^{q}]*+)*+{q}(?=[{d}\r\n]|\Z)".encode())
    quote = (dialect.quote or '"').encode()
    return any(quote in block and pattern.search(block) for block in blocks)


def check_characters(delimiter: str | None, quote: str | None, escape: str | None, comment: str | None) -> None:
    """Raise TerminalError for characters that cannot part, quote or escape text."""
    for name, character in (("delimiter", delimiter), ("quote", quote), ("escape", escape)):
        if character is not None and (len(character) != 1 or not character.isascii() or character in "\r\n\0"):
            problem = f"Not one ASCII character as {name}"
            raise TerminalError(problem, got=repr(character), fix="See Csv's documentation.", code="reader_invalid")
    if quote is not None and quote == delimiter:
        problem, fix = "The quote is the delimiter", "Use quote=None for no quoting."
        raise TerminalError(problem, got=repr(quote), fix=fix, code="reader_invalid")
    if escape is not None and escape == delimiter:
        problem, fix = "The escape character is the delimiter", "E.g. escape='\\\\'."
        raise TerminalError(problem, got=repr(escape), fix=fix, code="reader_invalid")
    if comment is not None and (not comment or "\n" in comment or "\r" in comment):
        problem, fix = "Not what a comment begins with", "E.g. comment='#'."
        raise TerminalError(problem, got=repr(comment), fix=fix, code="reader_invalid")


def where_else(names: Iterable[str], text: bytes, settled: Settled) -> str:
    """Suggest where the declared columns may be; empty where nothing is known."""
    wanted, dialect, at, line = set(names), settled.dialect, 0, 0
    while at < len(text) and line < _RECORDS:
        record = first_record(text, dialect, at)
        if wanted <= set(names_of(text[record.start : record.stop], dialect)):
            return f"The header may be line {line + 1}: write skip={line}."
        at, line = next_line(text, at, dialect), line + 1
    if settled.names and all(kind_of(name) != "t" for name in settled.names if name):
        return "The first record looks like data: write header=None if there is no header."
    return ""


def _paired_in(piece: Piece, store: Store, size: int, dialect: Dialect) -> bool:
    return paired((store.read(piece.path, at, min(at + _READ, size)) for at in range(0, size, _READ)), dialect)


def _written(said: Declared, text: bytes, file: str) -> tuple[Dialect, int, int | None, dict[str, str]]:
    """Return dialect, lines to skip, number of the header, and facts."""
    own = Dialect(
        said.delimiter or ",", said.quote, said.escape, initial_space=said.skip_initial_space, comment=said.comment
    )
    nth = 0 if said.header == "auto" else said.header
    if said.delimiter is not None and (said.columns is not None or said.header != "auto" or said.skip or said.comment):
        return own, said.skip, nth, {}
    start = locate(text, own, said.skip, None).begin
    looks = sniff(text[start:], said.delimiter)
    if said.header == "auto":
        _refuse(looks, said, file)
    if said.delimiter is not None:
        return own, said.skip, nth, {}
    sniffed = looks.dialect
    dialect = replace(
        own,
        delimiter=sniffed.delimiter,
        quote=sniffed.quote if said.quote == '"' else said.quote,
        escape=said.escape or sniffed.escape,
        initial_space=said.skip_initial_space or sniffed.initial_space,
    )
    skip = said.skip + (looks.skip if said.header == "auto" else 0)
    return dialect, skip, None if _nameless(looks, said) else nth, _facts(dialect, skip)


def _nameless(looks: Sniffed, said: Declared) -> bool:
    """Tell whether columns are numbered, for want of any names."""
    declared = said.header != "auto" or said.delimiter is not None or said.columns is not None
    return not declared and looks.nth is None and looks.sure


def _refuse(looks: Sniffed, said: Declared, file: str) -> None:
    """Raise TerminalError where text does not fit the declared options."""
    if not looks.regular:
        raise TerminalError(
            f"There is not one delimiter that parts most records of {file} alike",
            got="none among , ; tab and |",
            code="dialect_unclear",
            fix="Write delimiter='…' in a pipeline, or repair the file.",
        )
    if looks.nth is None and not _nameless(looks, said):
        raise TerminalError(
            f"There is no header in {file}",
            got=f"a record that looks like data in line {said.skip + looks.skip + 1}",
            code="dialect_unclear",
            fix="Write header=None for columns named in order by `columns`, else column_1 and so on; or header=0.",
        )
    if looks.doubt:
        problem, got = f"There is no clear header in {file}", f"a header in doubt: {looks.doubt}"
        raise TerminalError(problem, got=got, fix="Say it in a pipeline.", code="dialect_unclear")
    if said.delimiter is not None and looks.skip:
        raise TerminalError(
            f"There is no header in the first line of {file}",
            got="what looks like a title",
            code="dialect_unclear",
            fix=f"The header may be line {looks.skip + 1}: write skip={looks.skip}.",
        )


def _facts(dialect: Dialect, skip: int) -> dict[str, str]:
    facts = {"delimiter": {"\t": "tab", " ": "blank"}.get(dialect.delimiter, dialect.delimiter)}
    if dialect.quote != '"':
        facts["quote"] = dialect.quote or "none"
    if dialect.escape is not None:
        facts["escape"] = dialect.escape
    if dialect.initial_space:
        facts["delimiter"] += " and blank"
    facts["header"] = f"line {skip + 1}"
    if skip:
        facts["skipped"] = f"{skip} line{'s' if skip > 1 else ''}"
    return facts


@lru_cache(maxsize=256)
def _named(header: bytes, dialect: Dialect) -> tuple[tuple[str, ...], frozenset[str], str]:
    given = names_of(header, dialect)
    names, note = numbered(given)
    return names, frozenset(new for old, new in zip(given, names, strict=True) if old != new), note


def _spelled(names: Sequence[str], dialect: Dialect) -> bytes:
    """Write names as a header would have them."""
    quote, delimiter = dialect.quote or "", dialect.delimiter
    return delimiter.join(f"{quote}{name}{quote}" if delimiter in name else name for name in names).encode()


def _next(text: bytes, at: int, dialect: Dialect) -> bytes:
    record = first_record(text, dialect, at)
    return text[record.start : record.stop]


def _fitting(
    said: Declared,
    text: bytes,
    place: Place,
    dialect: Dialect,
    names: tuple[str, ...],
    made: frozenset[str],
    file: str,
    facts: dict[str, str],
) -> tuple[Dialect, tuple[str, ...]]:
    """Fit names and surplus empty fields to the records. Looks closely only where they differ."""
    first = _next(text, place.begin, dialect)
    if not first:
        return dialect, names
    if len(names) == 1 and said.columns is None:
        _refuse_one(text, place, dialect, file)
    if len(fields(first, dialect)) == len(names):
        return dialect, names
    records = _records(text, place.begin, dialect)
    widths = [len(record) for record in records]
    usual = max(set(widths), key=widths.count)
    times = widths.count(usual)
    empty = sum(not any(record[len(names) :]) for record in records if len(record) == usual)
    if usual > len(names) and times * 2 >= len(widths) and empty >= _NEARLY_ALL * times:
        more = usual - len(names)
        if more == 1 and said.header is not None:
            _refuse_glued(names, [record for record in records if len(record) == usual], dialect, file)
        facts["note"] = f"{more} empty field{'s' if more > 1 else ''} at the end of records passed over"
        return replace(dialect, surplus=more), names
    if usual < len(names) and times >= _NEARLY_ALL * len(widths) and made.issuperset(names[usual:]):
        return dialect, names[:usual]
    if usual == len(names) + 1 and said.header is not None:
        header = text[place.start : place.stop]
        if has_row_names(header, names, _texts(text, place.begin, dialect), dialect):
            new = free_name("column_1", names)
            facts["names"] = "; ".join(filter(None, (f"the first column has no name: {new}", facts.get("names"))))
            return dialect, (new, *names)
    if usual != len(names) and times >= _NEARLY_ALL * len(widths) and len(widths) > 1:
        raise _other_width(names, usual, times, len(widths), dialect, file, declared=said.header is None)
    return dialect, names


def _refuse_glued(names: tuple[str, ...], records: list[list[str]], dialect: Dialect, file: str) -> None:
    """Raise TerminalError for a header that lacks a delimiter."""
    evidence = glued(names, records, dialect.quote)
    if evidence:
        raise TerminalError(
            f"The header of {file} may lack a delimiter",
            got=f"{len(names)} names, but {len(names) + 1} fields in the records, the last one empty; and {evidence}",
            code="columns_unexpected",
            fix="Correct the header; or skip it, with skip=1, header=None and the right names as `columns`.",
        )


def _other_width(
    names: tuple[str, ...], usual: int, times: int, count: int, dialect: Dialect, file: str, *, declared: bool
) -> TerminalError:
    what = "columns" if declared else "header"
    hint = next((f" The delimiter may be {c!r}: write delimiter={c!r}." for c in ",;\t|" if c in names[0]), "")
    return TerminalError(
        f"The {what} {'are' if declared else 'is'} not as wide as the records of {file}",
        got=f"{len(names)} name{'s' if len(names) != 1 else ''} ({listed(names)}), "
        f"but {usual} field{'s' if usual != 1 else ''} in {times:,} of {count:,} records",
        code="columns_missing" if len(names) > usual else "columns_unexpected",
        fix=f"Correct the header; or skip it, with skip=1, header=None and the right names as `columns`."
        f"{hint if hint and dialect.delimiter not in hint else ''}",
    )


def _refuse_one(text: bytes, place: Place, dialect: Dialect, file: str) -> None:
    """Raise TerminalError where one column holds another delimiter in most records."""
    records = [dialect.delimiter.join(record) for record in _records(text, place.begin, dialect)]
    whole = [text[place.start : place.stop].decode(errors="replace"), *records] if place.stop > place.start else records
    other = other_in_most(records, dialect.delimiter) or unusual_delimiter(whole)
    if other is not None:
        raise TerminalError(
            f"There are no columns in {file}",
            got=f"one column that holds {other!r} in most records, e.g. {shorten(records[0])!r}",
            code="dialect_unclear",
            fix=f"Write delimiter={other!r}, or declare the column if it is one.",
        )


def _records(text: bytes, at: int, dialect: Dialect) -> list[list[str]]:
    return [record for _, record in split_records(text, dialect, at)]


def _texts(text: bytes, at: int, dialect: Dialect) -> list[bytes]:
    return [match[1] for match in islice(records(text, dialect, at), _RECORDS)]
