"""The entries of an archive, one after the other.

An archive is read where it is, in little memory: nothing is unpacked to a place that its names choose, and
nothing that it says of its sizes is believed.
"""

from __future__ import annotations

import errno
import io
import lzma
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, Self, cast

from ingestlab.core.archive_uri import Kind
from ingestlab.core.errors import TerminalError
from ingestlab.core.models import FetchedFile
from ingestlab.formats.common.bytes import Limits, binary
from ingestlab.formats.common.compression import Compression, compression, expanding
from ingestlab.interfaces import Store
from ingestlab.lake.storage.store import storage_error

STEP = 1 << 20  # bytes that are read at once
BROKEN = (  # what the standard library raises on damage
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    OSError,
    ValueError,
    ArithmeticError,
    LookupError,
    AssertionError,
    RuntimeError,
)
_APPLE_DOUBLE = b"\x00\x05\x16\x07"
_ENCRYPTED = 0x1  # a bit of the flags of a zip's member
_ENTRY = 512  # bytes of a zip's list for one member, at most in the mean
_HEADER = 1 << 20  # bytes that a tar may say of one member
_BLOCK = 64 << 10


def is_litter(name: str) -> bool:
    """Tell whether a member is a folder, or what macOS adds."""
    *folders, base = name.replace("\\", "/").split("/")
    return not base or base == ".DS_Store" or "__MACOSX" in folders


def is_apple_double(name: str, head: bytes) -> bool:
    """Tell whether a member is what macOS keeps beside a file."""
    return name.replace("\\", "/").rsplit("/", 1)[-1].startswith("._") and head.startswith(_APPLE_DOUBLE)


class Entry(NamedTuple):
    """A member that is, or pretends to be, a file.

    That of a tar must be read before the next.
    """

    name: str
    open: Callable[[], Any]  # gives a binary stream
    flaw: str = ""
    step: int = STEP  # bytes to ask for at once


@dataclass(frozen=True)
class Packed:
    """Open archive; `entries` raises what is in `BROKEN`, or TerminalError."""

    kind: Kind
    compression: Compression | None
    entries: Iterator[Entry]


def most_of(file: FetchedFile, limits: Limits) -> int:
    """Return how many bytes may come out of an archive."""
    return min(limits.max_expanded_bytes, max(limits.floor, limits.max_expansion * file.size))


def too_many(archive: str, most: int, got: str = "more") -> TerminalError:
    """Make the error for an archive with too many entries."""
    problem, fix = f"Too many members in {archive}", "Raise max_members if they are meant."
    return TerminalError(problem, expected=f"at most {most:,} members", got=got, fix=fix, code="limit_exceeded")


def bomb(archive: str, most: int) -> TerminalError:
    """Make the error for an archive that grows too far."""
    return TerminalError(
        f"Members of {archive} expand to more than {most:,} bytes, as a decompression bomb does",
        fix="If the file is genuine, raise max_expanded_bytes or max_expansion in Archive's limits.",
        code="limit_exceeded",
    )


def look_into(file: FetchedFile, store: Store, most: int, max_members: int) -> Packed:
    """Open an archive, which is recognized by its content.

    Args:
        file: In the raw zone.
        store: The lake.
        most: Bytes that may come out of a compressed tar.
        max_members: Most entries of a zip.

    Returns:
        The archive, of which nothing but the list of a zip has been read.

    Raises:
        TerminalError: It is none.
    """
    raw = io.BufferedReader(_Range(file, store, max_members), STEP)
    head = raw.peek(512)[:512]
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return Packed("zip", None, _zip(raw, file.name, max_members))
    kind = compression(head)
    stream = _Tar(raw if kind is None else expanding(raw, kind), file.name, None if kind is None else most)
    inside = stream.peek()
    if inside[257:262] != b"ustar":
        got = "an empty file (0 bytes)" if not head else binary(inside) or f"{inside[:8]!r}"
        got = f"{got}, in {kind}" if kind else got
        problem = f"{file.name} is not a zip or tar archive"
        raise TerminalError(problem, got=got, fix="See what the producer sent.", code="wrong_format")
    return Packed("tar", kind, _tar(stream))


class _Range(io.RawIOBase):
    """A file of the lake, read by ranges."""

    def __init__(self, file: FetchedFile, store: Store, max_members: int) -> None:
        self._file, self._store, self._at = file, store, 0
        self._entries, self._most = max_members, max(STEP, _ENTRY * max_members)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._file.size}[whence]
        if at < 0:
            raise OSError(errno.EINVAL, "a place before the start of the file")  # zipfile looks there, and expects it
        self._at = at
        return at

    def readinto(self, buffer: Any) -> int:
        if len(buffer) > self._most:  # nothing is that long but a zip's list of its members
            raise too_many(self._file.name, self._entries)
        try:
            data = self._store.read(self._file.path, self._at, min(self._at + len(buffer), self._file.size))
        except OSError as error:
            raise storage_error(error, self._file.path) from error
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


def _zip(raw: Any, archive: str, most: int) -> Iterator[Entry]:
    packed = zipfile.ZipFile(raw)
    infos = packed.infolist()
    if len(infos) > most:
        raise too_many(archive, most, f"{len(infos):,}")
    for info in infos:
        flaw = "an encrypted one" if info.flag_bits & _ENCRYPTED else ""
        if stat.S_ISLNK(info.external_attr >> 16):
            flaw = "a link"
        quick = info.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
        # The others expand all that they read at once, however much that makes.
        yield Entry(info.filename, partial(packed.open, info), flaw, STEP if quick else 4096)


class _Tar:
    """The bytes of a tar, bounded in all and in each header."""

    def __init__(self, source: Any, archive: str, most: int | None) -> None:
        self._take = getattr(source, "read1", source.read)  # what there is before damage, and not all or nothing
        self._archive, self._most = archive, most
        self._size = self._ends = 0
        self._head = b""
        self.room: int | None = None  # bytes that the present header may take; None outside of headers

    def peek(self) -> bytes:
        """Return the first block, which `read` gives again."""
        while len(self._head) < 512 and (data := bytes(self._take(512 - len(self._head)))):
            self._head += data
        return self._head

    def read(self, size: int) -> bytes:
        head, self._head = self._head, b""
        data = head or bytes(self._take(size))
        self._size += len(data)
        if self._most is not None and self._size > self._most:
            raise bomb(self._archive, self._most)
        if self.room is not None and (room := self.room - len(data)) < 0:
            raise tarfile.ReadError(f"a header of {-room:,} bytes more than {_HEADER:,}")
        self.room = None if self.room is None else self.room - len(data)
        self._ends += not data
        if self._ends > 100:  # a false size makes the standard library read on for ever
            raise EOFError("truncated: unexpected end of data")
        return data


def _tar(stream: _Tar) -> Iterator[Entry]:
    source = cast("Any", stream)
    with tarfile.open(
        fileobj=source, mode="r|", tarinfo=_header(stream), bufsize=_BLOCK, encoding="utf-8", errors="surrogateescape"
    ) as packed:
        for info in packed:
            if not info.isdir():
                flaw = "" if info.isreg() else "a link or device"
                yield Entry(info.name, partial(packed.extractfile, info), flaw)
        _drain(packed.fileobj)


def _drain(rest: Any) -> None:
    """Read to the end of the stream, where the compressor's checksum is.

    Raises:
        tarfile.ReadError: There is more than zeros, such as another tar.
    """
    more = False
    while data := rest.read(STEP):
        more = more or bool(data.strip(b"\0"))
    if more:
        raise tarfile.ReadError("its members, and more data after the end of the tar")


def _header(stream: _Tar) -> type[tarfile.TarInfo]:
    """Make a class of headers that raises for damaged and missing ones."""

    class Header(tarfile.TarInfo):
        @classmethod
        def fromtarfile(cls, archive: tarfile.TarFile) -> Self:
            outer = stream.room is None  # a header may hold others
            stream.room = _HEADER if outer else stream.room
            try:
                return super().fromtarfile(archive)
            except tarfile.HeaderError as error:
                match type(error).__name__:  # only their base has a public name
                    case "EOFHeaderError":
                        raise
                    case "EmptyHeaderError":
                        raise EOFError("truncated: its closing blocks are missing") from error
                    case "TruncatedHeaderError":
                        raise EOFError("truncated: a header is cut off") from error
                raise tarfile.ReadError(str(error)) from error
            finally:
                stream.room = None if outer else stream.room

    return Header
