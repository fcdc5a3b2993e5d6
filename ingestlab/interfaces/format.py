"""Format: makes Arrow tables of files; entry points of `ingestlab.formats`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from ingestlab.core.errors import TerminalError
from ingestlab.core.models import FetchedFile, Piece
from ingestlab.interfaces.store import Store

if TYPE_CHECKING:  # whoever only asks a queue does without them
    import numpy as np
    import pyarrow as pa

SchemaDrift = Literal["evolve", "freeze", "discard_row", "discard_value"]


@dataclass(frozen=True, slots=True)
class Bad:
    """One source record that could not be read as declared."""

    row: int  # number of the record in its file, from 0; the header is not counted
    rule: str  # "columns", "type", "field_size", …
    column: str | None
    value: str | None

    def at(self, row: int) -> Bad:
        """Give the record another number."""
        return Bad(row, self.rule, self.column, self.value)


@dataclass(frozen=True)
class Records:
    """What a reader made of one piece.

    `table` and `rows` (int64, ascending) have equal lengths: `rows[i]` is the number in the file of the
    record in `table[i]`. A record is in `table` or in `bad`, never in both. `raw` gives the text of
    records by their numbers; where it cannot be told, the number is missing from its answer. `facts` says
    what the reader found out about the file, e.g. ``{"encoding": "cp1252", "compression": "gzip"}``.
    `discarded` counts, by column, values that were left out of records that stay.
    """

    table: pa.Table
    rows: np.ndarray[Any, np.dtype[np.int64]]
    bad: tuple[Bad, ...] = ()
    raw: Callable[[Iterable[int]], dict[int, str]] = field(default=lambda _rows: {})
    facts: Mapping[str, str] = field(default_factory=dict)
    discarded: Mapping[str, int] = field(default_factory=dict)


class Format(Protocol):
    """Make Arrow tables of the files of one format. An object of it is a pipeline's `reader`.

    A class may also have: `suffixes`, of the files that it reads where no pipeline matches, with `generic`, the text
    of the arguments that make it infer what it can; and `resources`, what one that runs a model would like of a
    Dask worker, e.g. ``{"GPU": 1}``.
    """

    def split(self, file: FetchedFile, store: Store, size: int) -> Sequence[Piece]:
        """Cut a file between records into pieces, in order, complete.

        Args:
            file: In the raw zone.
            store: Where it is.
            size: Bytes of a piece, about.

        Raises:
            TerminalError: The file is not what was declared.
        """
        ...

    def read(self, piece: Piece, store: Store) -> Records:
        """Read one piece; twice gives the same.

        Records that cannot be read are `bad`, never an error.

        Args:
            piece: What :meth:`split` made.
            store: Where its file is.

        Returns:
            Its records, and those that cannot be read.

        Raises:
            TerminalError: The file as a whole is not what was declared.
        """
        ...


def pieces_of(file: FetchedFile, reader: Format, store: Store, size: int) -> tuple[Piece, ...]:
    """Split a file. Each piece has the charset that its server named, as ``settled["charset"]``.

    Args:
        file: In the raw zone.
        reader: Splits it.
        store: Where it is.
        size: Bytes of a piece, about.
    """
    pieces = tuple(reader.split(file, store, size))
    if not file.charset:
        return pieces
    return tuple(p.model_copy(update={"settled": {"charset": file.charset, **p.settled}}) for p in pieces)


class LateError(Exception):
    """All of a file decides how it is cut."""


@runtime_checkable
class EarlyReader(Format, Protocol):
    """A reader that cuts a file while it is still being copied."""

    def split_early(self, file: FetchedFile, store: Store, size: int) -> Iterator[Piece]:
        """Yield the pieces of `split`, as early as each is known.

        Args:
            file: Its size is known; what is read of it may take time to come.
            store: Where it is.
            size: Bytes of a piece, about.

        Raises:
            LateError: The file's beginning does not tell, and the pieces that came are of no use.
        """
        ...


@runtime_checkable
class PackReader(Format, Protocol):
    """A reader that is faster at many small files together."""

    def read_all(self, pieces: Sequence[Piece], store: Store) -> list[Records | TerminalError]:
        """For each piece, in their order: its records, or the error that `read` would raise.

        Args:
            pieces: Of one or several files.
            store: Where these are.
        """
        ...


@runtime_checkable
class DriftReader(Format, Protocol):
    """A reader that handles data beyond its declaration."""

    def drifting(self, word: SchemaDrift) -> Format:
        """Return the same reader under one of the four words."""
        ...
