"""What the cells of a record look like, and whether a first record is data beyond doubt."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Sequence

_NUMBER = re.compile(r"\s*[-+(]?\s*[$€£]?\s*[-+]?(?:\d[\d.,' \u00a0]*|[.,]\d+)(?:[eE][-+]?\d+)?\s*[%€)]?\s*")
_DAY = r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}(?:[T ].*)?"
_TIME = re.compile(rf"\s*(?:{_DAY}|\d{{1,2}}:\d\d(?::\d\d(?:[.,]\d+)?)?(?: ?[AP]M)?)\s*")
_NOTHING = frozenset(("", "na", "n/a", "#n/a", "nan", "null", "none", "nil", "\\n", "-", "--", "?", "."))
_YEAR = re.compile(r"\s*(?:1[89]|20|21)\d\d\s*")
_ENOUGH = 300  # records that a first one is compared with
_FIRST = 5

Record = list[str]


def kind_of(cell: str) -> str:
    """Classify a cell by its looks.

    Returns:
        ``n`` for a number, ``d`` for a date or time, ``e`` for nothing, ``t`` for text.
    """
    if cell.strip().lower() in _NOTHING:
        return "e"
    if _NUMBER.fullmatch(cell):
        return "n"
    return "d" if _TIME.fullmatch(cell) else "t"


def surely_data(records: Sequence[tuple[int, Record]], sample: bytes, quote: str | None) -> bool:
    """Tell whether a first record cannot be a header.

    Years, dates and codes are names of columns too: numbers have to be among those of their columns, dates written
    like the others, and texts have to come again where there are few of both.

    Args:
        records: Of the sample, each with where it begins.
        sample: The text.
        quote: What fields may be within.
    """
    row, rest = records[0][1], [r for _, r in records[1 : _ENOUGH + 1] if len(r) == len(records[0][1])]
    if len(rest) < 2 or (quote and _quoted_alone(records, sample, quote.encode())):
        return False
    columns = [[r[i] for r in rest] for i in range(len(row))]
    filled = [i for i, cell in enumerate(row) if kind_of(cell) != "e"]
    same = [i for i in filled if kind_of(row[i]) in "nd" and _mostly(columns[i], kind_of(row[i]))]
    texts = [i for i in filled if kind_of(row[i]) == "t"]
    if not same or len(same) + len(texts) < len(filled):
        return False
    if texts and (len(same) == 1 or len(same) * 3 < len(filled)) and not any(row[i] in columns[i] for i in texts):
        return False
    if any(all(kind_of(r[i]) == "t" for i in same) for r in rest[:_FIRST]):  # a header further down
        return False
    cells = [row[i].strip() for i in same]
    if any(_year_alone(row[i], columns[i]) or not _written_alike(row[i], columns[i]) for i in same):
        return False
    return len(set(cells)) < len(cells) or not (_counted(cells) or _outside(row, columns, same))


def _mostly(cells: Sequence[str], kind: str) -> bool:
    kinds = Counter(map(kind_of, cells))
    del kinds["e"]
    return kinds[kind] >= 0.8 * kinds.total() > 0


def _quoted_alone(records: Sequence[tuple[int, Record]], sample: bytes, quote: bytes) -> bool:
    """Tell whether the first record has more quotes than the next ones."""
    starts = [start for start, _ in records[: _ENOUGH + 1]]
    counts = [sample.count(quote, start, stop) for start, stop in itertools.pairwise(starts)]
    return counts[0] > max(counts[1:], default=0)


def _year_alone(cell: str, others: Sequence[str]) -> bool:
    return bool(_YEAR.fullmatch(cell)) and sum(bool(_YEAR.fullmatch(c)) for c in others) * 2 <= len(others)


def _written_alike(cell: str, others: Sequence[str]) -> bool:
    """Tell whether a date or time is written as some others are. Numbers may be short by chance."""
    shapes = {re.sub(r"\d+", "9", other.strip()) for other in others}
    return kind_of(cell) == "n" or re.sub(r"\d+", "9", cell.strip()) in shapes


def _counted(cells: Sequence[str]) -> bool:
    """Tell whether numbers are 1, 2, 3, or dates follow each other."""
    numbers = [_value(cell) for cell in cells]
    known = [n for n in numbers if n is not None]
    if len(known) < len(cells):  # days
        return len(cells) > 1 and sorted(cells) == list(cells)
    steps = {round(b - a, 9) for a, b in itertools.pairwise(known)}
    return len(known) > 1 and len(steps) == 1 and min(steps) > 0 and (len(known) > 2 or steps == {1})


def _outside(row: Record, columns: Sequence[Sequence[str]], same: Sequence[int]) -> bool:
    """Tell whether most numbers are far from all those of their columns."""
    far = 0
    for i in same:
        mine, others = _value(row[i]), [v for v in map(_value, columns[i]) if v is not None]
        if mine is not None and others:
            spread = max(others) - min(others) or abs(max(others))
            far += not min(others) - spread <= mine <= max(others) + spread
    return far * 2 > len(same)


def _value(cell: str) -> float | None:
    """Parse a plain number; None for anything else."""
    try:
        return float(cell.strip().replace(",", "."))
    except ValueError:
        return None
