"""Times by a strptime format, more strictly than Arrow, which takes the 31st of February for the 2nd of March.

Arrow goes on counting from a day that its month lacks, so such a day comes out as one of the first three of the
next month. Only texts that came out like that are looked at, and of these only ones whose day is 29, 30 or 31.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

_ROLLED = 3  # the last day that a day its month lacks can come out as
_ZONED = (_ROLLED + 1, 28)  # the same told in UTC where texts name a zone: up to this day, or from that one on
_SHORT = {"D": "%m/%d/%y", "F": "%Y-%m-%d", "x": "%m/%d/%y", "c": "%a %b %d %H:%M:%S %Y", "e": "%d"} | {
    "R": "%H:%M", "T": "%H:%M:%S", "X": "%H:%M:%S", "r": "%I:%M:%S %p"
}  # fmt: skip
_LARGEST = {"d": 3, "m": 1, "H": 2, "k": 2, "I": 1, "l": 1, "M": 5, "S": 6, "U": 5, "V": 5, "W": 5, "y": 9, "C": 9}
_OTHERS = {"Y": r"\d{1,4}", "G": r"\d{1,4}", "j": r"\d{1,3}", "Z": r"\S*", "n": "", "t": "", "u": r"\d", "w": r"\d"}
_NAME = r"[^\W\d]+"  # of a month, a weekday, or a half of the day
_ZONE = r"(?:Z|[+-]\d\d:?(?:\d\d)?)"
_STEP = re.compile(r"%[-_0^#]*[EO]?(?P<directive>.)|(?P<blank>\s+)|(?P<text>[^%\s]+)", re.DOTALL)


class _Day(NamedTuple):
    """Finds the day in a text."""

    like: str  # for RE2: all texts whose day is 29, 30 or 31, and some more
    exact: re.Pattern[str]


def parse(texts: pa.Array, timestamp_format: str, unit: str) -> pa.TimestampArray:
    """Times, null where a text is none of this format or no day of the calendar.

    Args:
        texts: What to read.
        timestamp_format: For strptime, as the C library knows it.
        unit: ``"s"``, ``"ms"``, ``"us"`` or ``"ns"``.

    Returns:
        Times in UTC if the format has a zone, else without one.
    """
    times = pc.strptime(texts, format=timestamp_format, unit=unit, error_is_null=True)
    rolled = _rolled(texts, times, timestamp_format)
    if not rolled:
        return times
    wrong = pc.is_in(pa.array(range(len(times)), pa.int64()), pa.array(rolled, pa.int64()))
    return pc.if_else(wrong, pa.scalar(None, times.type), times)


def has_zone(timestamp_format: str) -> bool:
    """Whether texts of a format name their zone."""
    return any(step == "z" for step, _ in _steps(timestamp_format))


def _rolled(texts: pa.Array, times: pa.TimestampArray, timestamp_format: str) -> list[int]:
    """The positions of texts whose day their month lacks."""
    day, zoned = _day(timestamp_format), has_zone(timestamp_format)
    if day is None:
        return []
    days = pc.day(times)
    near = pc.less_equal(days, _ROLLED)
    if zoned:
        near = pc.or_(pc.less_equal(days, _ZONED[0]), pc.greater_equal(days, _ZONED[1]))
    places = pc.indices_nonzero(pc.fill_null(near, fill_value=False))
    places = places.filter(pc.match_substring_regex(texts.take(places), day.like))
    suspects = texts.take(places)
    by_clock = _in_utc(suspects, timestamp_format) if zoned else suspects
    came_out = pc.day(pc.strptime(by_clock, format=timestamp_format, unit="s"))
    told = zip(places.to_pylist(), suspects.to_pylist(), came_out.to_pylist(), strict=True)
    return [at for at, text, got in told if (found := day.exact.match(text)) and int(found[1]) != got]


def _in_utc(texts: pa.Array, timestamp_format: str) -> pa.Array:
    """The same times of the clock, whatever their zone is."""
    before = _before(timestamp_format, "z") or ""
    return pc.replace_substring_regex(texts, pattern=f"^({before} *){_ZONE}", replacement=r"\1Z")


@cache
def _day(timestamp_format: str) -> _Day | None:
    """None where a format has no day of the month."""
    before = _before(timestamp_format, "d")
    if before is None:
        return None
    exact = _before(timestamp_format, "d", whole="(?>{})")
    return _Day(f"^{before} *(?:29|30|31)", re.compile(f"{exact} *(29|30|31)"))


def _before(timestamp_format: str, wanted: str, whole: str = "(?:{})") -> str | None:
    """A regular expression for what texts have before a directive; None where it is not there.

    It fits some others too, unless `whole` makes every number as long as strptime does.
    """
    pattern = ""
    for step, text in _steps(timestamp_format):
        if step == wanted:
            return pattern
        if step in _LARGEST:  # a first digit that is too large for two stands alone
            pattern += " *" + whole.format(rf"[0-{_LARGEST[step]}]\d?|\d")
        elif step:
            pattern += r"\s*" + whole.format(_ZONE if step == "z" else _OTHERS.get(step, _NAME))
        else:
            pattern += re.escape(text) if text.strip() else r"\s*"
    return None


def _steps(timestamp_format: str) -> Iterator[tuple[str, str]]:
    """A format step by step, as (directive, text): one of the two is empty."""
    for found in _STEP.finditer(timestamp_format):
        directive = found["directive"] or ""
        if directive in _SHORT:
            yield from _steps(_SHORT[directive])
        elif directive == "%":
            yield "", "%"
        else:
            yield directive, found["blank"] or found["text"] or ""
