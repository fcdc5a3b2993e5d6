"""Zip and tar archives: each member is a file of its own, which another reader reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from unicodedata import normalize

import pyarrow as pa

from ingestlab.core.archive_uri import member_name
from ingestlab.core.errors import TerminalError, attempt
from ingestlab.core.models import FetchedFile, Piece
from ingestlab.formats.common.bytes import Limits
from ingestlab.formats.common.excerpts import listed
from ingestlab.formats.common.linewise import whole_file
from ingestlab.interfaces import DriftReader, Format, PackReader, Records, SchemaDrift, Store

MAX_MEMBERS = 10_000


@dataclass(frozen=True, kw_only=True)
class Archive:
    """Read the members of zip and tar archives. Tar may be compressed (.tar.gz, .bz2, .xz, .zst).

    Each member is a source of its own, such as ``zip://day1/a.csv::https://host/x.zip``: it is committed, unchanged
    or failed by itself, its rows have its URI as their `_source` and are numbered in it, and a big one is read by
    several tasks. With ``write_disposition="replace"`` the rows of members that a changed archive no longer
    has go.

    A member fails alone if it is damaged, encrypted, a link, an archive itself, named twice, or too big together
    with those before it. An archive fails that has too many members, none that matches, or no list of them that
    can be read; and a compressed tar that grows too far or does not match its checksum. Of a tar that is cut off,
    or goes on after its end, the members before are taken. All that failed is tried when the archive is announced
    again. Members that no pattern takes are named as the fact ``archive`` of those that are taken; what macOS adds
    (``__MACOSX``, ``.DS_Store``, AppleDouble files) and folders are no members.

    Attributes:
        reader: Reads each member, e.g. ``Csv(columns={...})``; members may be compressed themselves.
        members: Shell patterns of the names to read, e.g. ``"*.csv"``, of a path in the archive or its last part.
            Case does not matter, nor which slash a name has; the very name of a member is a pattern of it, too.
        column: The column that gets each row's member name; None for none.
        max_members: Most entries in an archive.
        limits: How far all members together may grow.

    Examples:
        >>> from ingestlab import Archive, Csv
        >>> Archive(reader=Csv(), members="*.csv").members
        '*.csv'
    """

    reader: Format
    members: str | Sequence[str] = "*"
    column: str | None = "member"
    max_members: int = MAX_MEMBERS
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        if not isinstance(self.members, str):
            object.__setattr__(self, "members", tuple(self.members))

    @property
    def patterns(self) -> tuple[str, ...]:
        """Return `members` as a tuple."""
        return (self.members,) if isinstance(self.members, str) else tuple(self.members)

    def takes(self, name: str) -> bool:
        """Tell whether a member of this name is to be read.

        Args:
            name: In the archive, with its folders.
        """
        path = _slashed(name)
        base = path.rsplit("/", 1)[-1]
        return any(
            p in (path, base) or fnmatchcase(path, p) or fnmatchcase(base, p) for p in map(_slashed, self.patterns)
        )

    @property
    def resources(self) -> dict[str, float]:
        """Return the Dask resources that `reader` asks for."""
        return dict(getattr(self.reader, "resources", {}))

    def drifting(self, word: SchemaDrift) -> Archive:
        """Return a copy under a pipeline's `schema_drift`."""
        if not isinstance(self.reader, DriftReader):
            problem, got = "Not a reader that knows schema_drift in Archive", type(self.reader).__name__
            raise TerminalError(problem, got=got, fix="Leave schema_drift out.", code="reader_invalid")
        return replace(self, reader=self.reader.drifting(word))

    def split(self, file: FetchedFile, store: Store, size: int) -> Sequence[Piece]:
        """Cut a member as its reader does."""
        return [whole_file(file)] if member_name(file.uri) is None else self.reader.split(file, store, size)

    def read(self, piece: Piece, store: Store) -> Records:
        """Read a member, or a piece of it.

        Raises:
            TerminalError: It is not what `reader` reads, or has a column of the name that `column` says.
        """
        return self._named(self.reader.read(_member(piece), store), piece)

    def read_all(self, pieces: Sequence[Piece], store: Store) -> list[Records | TerminalError]:
        """Read pieces together; see :class:`ingestlab.pipeline.pipeline.PackReader`."""
        if not isinstance(self.reader, PackReader) or any(member_name(p.uri) is None for p in pieces):
            return [attempt(self.read, piece, store) for piece in pieces]
        results = self.reader.read_all(pieces, store)
        return [
            got if isinstance(got, TerminalError) else attempt(self._named, got, piece)
            for got, piece in zip(results, pieces, strict=True)
        ]

    def _named(self, records: Records, piece: Piece) -> Records:
        """Add the column with the member's name."""
        if self.column is None:
            return records
        if self.column in records.table.column_names:
            problem = f"There is a column '{self.column}' in {piece.name}, which the member's name gets"
            got = f"the columns {listed(records.table.column_names)}"
            raise TerminalError(problem, got=got, fix="Set Archive's `column`.", code="columns_conflict")
        names = pa.repeat(pa.scalar(member_name(piece.uri), pa.string()), len(records.table))
        return replace(records, table=records.table.append_column(self.column, names))


def _slashed(name: str) -> str:
    """Normalize a name as patterns are compared.

    Archives that were made on Windows may have its slashes and its cases, those of macOS letters in parts, and a tar
    of a whole folder begins all names with ``./``.
    """
    return normalize("NFC", name).replace("\\", "/").removeprefix("./").casefold()


def _member(piece: Piece) -> Piece:
    if member_name(piece.uri) is None:  # committed by an earlier version, which read an archive as one source
        fix = "Ingest the archive again, with --force."
        problem = f"Not a member of {piece.name}, but the archive as one source"
        raise TerminalError(problem, fix=fix, code="archive_invalid")
    return piece
