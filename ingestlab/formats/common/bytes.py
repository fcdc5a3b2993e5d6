"""The bytes of a piece: read, decompressed, and checked, for every reader that takes text.

Compression is told by the first bytes, never by the name. A file that grows beyond its limits is given
up while it is being decompressed.
"""

from __future__ import annotations

import codecs
import io
import re
from dataclasses import dataclass, replace
from typing import NamedTuple

from ingestlab.core.errors import TerminalError
from ingestlab.core.models import Piece
from ingestlab.formats.common.compression import BROKEN, Compression, compression, expanding
from ingestlab.formats.common.damage import Damage, decode_damaged
from ingestlab.formats.common.detection import detect, settled_encoding, valid_utf8
from ingestlab.interfaces import Store

MAX_EXPANDED_BYTES = 4 << 30  # in the memory of a worker
MAX_EXPANSION = 200
HEAD = 64 << 10  # bytes: enough for any signature and nearly every header
_STEP = 1 << 20

_SUFFIXES = {".gz": "gzip", ".gzip": "gzip", ".bz2": "bz2", ".xz": "xz", ".zst": "zstd", ".zstd": "zstd"}

_SIGNATURES = {
    b"\x89PNG\r\n\x1a\n": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"GIF8": "a GIF image",
    b"%PDF-": "a PDF document",
    b"PK\x03\x04": "a ZIP archive (or an Excel or Word file)",
    b"PK\x05\x06": "an empty ZIP archive",
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1": "an old Excel or Word file",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
    b"Rar!\x1a\x07": "a RAR archive",
    b"\x7fELF": "an ELF program",
    b"PAR1": "a Parquet file",
    b"ARROW1\0\0": "an Arrow file",
    b"SQLite format 3\0": "an SQLite database",
    b"\xff\xfe": "text in UTF-16",
    b"\xfe\xff": "text in UTF-16",
}
_TAR = slice(257, 262)
_ASCII_BASED = re.compile(r"utf-8|ascii|iso8859-\d+|cp125\d|koi8-[rut]|mac-roman")


@dataclass(frozen=True, slots=True)
class Limits:
    """How far a compressed file may grow.

    Attributes:
        max_expanded_bytes: Bytes that may come out at most.
        max_expansion: Times its compressed size; beyond it is taken for a bomb.
        floor: Bytes that may come out whatever the ratio: small files of repeated rows compress well.
    """

    max_expanded_bytes: int = MAX_EXPANDED_BYTES
    max_expansion: int = MAX_EXPANSION
    floor: int = 16 << 20


def capped(limits: Limits, most: int) -> Limits:
    """Cap what limits let expand at `most` bytes."""
    return replace(limits, max_expanded_bytes=min(limits.max_expanded_bytes, most))


class Text(NamedTuple):
    """Text of a piece as UTF-8, with facts and damage."""

    data: bytes
    facts: dict[str, str]
    damage: Damage | None = None  # what was no text, and is U+FFFD in `data`


def check_size(size: int, name: str, most: int) -> None:
    """Raise TerminalError for a file longer than its reader takes."""
    if size > most:
        problem, expected, fix = f"{name} is too large", f"at most {most:,} bytes", "Raise the reader's max_bytes."
        raise TerminalError(problem, expected=expected, got=f"{size:,}", fix=fix, code="limit_exceeded")


def load_text(piece: Piece, store: Store, encoding: str | None, limits: Limits | None = None) -> Text:
    """Load a piece as UTF-8. Where no encoding is given the file's is detected.

    Raises:
        TerminalError: What :func:`load` and :func:`decoded` raise.
    """
    data, kind = unpack(piece, store, limits)
    facts: dict[str, str] = {} if kind is None else {"compression": kind}
    if encoding is None:
        survey = settled_encoding(piece.settled) or detect(data, piece.settled.get("charset"))
        encoding, facts["encoding"] = survey.name, survey.fact
    done, damage = decoded(data, encoding, piece)
    return Text(done, facts, damage)


def load(piece: Piece, store: Store, limits: Limits | None = None) -> bytes:
    """Load the bytes of a piece; a whole compressed file is decompressed.

    Raises:
        TerminalError: The file is empty, damaged, or grows beyond `limits`.
    """
    return unpack(piece, store, limits)[0]


def unpack(piece: Piece, store: Store, limits: Limits | None = None) -> tuple[bytes, Compression | None]:
    """Load the bytes of a piece, and tell how they were compressed.

    Args:
        piece: A whole file, or a part of an uncompressed one.
        store: The lake.
        limits: Of what is unpacked; the usual ones if None.

    Returns:
        The bytes, at least one, and the compression that they had in the file.
    """
    data = store.read(piece.path, piece.start, piece.stop)
    if piece.stop is not None and len(data) < piece.stop - piece.start:
        raise TerminalError(
            f"Bytes of {piece.name} are missing in the lake",
            expected=f"{piece.stop - piece.start:,} from {piece.start:,} on",
            got=f"{len(data):,}",
            fix="Submit it again with --force.",
            code="lake_damaged",
        )
    kind = compression(data) if piece.start == 0 and piece.stop is None else None
    if kind:
        data = _expand(data, kind, piece.name, limits or Limits())
    if not data:
        raise TerminalError(
            f"There is no data in {piece.name}",
            got="an empty file (0 bytes)",
            fix="See whether the producer had finished writing it.",
            code="bad_file",
        )
    return data, kind


def binary(head: bytes) -> str | None:
    """Name what a file that begins with `head` is, unless text."""
    for signature, what in _SIGNATURES.items():
        if head.startswith(signature):
            return what
    return "a tar archive" if head[_TAR] == b"ustar" else None


def text(data: bytes, encoding: str, piece: Piece) -> bytes:
    """Check bytes against an encoding, and return UTF-8 without a mark.

    Args:
        data: What :func:`load` gave for `piece`; offsets in errors count from the file's first byte.
        encoding: Any text encoding that Python knows.
        piece: Where the bytes are from.

    Raises:
        TerminalError: They are something else; the text says what, and where.
    """
    name = codecs.lookup(encoding).name
    if name.startswith("utf-8"):
        _refuse_binary(data, piece)
        if not data.isascii() and not valid_utf8(data):
            _decode(data, "utf-8", piece)
        return _unmarked(data) if piece.start == 0 else data
    _refuse_other_mark(data, name, piece)
    data = _unmarked(data) if ascii_based(name) else data
    if not (ascii_based(name) and data.isascii()):
        data = _decode(data, name, piece).removeprefix("\ufeff").encode()
    _refuse_binary(data, piece)
    return data


def decoded(data: bytes, encoding: str, piece: Piece) -> tuple[bytes, Damage | None]:
    """Decode as :func:`text` does, with damaged bytes replaced and reported.

    Raises:
        TerminalError: It is no text at all; where there is too much damage is for the reader to say.
    """
    if piece.start == 0 and binary(data[:512]) is None:
        _refuse_other_mark(data, codecs.lookup(encoding).name, piece)
    try:
        return text(data, encoding, piece), None
    except TerminalError as error:
        if piece.start == 0 and binary(data[:512]) is not None:
            raise
        done, damage = decode_damaged(data, codecs.lookup(encoding).name, error)
    dropped = len(done) - len(_unmarked(done)) if piece.start == 0 else 0
    return done[dropped:], replace(damage, places=damage.places - dropped)


def ascii_based(encoding: str) -> bool:
    """Tell whether every ASCII byte stands for itself. Such text can be cut at its line ends."""
    return _ASCII_BASED.fullmatch(codecs.lookup(encoding).name.replace("-sig", "")) is not None


def _refuse_other_mark(data: bytes, name: str, piece: Piece) -> None:
    marked = piece.start == 0 and data.startswith(codecs.BOM_UTF8) and ascii_based(name)
    if marked and not name.startswith("utf-8") and not _unmarked(data).isascii():
        fix = "Declare encoding='utf-8', or None to have it detected."
        problem, got = f"{piece.name} is not text in {name}", "text that begins with the mark of UTF-8"
        raise TerminalError(problem, got=got, fix=fix, code="bad_encoding")


def _unmarked(data: bytes) -> bytes:
    """Strip byte order marks of UTF-8; joined files may have several."""
    while data.startswith(codecs.BOM_UTF8):
        data = data[3:]
    return data


def _expand(data: bytes, kind: Compression, name: str, limits: Limits) -> bytes:
    most = min(limits.max_expanded_bytes, max(limits.floor, limits.max_expansion * len(data)))
    chunks, size = [], 0
    try:
        with expanding(io.BytesIO(data), kind) as stream:
            while chunk := stream.read(_STEP):
                size += len(chunk)
                if size > most:
                    raise _bomb(name, kind, len(data), most)
                chunks.append(chunk)
    except BROKEN as error:
        raise _damaged(name, kind, size, error) from error
    return b"".join(chunks)


def _bomb(name: str, kind: Compression, size: int, most: int) -> TerminalError:
    return TerminalError(
        f"{name} ({kind}, {size:,} bytes) expands to more than {most:,} bytes, as a decompression bomb does",
        code="limit_exceeded",
        fix="If the file is genuine, raise max_expanded_bytes or max_expansion in the reader's limits.",
    )


def _damaged(name: str, kind: Compression, size: int, error: BaseException) -> TerminalError:
    cut = isinstance(error, EOFError) or "truncated" in str(error).lower()
    what = f"a {'truncated' if cut else 'damaged'} one, after {size:,} good bytes ({error})"
    by_name = next((k for suffix, k in _SUFFIXES.items() if name.lower().endswith(suffix)), kind)
    hint = "" if by_name == kind else f" Its name says {by_name}."
    fix = f"Fetch it again from its producer.{hint}"
    return TerminalError(f"{name} is not a whole {kind} file", got=what, fix=fix, code="bad_file")


def _refuse_binary(data: bytes, piece: Piece) -> None:
    what = binary(data[:512]) if piece.start == 0 else None
    if what is None and (at := data.find(b"\0")) >= 0:
        what = f"binary data (a NUL byte at offset {piece.start + at:,})"
    if what is not None:
        fix = "Declare its encoding, e.g. 'utf-16'." if "UTF-16" in what else "See what the producer sent."
        problem, got = f"There is no text in {piece.name}", f"what looks like {what}"
        raise TerminalError(problem, got=got, fix=fix, code="wrong_format")


def _decode(data: bytes, encoding: str, piece: Piece) -> str:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        at = piece.start + error.start
        line = "" if piece.start else f", in line {data.count(10, 0, error.start) + 1:,}"
        raise TerminalError(
            f"{piece.name} is not text in {encoding}",
            got=f"byte 0x{data[error.start]:02X} at offset {at:,}{line} ({error.reason})",
            code="bad_encoding",
            fix="Declare the encoding of the file, e.g. encoding='cp1252'; if it mixes several, have it repaired.",
        ) from None
