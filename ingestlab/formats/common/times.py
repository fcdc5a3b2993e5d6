"""Times by a strptime format, as strictly as Python's, which Arrow is not: 19 is no year of four digits.

Texts that Python would refuse are left out before Arrow sees them, fractions of a second are added after it.
What it then
still mistakes is a day that its month lacks: the 31st of February is the 2nd of March to it, since it goes on counting.
Such a day comes out as one of the first three of the next month. Only texts that came out like that are looked at, and
of these only ones whose day is 29, 30 or 31.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
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
_MONTHS = "January|February|March|April|May|June|July|August|September|October|November|December"
_DAYS = "Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday"
_EXACT = {  # what Python takes for a directive
    "Y": r"(?:[1-9]\d{3}|0[1-9]\d\d|00[1-9]\d|000[1-9])",
    "y": r"\d\d",
    "m": "(?:1[0-2]|0[1-9]|[1-9])",
    "d": r"(?:3[01]|[12]\d|0[1-9]|[1-9]| [1-9])",
    "j": r"(?:36[0-6]|3[0-5]\d|[12]\d\d|0[1-9]\d|00[1-9]|[1-9]\d|0[1-9]|[1-9])",
    "H": r"(?:2[0-3]|[01]\d|\d)",
    "I": "(?:1[0-2]|0[1-9]|[1-9])",
    "M": r"(?:[0-5]\d|\d)",
    "S": r"(?:[0-5]\d|\d)",
    "p": "(?:AM|PM)",
    "B": f"(?:{_MONTHS})",
    "b": f"(?:{'|'.join(name[:3] for name in _MONTHS.split('|'))})",
    "A": f"(?:{_DAYS})",
    "a": f"(?:{'|'.join(name[:3] for name in _DAYS.split('|'))})",
    "z": r"(?:Z|[+-](?:[01]\d|2[0-3]):?[0-5]\d)",
}
_FULL = {  # the same where the next directive, or the one before, is a number too: nothing else says where it ends
    "m": r"(?:1[0-2]|0[1-9])",
    "d": r"(?:3[01]|[12]\d|0[1-9])",
    "j": r"(?:36[0-6]|3[0-5]\d|[12]\d\d|0[1-9]\d|00[1-9])",
    "H": r"(?:2[0-3]|[01]\d)",
    "I": "(?:1[0-2]|0[1-9])",
    "M": r"[0-5]\d",
    "S": r"[0-5]\d",
}
_NUMBERS = frozenset({*_FULL, "Y", "y", "f"})
_FRACTION = r"\d{1,6}"
_MICROS = {"s": 1_000_000, "ms": 1_000, "us": 1, "ns": 1}  # in a unit, or in its thousand
_STEP = re.compile(r"%[-_0^#]*[EO]?(?P<directive>.)|(?P<blank>\s+)|(?P<text>[^%\s]+)", re.DOTALL)


class _Day(NamedTuple):
    """Patterns that find the day in a text."""

    like: str  # for RE2: all texts whose day is 29, 30 or 31, and some more
    exact: re.Pattern[str]


def parse(texts: pa.Array, timestamp_format: str, unit: str) -> pa.TimestampArray:
    """Parse times. Null where a text does not fit or is no calendar day.

    Args:
        texts: What to read.
        timestamp_format: For strptime, as the C library knows it.
        unit: ``"s"``, ``"ms"``, ``"us"`` or ``"ns"``.

    Returns:
        Times in UTC if the format has a zone, else without one.
    """
    if any(step == "f" for step, _ in steps_of(timestamp_format)):
        return _with_fractions(texts, timestamp_format, unit)
    exact = pc.match_substring_regex(texts, _exact(timestamp_format))
    if not pc.all(exact).as_py():
        texts = pc.if_else(exact, texts, pa.scalar(None, texts.type))
    times = pc.strptime(texts, format=timestamp_format, unit=unit, error_is_null=True)
    rolled = _rolled(texts, times, timestamp_format)
    if not rolled:
        return times
    wrong = pc.is_in(pa.array(range(len(times)), pa.int64()), pa.array(rolled, pa.int64()))
    return pc.if_else(wrong, pa.scalar(None, times.type), times)


def _with_fractions(texts: pa.Array, timestamp_format: str, unit: str) -> pa.TimestampArray:
    """Parse times with fractions, which Arrow does not. Null where the unit is too coarse."""
    steps = list(steps_of(timestamp_format))
    at = next(i for i, (step, _) in enumerate(steps) if step == "f")
    patterns = _patterns(steps)
    pattern = f"(?is)^(?P<a>{''.join(patterns[:at])})(?P<f>{_FRACTION})(?P<b>{''.join(patterns[at + 1 :])})$"
    before, fraction, after = pc.extract_regex(texts, pattern=pattern).flatten()
    whole = parse(pc.binary_join_element_wise(before, after, ""), _written(steps[:at] + steps[at + 1 :]), "us")
    micros = pc.utf8_rpad(fraction, width=6, padding="0").cast(pa.int64())
    times = pc.add(whole, micros.cast(pa.duration("us")))
    step = _MICROS[unit]
    fits = pc.equal(pc.multiply(pc.divide(micros, step), step), micros)
    return pc.if_else(fits, times, pa.scalar(None, times.type)).cast(pa.timestamp(unit, times.type.tz))


def plain_format(timestamp_format: str) -> str:
    """Write a format in Python's directives, without short forms."""
    return _written(steps_of(timestamp_format))


def _written(steps: Iterable[tuple[str, str]]) -> str:
    return "".join(f"%{step}" if step else text.replace("%", "%%") for step, text in steps)


@cache
def _exact(timestamp_format: str) -> str:
    """Build RE2's expression of the texts that Python takes, or nearly all."""
    return f"(?is)^{''.join(_patterns(list(steps_of(timestamp_format))))}$"


def _patterns(steps: Sequence[tuple[str, str]]) -> list[str]:
    """Return the pattern of each step."""
    numbers = [False, *(step in _NUMBERS for step, _ in steps), False]
    close = [
        number and (before or after) for before, number, after in zip(numbers, numbers[1:], numbers[2:], strict=False)
    ]
    return [
        (_FULL if full else _EXACT).get(step, _EXACT.get(step, r"\S*"))
        if step
        else re.escape(text)
        if text.strip()
        else r"\s+"
        for full, (step, text) in zip(close, steps, strict=True)
    ]


def has_zone(timestamp_format: str) -> bool:
    """Tell whether texts of a format name their zone."""
    return any(step == "z" for step, _ in steps_of(timestamp_format))


def _rolled(texts: pa.Array, times: pa.TimestampArray, timestamp_format: str) -> list[int]:
    """Find texts with a day that their month lacks."""
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
    suspected = zip(places.to_pylist(), suspects.to_pylist(), came_out.to_pylist(), strict=True)
    return [at for at, text, got in suspected if (match := day.exact.match(text)) and int(match[1]) != got]


def _in_utc(texts: pa.Array, timestamp_format: str) -> pa.Array:
    """Set the zones of times to UTC, keeping the clock's time."""
    before = _before(timestamp_format, "z") or ""
    return pc.replace_substring_regex(texts, pattern=f"^({before} *){_ZONE}", replacement=r"\1Z")


@cache
def _day(timestamp_format: str) -> _Day | None:
    """Build the patterns of a day; None where a format has none."""
    before = _before(timestamp_format, "d")
    if before is None:
        return None
    exact = _before(timestamp_format, "d", whole="(?>{})")
    return _Day(f"^{before} *(?:29|30|31)", re.compile(f"{exact} *(29|30|31)"))


def _before(timestamp_format: str, wanted: str, whole: str = "(?:{})") -> str | None:
    """Build a pattern of what precedes a directive. None where it is absent.

    It fits some others too, unless `whole` makes every number as long as strptime does.
    """
    pattern = ""
    for step, text in steps_of(timestamp_format):
        if step == wanted:
            return pattern
        if step in _LARGEST:  # a first digit that is too large for two stands alone
            pattern += " *" + whole.format(rf"[0-{_LARGEST[step]}]\d?|\d")
        elif step:
            pattern += r"\s*" + whole.format(_ZONE if step == "z" else _OTHERS.get(step, _NAME))
        else:
            pattern += re.escape(text) if text.strip() else r"\s*"
    return None


def steps_of(timestamp_format: str) -> Iterator[tuple[str, str]]:
    """Yield a format's steps as (directive, text), one of them empty."""
    for match in _STEP.finditer(timestamp_format):
        directive = match["directive"] or ""
        if directive in _SHORT:
            yield from steps_of(_SHORT[directive])
        elif directive == "%":
            yield "", "%"
        else:
            yield directive, match["blank"] or match["text"] or ""
