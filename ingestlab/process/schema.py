"""Which types hold which: the one place that says what may be widened, and that no value changes by it."""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa


def common_schema(one: pa.Schema, other: pa.Schema) -> pa.Schema | None:
    """The columns of both, widened where that loses nothing; None if a value would have to change."""
    try:
        both = pa.unify_schemas([one, other], promote_options="permissive")
    except (pa.ArrowTypeError, pa.ArrowInvalid):
        return None
    fields = [field for schema in (one, other) for field in schema]
    return both if all(holds(both.field(f.name).type, f.type) for f in fields) else None


def holds(wide: pa.DataType, narrow: pa.DataType) -> bool:
    """Whether every value of one type is a value of the other."""
    if wide == narrow or pa.types.is_null(narrow):
        return True
    if pa.types.is_signed_integer(wide) and pa.types.is_integer(narrow):
        return bool(wide.bit_width > narrow.bit_width)
    if pa.types.is_decimal(wide) and pa.types.is_decimal(narrow):
        return bool(wide.scale >= narrow.scale and wide.precision - wide.scale >= narrow.precision - narrow.scale)
    same: tuple[Callable[[pa.DataType], bool], ...] = (pa.types.is_unsigned_integer, pa.types.is_floating)
    for kind in same:
        if kind(wide) and kind(narrow):
            return bool(wide.bit_width > narrow.bit_width)
    return bool(pa.types.is_large_string(wide) and pa.types.is_string(narrow))
