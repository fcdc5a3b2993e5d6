"""Arrow values as MongoDB has them; docs/how-to/documents.md has the table.

What BSON has no type for becomes the nearest one that keeps the value. Where none keeps it, the row is refused.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal, DecimalException
from functools import partial
from typing import Any

import pyarrow as pa
from pyarrow import types as kinds

from ingestlab.core.errors import TerminalError
from ingestlab.core.extras import needed
from ingestlab.interfaces import MAX_VALUE, Reason

DECIMAL, DATE, KEY, TOO_LARGE = "document:decimal", "document:date", "document:key", "document:too large"
LARGEST = 16 << 20  # bytes of a document
ID, ABOUT = "_id", "_ingestlab"  # fields that are not a column's
_MOST = 2**63 - 1  # of BSON's integers
_FIRST, _LAST = -62_135_596_800_000, 253_402_300_799_999  # milliseconds of the years 1 to 9999, which Python can read
_PER_MS = {"ms": 1, "us": 10**3, "ns": 10**6}
_DAY = 86_400_000
Convert = Callable[[Any], Any]


class MisfitError(Exception):
    """Raised with rule and text of a value that BSON cannot hold."""


@dataclass(frozen=True)
class Column:
    """Values of one field, and faults by row."""

    name: str
    values: Sequence[Any]
    faults: dict[int, Reason]


def columns_of(table: pa.Table) -> list[Column]:
    """Convert the columns of a table.

    Raises:
        TerminalError: Two of them become one field, or one has a name that is taken.
    """
    names = [field_name(name) for name in table.column_names]
    _check_names(names, table.column_names)
    return [_column(name, table[i]) for i, name in enumerate(names)]


def field_name(name: str) -> str:
    """Name the field of a column: a `.`, a leading `$` and NUL, which queries cannot name, become `_`."""
    return re.sub(r"^\$|[.\0]", "_", name) or "_"


def key_of(name: str, column: pa.ChunkedArray) -> Column:
    """Convert a column of a key. What two rows might share by rounding is a fault, as is null.

    Args:
        name: Of the column.
        column: Its values.

    Raises:
        TerminalError: Its type can be no key.
    """
    kind = _undictionaried(column.type)
    if not (_is_text(kind) or _is_binary(kind) or kinds.is_integer(kind) or kinds.is_boolean(kind) or _is_time(kind)):
        raise TerminalError(
            "The key's type can be no key",
            expected="text, whole numbers, booleans, bytes, dates or timestamps as Documents.key",
            got=f"{kind} in '{name}'",
            fix="Convert it in clean.",
            code="pipeline_invalid",
        )
    made = _column(name, column)
    stored = column.cast(_stored(kind)).to_pylist()
    faults = {i: Reason(KEY, name, reason.value) for i, reason in made.faults.items()}
    for i, value in enumerate(stored):
        if value is None:
            faults[i] = Reason(KEY, name)
        elif (isinstance(value, int) and value > _MOST) or (_is_time(kind) and _is_cut(value, kind)):
            faults[i] = Reason(KEY, name, str(column[i])[:MAX_VALUE])
    return Column(name, made.values, faults)


def _check_names(names: Sequence[str], columns: Sequence[str]) -> None:
    taken = Counter((*names, ID, ABOUT))
    for name, column in zip(names, columns, strict=True):
        if taken[name] > 1:
            raise TerminalError(
                f"Column '{column}' cannot be a field of documents",
                expected="columns that become different fields, none of them _id or _ingestlab",
                got=f"another '{name}'",
                fix="Rename it in clean; a column that is the only one of Documents.key may be called _id.",
                code="columns_conflict",
            )


def _column(name: str, column: pa.ChunkedArray) -> Column:
    values = column.cast(_stored(column.type)).to_pylist()
    convert = _converter(column.type)
    if convert is None:
        return Column(name, values, {})
    faults: dict[int, Reason] = {}
    for i, value in enumerate(values):
        try:
            values[i] = None if value is None else convert(value)
        except MisfitError as error:
            rule, text = error.args
            faults[i], values[i] = Reason(rule, name, text[:MAX_VALUE]), None
    return Column(name, values, faults)


def _stored(kind: pa.DataType) -> pa.DataType:
    """Give the type in which values become Python's without loss: times as numbers, times of a day as text."""
    if kinds.is_dictionary(kind):
        return _stored(kind.value_type)
    if kinds.is_map(kind):
        return pa.map_(_stored(kind.key_type), _stored(kind.item_type))
    if _is_list(kind):
        return pa.large_list(_stored(kind.value_type))
    if kinds.is_struct(kind):
        return pa.struct([pa.field(field.name, _stored(field.type)) for field in kind])
    return next((stored for has, stored in _AS if has(kind)), kind)


def _converter(kind: pa.DataType) -> Convert | None:
    """Make what converts values of a type; None keeps them."""
    kind = _undictionaried(kind)
    if kinds.is_map(kind):
        return _map(kind)
    if _is_list(kind):
        inner = _converter(kind.value_type)
        return (lambda values: [_maybe(inner, value) for value in values]) if inner else None
    if kinds.is_struct(kind):
        return _struct(kind)
    if kinds.is_timestamp(kind):
        return partial(_instant, unit=kind.unit)
    return next((convert for has, convert in _BY if has(kind)), None)


def _map(kind: pa.MapType) -> Convert:
    key, item = (_converter(part) or _same for part in (kind.key_type, kind.item_type))
    return lambda pairs: [{"key": key(k), "value": _maybe(item, v)} for k, v in pairs]


def _struct(kind: pa.DataType) -> Convert:
    given = [field.name for field in kind]
    names = [field_name(name) for name in given]
    if len(set(names)) < len(names):
        raise TerminalError(
            "Two fields of a struct become one field of a document",
            expected="names that differ when '.' and a leading '$' are '_'",
            got=", ".join(given),
            fix="Rename them in clean.",
            code="columns_conflict",
        )
    parts = list(zip(given, names, (_converter(field.type) or _same for field in kind), strict=True))
    return lambda value: {name: _maybe(convert, value[old]) for old, name, convert in parts}


def _instant(value: int, unit: str) -> Any:
    """Cut a time to the milliseconds that BSON keeps. Years that Python cannot read would stop all of its readers."""
    ms = value * 1000 if unit == "s" else value // _PER_MS[unit]
    if not _FIRST <= ms <= _LAST:
        raise MisfitError(DATE, f"{value} {unit} since 1970")
    return needed("bson.datetime_ms", "mongodb", "MongoDB").DatetimeMS(ms)


def _decimal(value: Decimal) -> Any:
    try:
        return needed("bson.decimal128", "mongodb", "MongoDB").Decimal128(value)
    except DecimalException:
        raise MisfitError(DECIMAL, str(value)) from None


def _whole(value: int) -> Any:
    return value if value <= _MOST else _decimal(Decimal(value))


def _is_cut(value: int, kind: pa.DataType) -> bool:
    return kinds.is_timestamp(kind) and kind.unit in {"us", "ns"} and bool(value % _PER_MS[kind.unit])


def _maybe(convert: Convert, value: Any) -> Any:
    return None if value is None else convert(value)


def _same(value: Any) -> Any:
    return value


def _undictionaried(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if kinds.is_dictionary(kind) else kind


def _is_list(kind: pa.DataType) -> bool:
    return bool(kinds.is_list(kind) or kinds.is_large_list(kind) or kinds.is_fixed_size_list(kind))


def _is_text(kind: pa.DataType) -> bool:
    return bool(kinds.is_string(kind) or kinds.is_large_string(kind))


def _is_binary(kind: pa.DataType) -> bool:
    return bool(kinds.is_binary(kind) or kinds.is_large_binary(kind) or kinds.is_fixed_size_binary(kind))


def _is_time(kind: pa.DataType) -> bool:
    return bool(kinds.is_timestamp(kind) or kinds.is_date(kind))


_AS = (  # types in which values become Python's, in place of those for which the test holds
    *((has, pa.int64()) for has in (kinds.is_timestamp, kinds.is_duration, kinds.is_date64)),
    *((kinds.is_date32, pa.int32()), (kinds.is_time, pa.string()), (kinds.is_float16, pa.float32())),
)
_BY: tuple[tuple[Callable[[pa.DataType], bool], Convert], ...] = (  # what converts them then
    (kinds.is_date32, lambda days: _instant(days * _DAY, "ms")),
    (kinds.is_date64, lambda ms: _instant(ms, "ms")),
    (kinds.is_decimal, _decimal),
    (kinds.is_uint64, _whole),
)
