"""What kinds of columns a profile knows, and their values as numbers, as JSON and as text for people."""

from __future__ import annotations

import re
from datetime import timedelta
from decimal import Decimal, localcontext
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

Kind = Literal[
    "int", "float", "decimal", "bool", "text", "bytes", "timestamp", "instant", "date", "time", "duration",
    "other", "null", "mixed",
]  # fmt: skip
TIMES = ("timestamp", "instant", "date", "time", "duration")  # an instant is a timestamp with a zone
NUMBERS = ("int", "decimal", "float")  # each holds all those before it
MAX_TEXT = 40  # characters of a value that a profile keeps

_NANOS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
_DAY = 86_400 * 10**9
_KINDS: dict[str, Kind] = {
    "null": "null",
    "bool": "bool",
    "float": "float",
    "double": "float",
    "string": "text",
    "large_string": "text",
    "string_view": "text",
    "binary": "bytes",
    "large_binary": "bytes",
}
_READ: dict[str, pa.DataType] = {
    "int": pa.int64(),
    "float": pa.float64(),
    "bool": pa.bool_(),
    "date": pa.date32(),
    "timestamp": pa.timestamp("ns"),
    "instant": pa.timestamp("ns", "UTC"),
}


def kind_of(type_: pa.DataType) -> Kind:
    """Classify an Arrow type; lists, structs and the like are "other"."""
    if pt.is_integer(type_):
        return "int"
    if pt.is_decimal(type_):
        return "decimal"
    if pt.is_timestamp(type_):
        return "timestamp" if type_.tz is None else "instant"
    for test, kind in ((pt.is_date, "date"), (pt.is_time, "time"), (pt.is_duration, "duration")):
        if test(type_):
            return kind  # type: ignore[return-value]
    return _KINDS.get(str(type_), "other")


def common(left: Kind, right: Kind) -> Kind:
    """Choose the kind of a column that has two kinds."""
    if left == right:
        return left
    if "null" in (left, right):
        return left if right == "null" else right
    if left in NUMBERS and right in NUMBERS:
        return max(left, right, key=NUMBERS.index)
    return "mixed"


def integers(array: pa.Array, kind: Kind) -> pa.Array:
    """Convert booleans and times to integers; others stay."""
    if kind == "bool":
        return array.cast(pa.int8())
    if kind not in TIMES:
        return array
    return array.view(pa.int32() if array.type.bit_width == 32 else pa.int64())


def unit(type_: pa.DataType) -> int:
    """Return the factor from a time type's integers to nanoseconds. 1 for others."""
    if pt.is_date(type_):
        return _DAY if type_.bit_width == 32 else _NANOS["ms"]
    return _NANOS[type_.unit] if pt.is_temporal(type_) else 1


def to_json(value: Any, kind: Kind) -> Any:
    """Convert a plain value for a profile; times are nanoseconds already."""
    if kind == "bool":
        return bool(value)
    if kind == "float":
        return float(value) if np.isfinite(value) else str(value)
    if kind == "decimal":
        with localcontext(prec=100):
            return format(value.normalize(), "f")
    return clip(value) if kind == "text" else value


def from_json(value: Any, kind: Kind) -> Any:
    """Restore a kept value, comparable as in the column."""
    if kind == "float":
        return float(value)
    return Decimal(str(value)) if kind == "decimal" else value


def recode(value: Any, old: Kind, new: Kind) -> Any:
    """Convert a kept value to a kind that holds it."""
    return value if old == new else to_json(from_json(value, new), new)


def clip(text: str) -> str:
    """Clip a text with an ellipsis. Of two texts the smaller one stays smaller."""
    return text if len(text) <= MAX_TEXT else text[:MAX_TEXT] + "…"


def to_text(value: Any, kind: Kind) -> str:
    """Write a kept value or a mean for people. Means of times to the second.

    Args:
        value: As the profile keeps it; times in nanoseconds.
        kind: Of its column.
    """
    if value is None:
        return ""
    if kind in TIMES and isinstance(value, float):
        value = round(value / 1e9) * 10**9
    if kind == "bool" and isinstance(value, bool):
        return str(value).lower()
    if kind == "duration":
        return str(timedelta(microseconds=value / 1000))
    if kind in TIMES:
        return _time_to_text(value, kind)
    if isinstance(value, int):
        return str(value)
    return str(value) if kind in ("text", "decimal") and isinstance(value, str) else f"{float(value):.6g}"


def to_value(value: Any, kind: Kind) -> Any:
    """Convert a kept value or a mean for a frame: numbers stay, times become text."""
    if value is None or kind in ("text", "bytes"):
        return value
    if kind in TIMES:
        return to_text(value, kind)
    return float(value) if kind == "float" or isinstance(value, str) else value


def _time_to_text(nanos: int, kind: Kind) -> str:
    seconds, rest = divmod(nanos, 10**9)
    day, _, clock = str(np.datetime64(seconds, "s")).partition("T")
    if kind == "date":
        return day
    text = (clock if kind == "time" else f"{day} {clock}") + (f".{rest:09d}".rstrip("0") if rest else "")
    return text + "Z" if kind == "instant" else text


def parse(values: pa.Array, kind: Kind | None) -> pa.Array:
    """Parse texts such as folders' names by kind. Integers if all look so."""
    different = pc.unique(values).to_pylist()
    if kind is None:
        kind = "int" if all(re.fullmatch(r"-?\d{1,9}", text) for text in different) else "text"
    if kind == "decimal":
        places = max((len(text.partition(".")[2]) for text in different), default=0)
        return values.cast(pa.decimal256(76, places))
    return values.cast(_READ[kind]) if kind in _READ else values
