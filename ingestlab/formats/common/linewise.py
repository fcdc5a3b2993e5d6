"""What readers of line-based text share: cutting at line ends, and records told by their lines."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from ingestlab.core.errors import TerminalError
from ingestlab.core.models import FetchedFile, Piece
from ingestlab.formats.common.bytes import Limits, ascii_based, binary, load_text
from ingestlab.formats.common.compression import compression
from ingestlab.formats.common.cutting import Cut, Ints, Scanner, Spans, cut
from ingestlab.formats.common.detection import UTF8, believed, by_mark, survey
from ingestlab.formats.common.dialects import Dialect
from ingestlab.formats.common.excerpts import excerpts
from ingestlab.formats.common.quoting import scan
from ingestlab.interfaces import LateError, Store
from ingestlab.lake.storage.store import on_disk

LINES = Dialect(quote=None)  # a record ends where its line ends: LF, CRLF or CR; empty lines are none
BLOCK = 32 << 20  # bytes of text that are parsed at once
MAX_TEXT = 2 << 30  # bytes without a place to cut that are taken into memory
_READ = 8 << 20  # bytes held at once while looking for places to cut
_READ_LOCAL = 1 << 18  # of a lake on disk, where a read costs little: they stay in the processor's cache
_LARGE, _MANY = 16 << 20, 8  # bytes and number of pieces of which the last ones are made smaller

Starts = Callable[[pa.Array], Ints]  # of lines, the positions of those that begin a record


class Lined(NamedTuple):
    """Text of a piece, and where its records are in it."""

    data: bytes
    spans: Spans
    facts: dict[str, str]
    damaged: Mapping[int, int] = {}  # numbers of the records with a byte that is no text, and the byte


@dataclass(frozen=True)
class Raw:
    """Source text of records by their numbers, from `first` on."""

    data: bytes
    spans: Spans
    first: int = 0

    def __call__(self, rows: Iterable[int]) -> dict[int, str]:
        """Return the texts by number without their line ends. The longest are cut."""
        texts = excerpts(self.data, self.spans, (int(row) - self.first for row in rows))
        return {i + self.first: text for i, text in texts.items()}


def whole_file(file: FetchedFile) -> Piece:
    """Make one piece of a file."""
    said = {} if file.charset is None else {"charset": file.charset}
    return Piece(uri=file.uri, path=file.path, name=file.name, sha256=file.sha256, settled=said)


def check_encoding(encoding: str | None) -> None:
    """Raise TerminalError for an encoding that Python does not know."""
    try:
        "".encode(encoding or "utf-8")  # also raises for codecs that are no text, such as 'hex'
    except LookupError:
        problem, fix = "Not an encoding that Python knows", "E.g. 'utf-8', 'cp1252'."
        raise TerminalError(problem, got=repr(encoding), fix=fix, code="reader_invalid") from None


def load_lines(piece: Piece, store: Store, encoding: str | None, limits: Limits, starts: Starts | None = None) -> Lined:
    """Load the records of a piece.

    Raises:
        TerminalError: It is empty, damaged, binary, not in the declared encoding, or too long to be held.
    """
    size = (store.size(piece.path) if piece.stop is None else piece.stop) - piece.start
    if size > MAX_TEXT:
        raise _endless(piece.name)
    data, facts, damage = load_text(piece, store, encoding, limits)
    spans = scan(data, LINES, 0, len(data))
    if not len(spans.starts) and not piece.start:
        raise TerminalError(
            f"There are no records in {piece.name}",
            got="empty lines alone (0 records)",
            fix="See what the producer left out.",
            code="no_rows",
        )
    if starts is not None:
        spans = _join_lines(spans, _marked(data, spans, starts))
    alone = piece.start == 0 and piece.stop is None
    return Lined(data, spans, facts, {} if damage is None else damage.records(spans, alone=alone))


def split_lines(
    file: FetchedFile, store: Store, size: int, encoding: str | None, starts: Starts | None = None
) -> list[Piece]:
    """Cut a file into pieces of about `size` bytes. Row numbers are exact.

    Small and compressed files, and those in encodings such as UTF-16, stay whole. The file is scanned once,
    in constant memory.

    Args:
        file: What to cut.
        store: Where it is.
        size: Bytes of a piece, about.
        encoding: Of the text; None where it is to be detected.
        starts: Which lines begin a record; None where all do. The first line always does.
    """
    whole, encoding = divisible(file, store, size, encoding)
    if encoding is None:
        return [whole]
    if starts is None:
        return list(cut_at(whole, _cut_lines(file, store, size)))
    step, cuts = even_step(file.size, size), []
    records, multiple = 0, 1
    for begins in _record_starts(store, file, starts):
        last = int(begins[-1]) // step
        targets = np.arange(multiple, last + 1, dtype=np.int64) * step
        places = np.unique(np.searchsorted(begins, targets)).tolist()
        cuts += [Cut(int(begins[i]), records + i) for i in places if records + i]
        records, multiple = records + begins.size, max(multiple, last + 1)
    return list(cut_at(whole, cuts))


def split_lines_early(file: FetchedFile, store: Store, size: int, encoding: str | None) -> Iterator[Piece]:
    """Yield the pieces of `split_lines`, each as early as it is known.

    Args:
        file: What to cut.
        store: Where it is.
        size: Bytes of a piece, about.
        encoding: Of the text.

    Raises:
        LateError: The file stays whole, or its encoding is to be detected.
    """
    if encoding is None:
        raise LateError
    whole, cuttable = divisible(file, store, size, encoding)
    if cuttable is None:
        raise LateError
    yield from cut_at(whole, _cut_lines(file, store, size))


def _cut_lines(file: FetchedFile, store: Store, size: int) -> Iterator[Cut]:
    return cut(read_blocks(store, file.path, file.size), LINES, 0, targets(file.size, size), 0)


def divisible(file: FetchedFile, store: Store, size: int, encoding: str | None) -> tuple[Piece, str | None]:
    """Tell whether a file can be cut at its line ends.

    Returns:
        All of the file as one piece. If it can be cut also its encoding, which the piece knows where it was detected.
    """
    whole = whole_file(file)
    if file.size <= 1.5 * size:
        return whole, None
    head = store.read(file.path, 0, min(file.size, 512))
    if compression(head) or (binary(head) and not by_mark(head)):
        return whole, None
    if encoding is None:
        sight, hint = survey(read_blocks(store, file.path, file.size)), file.charset
        if hint is not None and sight != UTF8:
            sight = believed(hint, read_blocks(store, file.path, file.size)) or sight
        whole, encoding = whole.model_copy(update={"settled": {**whole.settled, **sight.settled}}), sight.name
    return whole, encoding if ascii_based(encoding) else None


def even_step(total: int, size: int) -> int:
    """Return the bytes of equal pieces of about `size`."""
    return -(-total // round(total / size))


def targets(total: int, size: int) -> list[int]:
    """Return offsets near which to cut a file evenly.

    The last of many large pieces are smaller, so that those who share the work end together.
    """
    step = even_step(total, size)
    offsets = list(range(step, total, step))
    if step < _LARGE or len(offsets) + 1 < _MANY:
        return offsets
    last = offsets.pop()  # two pieces become two halves and four quarters
    half, quarter = last - step // 2, (total - last) // 4
    return [*offsets, half, last, *(last + quarter * i for i in (1, 2, 3))]


def cut_at(whole: Piece, cuts: Iterable[Cut]) -> Iterator[Piece]:
    """Cut a file, given as one piece. Each piece comes as soon as its end is known."""
    start = Cut(0, 0)
    for stop in cuts:
        yield whole.model_copy(update={"start": start.offset, "stop": stop.offset, "first_row": start.records})
        start = stop
    yield whole.model_copy(update={"start": start.offset, "stop": None, "first_row": start.records})


def read_blocks(store: Store, path: str, size: int, begin: int = 0) -> Iterator[bytes]:
    """Read a file of `size` bytes in blocks, from `begin` on."""
    step = min(_READ, _READ_LOCAL) if on_disk(store) else _READ
    return (store.read(path, at, min(at + step, size)) for at in range(begin, size, step))


def blocks(spans: Spans) -> Iterator[tuple[int, Spans]]:
    """Yield runs of records of about `BLOCK` bytes. Each comes with its first number."""
    first, count = 0, len(spans.starts)
    while first < count:
        last = max(first + 1, int(np.searchsorted(spans.ends, spans.starts[first] + BLOCK, side="right")))
        yield first, Spans(spans.starts[first:last], spans.ends[first:last])
        first = last


def lines_of(data: bytes, spans: Spans) -> pa.Array:
    """View records as an array of strings that shares memory with `data`. They keep their line ends."""
    if not len(spans.starts):
        return pa.array([], pa.string())
    begin, end = int(spans.starts[0]), int(spans.ends[-1])
    offsets = np.append(spans.starts, end) - begin
    small = end - begin < 1 << 31
    kind = pa.string() if small else pa.large_string()
    buffers = [None, pa.py_buffer(offsets.astype(np.int32 if small else np.int64)), pa.py_buffer(data)[begin:end]]
    return pa.Array.from_buffers(kind, len(spans.starts), buffers)


def without(data: bytes, spans: Spans, numbers: Ints) -> bytes:
    """Return the text of records less some of them (ascending numbers)."""
    if not len(spans.starts):
        return b""
    if not numbers.size and spans.starts[0] == 0 and spans.ends[-1] == len(data):
        return data  # the usual case: nothing is copied
    view = memoryview(data)
    begins = [int(spans.starts[0]), *spans.ends[numbers].tolist()]
    ends = [*spans.starts[numbers].tolist(), int(spans.ends[-1])]
    return b"".join([view[a:b] for a, b in zip(begins, ends, strict=True)])


def only(data: bytes, spans: Spans, numbers: Ints) -> tuple[bytes, Spans]:
    """Copy some records (ascending numbers). Returns their text, and where they are in it."""
    starts, ends = spans.starts[numbers], spans.ends[numbers]
    view = memoryview(data)
    text = b"".join([view[a:b] for a, b in zip(starts.tolist(), ends.tolist(), strict=True)])
    after = np.cumsum(ends - starts)
    return text, Spans(after - (ends - starts), after)


def _join_lines(spans: Spans, begins: Ints) -> Spans:
    """Join lines to records that begin at `begins`, ascending from 0."""
    if not begins.size:
        return spans
    return Spans(spans.starts[begins], np.append(spans.ends[begins[1:] - 1], spans.ends[-1]))


def _marked(data: bytes, spans: Spans, starts: Starts) -> Ints:
    """Find the lines that begin records."""
    firsts = [starts(lines_of(data, part)) + first for first, part in blocks(spans)]
    if not firsts:
        return np.empty(0, np.int64)
    return np.union1d(np.zeros(1, np.int64), np.concatenate(firsts))


def _record_starts(store: Store, file: FetchedFile, starts: Starts) -> Iterator[Ints]:
    """Yield the offsets of lines that begin records, block by block."""
    scanner = Scanner(LINES)
    begun, offset, held = False, 0, b""  # `held` are the bytes from `offset` on, of lines that have not ended
    for at in [*range(0, file.size, _READ), file.size]:
        block = store.read(file.path, at, min(at + _READ, file.size)) if at < file.size else b""
        spans = scanner.feed(block) if block else scanner.finish()
        held += block
        if len(held) > MAX_TEXT:
            raise _endless(file.name)
        if not len(spans.starts):
            continue
        begins = spans.starts
        marked = starts(lines_of(held, Spans(begins - offset, spans.ends - offset)))
        begins = begins[marked if begun else np.union1d(np.zeros(1, np.int64), marked)]
        if begins.size:
            begun = True
            yield begins
        held, offset = held[int(spans.ends[-1]) - offset :], int(spans.ends[-1])


def _endless(name: str) -> TerminalError:
    return TerminalError(
        f"There are no records in {name} that fit into memory",
        got=f"more than {MAX_TEXT:,} bytes with no place to cut",
        code="limit_exceeded",
        fix="See whether the file has line ends; compressed text is cut by its producer.",
    )
