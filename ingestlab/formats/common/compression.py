"""Compressed streams, read to their very end: damage anywhere in them is an error, never an early end.

A file may be several streams one after the other, as parallel compressors and ``cat a.gz b.gz`` write them, and
zero bytes may follow the last one. The standard library's files take a damaged second stream of bz2 or xz for
garbage, and garbage for an end; here both are damage.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import re
import zlib
from collections.abc import Callable, Mapping
from typing import Any, Literal

import pyarrow as pa

Compression = Literal["gzip", "bz2", "xz", "zstd"]

BROKEN = (EOFError, OSError, zlib.error, lzma.LZMAError)  # what is raised on damage
SIGNATURES: Mapping[Compression, re.Pattern[bytes]] = {
    "gzip": re.compile(rb"\x1f\x8b\x08"),
    "bz2": re.compile(rb"BZh[1-9](?:1AY&SY|\x17rE8P\x90)"),
    "xz": re.compile(rb"\xfd7zXZ\x00"),
    "zstd": re.compile(rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18"),
}
_BUFFER = 64 << 10
_CUT = "truncated: it ends in the middle of a stream"
# Zstandard's format, RFC 8878
_FRAME, _SKIPPED, _RLE = b"\x28\xb5\x2f\xfd", b"\x2a\x4d\x18", 1
_DICTIONARY, _CONTENT = (0, 1, 2, 4), (0, 2, 4, 8)  # bytes of a header's fields, by the flags that tell them


def compression(head: bytes) -> Compression | None:
    """Detect the compression of a file by its first bytes."""
    return next((kind for kind, signature in SIGNATURES.items() if signature.match(head)), None)


def expanding(raw: Any, kind: Compression) -> Any:
    """Open a decompressed stream. Reading raises what is in `BROKEN` on damage.

    Args:
        raw: A binary file, open for reading.
        kind: How it is compressed.
    """
    match kind:
        case "gzip":
            return gzip.GzipFile(fileobj=raw)
        case "bz2":
            return _Streams(raw, bz2.BZ2Decompressor)
        case "xz":
            return _Streams(raw, lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ))
        case "zstd":
            return pa.CompressedInputStream(pa.PythonFile(io.BufferedReader(_Frames(raw), _BUFFER), mode="r"), "zstd")


class _Streams(io.RawIOBase):
    """Contents of bz2 or xz streams, one after the other.

    Args:
        raw: The compressed bytes.
        make: Makes a decompressor for the next stream.
    """

    def __init__(self, raw: Any, make: Callable[[], Any]) -> None:
        self._raw, self._make = raw, make
        self._stream = make()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while True:
            held = b""
            if self._stream.eof:
                held = _after_zeros(self._raw, self._stream.unused_data)
                if not held:
                    return 0
                self._stream = self._make()
            elif self._stream.needs_input and not (held := self._raw.read(_BUFFER)):
                raise EOFError(_CUT)
            data = self._stream.decompress(held, len(buffer))
            if data:
                buffer[: len(data)] = data
                return len(data)


class _Frames(io.RawIOBase):
    """Frames of a Zstandard file without padding, which Arrow refuses."""

    def __init__(self, raw: Any) -> None:
        self._raw = raw
        self._held = b""  # read, and not yet given
        self._left = 0  # bytes that can be given without a look at them
        self._checksum: int | None = None  # bytes after the last block; None between frames

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._held and not self._left:
            if self._checksum is None:
                self._begin()
            else:
                self._block(self._checksum)
        data = self._held or self._raw.read(min(self._left, len(buffer)))
        if not self._held:
            if self._left and not data:
                raise EOFError(_CUT)
            self._left -= len(data)
        data, self._held = data[: len(buffer)], data[len(buffer) :]
        buffer[: len(data)] = data
        return len(data)

    def _begin(self) -> None:
        """Read the header of the next frame, if there is one."""
        head = _after_zeros(self._raw, b"", 1)
        if not head:
            return
        head += self._exactly(4)
        if head[:4] == _FRAME:
            flags = head[4]
            single = flags >> 5 & 1
            content = _CONTENT[flags >> 6] or single
            self._held = head + self._exactly(1 - single + _DICTIONARY[flags & 3] + content)
            self._checksum = 4 * (flags >> 2 & 1)
        elif head[1:4] == _SKIPPED and head[0] >> 4 == 5:
            self._held = head + self._exactly(3)
            self._left = int.from_bytes(self._held[4:], "little")
        else:
            raise OSError("no Zstandard frame where one ought to begin")

    def _block(self, checksum: int) -> None:
        """Read the header of the next block of a frame."""
        self._held = self._exactly(3)
        head = int.from_bytes(self._held, "little")
        self._left = 1 if head >> 1 & 3 == _RLE else head >> 3
        if head & 1:
            self._left, self._checksum = self._left + checksum, None

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            if not (more := self._raw.read(size - len(data))):
                raise EOFError(_CUT)
            data += more
        return data


def _after_zeros(raw: Any, held: bytes, step: int = _BUFFER) -> bytes:
    """Return what follows zero padding; nothing if the file ends with it.

    Args:
        raw: What is read on from.
        held: What was read before.
        step: Bytes to ask for at once.
    """
    while not (rest := held.lstrip(b"\0")) and (held := raw.read(step)):
        pass
    return rest
