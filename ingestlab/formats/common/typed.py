"""Columns of text, as a reader found them, made of the types that were chosen for their file.

The types are chosen once for a file: by `split` where it is cut, else where it is read. If the table is there
already, its types are wanted: then a file's texts become of these, or the file is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa

from ingestlab.core.errors import TerminalError
from ingestlab.core.models import Piece
from ingestlab.formats.common.columns import convert, one_array, set_apart
from ingestlab.formats.common.excerpts import shorten
from ingestlab.formats.common.inference import Looks, inexact, look, named, type_of
from ingestlab.formats.common.nulls import Marks, marks_in, nulled, textual
from ingestlab.interfaces import Bad, Records

_SHOWN = 40  # columns whose types a fact tells

_WHOLE = ("int64", "uint64")

Nulls = Callable[[str, pa.DataType], Marks]  # what stands for no value in a column, if it is of a type
Names = Mapping[str, str]  # of types, by column


def looks_of(table: pa.Table, nulls: Nulls, timestamp_format: str | None = None) -> dict[str, Looks]:
    """Collect the types that fit the columns of a table of texts."""
    looks = {}
    for name in table.column_names:
        texts, marks = one_array(table[name]), nulls(name, pa.int64())
        words = nulled(texts, marks)
        seen = marks_in(texts, marks) if words.null_count > texts.null_count else frozenset()
        looks[name] = replace(look(words, timestamp_format), marks=seen)
    return looks


def chosen(columns: Mapping[str, Looks]) -> dict[str, str]:
    """Name the chosen types, as they are settled for a file."""
    return {name: named(looks.type) for name, looks in columns.items()}


def marked(columns: Mapping[str, Looks]) -> dict[str, list[str]]:
    """List null markers by column, as they are settled for a file."""
    return {name: sorted(looks.marks) for name, looks in columns.items() if looks.marks}


def with_settled(pieces: Sequence[Piece], key: str, value: object) -> list[Piece]:
    """Add a decision about a file to its pieces."""
    return [piece.model_copy(update={"settled": {**piece.settled, key: value}}) for piece in pieces]


def as_chosen(records: Records, piece: Piece, nulls: Nulls, timestamp_format: str | None = None) -> Records:
    """Convert columns of text to the types of their file. They are chosen here if none are settled.

    Raises:
        TerminalError: The table has a type that would not give the file's texts back.
    """
    looks = {} if "types" in piece.settled else looks_of(records.table, nulls, timestamp_format)
    own: Names = piece.settled.get("types") or chosen(looks)
    marks = piece.settled.get("nulls") or marked(looks)
    wanted: Names = piece.settled.get("wanted") or {}
    types = fitted(own, wanted, piece.name)
    columns: list[pa.Array] = []
    bad: list[Bad] = []
    for name, texts in zip(records.table.column_names, records.table.columns, strict=True):
        empty = own[name] == "null" and name not in wanted  # nothing but what stands for no value
        words = nulled(one_array(texts), nulls(name, pa.null() if empty else types[name]))
        values, wrong = convert(words, types[name], timestamp_format)
        check_exact(name, values, own[name], piece.name)
        columns.append(values)
        bad += [Bad(int(records.rows[i]), "type", name, shorten(words[i].as_py())) for i in wrong.tolist()]
    facts = {**records.facts, "types": types_fact(types)}
    taken = {name: texts for name, texts in marks.items() if own[name] == "null" or not textual(types[name])}
    if taken:
        facts["nulls"] = _listed((f"{name}: {', '.join(texts)}" for name, texts in taken.items()), "; ")
    return set_apart(replace(records, table=pa.table(columns, records.table.column_names), facts=facts), bad)


def fitted(own: Names, wanted: Mapping[str, Any], file: str) -> dict[str, pa.DataType]:
    """Return a file's column types: the table's where it has the column.

    Args:
        own: What was chosen by the file alone; ``"null"`` where it has no value.
        wanted: What the table has.
        file: Its name.

    Raises:
        TerminalError: A type of the table does not give back what is in the file.
    """
    types = {}
    for name, kind in own.items():
        chosen_one = type_of(kind)
        table = _wanted(wanted.get(name), chosen_one)
        if not _holds(table, chosen_one):
            raise _refusal(name, chosen_one, table, file)
        types[name] = table
    return types


def check_exact(column: str, values: pa.Array | pa.ChunkedArray, own: str, file: str) -> None:
    """Raise TerminalError for integers that lost digits in a table's floats."""
    if own in _WHOLE and pa.types.is_floating(values.type) and inexact(values):
        raise _refusal(column, type_of(own), values.type, file)


def kept(own: pa.DataType, kind: pa.DataType) -> pa.DataType:
    """Return the type by which JSON is read, else JSON itself."""
    return pa.json_() if pa.types.is_string(kind) and not pa.types.is_string(own) else kind


def types_fact(types: Mapping[str, pa.DataType]) -> str:
    """List types as a fact on the run."""
    return _listed((f"{name}: {named(kind)}" for name, kind in types.items()), ", ")


def _listed(columns: Iterable[str], between: str) -> str:
    shown = list(columns)
    return between.join(shown[:_SHOWN]) + (f" and {len(shown) - _SHOWN:,} more" if len(shown) > _SHOWN else "")


def _refusal(column: str, own: pa.DataType, table: pa.DataType, file: str) -> TerminalError:
    return TerminalError(
        f"The table's type {named(table)} does not give back the values in the column {column!r} of {file}",
        got=f"values that are only kept as {named(own)}",
        code="types_conflict",
        fix="Submit the file to a table of its own; or declare the columns in a pipeline, "
        "and rewrite the table with `ingestlab rewrite TABLE`.",
    )


def _wanted(name: Any, own: pa.DataType) -> pa.DataType:
    """Return the table's type, else the file's own. Text if it has no value."""
    own = pa.string() if pa.types.is_null(own) else own
    if name is None:
        return own
    try:
        kind = type_of(str(name))
    except ValueError:
        return own
    if pa.types.is_nested(kind) and pa.types.is_nested(own):
        return own  # objects may have new names
    return pa.string() if pa.types.is_large_string(kind) else kind


def _holds(table: pa.DataType, own: pa.DataType) -> bool:
    """Tell whether a type gives back values of another. Single ones may be out of its range."""
    if pa.types.is_null(own) or pa.types.is_string(table) or table == own:
        return True
    if pa.types.is_integer(own):
        return bool(pa.types.is_integer(table) or pa.types.is_decimal(table) or pa.types.is_float64(table))
    if pa.types.is_floating(own):
        return bool(pa.types.is_float64(table) or pa.types.is_decimal(table))
    if pa.types.is_timestamp(own) and pa.types.is_timestamp(table):
        return (own.tz is None) == (table.tz is None)
    return False
