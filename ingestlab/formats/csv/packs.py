"""Many small files in one call of the parser, whose fixed cost is most of what a small file takes."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Protocol

import numpy as np

from ingestlab.core.errors import TerminalError, attempt
from ingestlab.core.models import Piece
from ingestlab.formats.common.cutting import Ints
from ingestlab.formats.csv.body import Body
from ingestlab.interfaces import Records, Store

SMALL = 1 << 20  # bytes; to a larger file the fixed cost is nothing

Read = Records | TerminalError


@dataclass(frozen=True, slots=True)
class Opened:
    """The text of a piece: its records, the columns of its header, and what was found out on the way."""

    body: Body
    names: tuple[str, ...]
    facts: Mapping[str, str] = field(default_factory=dict)
    damaged: Mapping[int, int] = field(default_factory=dict)  # records with a byte that is no text, and the byte


class TextReader(Protocol):
    """What is needed of a reader: the three parts of reading one piece."""

    def open_text(self, piece: Piece, store: Store) -> Opened:
        """Load the text of a piece."""
        ...

    def read_text(self, opened: Opened, piece: Piece) -> Records:
        """Parse a text. Each file's records are read in the same way whatever else is in it."""
        ...

    def finish(self, records: Records, opened: Opened, piece: Piece) -> Records:
        """Apply what depends on the file as a whole."""
        ...


def read_pack(reader: TextReader, pieces: Sequence[Piece], store: Store) -> list[Read]:
    """Read pieces as if one by one, small files together.

    Args:
        reader: Reads each column in the same way whatever else is in the file.
        pieces: What to read.
        store: Where it is.

    Returns:
        For each piece, in their order: its records, or its error.
    """
    results: dict[int, Read] = {}
    groups: dict[tuple[object, ...], dict[int, Opened]] = {}
    for place, piece in enumerate(pieces):
        opened = attempt(reader.open_text, piece, store)
        if isinstance(opened, TerminalError):
            results[place] = opened
        elif (
            len(opened.body.data) > SMALL or opened.damaged or opened.body.quoted or not opened.body.dialect.plain
        ):  # an open quote would reach into the next file
            results[place] = attempt(_read_one, reader, opened, piece)
        else:
            groups.setdefault((opened.names, opened.body.dialect, opened.body.header), {})[place] = opened
    for group in groups.values():
        results |= _read_group(reader, group, pieces)
    return [results[place] for place in range(len(pieces))]


def _read_group(reader: TextReader, group: dict[int, Opened], pieces: Sequence[Piece]) -> dict[int, Read]:
    """Read texts with the same columns together. One by one where that fails."""
    if len(group) > 1:
        first, *_ = group.values()
        body, begins = _join([opened.body for opened in group.values()])
        whole = pieces[next(iter(group))].model_copy(update={"start": 0, "stop": None, "first_row": 0})
        records = attempt(reader.read_text, Opened(body, first.names), whole)
        firsts = np.searchsorted(body.spans.starts, begins)  # which parsing has found on its way
        if not isinstance(records, TerminalError) and _complete(records, firsts):
            parts = _split(records, firsts, [pieces[place] for place in group])
            return {
                place: attempt(reader.finish, replace(part, facts=group[place].facts), group[place], pieces[place])
                for place, part in zip(group, parts, strict=True)
            }
    return {place: attempt(_read_one, reader, opened, pieces[place]) for place, opened in group.items()}


def _read_one(reader: TextReader, opened: Opened, piece: Piece) -> Records:
    return reader.finish(reader.read_text(opened, piece), opened, piece)


def _join(bodies: Sequence[Body]) -> tuple[Body, Ints]:
    """Concatenate bodies. Also return where each begins, and where the last one ends."""
    texts = [body.data[body.begin : body.end] for body in bodies]
    data = b"".join([text if text.endswith(b"\n") else text + b"\n" for text in texts])
    joined = replace(bodies[0], data=data, begin=0, end=len(data))
    return joined, np.cumsum([0, *(len(text) + (not text.endswith(b"\n")) for text in texts)])


def _complete(records: Records, firsts: Ints) -> bool:
    """Tell whether every file has records, as many as the scanner saw."""
    count = len(records.rows) + len({bad.row for bad in records.bad})
    return count == firsts[-1] and bool((np.diff(firsts) > 0).all())


def _split(records: Records, firsts: Ints, pieces: Sequence[Piece]) -> Iterator[Records]:
    """Yield the records of each piece, numbered as in its file."""
    cuts = np.searchsorted(records.rows, firsts).tolist()
    numbers = [bad.row for bad in records.bad]
    for k, (piece, first, last) in enumerate(zip(pieces, firsts[:-1].tolist(), firsts[1:].tolist(), strict=True)):
        low, high, shift = cuts[k], cuts[k + 1], piece.first_row - first
        bad = records.bad[bisect_left(numbers, first) : bisect_left(numbers, last)]
        yield Records(
            records.table.slice(low, high - low),
            records.rows[low:high] + shift,
            tuple(b.at(b.row + shift) for b in bad),
            partial(_raw, records.raw, shift),
        )


def _raw(raw: Callable[[Iterable[int]], dict[int, str]], shift: int, rows: Iterable[int]) -> dict[int, str]:
    return {row + shift: text for row, text in raw(int(row) - shift for row in rows).items()}
