"""What a user declares: a reader, a pure cleaning function, a contract, and where the rows go."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import pyarrow as pa

from ingestlab.errors import TerminalError
from ingestlab.models import NAME, FetchedFile, Piece
from ingestlab.storage import Store

COLUMN = r"[^\W\d_]\w*"  # of `partition_by`
WriteDisposition = Literal["append", "replace"]


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
    """

    table: pa.Table
    rows: np.ndarray[Any, np.dtype[np.int64]]
    bad: tuple[Bad, ...] = ()
    raw: Callable[[Iterable[int]], dict[int, str]] = field(default=lambda _rows: {})
    facts: Mapping[str, str] = field(default_factory=dict)


class Reader(Protocol):
    """Makes Arrow tables of the files of one format."""

    def split(self, file: FetchedFile, store: Store, size: int) -> Sequence[Piece]:
        """Cuts a file between records into pieces of about `size` bytes."""
        ...

    def read(self, piece: Piece, store: Store) -> Records:
        """Reads one piece; raises TerminalError where the file as a whole is not what was declared."""
        ...


@runtime_checkable
class PackReader(Reader, Protocol):
    """A reader that is faster at many small files together."""

    def read_all(self, pieces: Sequence[Piece], store: Store) -> list[Records | TerminalError]:
        """For each piece, in their order: its records, or the error that `read` would raise."""
        ...


@dataclass(frozen=True, kw_only=True)
class Pipeline:
    """How the files of one kind become rows of one table.

    Attributes:
        reader: The format, e.g. ``Csv(columns={...})``.
        clean: Frame in, frame out, pure. The index identifies the source row and must be kept: a row that
            is dropped is recorded as a reject, rows made out of one share its index. Frames are pandas on
            Arrow; a function whose argument is annotated as ``polars.DataFrame`` gets that, with the
            source row in the column ``_row``.
        contract: A pandera model or schema. Rows that break it go to the rejects. A check that compares rows,
            such as ``unique``, sees those of one task: one piece of a big file, or some small files.
        table: Name of the table; the pipeline's own name if not given.
        matches: Shell patterns of the file names that this pipeline takes when none is named.
        write_disposition: Whether a changed source adds rows or replaces its earlier ones.
        partition_by: Columns that become folders, ``day=2017-10-23/``. A row that is null there is rejected.
        description: One line for ``ingestlab pipelines``.
    """

    reader: Reader
    clean: Callable[[Any], Any] | None = None
    contract: Any = None
    table: str = ""
    matches: Sequence[str] = ()
    write_disposition: WriteDisposition = "append"
    partition_by: str | Sequence[str] = ()
    description: str = ""
    name: str = ""

    @property
    def folders(self) -> tuple[str, ...]:
        """`partition_by` as a tuple."""
        return (self.partition_by,) if isinstance(self.partition_by, str) else tuple(self.partition_by)

    def named(self, name: str) -> Pipeline:
        """The pipeline under the name of its file.

        Raises:
            TerminalError: The name of its table, or of a column of `partition_by`, cannot be a folder's.
        """
        table = self.table or name
        if not re.fullmatch(NAME, table):
            wanted = f"a table name of letters, digits, '.', '_' and '-' for pipeline '{name}'"
            raise TerminalError(wanted, f"{table!r}", "It becomes a folder's name.")
        for column in self.folders:
            if not re.fullmatch(COLUMN, column):
                wanted = f"columns of letters, digits and '_', a letter first, as partition_by of pipeline '{name}'"
                raise TerminalError(wanted, f"{column!r}", "It becomes a folder's name; readers skip those with a '_'.")
        return replace(self, name=name, table=table)
