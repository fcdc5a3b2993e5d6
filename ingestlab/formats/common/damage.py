"""Single bytes that are no text in a file's encoding: they cost their records, and not the file.

Such a byte becomes U+FFFD, so that everything else can be read as ever; then the records that had one are set
apart, with the rule ``encoding``. Where most records have one it is the encoding that is wrong, and the file fails.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from ingestlab.core.errors import TerminalError
from ingestlab.formats.common.columns import set_apart
from ingestlab.formats.common.cutting import Ints, Spans
from ingestlab.interfaces import Bad, Records

_MARK = "\ufdd0"  # no character, and as long in UTF-8 as U+FFFD, so that places stay
_LOST = re.compile("[\0\udc80-\udcff]+")
_TEXT_PER_NUL = 100  # bytes; data with more NULs is binary


@dataclass(frozen=True)
class Damage:
    """Bytes of a piece that are no text.

    Attributes:
        places: Offsets of the replaced bytes in the decoded text, ascending.
        octets: The first of the bytes at each place.
        error: What is to be said where it is too much.
    """

    places: Ints
    octets: tuple[int, ...]
    error: TerminalError

    def note(self, data: bytes) -> str:
        """Describe damage that is published. Raises the error where the text is not UTF-8 at all."""
        good = int(np.count_nonzero(np.frombuffer(data, np.uint8) >= 0xC0)) - len(self.places)
        if 0 in self.octets or len(self.places) > good:
            raise self.error
        count = len(self.places)
        return f"{count:,} place{'s' * (count > 1)} that {'are' if count > 1 else 'is'} no text, shown as \ufffd"

    def records(self, spans: Spans, *, alone: bool) -> dict[int, int]:
        """Map damaged records to their first bad bytes.

        Args:
            spans: Where the records are in the decoded text.
            alone: Whether these are all records of the file.

        Raises:
            TerminalError: Most records have; or what comes before the first has; or there are NULs as in no text.
        """
        if self.octets.count(0) * _TEXT_PER_NUL > spans.ends[-1] if len(spans.ends) else True:
            raise self.error
        if len(spans.starts) and self.places[0] < spans.starts[0]:
            raise self.error
        numbers, first = np.unique(np.searchsorted(spans.ends, self.places, side="right"), return_index=True)
        if 2 * len(numbers) > len(spans.starts) and (alone or len(numbers) > 1):
            raise self.error
        return {number: self.octets[place] for number, place in zip(numbers.tolist(), first.tolist(), strict=True)}


def decode_damaged(data: bytes, encoding: str, error: TerminalError) -> tuple[bytes, Damage]:
    """Decode text as UTF-8, with U+FFFD in place of damage.

    Args:
        data: Text with bytes that its encoding does not know, or with NULs.
        encoding: By Python's name.
        error: What is wrong with it; raised where it cannot be decoded.
    """
    try:
        text = data.decode(encoding, errors="surrogateescape")
    except UnicodeDecodeError:
        raise error from None
    octets = tuple(ord(match[0][0]) & 0xFF for match in _LOST.finditer(text))
    marked = _LOST.sub(_MARK, text.replace(_MARK, "\ufffd")).encode(errors="replace")
    places = np.array([match.start() for match in re.finditer(re.escape(_MARK.encode()), marked)], np.int64)
    return marked.replace(_MARK.encode(), "\ufffd".encode()), Damage(places, octets, error)


def without_damaged(records: Records, damaged: Mapping[int, int], first: int) -> Records:
    """Set apart records with bytes that are no text.

    Args:
        records: All of a piece.
        damaged: The first such byte by the number of its record in the piece.
        first: Number of the piece's first record.
    """
    bad = [Bad(first + i, "encoding", None, f"byte 0x{octet:02X}") for i, octet in damaged.items()]
    others = tuple(b for b in records.bad if b.row - first not in damaged) if damaged else records.bad
    return set_apart(replace(records, bad=others), bad)
