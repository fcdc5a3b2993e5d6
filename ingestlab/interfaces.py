"""The doors: what a store, a format and a sink have to do."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import pyarrow as pa

from ingestlab.core.errors import TerminalError
from ingestlab.core.models import FetchedFile, Part, Piece

SchemaDrift = Literal["evolve", "freeze", "discard_row", "discard_value"]


class Store(Protocol):
    """What the rest of ingestlab needs of a lake."""

    url: str

    def read(self, path: str, start: int = 0, stop: int | None = None) -> bytes:
        """The bytes of a file, or a range of them; raises FileNotFoundError."""
        ...

    def read_files(self, paths: Sequence[str]) -> Iterator[bytes | None]:
        """The bytes of files in order, many at a time where the store can; None for one that is not there."""
        ...

    def write(self, path: str, data: bytes | memoryview) -> None:
        """Writes a file so that its name appears only when it is whole and on disk."""
        ...

    def create(self, path: str, data: bytes | memoryview) -> bool:
        """Writes a file unless one of this name exists, as the store decides; tells whether it did."""
        ...

    def adopt(self, local: Path, path: str) -> None:
        """Moves a finished local file (from `scratch`) into the lake."""
        ...

    def move(self, source: str, target: str) -> None:
        """Gives a file another name, replacing what is there; done already is no error."""
        ...

    def delete(self, path: str) -> None:
        """Removes a file or a folder with all in it; nothing there is no error."""
        ...

    def delete_files(self, paths: Iterable[str]) -> None:
        """Removes files, many at a time where the store can; one that is not there is no error."""
        ...

    def exists(self, path: str) -> bool:
        """Whether there is a file of this name."""
        ...

    def size(self, path: str) -> int:
        """Bytes in a file; raises FileNotFoundError."""
        ...

    def walk(self, folder: str) -> Iterator[str]:
        """All files below a folder, sorted; none if it does not exist."""
        ...

    def children(self, folder: str) -> list[str]:
        """The names of the files and folders right in a folder, sorted; none if it does not exist."""
        ...

    def scratch(self) -> Path:
        """A local folder for files that are being made."""
        ...

    def tidy(self, older: float) -> int:
        """Removes what is left in `scratch` of processes that died `older` seconds ago; gives the number."""
        ...

    def full(self, path: str) -> str:
        """The path as other tools take it: absolute, or a URL."""
        ...


@dataclass(frozen=True, slots=True)
class Bad:
    """One source record that could not be read as declared."""

    row: int  # number of the record in its file, from 0; the header is not counted
    rule: str  # "columns", "type", "field_size", …
    column: str | None
    value: str | None


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


class Reader(Protocol):
    """Makes Arrow tables of the files of one format.

    One that runs a model may have an attribute `resources`: what it would like of a Dask worker, e.g. ``{"GPU": 1}``.
    """

    def split(self, file: FetchedFile, store: Store, size: int) -> Sequence[Piece]:
        """Cuts a file between records into pieces of about `size` bytes."""
        ...

    def read(self, piece: Piece, store: Store) -> Records:
        """Reads one piece; raises TerminalError where the file as a whole is not what was declared."""
        ...


def pieces_of(file: FetchedFile, reader: Reader, store: Store, size: int) -> tuple[Piece, ...]:
    """The pieces of a file, each with the charset that its server named as ``settled["charset"]``."""
    pieces = tuple(reader.split(file, store, size))
    if not file.charset:
        return pieces
    return tuple(p.model_copy(update={"settled": {"charset": file.charset, **p.settled}}) for p in pieces)


@runtime_checkable
class PackReader(Reader, Protocol):
    """A reader that is faster at many small files together."""

    def read_all(self, pieces: Sequence[Piece], store: Store) -> list[Records | TerminalError]:
        """For each piece, in their order: its records, or the error that `read` would raise."""
        ...


@runtime_checkable
class DriftReader(Reader, Protocol):
    """A reader that knows what to do with data that its declaration does not know."""

    def drifting(self, word: SchemaDrift) -> Reader:
        """The same reader under one of the four words."""
        ...


class Sink(Protocol):
    """What commit and process need of a place for rows."""

    def stage(self, name: str, table: pa.Table, folders: Sequence[str] = ()) -> list[Part]:
        """Writes a table, one part for each combination of values of the columns `folders`."""
        ...

    def publish(self, part: Part) -> None:
        """Makes a staged part visible under its target; visible already is no error."""
        ...

    def discard(self, part: Part) -> None:
        """Removes a part, staged or published; gone already is no error."""
        ...

    def read(self, parts: Iterable[Part]) -> pa.Table:
        """The rows of published parts; columns that only some parts have are null elsewhere."""
        ...
