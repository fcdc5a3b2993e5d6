"""What delimited text looks like where nobody has said it: delimiter, quotes, the line of the header.

Every guess has to be borne out by nearly all records of a sample, and is told as a fact of the run. Where a
guess is not, the file is refused with what to write.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ingestlab.formats.common.dialects import Dialect, fields, shapes, split_records
from ingestlab.formats.csv.evidence import kind_of, surely_data
from ingestlab.formats.csv.headers import next_line

DELIMITERS = ",;\t|"
_NEARLY_ALL = 0.9
_SOUND = 1000  # records that are looked at
_TITLES = 60  # records that may stand before a header
_SEP = re.compile(rb'"?sep=([^\r\n])"?[;,\t|]*(?:\r\n|\r|\n)', re.IGNORECASE)
_COMMA = r"(?<!\d),(?=\S)|,(?=[^\s\d])"  # none of a number or a sentence
_UNUSUAL = "^~\x1f\x01 :"

Record = list[str]


@dataclass(frozen=True)
class Sniffed:
    """What a text looks like.

    Attributes:
        dialect: How it is written.
        skip: Lines before the header.
        nth: 0; None where the first record is data.
        width: How many fields most records have.
        regular: Whether one delimiter parts most records alike.
        share: Of the records, those that it parts so; 0 for a single column.
        sure: Where the first record is data: whether nothing of it may be a name.
        doubt: Why the header is in doubt; empty where it is not.
    """

    dialect: Dialect
    skip: int = 0
    nth: int | None = 0
    width: int = 1
    regular: bool = True
    doubt: str = ""
    share: float = 0.0
    sure: bool = False

    def options(self) -> dict[str, object]:
        """Return the reader's options that say the same."""
        dialect, said = self.dialect, dict[str, object]()
        if dialect.delimiter != ",":
            said["delimiter"] = dialect.delimiter
        if dialect.quote != '"':
            said["quote"] = dialect.quote
        if dialect.escape is not None:
            said["escape"] = dialect.escape
        if dialect.initial_space:
            said["skip_initial_space"] = True
        if self.skip:
            said["skip"] = self.skip
        if self.nth is None:
            said["header"] = None
        return said


def sniff(text: bytes, delimiter: str | None = None) -> Sniffed:
    """Detect how a text is written. It is UTF-8, cut at a line end.

    Args:
        text: The sample.
        delimiter: Where it is known.
    """
    said = _SEP.match(text)
    base = said.end() if said else 0
    if said and delimiter is None:
        delimiter = said[1].decode()
    sample = text[base:]
    dialect, share = _dialect(sample, delimiter)
    records = split_records(sample, dialect)
    skip, nth, width, doubt = _header(records)
    width_of_names = len(records[skip][1]) if nth is not None and skip < len(records) else width
    surplus = width - width_of_names
    if surplus > 0 and _empty_beyond(records[skip + 1 :], width, width_of_names):
        dialect = replace(dialect, surplus=surplus)
    lines = _lines_before(sample, records[skip][0], dialect) if records else 0
    one_column = width == 1 and not _holds_another(records, dialect)
    regular = share >= 0.5 or one_column or delimiter is not None
    sure = nth is None and regular and share >= _NEARLY_ALL and surely_data(records, sample, dialect.quote)
    return Sniffed(dialect, lines + bool(said), nth, width, regular, doubt, share, sure)


def other_in_most(records: Sequence[str], used: str) -> str | None:
    """Find a delimiter, other than the one used, that most records hold."""
    counts = {c: sum(c in record for record in records) for c in DELIMITERS if c != used}
    best = max(counts, key=lambda c: counts[c])
    return best if counts[best] > len(records) / 2 else None


def unusual_delimiter(lines: Sequence[str]) -> str | None:
    """Find a rare delimiter that every line has equally often.

    Blanks and colons part numbers alone: names and times have them as well.
    """
    for character in _UNUSUAL:
        times = {line.strip().count(character) for line in lines}
        if len(lines) > 1 and len(times) == 1 and times != {0}:
            parts = [part for line in lines[1:] for part in line.strip().split(character)]
            if character not in " :" or all(kind_of(part) == "n" for part in parts):
                return character
    return None


def _dialect(sample: bytes, delimiter: str | None) -> tuple[Dialect, float]:
    """Choose the dialect with the largest share of equally wide records."""
    best, top = Dialect(delimiter or ","), (-1.0, 0)
    quotes = ['"', "'"] if b"'" in sample else ['"']
    for character in DELIMITERS if delimiter is None else delimiter:
        for quote in quotes:
            dialect = Dialect(character, quote)
            records = [record for _, record in split_records(sample, dialect)]
            width, share = _mode(records)
            if width == 1 and delimiter is None:
                continue
            score = (round(share * (1 - _foreign(records, character)), 3), _pairs(sample, dialect))
            if score > top:
                best, top = dialect, score
    best = replace(best, initial_space=_spaced(split_records(sample, best)))
    best = replace(best, escape=_escape(sample, best))
    if best.delimiter == "\t" and not _pairs(sample, best):
        best = replace(best, quote=None)
    width, share = _mode([record for _, record in split_records(sample, best)])
    return best, share if width > 1 else 0.0


def _mode(records: Sequence[Record]) -> tuple[int, float]:
    """Return the commonest number of fields, and its share of records."""
    widths = Counter(map(len, records))
    if not widths:
        return 1, 0.0
    width, times = max(widths.items(), key=lambda item: (item[1], item[0]))
    return width, times / len(records)


def _foreign(records: Sequence[Record], used: str) -> float:
    """Return half the share of records with another delimiter. Commas of numbers and sentences do not count."""
    others = re.compile("|".join(_COMMA if c == "," else re.escape(c) for c in DELIMITERS if c != used))
    return sum(any(map(others.search, record)) for record in records) / max(1, len(records)) / 2


def _pairs(sample: bytes, dialect: Dialect) -> int:
    """Count the fields within quotes."""
    d, q = re.escape(dialect.delimiter), re.escape(dialect.quote or '"')
    pattern = rf"(?:^|(?<=[{d}\r\n])) *{q}[^{q}]*+(?:{q}{q}[^{q}]*+)*+{q}(?=[{d}\r\n]|\Z)"
    return len(re.findall(pattern.encode(), sample))


def _spaced(records: Sequence[tuple[int, Record]]) -> bool:
    """Tell whether a blank follows every delimiter."""
    later = [cell for _, record in records for cell in record[1:] if cell]
    return bool(later) and all(cell.startswith(" ") for cell in later)


def _escape(sample: bytes, dialect: Dialect) -> str | None:
    """Return the backslash, where more records are sound if it escapes quotes."""
    if dialect.quote is None or b"\\" + dialect.quote.encode() not in sample:
        return None
    return "\\" if _sound(sample, replace(dialect, escape="\\")) > _sound(sample, dialect) else None


def _sound(sample: bytes, dialect: Dialect) -> int:
    width, _ = _mode([record for _, record in split_records(sample, dialect)])
    matches = list(shapes(dialect).clean.finditer(sample))[:_SOUND]
    return sum(len(fields(match[1], dialect)) == width for match in matches if match[1])


def _header(records: Sequence[tuple[int, Record]]) -> tuple[int, int | None, int, str]:
    """Return the header's number (0 or None), usual width, and any doubt."""
    rows = [record for _, record in records]
    width, _ = _mode(rows[1:] or rows)
    if not rows:
        return 0, 0, width, ""
    at = 0
    while at < min(_TITLES, len(rows) - 1) and _title(rows, at, width):
        at += 1
    rest = [row for row in rows[at + 1 :] if len(row) == width]
    if at and like_data(rows[at], rest):
        at -= 1
        if len(rows[at]) == width and rows[at][0].lstrip().startswith("#"):
            return at, 0, width, ""
        at = 0
        rest = [row for row in rows[1:] if len(row) == width]
        if width > 2 and len(rows[0]) == width and sum(bool(cell.strip()) for cell in rows[0]) == 1:
            return 0, 0, width, "its first line may be a title, and the next one data: write skip=1, header=None"
    if at and not _like_header(rows[at], rest) and not _plainly_titles(rows[:at], width):
        return 0, 0, width, f"the header may be line {at + 1}: write skip={at}"
    if like_data(rows[at], rest):
        return at, None, width, ""
    return at, 0, width, ""


def _title(rows: Sequence[Record], at: int, width: int) -> bool:
    """Tell whether a record is a title, a comment, or empty."""
    row, filled = rows[at], sum(bool(cell.strip()) for cell in rows[at])
    if width == 1:
        return False
    trimmed = len(row)
    while trimmed > width and not row[trimmed - 1].strip():
        trimmed -= 1
    following = rows[at + 1 :]
    if row[0].lstrip().startswith("#"):
        return not like_data(following[0], following[1:]) or following[0][0].lstrip().startswith("#")
    if trimmed != width:
        return not (trimmed < width and _empty_beyond([(0, r) for r in rows], width, trimmed))
    if filled <= max(1, width // 3):
        return True
    rest = [r for r in following[1:] if len(r) == width]
    full = len(following[0]) == width and all(cell.strip() for cell in following[0])
    return filled < width and full and _like_header(following[0], rest)


def _plainly_titles(rows: Sequence[Record], width: int) -> bool:
    single = all(sum(bool(cell.strip()) for cell in row) <= 1 for row in rows)
    return single and (len(rows) > 1 or (width > 2 and len(rows[0]) == width) or " " in rows[0][0].strip())


def like_data(row: Record, rest: Sequence[Record]) -> bool:
    """Tell whether a record resembles those after it, rather than their header."""
    if not rest:
        return sum(kind_of(cell) in "nd" for cell in row) * 2 >= len(row)
    same, differ = _against(row, rest)
    if not same or differ:
        return False
    years = [row[i] for i in same if re.fullmatch(r"(?:1[89]|20|21)\d\d", row[i].strip())]
    if len(years) == len(same) > 1 and len(set(years)) == len(years) < len(row):
        within = [r[same[0]] for r in rest if len(r) > same[0]]
        return sum(bool(re.fullmatch(r"(?:1[89]|20|21)\d\d", cell.strip())) for cell in within) > len(within) / 2
    return True


def _like_header(row: Record, rest: Sequence[Record]) -> bool:
    same, differ = _against(row, rest) if rest else ([], [])
    return len(differ) > len(same)


def _against(row: Record, rest: Sequence[Record]) -> tuple[list[int], list[int]]:
    """Compare a record with the columns of numbers or times. Returns those it fits, and those it has text in."""
    same, differ = [], []
    for i, cell in enumerate(row):
        kinds = Counter(kind_of(r[i]) for r in rest[:300] if i < len(r))
        del kinds["e"]
        if not kinds:
            continue
        kind, times = kinds.most_common(1)[0]
        if kind != "t" and times >= 0.8 * kinds.total():
            mine = kind_of(cell)
            if mine in "nd":
                same.append(i)
            elif mine == "t":
                differ.append(i)
    return same, differ


def _empty_beyond(records: Sequence[tuple[int, Record]], width: int, names: int) -> bool:
    """Tell whether nearly all records are empty beyond the named fields."""
    wide = [record for _, record in records if len(record) > names]
    empty = [record for record in wide if len(record) <= width and not any(record[names:])]
    return bool(wide) and len(wide) * 2 >= len(records) and len(empty) >= 0.9 * len(wide)


def _holds_another(records: Sequence[tuple[int, Record]], dialect: Dialect) -> bool:
    return bool(records) and other_in_most([" ".join(record) for _, record in records], dialect.delimiter) is not None


def _lines_before(sample: bytes, start: int, dialect: Dialect) -> int:
    at = lines = 0
    while at < start and next_line(sample, at, dialect) <= start:
        at = next_line(sample, at, dialect)
        lines += 1
    return lines
