"""What readers share about declared columns: their types, and values that have to become of these types."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import fields, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ingestlab.core.errors import TerminalError
from ingestlab.formats.common.cutting import Ints
from ingestlab.formats.common.excerpts import listed, shorten
from ingestlab.formats.common.times import has_zone, parse, plain_format
from ingestlab.interfaces import Bad, Records

MAX_COLUMNS = 10_000  # of a file; more are a mistake of its producer, and cost memory for every record
_REPEATED = 4  # times that each text occurs at least, for it to pay to look at every text once
DRIFTED = "Declare them, pass them over with extra_columns='drop', or say in schema_drift what becomes of them."
_SAMPLE = datetime(2003, 11, 24, 21, 35, 47, 890_000, tzinfo=UTC)  # no two of its parts look alike
_ZONE = r"(?:Z|[+-]\d\d:?(?:\d\d)?)$"
_HEX = r"^[ \t]*0[xX]"
_CLOCK = r":\d\d.*" + _ZONE

Types = dict[str, pa.DataType]


def declared(columns: Mapping[str, str | pa.DataType], readable: Callable[[pa.DataType], bool], format_: str) -> Types:
    """Resolve the declared types of a reader's columns.

    Raises:
        TerminalError: There is none, or one has a type that cannot be read from this format.
    """
    if not columns:
        fix = "Declare some, or leave `columns` out to have types inferred."
        raise TerminalError("No columns are declared", got="none at all", fix=fix, code="reader_invalid")
    return {name: _arrow_type(name, kind, readable, format_) for name, kind in columns.items()}


def check_format(timestamp_format: str | None) -> None:
    """Raise TerminalError for a time format that cannot be read back."""
    if timestamp_format is None:
        return
    plain = plain_format(timestamp_format)
    if "%Z" in plain.replace("%%", ""):
        fix = "Names such as CST are several zones: have offsets written and use %z, or make times of text in `clean`."
        problem, got = "A time format cannot have names of zones", f"%Z in {timestamp_format!r}"
        raise TerminalError(problem, got=got, fix=fix, code="reader_invalid")
    with suppress(ValueError, OverflowError, pa.ArrowInvalid):
        text = _SAMPLE.strftime(plain)
        wanted = datetime.strptime(text, plain)  # noqa: DTZ007 - a zone is its matter
        if parse(pa.array([text]), timestamp_format, "us")[0].as_py() == wanted:
            return
    problem, fix = "Not a time format that strptime knows", "E.g. '%d/%m/%Y %H:%M:%S'."
    raise TerminalError(problem, got=repr(timestamp_format), fix=fix, code="reader_invalid")


def check_width(names: Sequence[str], file: str, most: int) -> None:
    """Raise TerminalError for too many columns, and for two of one name."""
    if len(names) > most:
        fix = "Raise the reader's max_columns if they are meant."
        problem, expected = f"Too many columns in {file}", f"at most {most:,} columns"
        raise TerminalError(problem, expected=expected, got=f"{len(names):,}", fix=fix, code="limit_exceeded")
    if len(set(names)) < len(names):
        twice = sorted(name for name, count in Counter(names).items() if count > 1)
        raise TerminalError(
            f"Not every column of {file} has its own name",
            got=f"more than one {listed(twice)}",
            fix="Rename the columns.",
            code="columns_conflict",
        )


def check_optional(optional: Iterable[str], columns: Iterable[str]) -> None:
    """Raise TerminalError for optional columns that are not declared."""
    unknown = [name for name in optional if name not in columns]
    if unknown:
        raise TerminalError(
            "Columns are optional and not declared",
            expected=f"optional columns among those declared ({listed(columns)})",
            got=listed(unknown),
            fix="Declare them.",
            code="reader_invalid",
        )


def check_extra(
    names: Sequence[str], columns: Iterable[str], file: str, *, drop: bool, optional: Iterable[str] = (), fix: str = ""
) -> None:
    """Raise TerminalError for missing columns, and unless dropped for undeclared ones.

    Args:
        names: The columns that there are.
        columns: Those declared.
        file: Its name.
        drop: Whether columns may be there that are not declared.
        optional: Declared columns that may be missing, though not all of them.
        fix: What to do about missing ones, where more is known than that they are missing.
    """
    columns = list(columns)
    absent = [name for name in columns if name not in names]
    missing = [name for name in absent if name not in optional or len(absent) == len(columns)]
    if missing:
        raise TerminalError(
            f"Columns are missing in {file}",
            expected=f"the columns {listed(columns)}",
            got=f"no {listed(missing)} among {listed(names)}",
            code="columns_missing",
            fix=fix or "Correct the file, or the reader's columns.",
        )
    extra = [name for name in names if name not in columns]
    if extra and not drop:
        raise TerminalError(
            f"Undeclared columns in {file}",
            expected=f"only the columns {listed(columns)}",
            got=f"also {listed(extra)}",
            fix=DRIFTED,
            code="columns_unexpected",
        )


def plain_type(kind: pa.DataType) -> pa.DataType:
    """Simplify a type to its values; what has none is text.

    Nested ones likewise: a table has one schema, and what one file requires another may lack.
    """
    types, plain = pa.types, kind
    if types.is_dictionary(kind):
        plain = plain_type(kind.value_type)
    elif types.is_null(kind) or types.is_string_view(kind):
        plain = pa.string()
    elif types.is_binary_view(kind):
        plain = pa.binary()
    elif types.is_decimal32(kind) or types.is_decimal64(kind):
        plain = pa.decimal128(kind.precision, kind.scale)
    elif types.is_struct(kind):
        plain = pa.struct([pa.field(field.name, plain_type(field.type)) for field in kind])
    elif types.is_map(kind):
        plain = pa.map_(plain_type(kind.key_type), plain_type(kind.item_type))
    elif types.is_fixed_size_list(kind):
        plain = pa.list_(plain_type(kind.value_type), kind.list_size)
    elif types.is_list(kind) or types.is_list_view(kind):
        plain = pa.list_(plain_type(kind.value_type))
    elif types.is_large_list(kind) or types.is_large_list_view(kind):
        plain = pa.large_list(plain_type(kind.value_type))
    return plain


def castable(kind: pa.DataType) -> bool:
    """Tell whether text can become values of a type."""
    try:
        convert(pa.array([], pa.string()), kind)
    except pa.ArrowNotImplementedError:
        return False
    return not (pa.types.is_nested(kind) or pa.types.is_null(kind) or pa.types.is_dictionary(kind))


def convert(values: pa.Array, kind: pa.DataType, timestamp_format: str | None = None) -> tuple[pa.Array, Ints]:
    """Convert values to a type. Those that cannot be are null in the answer.

    Args:
        values: Text, or any type that Arrow can cast.
        kind: The type wanted. Text is read as pyarrow does, times as ISO 8601; times of a type with a zone
            are taken for UTC where the text has none.
        timestamp_format: For strptime, in place of ISO 8601.

    Returns:
        The values, and the positions of those that are not of this type, ascending.
    """
    if timestamp_format is not None and _may_be_timed(values, kind):
        done = _times(values, kind, timestamp_format)
        return done, np.flatnonzero(pc.and_(done.is_null(), values.is_valid()).to_numpy(zero_copy_only=False))
    with suppress(pa.ArrowInvalid):
        return cast(values, kind, timestamp_format), np.empty(0, np.int64)

    texts = pc.unique(values) if pa.types.is_string(values.type) else values
    if len(texts) <= len(values) // _REPEATED:  # each text is asked about once
        bad_texts = texts.take(pa.array(convert(texts, kind, timestamp_format)[1]))
        wrong = pc.is_in(values, bad_texts)
        done = cast(pc.if_else(wrong, pa.scalar(None, values.type), values), kind, timestamp_format)
        return done, np.flatnonzero(wrong.to_numpy(zero_copy_only=False))

    def fails(low: int, high: int) -> bool:
        try:
            cast(values.slice(low, high - low), kind, timestamp_format)
        except pa.ArrowInvalid:
            return True
        return False

    bad = np.array(failing(fails, 0, len(values), ways=16), np.int64)
    wrong = np.zeros(len(values), bool)
    wrong[bad] = True
    return cast(pc.if_else(pa.array(wrong), pa.scalar(None, values.type), values), kind, timestamp_format), bad


def convert_columns(
    table: pa.Table, types: Mapping[str, pa.DataType], numbers: Ints, timestamp_format: str | None = None
) -> tuple[pa.Table, Ints, list[Bad]]:
    """Convert columns to their declared types, and set bad records apart.

    Args:
        table: Columns of any type; those that are not in `types` stay as they are.
        types: Types by column.
        numbers: For each row of the table, the number of its record.
        timestamp_format: For strptime; None for ISO 8601.

    Returns:
        The table without the bad records, the numbers of those that are in it, and what is wrong with the others.
    """
    bad: list[Bad] = []
    wrong = np.zeros(table.num_rows, bool)
    columns = table.columns
    for i, name in enumerate(table.column_names):
        kind = types.get(name)
        if kind is None or columns[i].type == kind:
            continue
        values = columns[i].combine_chunks()
        columns[i], failed = convert(values, kind, timestamp_format)
        bad += [Bad(int(numbers[k]), "type", name, _shown(values[k])) for k in failed.tolist()]
        wrong[failed] = True
    if columns:  # setting them one by one is quadratic
        table = pa.Table.from_arrays(columns, names=table.column_names)
    if bad:
        table, numbers = table.filter(pa.array(~wrong)), numbers[~wrong]
    return table, numbers, bad


def set_apart(records: Records, bad: Sequence[Bad]) -> Records:
    """Add bad records, and take their rows out of the table."""
    if not bad:
        return records
    keep = ~np.isin(records.rows, [b.row for b in bad])
    everything = tuple(sorted([*records.bad, *bad], key=lambda b: b.row))
    return replace(records, table=records.table.filter(pa.array(keep)), rows=records.rows[keep], bad=everything)


def types_in(columns: Mapping[str, str | pa.DataType] | None) -> Types:
    """Return the types of declared columns; none where none are declared."""
    return {name: kind for name, kind in (columns or {}).items() if isinstance(kind, pa.DataType)}


def hash_of(reader: Any) -> int:
    """Hash a reader, a frozen dataclass some of whose fields are mappings."""
    values = (getattr(reader, field.name) for field in fields(reader))
    return hash(tuple(tuple(value.items()) if isinstance(value, Mapping) else value for value in values))


def failing(fails: Callable[[int, int], bool], low: int, high: int, ways: int = 2) -> list[int]:
    """Find the positions in `low:high` that fail, by asking about shorter runs.

    A run that fails is asked about again in so many `ways`: more of them where asking costs by the position
    rather than by the question.

    Args:
        fails: Tells whether a position between `low` and `high` fails.
        low: The first position.
        high: The position after the last one.
        ways: Into how many runs a failing one is divided.

    Returns:
        The positions, ascending.
    """
    if low == high or not fails(low, high):
        return []
    if high - low == 1:
        return [low]
    step = -(-(high - low) // ways)
    return [i for at in range(low, high, step) for i in failing(fails, at, min(at + step, high), ways)]


def _shown(value: pa.Scalar) -> str:
    try:
        return shorten(str(value.as_py()))
    except (OverflowError, ValueError):  # a time that Python cannot tell
        return f"a {value.type} out of range"


def _arrow_type(
    column: str, kind: str | pa.DataType, readable: Callable[[pa.DataType], bool], format_: str
) -> pa.DataType:
    """Resolve a declared type. Raises TerminalError if it is none, or cannot be read."""
    with suppress(ValueError):  # said below, together with types that exist but cannot be read
        type_ = kind if isinstance(kind, pa.DataType) else pa.type_for_alias(str(kind))
        if readable(type_):
            return type_
    raise TerminalError(
        f"Not a type that can be read from {format_} for the column {column!r}",
        got=repr(kind) if isinstance(kind, str) else str(kind),
        code="reader_invalid",
        fix="E.g. 'int64', 'float64', 'bool', 'string', 'date32', 'timestamp[s]'.",
    )


def cast(values: pa.Array, kind: pa.DataType, timestamp_format: str | None = None) -> pa.Array:
    """Convert values to a type. Raises ArrowInvalid where one cannot be."""
    if timestamp_format is not None and _may_be_timed(values, kind):
        times = _times(values, kind, timestamp_format)
        if times.null_count > values.null_count:
            raise pa.ArrowInvalid(f"a text that is no time as {timestamp_format!r} says")
        return times
    if not pa.types.is_string(values.type) or pa.types.is_string(kind):
        return values.cast(kind)
    if pa.types.is_time(kind):  # Arrow reads times of day only as part of a day
        return pc.binary_join_element_wise("1970-01-01 ", values, "").cast(pa.timestamp(kind.unit)).cast(kind)
    if pa.types.is_timestamp(kind) and kind.tz is not None:
        zoned = pc.match_substring_regex(values, _CLOCK)
        none = pa.scalar(None, values.type)
        plain = pc.if_else(zoned, none, values).cast(pa.timestamp(kind.unit))
        both = pc.coalesce(pc.if_else(zoned, values, none).cast(kind), pc.assume_timezone(plain, "UTC").cast(kind))
        refuse_year_zero(both)
        return both
    done = values.cast(kind)
    refuse_year_zero(done)
    if pa.types.is_signed_integer(kind) and below_zero(done):
        refuse_wrapped(values, done)
    return done


def refuse_year_zero(values: pa.Array | pa.ChunkedArray) -> None:
    """Raise ArrowInvalid for times before the year 1, which Python lacks."""
    kind = values.type
    if not (pa.types.is_date(kind) or pa.types.is_timestamp(kind)) or getattr(kind, "unit", "") == "ns":
        return
    first_day = datetime(1, 1, 1, tzinfo=UTC if getattr(kind, "tz", None) else None)
    early = pc.less(values, pa.scalar(first_day.date() if pa.types.is_date(kind) else first_day, kind))
    first = pc.index(early, pa.scalar(value=True)).as_py()
    if first >= 0:
        raise pa.ArrowInvalid(f"Row #{first + 1}: a time before the year 1")


def below_zero(values: pa.Array | pa.ChunkedArray) -> bool:
    """Tell whether there is a negative number."""
    least = pc.min(values).as_py()
    return least is not None and least < 0


def refuse_wrapped(texts: pa.Array, numbers: pa.Array) -> None:
    """Raise ArrowInvalid where a hexadecimal number came out negative."""
    wrapped = pc.and_kleene(pc.match_substring_regex(texts, _HEX), pc.less(numbers, 0))
    first = pc.index(wrapped, pa.scalar(value=True)).as_py()
    if first >= 0:
        raise pa.ArrowInvalid(f"Row #{first + 1}: {texts[first].as_py()!r} is beyond {numbers.type}")


def strictly_timed(kind: pa.DataType, timestamp_format: str | None) -> bool:
    """Tell whether the CSV parser reads a type by a format alone. The format then has a zone if the type has."""
    return (
        timestamp_format is not None
        and pa.types.is_timestamp(kind)
        and (kind.tz is not None) == has_zone(timestamp_format)
    )


def one_array(column: pa.ChunkedArray) -> pa.Array:
    """Combine a column into one array."""
    whole = column.combine_chunks()
    return pa.concat_arrays(whole.chunks) if isinstance(whole, pa.ChunkedArray) else whole


def _may_be_timed(values: pa.Array, kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(values.type) and (pa.types.is_timestamp(kind) or pa.types.is_date(kind)))


def _times(values: pa.Array, kind: pa.DataType, timestamp_format: str) -> pa.Array:
    """Parse times by a format, null where one fails. Zoned ones become UTC unless the type says otherwise."""
    unit = kind.unit if pa.types.is_timestamp(kind) else "s"
    times = parse(values, timestamp_format, unit)
    if times.type.tz is not None and not (pa.types.is_timestamp(kind) and kind.tz is not None):
        times = times.cast(pa.timestamp(unit))
    elif times.type.tz is None and pa.types.is_timestamp(kind) and kind.tz is not None:
        times = pc.assume_timezone(times, "UTC")
    return times.cast(kind, safe=not pa.types.is_date(kind))
