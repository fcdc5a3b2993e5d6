"""Values and records of any length, cut short for people to read."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ingestlab.formats.common.cutting import Spans

MAX_VALUE = 256  # characters of a bad value that are kept
MAX_RAW = 4096  # bytes of a record's text that are kept


def shorten(value: str) -> str:
    """Shorten a value for people to read."""
    return value if len(value) <= MAX_VALUE else value[:MAX_VALUE] + "…"


def excerpt(record: bytes) -> str:
    """Decode a record without its line end; the longest are cut."""
    line = record.removesuffix(b"\n").removesuffix(b"\r")
    if len(line) <= MAX_RAW:
        return line.decode("utf-8", "replace")
    return line[:MAX_RAW].decode(errors="ignore") + "…"  # the cut may go through a character


def excerpts(data: bytes, spans: Spans, numbers: Iterable[int]) -> dict[int, str]:
    """Map numbers to excerpts of their records; unknown numbers are left out."""
    asked = np.fromiter(numbers, np.int64)
    known = asked[(asked >= 0) & (asked < len(spans.starts))]
    places = zip(known.tolist(), spans.starts[known].tolist(), spans.ends[known].tolist(), strict=True)
    return {i: excerpt(data[start:end]) for i, start, end in places}


def listed(names: Iterable[str]) -> str:
    """List names for people to read, at most twenty."""
    shown = [repr(shorten(name)) for name in names]
    return ", ".join(shown[:20]) + (f" and {len(shown) - 20} more" if len(shown) > 20 else "")
