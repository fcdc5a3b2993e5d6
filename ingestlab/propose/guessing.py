"""What the values of a column look like: type, placeholders, range, and whether they could be a key."""

from __future__ import annotations

import math
import re
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ingestlab.readers.drift import text_as

MARKS = ("", "NA", "N/A", "n/a", "#N/A", "NULL", "null", "None", "none", "NaN", "nan", "nil", "\\N", "-", "--", "?")
FORMATS = (  # beside ISO 8601; where day and month cannot be told apart, the day comes first
    "%d.%m.%Y %H:%M:%S",
    "%d.%m.%Y %H:%M",
    "%d.%m.%Y",
    "%d/%m/%Y %H:%M:%S",
    "%d/%m/%Y %H:%M",
    "%d/%m/%Y",
    "%m/%d/%Y %H:%M:%S",
    "%m/%d/%Y %H:%M",
    "%m/%d/%Y",
    "%Y/%m/%d %H:%M:%S",
    "%Y/%m/%d %H:%M",
    "%Y/%m/%d",
    "%d-%b-%Y %H:%M:%S",
    "%d-%b-%Y",
    "%d %b %Y",
    "%d/%b/%Y:%H:%M:%S",
)
FEW = 12  # different texts of a column that may be a closed set
OFTEN = 10  # how often each must occur, on average
_SLACK = 0.25  # of a column's range, on either side
_NINES = re.compile(r"-?9{3,}\d?(?:\.0+)?")  # 999999, -9999, 999991
_STICKS_OUT = 5  # times the largest of all others
_ID = re.compile(r"(?i)(?:^|_)(?:id|key|uuid|guid|nr|no)$")


@dataclass(frozen=True)
class Guess:
    """A column's type by pyarrow's name, the format of its times, and the texts that stand for nothing in it."""

    kind: str
    form: str | None = None
    marks: tuple[str, ...] = ()

    @property
    def times(self) -> bool:
        """Whether these are times or days."""
        return self.kind.startswith(("timestamp", "date"))


@dataclass(frozen=True)
class Seen:
    """What is known of a column.

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
        """A column of text, under a guess."""
        none = pc.is_in(texts, pa.array(sorted(nulls), pa.string()))
        words = pc.if_else(none, pa.scalar(None, pa.string()), texts)
        values = words if guess.kind == "string" else text_as(words, _type(guess.kind), guess.form)
        return cls.of_values(name, guess.kind, values)

    @classmethod
    def of_values(cls, name: str, kind: str, values: pa.Array) -> Seen:
        """A column of values."""
        valid = values.drop_null()
        seen = cls(name, kind, nullable=len(valid) < len(values) or not len(values))
        if not len(valid):
            return seen
        if kind == "string":
            different = pc.unique(valid)
            few = len(different) <= FEW and len(valid) >= OFTEN * len(different)
            members = tuple(sorted(different.to_pylist())) if few else ()
            return replace(seen, members=members, unique=_unique(values, len(different)))
        if kind.startswith(("timestamp", "date")):
            days = pc.unique(pc.floor_temporal(valid, unit="day"))
            return replace(seen, days=len(days), months=len(pc.unique(pc.floor_temporal(valid, unit="month"))))
        return _numeric(seen, valid) if pa.types.is_integer(values.type) or pa.types.is_floating(values.type) else seen

    def without(self, rule: str) -> Seen:
        """The same after a row broke `rule`."""
        if rule == "type":
            return Seen(self.name, "string", nullable=True)
        if rule == "not_nullable":
            return replace(self, nullable=True)
        return replace(self, low=None, high=None, members=())

    @property
    def is_id(self) -> bool:
        """Whether it is called as identifiers are."""
        return _ID.search(self.name) is not None


def guess_text(texts: pa.Array) -> Guess:
    """The narrowest type that all texts of a column have, but for those that stand for nothing."""
    marks = tuple(sorted(set(pc.unique(texts.filter(pc.is_in(texts, pa.array(MARKS)))).to_pylist())))
    words = texts.filter(pc.invert(pc.is_in(texts, pa.array(MARKS)))).drop_null()
    if not len(words) or pc.any(pc.match_substring_regex(words, r"^-?0\d")).as_py():
        return Guess("string")  # 007 is no number
    found = text_as(words, None).type
    if not pa.types.is_string(found):
        return Guess(str(found).replace("double", "float64").removesuffix("[day]"), None, marks)
    for form in FORMATS:
        try:
            text_as(words, pa.timestamp("s"), form)
        except pa.ArrowInvalid:
            continue
        return Guess("timestamp[s]", form, marks)
    return Guess("string")


def guess_values(name: str, values: pa.Array) -> Seen:
    """A column that has a type already; one that cannot be written by its name is of kind "json"."""
    kind = {"double": "float64", "float": "float32"}.get(str(values.type), str(values.type).removesuffix("[day]"))
    return Seen.of_values(name, kind, values)


def _type(kind: str) -> pa.DataType:
    """The type of a name; also of those with a zone, which pyarrow does not read."""
    zoned = re.fullmatch(r"timestamp\[(\w+), tz=(.+)\]", kind)
    return pa.timestamp(zoned[1], zoned[2]) if zoned else pa.type_for_alias(kind)


def _numeric(seen: Seen, valid: pa.Array) -> Seen:
    different = pc.unique(valid)
    unique = not seen.nullable and len(different) == len(valid)
    if pc.any(pc.invert(pc.is_finite(different))).as_py():
        return replace(seen, unique=unique)
    numbers: list[Any] = different.to_pylist()
    suspects = [n for n in numbers if _NINES.fullmatch(str(n))]
    others = [n for n in numbers if n not in set(suspects)]
    largest = max((abs(n) for n in others), default=0)
    sentinels = tuple(sorted(n for n in suspects if others and not seen.is_id and abs(n) > _STICKS_OUT * largest))
    kept = [n for n in numbers if n not in set(sentinels)]
    low, high = (None, None) if unique or seen.is_id or len(kept) < 2 else _range(min(kept), max(kept))
    return replace(
        seen, nullable=seen.nullable or bool(sentinels), sentinels=sentinels, low=low, high=high, unique=unique
    )


def _range(low: float, high: float) -> tuple[float, float]:
    """A range with some slack, in round numbers; what is never negative stays so."""
    slack = max(1, _SLACK * (high - low))
    step = 10.0 ** max(0, math.floor(math.log10(slack)))
    bottom = math.floor((low - slack) / step) * step
    top = math.ceil((high + slack) / step) * step
    return (0 if low >= 0 > bottom else _short(bottom)), _short(top)


def _short(number: float) -> float:
    return int(number) if number == int(number) else number


def _unique(values: pa.Array, different: int) -> bool:
    return different == len(values) > 1
