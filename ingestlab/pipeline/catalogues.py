"""Catalogues in which a pipeline registers its data files, and what the columns of such a table may be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, get_args

import pyarrow as pa
import pyarrow.types as pat

from ingestlab.core.errors import TerminalError
from ingestlab.interfaces import Format
from ingestlab.lake.arrow_schema import is_text, parse_type, plain

CatalogueName = Literal["delta", "iceberg", "glue"]
UTC = "UTC"
_SIGNED = {8: "int16", 16: "int32", 32: "int64", 64: "decimal128(20, 0)"}  # that hold unsigned ones of so many bits
_INSTEAD = (
    (pat.is_float16, "float32"),
    (pat.is_duration, "int64"),
    (pat.is_null, ""),
    (pat.is_fixed_size_list, "a list without a fixed size"),
)
_FORBIDDEN: Mapping[str, str] = {"delta": " ,;{}()\n\t=", "iceberg": "", "glue": ",:;\n\t"}  # in names of columns


def check_publish_as(names: Sequence[str], reader: Format, clean: Any, folders: Sequence[str], pipeline: str) -> None:
    """Check that catalogues can have what a pipeline declares.

    Args:
        names: Of the catalogues.
        reader: Its declared columns are checked if no `clean` changes them.
        clean: The pipeline's function, if any.
        folders: The columns of `partition_by`.
        pipeline: Its name.

    Raises:
        TerminalError: There is no such catalogue, or it cannot hold a declared column.
    """
    if unknown := [name for name in names if name not in get_args(CatalogueName)]:
        raise TerminalError(
            "A catalogue of publish_as is unknown",
            expected=f"some of {', '.join(get_args(CatalogueName))} as publish_as of pipeline '{pipeline}'",
            got=repr(unknown[0]),
            fix='E.g. publish_as=["delta"].',
            code="pipeline_invalid",
        )
    declared = {} if clean is not None else getattr(reader, "columns", None) or {}
    kinds = {name: _parsed(kind) for name, kind in declared.items()}
    known = {name: kind for name, kind in kinds.items() if kind is not None}
    check_columns(names, known, folders, f"Pipeline '{pipeline}'", code="pipeline_invalid")


def check_columns(
    names: Sequence[str],
    kinds: Mapping[str, pa.DataType],
    folders: Sequence[str],
    who: str,
    *,
    code: Literal["pipeline_invalid", "types_conflict"] = "types_conflict",
) -> None:
    """Check that catalogues can hold some columns.

    Args:
        names: Of the catalogues.
        kinds: Types by column.
        folders: Columns that become folders: they are whole numbers or text there.
        who: Brings them; begins the error's text.
        code: Of the error.

    Raises:
        TerminalError: One cannot hold a column; it names the column and what to write.
    """
    for catalogue in names:
        for column, kind in kinds.items():
            if wrong := set(column) & set(_FORBIDDEN[catalogue]):
                problem = f"{who}: {catalogue} takes no column '{column}' with {min(wrong)!r} in its name"
                raise TerminalError(problem, fix="Give it another name, in the reader or in clean.", code=code)
            instead = None if column in folders and not pat.is_integer(kind) else _instead(plain(kind))
            if instead is not None:
                problem = f"{who}: {catalogue} cannot hold column '{column}' of type {kind}"
                fix = f'Declare "{instead}", or convert it in clean.' if instead else "Give it a type, in clean."
                raise TerminalError(problem, fix=fix, code=code)


def registered(kind: pa.DataType) -> pa.DataType:
    """Return the type under which catalogues know a column: times are microseconds, texts and lists the usual ones."""
    kind = plain(kind)
    if pat.is_timestamp(kind):
        return pa.timestamp("us", UTC if kind.tz else None)
    if pat.is_nested(kind):
        return _nested(kind)
    for test, usual in ((is_text, pa.string()), (is_bytes, pa.binary()), (pat.is_date, pa.date32())):
        if test(kind):
            return usual
    return kind


def is_bytes(kind: pa.DataType) -> bool:
    """Tell whether a type is one of bytes of any number."""
    return any(test(kind) for test in (pat.is_binary, pat.is_large_binary, pat.is_binary_view))


def _nested(kind: pa.DataType) -> pa.DataType:
    if pat.is_struct(kind):
        return pa.struct([(field.name, registered(field.type)) for field in kind])
    if pat.is_map(kind):
        return pa.map_(registered(kind.key_type), registered(kind.item_type))
    return pa.list_(registered(kind.value_type))


def _instead(kind: pa.DataType) -> str | None:
    """Return the type to write in place of another. Empty if there is none, None if all readers share it."""
    if pat.is_unsigned_integer(kind):
        return _SIGNED[kind.bit_width]
    if pat.is_timestamp(kind):
        zone = f", tz={UTC}" if kind.tz else ""
        return f"timestamp[us{zone}]" if kind.unit == "ns" or kind.tz not in {None, UTC} else None
    if pat.is_decimal(kind) and kind.bit_width != 128:
        return f"decimal128({kind.precision}, {kind.scale})" if kind.precision <= 38 else "string"
    if pat.is_nested(kind) and not pat.is_fixed_size_list(kind):
        return next((text for part in _parts(kind) if (text := _instead(plain(part))) is not None), None)
    return next((text for test, text in _INSTEAD if test(kind)), None if any(t(kind) for t in _HELD) else "string")


def _parts(kind: pa.DataType) -> Iterator[pa.DataType]:
    """Yield the types inside a nested one."""
    for i in range(kind.num_fields):
        yield kind.field(i).type


_HELD = (
    *(pat.is_integer, pat.is_floating, pat.is_boolean, pat.is_date, pat.is_timestamp, pat.is_decimal),
    *(is_text, is_bytes),
)


def _parsed(kind: Any) -> pa.DataType | None:
    """Parse a declared type; None for those that are the reader's own."""
    try:
        return kind if isinstance(kind, pa.DataType) else parse_type(str(kind))
    except (ValueError, KeyError):
        return None
