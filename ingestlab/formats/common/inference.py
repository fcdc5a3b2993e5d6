"""The types that ingestlab chooses where none is declared: one set of rules for all formats, `check` and `new`.

A type is chosen for a column only if its values give back every text of the column, up to the canonical forms that
docs/reference/types.md has in a table. What is known of a column is a small value that can be merged, so that a file is
looked at in pieces, and the answer does not depend on where it was cut.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from decimal import Decimal

import pyarrow as pa
import pyarrow.compute as pc

from ingestlab.formats.common.times import has_zone, parse

EXACT = 2**53  # from here on a float64 has no room for every integer
DIGITS = 15  # significant digits that a float64 always gives back
_GLANCE = 64  # values that are looked at first: they settle what most columns of text are
_SAFE = DIGITS + 1  # characters of a number that has no more digits than that: there is a point among them
_SPELLINGS = (("true", "false"), ("True", "False"), ("TRUE", "FALSE"))
_POSITIONAL = r"^(?:-?(?:[1-9]\d*(?:\.\d+)?|0\.\d+)|0)$"
_SCIENTIFIC = re.compile(r"-?[1-9](?:\.\d+)?e[-+]\d\d+")
_OUT_OF_PLACE = r"^-?0\.0000\d*[1-9]|^-?\d{17}"  # where Python writes an exponent
_LONG = r"^-?\d{16,}$"  # a whole number that some float stands for, but not for it alone
_DAY = r"^\d{4}-\d\d-\d\d$"
_TIME = re.compile(r"\d{4}-\d\d-\d\d([T ])\d\d:\d\d(:\d\d(?:\.\d{1,6})?)?(Z|[+-]\d\d:?\d\d)?")
_YEAR_0 = "^0000"  # that Arrow knows and Python does not
_ZONED = re.compile(r"timestamp\[(\w+), tz=(.+)\]")
_DECIMAL = re.compile(r"decimal(32|64|128|256)\((\d+), (-?\d+)\)")

_ENCODED = "ipc:"  # before a type that has no short text, as Arrow itself writes it
_NAMES = {"double": "float64", "float": "float32", "extension<arrow.json>": "json"}

UTC_TIME = pa.timestamp("us", "UTC")
PLAIN_TIME = pa.timestamp("us")


@dataclass(frozen=True, slots=True)
class Written:
    """How a column's numbers are written. float64 needs one way that gives back all of them.

    Attributes:
        bare: Some have no point.
        whole: Some are whole and have one, as 3.0 has.
        padded: Some end in a zero that Python would not write, as 2.50 does.
        least: Fewest decimals of those with a point; 0 where there is none.
        most: Most decimals.
        scientific: Some have an exponent, written as Python does.
        distant: Some have none where Python would write one.
    """

    bare: bool = False
    whole: bool = False
    padded: bool = False
    least: int = 0
    most: int = 0
    scientific: bool = False
    distant: bool = False

    def __or__(self, other: Written) -> Written:
        decimals = [n for n in (self.least, other.least) if n]
        return Written(
            bare=self.bare or other.bare,
            whole=self.whole or other.whole,
            padded=self.padded or other.padded,
            least=min(decimals, default=0),
            most=max(self.most, other.most),
            scientific=self.scientific or other.scientific,
            distant=self.distant or other.distant,
        )

    @property
    def alike(self) -> bool:
        """Tell whether no two texts are one number."""
        if (self.bare and self.whole) or (self.padded and self.least != self.most):
            return False
        return not (self.scientific and (self.padded or self.distant))


@dataclass(frozen=True, slots=True)
class Looks:
    """Types that fit all texts of a column.

    Attributes:
        kinds: The names of those types; None as long as there was no text.
        written: How they are written as numbers.
        marks: Those among the other texts that stand for no value unless the column is text.
    """

    kinds: frozenset[str] | None = None
    written: Written = Written()
    marks: frozenset[str] = frozenset()

    def __or__(self, other: Looks) -> Looks:
        marks = self.marks | other.marks
        if self.kinds is None or other.kinds is None:
            return replace(self if other.kinds is None else other, marks=marks)
        return Looks(self.kinds & other.kinds, self.written | other.written, marks)

    @property
    def text(self) -> bool:
        """Tell whether the column is surely text, whatever else comes."""
        return self.kinds is not None and not self.kinds

    @property
    def type(self) -> pa.DataType:
        """Return the chosen type; null where there was no text."""
        kinds = self.kinds
        if kinds is None:
            return pa.null()
        if "int64" in kinds:
            return pa.int64()
        if "uint64" in kinds:
            return pa.uint64()
        if "float64" in kinds and self.written.alike:
            return pa.float64()
        others = [kind for name, kind in _OTHERS.items() if any(k.startswith(name) for k in kinds)]
        return others[0] if others else pa.string()


_OTHERS = {"bool": pa.bool_(), "date": pa.date32(), "utc": UTC_TIME, "time": PLAIN_TIME}


def look(texts: pa.Array, timestamp_format: str | None = None, *, times_alone: bool = False) -> Looks:
    """Collect the types that fit some texts of a column.

    Args:
        texts: Nulls do not count.
        timestamp_format: For strptime, in place of ISO 8601.
        times_alone: Whether they were said to be text, as JSON's strings are: then they may be times, no numbers.
    """
    words, tests = texts.drop_null(), _TIMES if times_alone else _TESTS
    if len(words) > _GLANCE:  # a test that some fail is not put to all
        glance = words.slice(0, _GLANCE)
        first = next((i for i, test in enumerate(tests) if test(glance, timestamp_format).kinds), len(tests))
        tests = tests[first:]
    if not len(words):
        return Looks()
    return next((looks for test in tests if (looks := test(words, timestamp_format)).kinds), _TEXT)


def choose(texts: pa.Array, timestamp_format: str | None = None) -> pa.DataType:
    """Choose the type of a column of texts, all of them.

    Args:
        texts: The column, nulls left as they are.
        timestamp_format: As strptime takes it; None for ISO 8601.
    """
    return look(texts, timestamp_format).type


def or_text(kind: pa.DataType | None) -> pa.DataType:
    """Replace a missing or null type by text."""
    return pa.string() if kind is None or pa.types.is_null(kind) else kind


def inexact(values: pa.Array | pa.ChunkedArray) -> bool:
    """Tell whether integers that became floats may have lost digits."""
    return bool(pc.any(pc.greater_equal(pc.abs(values), float(EXACT))).as_py())


def named(kind: pa.DataType) -> str:
    """Name a type as it is declared."""
    return _NAMES.get(str(kind), str(kind).removesuffix("[day]"))


def type_text(kind: pa.DataType) -> str:
    """Write a type as text for :func:`type_of`, nested ones too."""
    if pa.types.is_nested(kind):
        return _ENCODED + base64.b64encode(pa.schema([pa.field("", kind)]).serialize()).decode()
    return named(kind)


def type_of(name: str) -> pa.DataType:
    """Parse the name of a type. Zoned times and decimals, which pyarrow does not parse, are included.

    Raises:
        ValueError: There is none of that name.
    """
    if name.startswith(_ENCODED):
        return pa.ipc.read_schema(pa.py_buffer(base64.b64decode(name.removeprefix(_ENCODED)))).field(0).type
    if name == "json":
        return pa.json_()
    if zoned := _ZONED.fullmatch(name):
        return pa.timestamp(zoned[1], zoned[2])
    if decimal := _DECIMAL.fullmatch(name):
        of: Callable[[int, int], pa.DataType] = getattr(pa, f"decimal{decimal[1]}")
        return of(int(decimal[2]), int(decimal[3]))
    return pa.type_for_alias(name)


def merged(columns: Mapping[str, Looks], more: Mapping[str, Looks]) -> dict[str, Looks]:
    """Intersect the types of two pieces of a file, by column."""
    return {name: columns.get(name, Looks()) | more.get(name, Looks()) for name in {**columns, **more}}


_Test = Callable[[pa.Array, str | None], Looks]
_TEXT = Looks(frozenset())


def _truth(words: pa.Array, _format: str | None) -> Looks:
    fits = (spelling for spelling in _SPELLINGS if pc.all(pc.is_in(words, pa.array(spelling))).as_py())
    return Looks(frozenset(f"bool {yes}" for yes, _ in fits))


def _integer(words: pa.Array, _format: str | None) -> Looks:
    for kind in (pa.int64(), pa.uint64()):
        numbers = _given_back(words, kind)
        if numbers is None:
            continue
        low, high = pc.min_max(numbers).values()
        kinds = {"int64"} if pa.types.is_signed_integer(kind) else {"uint64"}
        if low.as_py() >= 0:
            kinds.add("uint64")
        if max(-low.as_py(), high.as_py()) < EXACT:
            kinds.add("float64")
        return Looks(frozenset(kinds), Written(bare=True))
    return _TEXT


def _decimal(words: pa.Array, _format: str | None) -> Looks:
    if not pc.match_substring_regex(words, r"^-?\d")[0].as_py():
        return _TEXT  # spares most columns of text the rest
    plain = pc.match_substring_regex(words, _POSITIONAL)
    numbers, others = words.filter(plain), words.filter(pc.invert(plain))
    if not all(_SCIENTIFIC.fullmatch(text) and repr(float(text)) == text for text in pc.unique(others).to_pylist()):
        return _TEXT
    if _any(numbers, _LONG) or not _exact(numbers):
        return _TEXT
    pointed = numbers.filter(pc.match_substring(numbers, "."))
    far = _any(numbers, _OUT_OF_PLACE)
    written = Written(bare=len(pointed) < len(numbers), scientific=len(others) > 0, distant=far)
    if not len(pointed):
        return Looks(frozenset({"float64"}), written)
    decimals = pc.subtract(pc.subtract(pc.binary_length(pointed), pc.find_substring(pointed, ".")), 1)
    least, most = pc.min_max(decimals).values()
    written = replace(written, least=least.as_py(), most=most.as_py())
    written = replace(written, whole=_any(pointed, r"\.0+$"), padded=_any(pointed, r"\.\d+0$"))
    return Looks(frozenset({"float64"}), written)


def _exact(numbers: pa.Array) -> bool:
    """Tell whether floats give back the digits of numbers without exponents."""
    long = numbers.filter(pc.greater(pc.binary_length(numbers), _SAFE))
    if not len(long):
        return True
    again = long.cast(pa.float64()).cast(pa.string())
    doubtful = long.filter(pc.not_equal(long, again)).to_pylist()
    return all(Decimal(repr(float(text))) == Decimal(text) for text in doubtful)


def _day(words: pa.Array, timestamp_format: str | None) -> Looks:
    if timestamp_format is not None or not _all(words, _DAY) or _any(words, _YEAR_0):
        return _TEXT
    return _TEXT if _given_back(words, pa.date32()) is None else Looks(frozenset({"date"}))


def _time(words: pa.Array, timestamp_format: str | None) -> Looks:
    """Recognize times of one shape. Zoned ones need one offset, to tell their hours again."""
    if timestamp_format is not None:
        return _time_as(words, timestamp_format)
    first = _TIME.fullmatch(words[0].as_py())
    if first is None or _any(words, _YEAR_0):
        return _TEXT
    separator, seconds, zone = first.groups()
    shape = rf"^\d{{4}}-\d\d-\d\d{separator}\d\d:\d\d" + (r":\d\d(?:\.\d{1,6})?" if seconds else "")
    if not _all(words, f"{shape}{re.escape(zone or '')}$"):
        return _TEXT
    try:
        low, high = pc.min_max(words.cast(UTC_TIME if zone else PLAIN_TIME)).values()
        low.as_py(), high.as_py()
    except (pa.ArrowInvalid, ValueError, OverflowError):  # the latter where an hour falls out of Python's calendar
        return _TEXT
    return Looks(frozenset({f"{'utc' if zone else 'time'} {separator}{bool(seconds)}{zone or ''}"}))


def _time_as(words: pa.Array, timestamp_format: str) -> Looks:
    if parse(words, timestamp_format, "us").null_count:
        return _TEXT
    return Looks(frozenset({f"{'utc' if has_zone(timestamp_format) else 'time'} {timestamp_format}"}))


_TIMES: Sequence[_Test] = (_day, _time)
_TESTS: Sequence[_Test] = (_truth, _integer, _decimal, *_TIMES)  # a text passes one at most, but for whole numbers


def _given_back(words: pa.Array, kind: pa.DataType) -> pa.Array | None:
    """Convert words to a type. None unless it gives them back to the letter."""
    with suppress(pa.ArrowInvalid):
        values = words.cast(kind)
        if values.cast(pa.string()).equals(words):
            return values
    return None


def _all(words: pa.Array, pattern: str) -> bool:
    return bool(pc.all(pc.match_substring_regex(words, pattern)).as_py())


def _any(words: pa.Array, pattern: str) -> bool:
    return bool(pc.any(pc.match_substring_regex(words, pattern)).as_py())
