"""What readers of line-based text share: cutting at line ends, and records told by their lines."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from ingestlab.errors import TerminalError
from ingestlab.models import FetchedFile, Piece
from ingestlab.readers.bytes import ascii_based, binary, compression
from ingestlab.readers.cutting import Dialect, Ints, Scanner, Spans
from ingestlab.readers.detection import by_mark
from ingestlab.readers.parsing import Body
from ingestlab.storage import Store

LINES = Dialect(quote=None)  # a record ends where its line ends: LF, CRLF or CR; empty lines are none
BLOCK = 32 << 20  # bytes of text that are parsed at once
_READ = 8 << 20  # bytes held at once while looking for places to cut

Starts = Callable[[pa.Array], Ints]


def whole(file: FetchedFile) -> Piece:
    """A file as one piece."""
    return Piece(uri=file.uri, path=file.path, name=file.name, sha256=file.sha256)


def check_encoding(encoding: str | None) -> None:
    """Raises TerminalError for an encoding that Python does not know."""
    try:
        codecs.lookup(encoding or "utf-8")
    except LookupError:
        raise TerminalError("an encoding that Python knows", repr(encoding), "E.g. 'utf-8', 'cp1252'.") from None


def split_lines(
    file: FetchedFile, store: Store, size: int, encoding: str | None, starts: Starts | None = None
) -> list[Piece]:
    """Cuts a file before lines into pieces of about `size` bytes, with exact row numbers.

    Small and compressed files, and those in encodings such as UTF-16, stay whole. The file is scanned once,
    in constant memory.

    Args:
        file: What to cut.
        store: Where it is.
        size: Bytes of a piece, about.
        encoding: Of the text; None where it is to be detected.
        starts: For an array of lines, the positions of those that begin a record; None where all do.
    """
    one = whole(file)
    if file.size <= 1.5 * size or not ascii_based(encoding or "utf-8"):
        return [one]
    head = store.read(file.path, 0, min(file.size, 512))
    if compression(head) or binary(head) or by_mark(head):
        return [one]
    step = -(-file.size // round(file.size / size))  # pieces of equal sizes: no crumb at the end
    pieces = [one]
    records, multiple = 0, 1
    for begins in _record_starts(store, file, starts):
        last = int(begins[-1]) // step
        targets = np.arange(multiple, last + 1, dtype=np.int64) * step
        for i in np.unique(np.searchsorted(begins, targets)).tolist():
            if records + i:  # what lies before the first record belongs to it
                at = int(begins[i])
                pieces[-1] = pieces[-1].model_copy(update={"stop": at})
                pieces.append(one.model_copy(update={"start": at, "first_row": records + i}))
        records, multiple = records + begins.size, max(multiple, last + 1)
    return pieces


def blocks(spans: Spans) -> Iterator[tuple[int, int]]:
    """Runs of records, as (first, last + 1), of about `BLOCK` bytes."""
    first, count = 0, len(spans.starts)
    while first < count:
        last = int(np.searchsorted(spans.ends, spans.starts[first] + BLOCK, side="right"))
        yield first, (last := max(first + 1, last))
        first = last


def lines_of(data: bytes, spans: Spans) -> pa.Array:
    """Records as an array of strings that shares its memory with `data`; they keep their line ends."""
    if not len(spans.starts):
        return pa.array([], pa.string())
    begin = int(spans.starts[0])
    offsets = np.append(spans.starts, spans.ends[-1]) - begin
    text = pa.py_buffer(data).slice(begin, int(spans.ends[-1]) - begin)
    small = text.size < 1 << 31
    kind = pa.string() if small else pa.large_string()
    buffer = pa.py_buffer(offsets.astype(np.int32 if small else np.int64))
    return pa.Array.from_buffers(kind, len(spans.starts), [None, buffer, text])


@dataclass(frozen=True)
class Raw:
    """The source text of records by their numbers in the file."""

    body: Body
    first: int = 0

    def __call__(self, rows: Iterable[int]) -> dict[int, str]:
        found = self.body.texts(int(row) - self.first for row in rows)
        return {number + self.first: text for number, text in found.items()}


def _record_starts(store: Store, file: FetchedFile, starts: Starts | None) -> Iterator[Ints]:
    """Offsets of the lines that begin records, block by block of the file."""
    scanner = Scanner(LINES)
    tail = b""
    at = 0
    while at < file.size:
        block = store.read(file.path, at, min(at + _READ, file.size))
        spans = scanner.feed(block)
        at += len(block)
        held = tail + block
        yield from _chosen(held, at - len(held), spans, starts)
        done = int(spans.ends[-1]) if spans.ends.size else at - len(held)
        tail = held[done - (at - len(held)) :] if starts else b""
    yield from _chosen(tail, file.size - len(tail), scanner.finish(), starts)


def _chosen(held: bytes, offset: int, spans: Spans, starts: Starts | None) -> Iterator[Ints]:
    if not len(spans.starts):
        return
    begins = spans.starts
    if starts is not None:
        begins = begins[starts(lines_of(held, Spans(spans.starts - offset, spans.ends - offset)))]
    if begins.size:
        yield begins


def joined(spans: Spans, begins: Ints) -> Spans:
    """Lines put together to records that begin with the given ones (ascending line numbers)."""
    if not len(spans.starts) or not begins.size:
        return spans if not len(spans.starts) else Spans(spans.starts[:1], spans.ends[-1:])
    first = begins if begins[0] == 0 else np.insert(begins, 0, 0)
    return Spans(spans.starts[first], np.append(spans.ends[first[1:] - 1], spans.ends[-1]))


