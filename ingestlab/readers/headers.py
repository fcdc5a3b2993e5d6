"""The header line of delimited text: the names of its columns."""

from __future__ import annotations

import codecs
import csv
from collections.abc import Sequence

from ingestlab.errors import TerminalError
from ingestlab.models import Piece
from ingestlab.readers.bytes import HEAD, text
from ingestlab.readers.cutting import Dialect, first_record
from ingestlab.readers.detection import detect
from ingestlab.storage import Store


def header(line: bytes, dialect: Dialect, name: str) -> tuple[str, ...]:
    """The column names in the header line (UTF-8) of the file `name`; raises TerminalError if it is none."""
    lines = line.decode().splitlines(keepends=True)
    try:
        if dialect.quote is None:
            names = next(csv.reader(lines, delimiter=dialect.delimiter, quoting=csv.QUOTE_NONE), [])
        else:
            names = next(csv.reader(lines, delimiter=dialect.delimiter, quotechar=dialect.quote), [])
    except csv.Error as error:
        raise TerminalError.wrap(error, f"a header line in {name}") from error
    return tuple(names)


def distant_header(piece: Piece, store: Store, dialect: Dialect, encoding: str | None) -> tuple[str, ...]:
    """The column names of a piece that does not hold them itself."""
    size = HEAD
    while True:
        head = store.read(piece.path, 0, min(size, piece.start)).removeprefix(codecs.BOM_UTF8)
        start, stop, _ = first_record(head, dialect)
        if stop < len(head) or size >= piece.start:
            first = piece.model_copy(update={"start": 0})
            return header(text(head[start:stop], encoding or detect(head).name, first), dialect, piece.name)
        size *= 8


def other_delimiter(names: Sequence[str], used: str) -> str:
    """A hint for the commonest cause of one wide column."""
    other = next((c for c in ",;\t|" if c != used and c in names[0]), None) if len(names) == 1 else None
    return "" if other is None else f"The delimiter may be {other!r}: Csv(delimiter={other!r})."
