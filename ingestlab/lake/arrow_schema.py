"""Which types hold which: the one place that says what may be widened, and that no value changes by it."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

ADDED = ("_source", "_row")  # columns of every table, whose types are always the same
_WHOLE_DIGITS = {8: 3, 16: 5, 32: 10, 64: 20}  # decimal digits that integers of so many bits have at most
_UNITS = ("s", "ms", "us", "ns")
_ZONED = re.compile(r"timestamp\[(s|ms|us|ns), tz=(.+)\]")
_DECIMAL = re.compile(r"decimal(32|64|128|256)\((\d+), (-?\d+)\)")
_ENCODED = "ipc:"  # before a type that has no short text, as Arrow itself writes it

REJECTS = pa.schema(
    [
        ("table", pa.string()),
        ("run", pa.string()),
        ("source", pa.string()),
        ("sha256", pa.string()),
        ("row", pa.int64()),
        ("rule", pa.string()),
        ("column", pa.string()),
        ("value", pa.string()),
        ("raw", pa.string()),
    ]
)


def plain(kind: pa.DataType) -> pa.DataType:
    """Return the type of the values, where a dictionary stands for them."""
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def decoded(values: Any) -> Any:
    """Replace a dictionary array, chunked or not, by its values."""
    return values.cast(values.type.value_type) if pa.types.is_dictionary(values.type) else values


def type_text(kind: pa.DataType) -> str:
    """Write a type as text, for manifests and jobs."""
    text = str(plain(kind))
    try:
        if parse_type(text) == plain(kind):
            return text
    except ValueError:
        pass
    return _ENCODED + base64.b64encode(pa.schema({"": plain(kind)}).serialize()).decode()


def parse_type(text: str) -> pa.DataType:
    """Parse the text of :func:`type_text` or of a declaration.

    Raises:
        ValueError: There is no such type.
    """
    if text.startswith(_ENCODED):
        return pa.ipc.read_schema(pa.py_buffer(base64.b64decode(text.removeprefix(_ENCODED)))).field(0).type
    if zoned := _ZONED.fullmatch(text):
        return pa.timestamp(zoned[1], zoned[2])
    if decimal := _DECIMAL.fullmatch(text):
        make: Callable[[int, int], pa.DataType] = getattr(pa, f"decimal{decimal[1]}")
        return make(int(decimal[2]), int(decimal[3]))
    return pa.type_for_alias(text)


def types_of(schema: pa.Schema) -> dict[str, str]:
    """Return the types of a table's own columns in its files."""
    return {field.name: type_text(_stored(field.type)) for field in schema if field.name not in ADDED}


def common_schema(left: pa.Schema, right: pa.Schema) -> pa.Schema | None:
    """Join two schemas, widened without loss.

    Args:
        left: The columns of some rows.
        right: Those of others; columns of the same name become one.

    Returns:
        All columns, those of `left` first; None if a value would have to change.
    """
    try:
        both = pa.unify_schemas([left, right], promote_options="permissive")
    except (pa.ArrowTypeError, pa.ArrowInvalid):
        return None
    fields = [field for schema in (left, right) for field in schema]
    return both if all(holds(both.field(f.name).type, f.type) for f in fields) else None


def holds(wide: pa.DataType, narrow: pa.DataType) -> bool:
    """Tell whether one type has all values of another.

    Args:
        wide: The type that may have more values.
        narrow: The other one.
    """
    if wide == narrow or pa.types.is_null(narrow):
        return True
    if pa.types.is_signed_integer(wide) and pa.types.is_integer(narrow):
        return bool(wide.bit_width > narrow.bit_width)
    if pa.types.is_decimal(wide) and pa.types.is_decimal(narrow):
        return bool(wide.scale >= narrow.scale and wide.precision - wide.scale >= narrow.precision - narrow.scale)
    if pa.types.is_decimal(wide) and pa.types.is_integer(narrow):
        return bool(wide.precision - wide.scale >= _WHOLE_DIGITS[narrow.bit_width])
    same: tuple[Callable[[pa.DataType], bool], ...] = (pa.types.is_unsigned_integer, pa.types.is_floating)
    for kind in same:
        if kind(wide) and kind(narrow):
            return bool(wide.bit_width > narrow.bit_width)
    return _holds_nested(wide, narrow) or bool(pa.types.is_large_string(wide) and pa.types.is_string(narrow))


def _holds_nested(wide: pa.DataType, narrow: pa.DataType) -> bool:
    if pa.types.is_struct(wide) and pa.types.is_struct(narrow):
        return all(wide.get_field_index(f.name) >= 0 and holds(wide.field(f.name).type, f.type) for f in narrow)
    return pa.types.is_list(wide) and pa.types.is_list(narrow) and holds(wide.value_type, narrow.value_type)


def common_type(kinds: Iterable[pa.DataType]) -> pa.DataType:
    """Find the type that a table shows for several types. Text where nothing else holds them.

    Numbers and floats are floats, and times of several units the finest, though some values may not fit: see
    :func:`fit`.
    """
    types = list(dict.fromkeys(plain(kind) for kind in kinds if not pa.types.is_null(kind)))
    if not types:
        return pa.null()
    wide = types[0]
    for kind in types[1:]:
        wide = _both(wide, kind)
    return wide


def readable(kinds: Iterable[pa.DataType]) -> bool:
    """Tell whether readers can show several types as one column: text is none for objects, lists and bytes."""
    types = list(kinds)
    both = common_type(types)
    hard = [kind for kind in types if _family(kind) in ("object", "list", "bytes") or pa.types.is_nested(kind)]
    return all(holds(both, kind) for kind in hard)


def is_text(kind: pa.DataType) -> bool:
    """Tell whether a type is one of texts."""
    return any(test(kind) for test in (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view))


def fit(values: pa.ChunkedArray, kind: pa.DataType, *, as_text: bool = False) -> pa.ChunkedArray | None:
    """Cast values to another type, if none changes, else None.

    Args:
        values: A column; a dictionary stands for its values.
        kind: What they are to be.
        as_text: Whether numbers and times may become text.
    """
    if pa.types.is_dictionary(values.type):
        values = values.cast(plain(values.type))
    if values.type == kind or values.null_count == len(values):
        return values if values.type == kind else pa.chunked_array([pa.nulls(len(values), kind)])
    if not _related(values.type, kind) and not (as_text and is_text(kind) and not pa.types.is_nested(values.type)):
        return None
    try:
        cast = values.cast(kind)
        if holds(kind, values.type) or is_text(kind):
            return cast
        back = cast.cast(values.type)
        if pa.types.is_nested(kind):
            return cast if back.equals(values) else None
        same = pc.equal(_without_nan(back), _without_nan(values))
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError):
        return None
    return cast if pc.all(same, min_count=0).as_py() is not False and cast.null_count == values.null_count else None


def reading_type(kinds: Iterable[pa.DataType], *, folder: bool) -> pa.DataType:
    """Return the type that readers of a table give to a column.

    A column whose values are folders' names is of whole numbers, or else text: a day is ``"2017-10-23"``.
    """
    types = [plain(kind) for kind in kinds]
    if not folder:
        return common_type(types)
    whole = all(pa.types.is_integer(kind) for kind in types)
    wide = common_type(types) if whole and types else pa.string()
    return wide if pa.types.is_integer(wide) else pa.string()


def same_but_for_case(names: Iterable[str], known: Iterable[str] = ()) -> tuple[str, str] | None:
    """Find two names that differ by letter case alone, also known ones.

    Args:
        names: Compared with each other.
        known: Compared with those, too.
    """
    seen: dict[str, str] = {}
    for name in (*known, *names):
        first = seen.setdefault(name.casefold(), name)
        if first != name:
            return first, name
    return None


def joined_types(*several: Mapping[str, Iterable[str]]) -> dict[str, tuple[str, ...]]:
    """Collect the types of columns in several places, each once."""
    both: dict[str, dict[str, None]] = {}
    for types in several:
        for name, kinds in types.items():
            both.setdefault(name, {}).update(dict.fromkeys(kinds))
    return {name: tuple(kinds) for name, kinds in both.items()}


def _stored(kind: pa.DataType) -> pa.DataType:
    """Return a type as Parquet gives it back, which has no seconds."""
    if pa.types.is_timestamp(kind) and kind.unit == "s":
        return pa.timestamp("ms", kind.tz)
    if pa.types.is_time32(kind):
        return pa.time32("ms")
    return pa.date32() if pa.types.is_date64(kind) else kind


def _both(left: pa.DataType, right: pa.DataType) -> pa.DataType:
    both = common_schema(pa.schema({"x": left}), pa.schema({"x": right}))
    if both is not None:
        return both.field("x").type
    if pa.types.is_nested(left) and pa.types.is_nested(right):
        return _both_nested(left, right) or pa.string()
    whole = [pa.types.is_integer(kind) for kind in (left, right)]
    if all(whole):
        return pa.decimal128(20, 0)
    if all(w or pa.types.is_floating(kind) for w, kind in zip(whole, (left, right), strict=True)):
        return pa.float64()
    if any(whole) and (pa.types.is_decimal(left) or pa.types.is_decimal(right)):
        scale = right.scale if pa.types.is_decimal(right) else left.scale
        return pa.decimal128(38, scale) if scale <= 38 - _WHOLE_DIGITS[64] else pa.string()
    return _both_times(left, right) or (pa.large_string() if pa.types.is_large_string(left) else pa.string())


def _both_nested(left: pa.DataType, right: pa.DataType) -> pa.DataType | None:
    schemas = [pa.schema({"x": kind}) for kind in (left, right)]
    try:
        return pa.unify_schemas(schemas, promote_options="permissive").field("x").type
    except (pa.ArrowTypeError, pa.ArrowInvalid):
        return None


def _both_times(left: pa.DataType, right: pa.DataType) -> pa.DataType | None:
    times = [kind for kind in (left, right) if pa.types.is_timestamp(kind)]
    dates = [kind for kind in (left, right) if pa.types.is_date(kind)]
    if len(dates) == 2:
        return pa.date32()
    if len(times) + len(dates) == 2 and times:
        zones = {kind.tz for kind in times}
        if (len(zones) > 1 and None in zones) or (dates and zones != {None}):
            return None
        unit = max((kind.unit for kind in times), key=_UNITS.index)
        return pa.timestamp(unit, zones.pop() if len(zones) == 1 else "UTC")
    for test, make in ((pa.types.is_duration, pa.duration), (pa.types.is_time64, pa.time64)):
        if test(left) and test(right):
            return make(max(left.unit, right.unit, key=_UNITS.index))
    return None


def _related(left: pa.DataType, right: pa.DataType) -> bool:
    """Tell whether two types may have values in common."""
    return bool(_family(left) and _family(left) == _family(right))


def _family(kind: pa.DataType) -> str:
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return "number"
    if pa.types.is_timestamp(kind):
        return "instant" if kind.tz else "time"
    if pa.types.is_date(kind):
        return "time"
    if is_text(kind):
        return "text"
    for test, name in (
        (pa.types.is_time, "clock"),
        (pa.types.is_duration, "duration"),
        (pa.types.is_binary, "bytes"),
        (pa.types.is_struct, "object"),
        (pa.types.is_list, "list"),
    ):
        if test(kind):
            return name
    return "bytes" if pa.types.is_large_binary(kind) else ""


def _without_nan(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Replace NaN, which equals nothing, by a number."""
    if not pa.types.is_floating(values.type):
        return values
    return pc.if_else(pc.is_nan(values), pa.scalar(1e300, values.type), values)
