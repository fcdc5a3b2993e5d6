"""Headers that are one name short, since the first field of the records is the name of the row: R writes such files."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ingestlab.formats.common.dialects import Dialect, fields

_FEWEST = 3  # records that bear it out
_FEW = 20  # names
_KEY = re.compile(r"(?i)(?:id|no|nr|num|key|index|row|#)")
_GLUED = re.compile(r"[,;\t|]")


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


def _one_in_two(names: Sequence[str]) -> bool:
    """Tell whether one of a few names is of several words: two may have become one."""
    return len(names) <= _FEW and sum(" " in name.strip() for name in names) == 1
