"""What the values of a column look like: type, placeholders, range, and whether they could be a key."""

from __future__ import annotations

import math
import re
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ingestlab.formats.common.drift import text_as
from ingestlab.formats.common.inference import EXACT, choose, named, type_of
from ingestlab.formats.common.times import parse

MARKS = ("", "NA", "N/A", "n/a", "#N/A", "NULL", "null", "None", "none", "NaN", "nan", "nil", "\\N", "-", "--", "?")
_CLOCKS = {" %H:%M:%S": r" \d\d?:\d\d:\d\d", " %H:%M": r" \d\d?:\d\d", "": ""}
_DAYS = {  # beside ISO 8601; what a format takes is said more strictly than strptime does
    "%d.%m.%Y": r"\d\d?\.\d\d?\.\d{4}",
    "%d.%m.%y": r"\d\d?\.\d\d?\.\d\d",
    "%d/%m/%Y": r"\d\d?/\d\d?/\d{4}",
    "%d/%m/%y": r"\d\d?/\d\d?/\d\d",
    "%m/%d/%Y": r"\d\d?/\d\d?/\d{4}",
    "%m/%d/%y": r"\d\d?/\d\d?/\d\d",
    "%d-%m-%Y": r"\d\d?-\d\d?-\d{4}",
    "%m-%d-%Y": r"\d\d?-\d\d?-\d{4}",
    "%Y/%m/%d": r"\d{4}/\d\d?/\d\d?",
    "%d-%b-%Y": r"\d\d?-[A-Za-z]{3}-\d{4}",
    "%d-%b-%y": r"\d\d?-[A-Za-z]{3}-\d\d",
    "%d %b %Y": r"\d\d? [A-Za-z]{3} \d{4}",
}
FORMATS = {
    **{day + clock: f"^{looks}{more}$" for day, looks in _DAYS.items() for clock, more in _CLOCKS.items()},
    "%d/%b/%Y:%H:%M:%S": r"^\d\d/[A-Za-z]{3}/\d{4}:\d\d:\d\d:\d\d$",
}
FEW = 12  # different texts of a column that may be a closed set
OFTEN = 10  # how often each must occur, on average
_SLACK = 0.5  # of a column's range, on either side
_NINES = re.compile(r"-?9{3,}\d?(?:\.0+)?")  # 999999, -9999, 999991
_STICKS_OUT = 5  # times the largest of all others
_ZONED_TIME = r"^\d{4}-\d\d-\d\d[T ]\d\d:\d\d.*(?:Z|[+-]\d\d:?\d\d)$"
_ID = re.compile(r"(?i)(?:^|_)(?:id|key|uuid|guid|nr|no)$")


@dataclass(frozen=True)
class Guess:
    """Type of a column by pyarrow's name, time format, and null markers.

    `doubt` says why it is text although it may be more.
    """

    kind: str
    form: str | None = None
    marks: tuple[str, ...] = ()
    doubt: str = ""

    @property
    def times(self) -> bool:
        """Tell whether these are times or dates."""
        return self.kind.startswith(("timestamp", "date"))


@dataclass(frozen=True)
class Seen:
    """Facts known of a column.

    Attributes:
        name: Its name.
        kind: Its type, by pyarrow's name; "json" for nested values.
        nullable: Whether some value is missing, or a placeholder.
        sentinels: Numbers that stand for nothing.
        low: Smallest value to allow; None for no limit.
        high: Largest likewise.
        members: All values to allow; empty for no limit.
        unique: Whether no value comes twice, and none is missing.
        days: Of times, how many different days there are.
        months: Likewise.
    """

    name: str
    kind: str
    nullable: bool
    sentinels: tuple[float, ...] = ()
    low: float | None = None
    high: float | None = None
    members: tuple[str, ...] = ()
    unique: bool = False
    days: int = 0
    months: int = 0

    @classmethod
    def of(cls, name: str, guess: Guess, texts: pa.Array, nulls: AbstractSet[str]) -> Seen:
        """Describe a column of text, under a guess."""
        none = pc.is_in(texts, pa.array(sorted(nulls if guess.kind != "string" else {""}), pa.string()))
        words = pc.if_else(none, pa.scalar(None, pa.string()), texts)
        values = words if guess.kind == "string" else text_as(words, type_of(guess.kind), guess.form)
        return cls.of_values(name, guess.kind, values)

    @classmethod
    def of_values(cls, name: str, kind: str, values: pa.Array) -> Seen:
        """Describe a column of values."""
        valid = values.drop_null()
        seen = cls(name, kind, nullable=len(valid) < len(values) or not len(values))
        if not len(valid):
            return seen
        if kind == "string":
            different = pc.unique(valid)
            few = len(different) <= FEW and len(valid) >= OFTEN * len(different)
            members = tuple(sorted(different.to_pylist())) if few else ()
            return replace(seen, members=members, unique=len(different) == len(values) > 1)
        if kind.startswith(("timestamp", "date")):
            days = pc.unique(pc.floor_temporal(valid, unit="day"))
            return replace(seen, days=len(days), months=len(pc.unique(pc.floor_temporal(valid, unit="month"))))
        return _numeric(seen, valid) if pa.types.is_integer(values.type) or pa.types.is_floating(values.type) else seen

    def without(self, rule: str) -> Seen:
        """Relax the contract after a row broke `rule`."""
        if rule == "type":
            return Seen(self.name, "string", nullable=True)
        if rule == "not_nullable":
            return replace(self, nullable=True)
        return replace(self, low=None, high=None, members=())

    @property
    def is_id(self) -> bool:
        """Tell whether it is named as identifiers are."""
        return _ID.search(self.name) is not None


def guess_text(texts: pa.Array) -> Guess:
    """Guess the type of a column's texts, null markers apart. Text itself has none."""
    marked = pc.is_in(texts, pa.array(MARKS))
    words = texts.filter(pc.invert(marked)).drop_null()
    marks = tuple(sorted(pc.unique(texts.filter(marked)).to_pylist()))
    kind = choose(words)
    if pa.types.is_null(kind):
        return Guess("string")
    if not pa.types.is_string(kind):
        return Guess(named(kind), None, marks)
    forms = [form for form, looks in FORMATS.items() if _is_time(words, form, looks)]
    if len(forms) > 1:
        return Guess("string", doubt=f"each value fits {' and '.join(forms)}: set timestamp_format to the right one")
    return Guess("timestamp[us]", forms[0], marks) if forms else Guess("string", doubt=_offsets(words))


def _is_time(words: pa.Array, form: str, looks: str) -> bool:
    glance = words.slice(0, 64)
    if not pc.all(pc.match_substring_regex(glance, looks)).as_py():
        return False
    fits = pc.all(pc.match_substring_regex(words, looks)).as_py()
    return bool(fits) and not parse(words, form, "us").null_count


def _offsets(words: pa.Array) -> str:
    """Describe times whose zones differ."""
    if not pc.all(pc.match_substring_regex(words, _ZONED_TIME)).as_py():
        return ""
    return 'its times are of several zones: declare timestamp("us", "UTC") to have them as instants'


def guess_values(name: str, values: pa.Array) -> Seen:
    """Describe a typed column. One that cannot be written by its name is of kind "json"."""
    return Seen.of_values(name, named(values.type), values)


def _numeric(seen: Seen, valid: pa.Array) -> Seen:
    different = pc.unique(valid)
    unique = pa.types.is_integer(valid.type) and not seen.nullable and len(different) == len(valid)
    if pc.any(pc.invert(pc.is_finite(different))).as_py():
        return replace(seen, unique=unique)
    numbers: list[Any] = different.to_pylist()
    suspects = [n for n in numbers if _NINES.fullmatch(str(n))]
    others = [n for n in numbers if n not in set(suspects)]
    largest = max((abs(n) for n in others), default=0)
    if largest >= EXACT:  # these are no amounts
        return replace(seen, unique=unique)
    sentinels = tuple(sorted(n for n in suspects if others and not seen.is_id and abs(n) > _STICKS_OUT * largest))
    kept = [n for n in numbers if n not in set(sentinels)]
    low, high = (None, None) if unique or seen.is_id or len(kept) < 2 else _range(min(kept), max(kept))
    return replace(
        seen, nullable=seen.nullable or bool(sentinels), sentinels=sentinels, low=low, high=high, unique=unique
    )


def _range(low: float, high: float) -> tuple[float, float]:
    """Widen a range to round numbers; what is never negative stays so."""
    slack = max(1, _SLACK * (high - low))
    step = 10.0 ** max(0, math.floor(math.log10(slack)))
    bottom = math.floor((low - slack) / step) * step
    top = math.ceil((high + slack) / step) * step
    return (0 if low >= 0 > bottom else _short(bottom)), _short(top)


def _short(number: float) -> float:
    return int(number) if number == int(number) else number
