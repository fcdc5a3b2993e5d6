"""The encoding of text that nobody has declared: one for a file, whatever the pieces that it is read in.

A byte order mark is believed; text that is valid UTF-8 is UTF-8, also where a few bytes are damaged; text with a NUL
in every other byte is UTF-16. What is left is in one of the older encodings, which is a guess and told as one.
"""

from __future__ import annotations

import codecs
import unicodedata
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from ingestlab.formats.common.alphabets import likeliest

SAMPLE = 1 << 14  # bytes, of the lines that are not ASCII, that are looked at
_HEAD = 1 << 16
_BLOCK = 1 << 20
_MARKS = (  # the longer ones first: UTF-32 begins like UTF-16
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_WIDE = (("utf-32-le", 4), ("utf-32-be", 4), ("utf-16-le", 2), ("utf-16-be", 2))
_PLAIN_SHARE = 0.1  # of the characters of any table or log are ASCII: digits, separators, line ends
_NO_TEXT = ("Cc", "Cn", "Cs", "Co")  # categories of what stands in no text
_AS_WESTERN = ("iso8859-1", "ascii")  # said where Windows's encoding is meant: browsers, too, take it so
_SPACES = "\t\r\n\f"


class Encoding(NamedTuple):
    """Encoding by its name, and whether it is a guess."""

    name: str
    guess: bool = False

    @property
    def fact(self) -> str:
        """Describe it for the run's facts."""
        return f"{self.name}, a guess" if self.guess else self.name

    @property
    def settled(self) -> dict[str, Any]:
        """Return plain data for pieces; :func:`settled_encoding` reads it back."""
        return {"encoding": self.name, "guessed": self.guess}


UTF8 = Encoding("utf-8")


def settled_encoding(data: dict[str, Any]) -> Encoding | None:
    """Return the encoding decided for the whole file; None where none was."""
    return Encoding(data["encoding"], bool(data.get("guessed"))) if "encoding" in data else None


def detect(data: bytes, hint: str | None = None) -> Encoding:
    """Detect the encoding of a text. Where nothing fits it is UTF-8, so that decoding says what is wrong.

    Args:
        data: The whole text.
        hint: What a server or the text itself says; believed where the text is no UTF-8 and fits it.
    """
    if wide := by_mark(data) or _wide(data):
        return wide if isinstance(wide, Encoding) else Encoding(wide)
    sight = UTF8 if data.isascii() or valid_utf8(data) else survey([data])
    plain = sight == UTF8 and not data.isascii()
    return sight if hint is None or plain else (believed(hint, [data]) or sight)


def believed(hint: str, blocks: Iterable[bytes]) -> Encoding | None:
    """Return the hinted encoding, if all of a text is in it."""
    try:
        name = codecs.lookup(hint).name
        name = "cp1252" if name in _AS_WESTERN else name
        decoder = codecs.getincrementaldecoder(name)()
        for block in blocks:
            decoder.decode(block)
        decoder.decode(b"", final=True)
    except (LookupError, UnicodeError):
        return None
    return Encoding(name)


def survey(blocks: Iterable[bytes]) -> Encoding:
    """Detect the encoding of a text of any length, block by block."""
    good = bad = 0
    sample: list[bytes] = []
    room, tail, first = SAMPLE, b"", True
    for block in (large[at : at + _BLOCK] for large in blocks for at in range(0, len(large), _BLOCK)):
        if first and (wide := by_mark(block) or _wide(block)):
            return wide if isinstance(wide, Encoding) else Encoding(wide)
        first = False
        if not tail and block.isascii():
            continue
        whole, end, rest = (tail + block).rpartition(b"\n")
        tail = rest
        right, wrong = _sequences(whole + end)
        good, bad = good + right, bad + wrong
        if (right or wrong) and room > 0:
            lines = [line for line in (whole + end).splitlines(keepends=True) if not line.isascii()]
            sample.append(b"".join(lines)[:room])
            room -= len(sample[-1])
    right, wrong = _sequences(tail)
    good, bad = good + right, bad + wrong
    if good >= bad:
        return UTF8
    name = likeliest(b"".join(sample) + (tail[:SAMPLE] if not tail.isascii() else b""))
    return UTF8 if name is None else Encoding(name, guess=True)


def by_mark(data: bytes) -> str | None:
    """Name the encoding of a byte order mark, UTF-8's apart."""
    return next((name for mark, name in _MARKS if data.startswith(mark)), None)


def valid_utf8(data: bytes) -> bool:
    """Tell whether bytes are UTF-8, without making a string of them."""
    ends = pa.py_buffer(b"\0" * 8 + len(data).to_bytes(8, "little"))
    whole = pa.Array.from_buffers(pa.large_binary(), 1, [None, ends, pa.py_buffer(data)])
    try:
        whole.cast(pa.large_string())  # checks without making anything, several times faster than decoding
    except pa.ArrowInvalid:
        return False
    return True


def mostly_utf8(data: bytes) -> bool:
    """Tell whether text is UTF-8 but for single damaged bytes."""
    good, bad = _sequences(data)
    return good >= bad


def _sequences(data: bytes) -> tuple[int, int]:
    """Count right characters beyond ASCII in UTF-8, and wrong bytes or sequences."""
    if data.isascii():
        return 0, 0
    if valid_utf8(data):
        return int(np.count_nonzero(np.frombuffer(data, np.uint8) >= 0xC0)), 0
    text = data.decode(errors="replace")
    bad = text.count("\ufffd") - data.count("\ufffd".encode())
    return len(text) - len(text.encode("ascii", errors="ignore")) - bad, bad


def _wide(data: bytes) -> Encoding | None:
    """Recognize UTF-16 or UTF-32 without a mark by its regular NULs."""
    head = data[:_HEAD]
    if b"\0" not in head:
        return None
    for name, width in _WIDE:
        try:
            text = head[: len(head) // width * width].decode(name)
        except UnicodeDecodeError as error:
            if error.end < len(head) - 4:  # else a character that the sample has cut in two
                continue
            text = head[: error.start].decode(name)
        if (len(data) % width == 0 or len(data) > _HEAD) and _is_text(text):
            return Encoding(name, guess=True)
    return None


def _is_text(text: str) -> bool:
    plain = len(text.encode("ascii", errors="ignore"))
    kinds = {c for c in set(text) if unicodedata.category(c) in _NO_TEXT and c not in _SPACES}
    return bool(text) and plain >= _PLAIN_SHARE * len(text) and kinds <= {"\ufeff"}
