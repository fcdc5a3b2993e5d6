"""Content-Encodings: what a server has wrapped a file in for the way is taken off again."""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

import pyarrow as pa

from ingestlab.core.errors import TerminalError, TransientError

_SAME = {"", "identity", "aws-chunked", "none"}  # S3 clients leave the third on files; nothing is wrapped
_ARROW = {"gzip": "gzip", "x-gzip": "gzip", "br": "brotli", "zstd": "zstd"}
_KNOWN = {*_ARROW, "deflate"}
_BEGINNINGS = {"gzip": b"\x1f\x8b", "x-gzip": b"\x1f\x8b", "zstd": b"\x28\xb5\x2f\xfd"}
_STEP = 1 << 20


def codings(header: str, uri: str) -> tuple[str, ...]:
    """List the encodings of a header, in the order of their application.

    Raises:
        TerminalError: There is one among them that nobody here can take off.
    """
    names = tuple(name for word in header.split(",") if (name := word.strip().lower()) not in _SAME)
    unknown = [name for name in names if name not in _KNOWN]
    if unknown:
        raise TerminalError(
            f"{uri} is in an encoding that cannot be decoded",
            expected="Content-Encoding gzip, deflate, br or zstd, or none",
            got=f"Content-Encoding '{header}'"[:200],
            fix="Ask the server's owner for one of these.",
            code="bad_encoding",
        )
    return names


def decoded(stream: BinaryIO, names: Sequence[str], uri: str) -> Iterator[bytes]:
    """Yield what is inside, piece by piece.

    Raises:
        TerminalError: The bytes are not in the encoding that the server named.
        TransientError: They end early, or are damaged.
    """
    layers: Any = stream
    try:
        for name in reversed(names):
            layers = _layer(io.BufferedReader(layers) if isinstance(layers, io.RawIOBase) else layers, name, uri)
        while chunk := layers.read(_STEP):
            yield bytes(chunk)
    except (OSError, zlib.error, EOFError) as error:
        fix = "The connection broke or the server is at fault: submit the file again, or tell the server's owner."
        problem = f"{uri} broke off or is damaged in Content-Encoding {', '.join(names)}"
        raise TransientError.wrap(error, problem, fix, code="source_unavailable") from error


def _layer(stream: Any, name: str, uri: str) -> Any:
    """Open a stream without one of its encodings."""
    source = stream if hasattr(stream, "peek") else io.BufferedReader(_Plain(stream))
    head = bytes(source.peek(4)[:4])
    beginning = _BEGINNINGS.get(name, b"")
    if head and not head.startswith(beginning):
        fix = "The server's headers are wrong: tell its owner."
        problem = f"{uri} is not in Content-Encoding {name}, as the server says"
        raise TerminalError(problem, got=f"bytes {head!r}", fix=fix, code="bad_encoding")
    if not head:
        return source
    return _Inflated(source) if name == "deflate" else pa.CompressedInputStream(source, _ARROW[name])


class _Plain(io.RawIOBase):
    """Read anything as Python's own streams are read."""

    def __init__(self, source: Any) -> None:
        self._source = source

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._source.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


class _Inflated(io.RawIOBase):
    """Read "deflate", in zlib's format or, from many servers, bare."""

    def __init__(self, source: Any) -> None:
        head = source.peek(2)[:2]
        wrapped = len(head) > 1 and head[0] & 0x0F == zlib.DEFLATED and (head[0] << 8 | head[1]) % 31 == 0
        self._source, self._inflater = source, zlib.decompressobj(zlib.MAX_WBITS if wrapped else -zlib.MAX_WBITS)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._inflater.eof:
            packed = self._inflater.unconsumed_tail or self._source.read(_STEP)
            data = self._inflater.decompress(packed, len(buffer))
            if data:
                buffer[: len(data)] = data
                return len(data)
            if not packed:
                raise EOFError("the stream ends early")
        if self._inflater.unused_data or self._source.read(1):
            raise zlib.error("more bytes after the end of the stream")
        return 0
