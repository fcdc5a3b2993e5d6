"""Zip and tar archives: each member is read as a file of its own, the archive is the source.

Nothing is unpacked to disk, and a member's name is never used as a path.
"""

from __future__ import annotations

import io
import lzma
import struct
import tarfile
import zipfile
import zlib
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from ingestlab.errors import TerminalError
from ingestlab.models import FetchedFile, Piece
from ingestlab.pipeline import Bad, DriftReader, Reader, Records, SchemaDrift
from ingestlab.readers.bytes import Limits, binary, unpack
from ingestlab.readers.columns import listed
from ingestlab.readers.linewise import whole
from ingestlab.storage import Store

MAX_MEMBERS = 10_000
_STEP = 1 << 20
_ENCRYPTED = 0x1  # a bit of the flags of a zip's member
_END = bytes(1024)  # what closes a tar
_BROKEN = (  # what the standard library raises on damage
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    OSError,
    ValueError,
    NotImplementedError,
)


@dataclass(frozen=True, kw_only=True)
class Archive:
    """Reads the members of zip and tar archives (the latter also as .tar.gz, .bz2, .xz or .zst).

    The archive is one source: it is committed or fails as a whole, with the name of the member that is at
    fault, and `_row` counts through all members in their order. Archives in archives are not followed.

    Attributes:
        reader: Reads each member, e.g. ``Csv(columns={...})``; members may be compressed themselves.
        members: Shell patterns of the names to read, e.g. ``"*.csv"``; others are passed over, and counted
            among the facts of the file.
        column: The column that gets each row's member name; None for none.
        max_members: Most members in an archive.
        limits: How far all members together may grow.
    """

    reader: Reader
    members: str | Sequence[str] = "*"
    column: str | None = "member"
    max_members: int = MAX_MEMBERS
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        if not isinstance(self.members, str):
            object.__setattr__(self, "members", tuple(self.members))

    def drifting(self, word: SchemaDrift) -> Archive:
        """The same reader under a pipeline's `schema_drift`."""
        if not isinstance(self.reader, DriftReader):
            wanted = "a reader that knows schema_drift in Archive"
            raise TerminalError(wanted, type(self.reader).__name__, "Leave schema_drift out.")
        return replace(self, reader=self.reader.drifting(word))

    def split(self, file: FetchedFile, store: Store, size: int) -> list[Piece]:  # noqa: ARG002 - as all readers do
        """An archive stays whole."""
        return [whole(file)]

    def read(self, piece: Piece, store: Store) -> Records:
        """Reads all members that match.

        Raises:
            TerminalError: It is no archive, damaged, a bomb, encrypted, or without a member that matches;
                names a member twice; or a member is not what `reader` reads.
        """
        found, skipped = [], 0
        for name, data in self._opened(piece, store):
            if data is None:
                skipped += 1
                continue
            one = piece.model_copy(update={"name": f"{piece.name}!/{name}"})
            found.append((name, self._member(one, name, data)))
        if not found:
            wanted = f"members of {piece.name} that match {listed(self._patterns)}"
            raise TerminalError(wanted, f"none ({skipped:,} others)", "See what the producer packed.")
        return _joined([records for _, records in found], len(found), skipped, piece.name)

    @property
    def _patterns(self) -> tuple[str, ...]:
        return (self.members,) if isinstance(self.members, str) else tuple(self.members)

    def _member(self, piece: Piece, name: str, data: bytes) -> Records:
        what = binary(data[:512]) or ""
        if "archive" in what and "Excel" not in what:
            raise TerminalError(f"a plain file in {piece.name}", what, "Archives in archives are not followed.")
        records = self.reader.read(piece, _Held(data))
        if self.column is None:
            return records
        if self.column in records.table.column_names:
            wanted = f"no column '{self.column}' in {piece.name}, which the member's name gets"
            raise TerminalError(wanted, "one of that name", "Give Archive another `column`.")
        names = pa.repeat(pa.scalar(name, pa.string()), len(records.table))
        return replace(records, table=records.table.append_column(self.column, names))

    def _opened(self, piece: Piece, store: Store) -> Iterator[tuple[str, bytes | None]]:
        """Names and contents of all members that are files, None for those that do not match."""
        packed = store.size(piece.path)
        data, _ = unpack(piece, store, self.limits)
        most = min(self.limits.max_expanded_bytes, max(self.limits.floor, self.limits.max_expansion * packed))
        if not data.startswith((b"PK\x03\x04", b"PK\x05\x06")) and data[257:262] != b"ustar":
            got = binary(data[:512]) or f"{data[:8]!r}"
            raise TerminalError(f"a zip or tar archive in {piece.name}", got, "See what the producer sent.")
        try:
            yield from self._contents(data, most, piece.name)
        except _BROKEN as error:
            fix = "Fetch it again from its producer."
            raise TerminalError.wrap(error, f"{piece.name} to be a whole archive", fix) from error

    def _contents(self, data: bytes, most: int, archive: str) -> Iterator[tuple[str, bytes | None]]:
        entries = list(_zip(data) if data.startswith(b"PK") else _tar(data))
        if len(entries) > self.max_members:
            wanted = f"at most {self.max_members:,} members in {archive}"
            raise TerminalError(wanted, f"{len(entries):,}", "Raise max_members if they are meant.")
        matching = Counter(entry.name for entry in entries if self._matches(entry.name))
        twice = [name for name, times in matching.items() if times > 1]
        if twice:
            raise TerminalError(f"each member of {archive} once", f"twice {listed(twice)}", "Pack it anew.")
        left = most
        for entry in entries:
            if not self._matches(entry.name):
                yield entry.name, None
                continue
            if entry.flaw:
                wanted = f"plain members in {archive}"
                raise TerminalError(wanted, f"{entry.flaw}, {listed([entry.name])}", "Pack it as plain files.")
            content = _bounded(entry, left, archive, most)
            left -= len(content)
            yield entry.name, content

    def _matches(self, name: str) -> bool:
        base = name.rsplit("/", 1)[-1]
        return any(fnmatchcase(name, p) or fnmatchcase(base, p) for p in self._patterns)


class _Entry(NamedTuple):
    """A member that is a file, or pretends to be one."""

    name: str
    open: Any  # gives a binary stream
    flaw: str = ""


class _Held:
    """A store with one file in it, whatever it is called."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def read(self, _path: str, start: int = 0, stop: int | None = None) -> bytes:
        return self._data[start:stop]

    def size(self, _path: str) -> int:
        return len(self._data)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"a member of an archive can be read only, not: {name}")


def _zip(data: bytes) -> Iterator[_Entry]:
    packed = zipfile.ZipFile(io.BytesIO(data))
    for info in packed.infolist():
        if info.is_dir():
            continue
        flaw = "an encrypted one" if info.flag_bits & _ENCRYPTED else ""
        yield _Entry(info.filename, lambda info=info: packed.open(info), flaw)


def _tar(data: bytes) -> Iterator[_Entry]:
    if not data.endswith(_END):
        raise EOFError("truncated: its closing blocks are missing")
    packed = tarfile.TarFile(fileobj=io.BytesIO(data))
    for info in packed:
        if info.isdir():
            continue
        flaw = "" if info.isreg() else "a link or device"
        yield _Entry(info.name, lambda info=info: packed.extractfile(info), flaw)


def _bounded(entry: _Entry, left: int, archive: str, most: int) -> bytes:
    """A member's bytes; what its header says of its size is not believed."""
    chunks: list[bytes] = []
    with entry.open() as stream:
        while chunk := stream.read(_STEP):
            chunks.append(chunk)
            left -= len(chunk)
            if left < 0:
                raise TerminalError(
                    f"the members of {archive} to expand to at most {most:,} bytes",
                    "more than that, as a decompression bomb does",
                    "If the file is genuine, raise max_expanded_bytes or max_expansion in Archive's limits.",
                )
    return b"".join(chunks)


@dataclass(frozen=True)
class _Raw:
    """The source text of records of all members; `firsts` are the numbers of each one's first record."""

    parts: tuple[Records, ...]
    firsts: tuple[int, ...]

    def __call__(self, rows: Iterable[int]) -> dict[int, str]:
        wanted: dict[int, list[int]] = {}
        for row in rows:
            k = bisect_right(self.firsts, int(row)) - 1
            wanted.setdefault(k, []).append(int(row) - self.firsts[k])
        return {
            row + self.firsts[k]: text
            for k, numbers in wanted.items()
            for row, text in self.parts[k].raw(numbers).items()
        }


def _joined(parts: Sequence[Records], members: int, skipped: int, archive: str) -> Records:
    """The records of all members, numbered through."""
    counts = [len(p.rows) + len({b.row for b in p.bad}) for p in parts]
    firsts = [0, *np.cumsum(counts[:-1]).tolist()] if len(counts) > 1 else [0]
    try:
        table = pa.concat_tables([p.table for p in parts], promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise TerminalError.wrap(error, f"members of {archive} whose columns fit together", "Declare them.") from error
    bad = [Bad(b.row + first, b.rule, b.column, b.value) for p, first in zip(parts, firsts, strict=True) for b in p.bad]
    discarded: Counter[str] = Counter()
    for part in parts:
        discarded.update(part.discarded)
    facts = {"members": str(members)} | ({"skipped": str(skipped)} if skipped else {})
    for name in sorted({name for part in parts for name in part.facts}):
        facts[name] = ", ".join(dict.fromkeys(part.facts[name] for part in parts if name in part.facts))
    rows = np.concatenate([part.rows + first for part, first in zip(parts, firsts, strict=True)])
    return Records(table, rows, tuple(bad), _Raw(tuple(parts), tuple(firsts)), facts, dict(discarded))
