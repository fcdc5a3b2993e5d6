"""Files that hold a table twice: the header comes again, and after it the records that were there before."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

import numpy as np

from ingestlab.formats.common.columns import set_apart
from ingestlab.formats.common.dialects import Dialect, fields, split_records
from ingestlab.formats.common.excerpts import shorten
from ingestlab.formats.csv.body import Body
from ingestlab.formats.csv.settling import SAMPLE
from ingestlab.interfaces import Bad, Records

_FEWEST = 5  # records that bear it out
_NEARLY_ALL = 0.9

Record = tuple[bytes, ...] | tuple[str, ...]


def without_copies(records: Records, body: Body) -> Records:
    """Set apart what a second table repeats, by the rule ``duplicate``.

    Args:
        records: All records of a file; what repeats its header is among the bad ones.
        body: Where they come from.
    """
    heads = [bad.row for bad in records.bad if bad.rule == "header"]
    again = next((row for row in heads if row), None)
    if again is None or not alike(body.data, body.begin, int(body.spans.starts[again]), body.dialect):
        return records
    texts = [tuple(fields(body.data[a:b].rstrip(b"\r\n"), body.dialect)) for a, b in zip(*body.spans[:2], strict=True)]
    copies = np.intersect1d(records.rows, list(_copies(texts, heads))).tolist()
    return set_apart(records, [Bad(row, "duplicate", None, shorten(text)) for row, text in body.texts(copies).items()])


def alike(data: bytes, first: int, again: int, dialect: Dialect) -> bool:
    """Tell whether the tables of a text begin alike.

    Args:
        data: The text, or as much of it as tells.
        first: Where the first record is.
        again: Where the header comes again.
        dialect: How both are written.
    """
    parts = (data[first : min(again, first + SAMPLE)], data[again : again + SAMPLE])
    first_rows, later = ([tuple(row) for _, row in split_records(part, dialect)] for part in parts)
    return any(True for _ in _copies([*first_rows, *later], [len(first_rows)]))


class Watch:
    """Look for a second header in blocks as they pass.

    Args:
        names: What is in the header.
        header: Its text; empty where no names are known that could come again.
        dialect: How it is written.
        encoding: Of the blocks.

    Attributes:
        place: Where it begins in the file; None where none was seen.
    """

    def __init__(self, names: Sequence[str], header: str, dialect: Dialect, encoding: str) -> None:
        quote = dialect.quote or ""
        spelled = {header, *(dialect.delimiter.join(q + name + q for name in names) for q in ("", quote))}
        self._needles = [b"\n" + text.encode(encoding, errors="replace") for text in spelled if header]
        self.place: int | None = None

    def over(self, blocks: Iterable[bytes], offset: int) -> Iterator[bytes]:
        """Yield blocks as they come, the first of them at `offset`."""
        longest = max(map(len, self._needles), default=1)
        tail = b""
        for block in blocks:
            if self.place is None:
                seam = tail + block[: longest - 1]
                places = [at - len(tail) for needle in self._needles if (at := seam.find(needle)) >= 0]
                places += [at for needle in self._needles if (at := block.find(needle)) >= 0]
                self.place = offset + min(places) + 1 if places else None
                tail = (tail + block[-longest:])[-longest:]
            offset += len(block)
            yield block


def _copies(texts: Sequence[Record], heads: Sequence[int]) -> Iterator[int]:
    """Yield the numbers of records that an earlier table has."""
    bounds = [-1, *heads, len(texts)]
    tables = [range(low + 1, high) for low, high in pairwise(bounds) if high > low + 1]
    seen: Counter[Record] = Counter()
    for table in tables:
        here = Counter(texts[i] for i in table)
        left, enough = here & seen, _NEARLY_ALL * len(table)
        if len(table) >= _FEWEST and left.total() >= enough and len(here) >= enough:
            for i in table:
                if left[texts[i]] > 0:
                    left[texts[i]] -= 1
                    yield i
        seen |= here
