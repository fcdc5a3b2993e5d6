"""The encoding of text that nobody has declared.

Text that is valid UTF-8 is UTF-8, byte order marks are believed, and only what is left is handed to a
detector, with a short list of encodings that files really have: among all that exist, a few accented
letters look like any of a dozen.
"""

from __future__ import annotations

import codecs

import pyarrow as pa

SAMPLE = 1 << 16  # bytes, of the lines that are not ASCII, that the detector sees
CANDIDATES = (
    "cp1252",
    "cp1250",
    "cp1251",
    "cp1253",
    "cp1255",
    "cp1256",
    "koi8_r",
    "shift_jis",
    "euc_jp",
    "euc_kr",
    "gb18030",
    "big5",
)
_MARKS = (  # the longer ones first: UTF-32 begins like UTF-16
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def detect(data: bytes) -> str:
    """The likeliest encoding of a text; ``"utf-8"`` too where nothing fits, so that decoding says what is wrong."""
    marked = by_mark(data)
    if marked or data.isascii() or valid_utf8(data):
        return marked or "utf-8"
    from charset_normalizer import from_bytes  # noqa: PLC0415 - slow to import, and seldom wanted

    matches = from_bytes(_telling(data), cp_isolation=list(CANDIDATES))
    best = matches.best()
    if best is None:
        return "utf-8"
    equal = [m for m in matches if (m.chaos, m.coherence) == (best.chaos, best.coherence)]
    names = {name for match in equal for name in match.could_be_from_charset}
    # Western text is by far the commonest of those that cannot be told apart.
    return "cp1252" if "cp1252" in names else str(best.encoding)


def by_mark(data: bytes) -> str | None:
    """The encoding that a byte order mark names; None without one, or where it is UTF-8's."""
    return next((name for mark, name in _MARKS if data.startswith(mark)), None)


def valid_utf8(data: bytes) -> bool:
    """Whether bytes are UTF-8, without making a string of them."""
    ends = pa.py_buffer(b"\0" * 8 + len(data).to_bytes(8, "little"))
    whole = pa.Array.from_buffers(pa.large_binary(), 1, [None, ends, pa.py_buffer(data)])
    try:
        whole.cast(pa.large_string())  # checks without making anything, several times faster than decoding
    except pa.ArrowInvalid:
        return False
    return True


def _telling(data: bytes) -> bytes:
    """Lines with bytes beyond ASCII, up to the size of a sample; the others tell nothing."""
    lines: list[bytes] = []
    size = at = 0
    while at < len(data) and size < SAMPLE:
        block = data[at : at + (1 << 20)]
        at += len(block)
        if not block.isascii():
            found = [line for line in block.splitlines(keepends=True) if not line.isascii()]
            lines += found
            size += sum(map(len, found))
    return b"".join(lines)[:SAMPLE]
