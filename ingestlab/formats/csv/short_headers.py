"""Headers that are one name short: the first column has none, as R writes files, or two names have become one."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from ingestlab.formats.common.dialects import Dialect, fields
from ingestlab.formats.csv.evidence import kind_of

_FEWEST = 3  # records that bear it out
_FEW = 20  # names
_KEY = re.compile(r"(?i)(?:id|no|nr|num|key|index|row|#)")
_GLUED = re.compile(r"[,;\t|]")
_NEARLY_ALL = 0.9
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
_NUMBERS = ("price", "cost", "amount", "qty", "quantity", "latitude", "longitude")
# By the last word of a name: what its values hold at least, and what hardly any others are.
_MEANT: tuple[tuple[tuple[str, ...], re.Pattern[str], Callable[[str], object]], ...] = (
    (("url", "uri", "link", "href", "website", "homepage"), re.compile(r"^\S+$"), re.compile(r"\w+://|www\.").match),
    (("email", "mail"), re.compile("@"), re.compile(r"[^@\s]+@[^@\s]+\.\w+").fullmatch),
    (("date", "time", "datetime", "timestamp"), re.compile(r"\d"), lambda cell: kind_of(cell) == "d"),
    (_NUMBERS, re.compile(r"\d"), lambda cell: kind_of(cell) == "n"),
)


def has_row_names(header: bytes, names: Sequence[str], records: Sequence[bytes], dialect: Dialect) -> bool:
    """Tell whether records begin with row names that the header lacks.

    The header could as well lack another name, or have two of them glued together. It takes all names within quotes,
    and records whose first field is within quotes as well and never the same, or counts from 1.

    Args:
        header: Its text.
        names: What is in it.
        records: Texts of records.
        dialect: How all is written.
    """
    if dialect.quote is None or len(records) < _FEWEST or len(names) < 2:
        return False
    q, d = re.escape(dialect.quote), re.escape(dialect.delimiter)
    quoted = re.compile(rf"{q}(?:[^{q}]|{q}{q})*+{q}(?={d}|\Z)".encode())
    wide = [record for record in records if len(fields(record, dialect)) == len(names) + 1]
    all_quoted = re.compile(rf"(?:{quoted.pattern.decode()}(?:{d}|\Z))+".encode())
    if len(wide) * 10 < len(records) * 9 or not all_quoted.fullmatch(header) or any(map(_GLUED.search, names)):
        return False
    first = [fields(record, dialect)[0].decode(errors="replace") for record in wide]
    if all(map(quoted.match, wide)):
        numbers = all(text.isdecimal() for text in first)
        apart = len(set(first)) == len(first) and all(first)
        return apart and not (numbers and all(map(all_quoted.fullmatch, wide))) and not _one_in_two(names)
    counted = first == [str(i) for i in range(1, len(first) + 1)]
    return counted and not (_KEY.match(names[0]) or _one_in_two(names))


def glued(names: Sequence[str], records: Sequence[Sequence[str]], quote: str | None) -> str:
    """Name the evidence that two names of a header have become one.

    Records with an empty field at their end are written by many programs, and are one field wider as well. Where a
    delimiter is missing in the header, what follows is under the name of its neighbour.

    Args:
        names: What is in the header.
        records: Fields of records that have one more, by record.
        quote: What fields may be within.

    Returns:
        It in words; empty where there is none.
    """
    torn = next((name for name in names if quote and re.search(rf"\w{re.escape(quote)}\w", name)), None)
    if torn is not None:
        return f"a quote within the name {torn!r}"
    columns = [[cell.strip() for cell in column if kind_of(cell) != "e"] for column in zip(*records, strict=True)]
    for name, here, beside in zip(names, columns, columns[1:], strict=False):
        last = _WORD.findall(name)[-1:]
        for words, least, like in _MEANT:
            if last and last[0].lower() in words and here and len(beside) >= _FEWEST:
                right = sum(bool(like(cell)) for cell in beside)
                if not any(map(least.search, here)) and right >= _NEARLY_ALL * len(beside):
                    return f"what the name {name!r} says is one column to the right of it"
    return ""


def _one_in_two(names: Sequence[str]) -> bool:
    """Tell whether one of a few names is of several words."""
    return len(names) <= _FEW and sum(" " in name.strip() for name in names) == 1
