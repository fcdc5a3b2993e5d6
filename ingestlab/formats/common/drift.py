"""What becomes of data that a declaration does not know: the four words of schema drift, for all readers.

A reader gives what it read as declared, and two ways to look again: its records with some columns left *loose*
(of a type that every value has), and such loose values made of a type. Columns that are not declared are loose
from the start. What the words make of that is decided here, once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
from pyarrow.csv import ConvertOptions, ParseOptions, ReadOptions

from ingestlab.core.errors import TerminalError
from ingestlab.formats.common.columns import (
    below_zero,
    cast,
    failing,
    one_array,
    refuse_wrapped,
    set_apart,
    strictly_timed,
)
from ingestlab.formats.common.excerpts import shorten
from ingestlab.formats.common.inference import choose, inexact, or_text, type_of, type_text
from ingestlab.interfaces import Bad, Records, SchemaDrift

_NOTHING = "\0"  # stands for null: no text has it

Loosely = Callable[[AbstractSet[str]], Records]
Retype = Callable[[pa.Array, pa.DataType | None], pa.Array]  # raises ArrowInvalid; None: the type that values have
Rows = dict[str, list[int]]  # of records, by column
Bools = np.ndarray[Any, np.dtype[np.bool_]]
Types = Mapping[str, pa.DataType]
Look = Callable[[pa.Array], Any]  # what loose values may be: it has a `type`, and can be joined with others by |
R = TypeVar("R", bound=Any)


class Sight(NamedTuple):
    """What was read of a piece, as :func:`apply_drift` needs it."""

    records: Records
    unknown: Sequence[str]
    loosely: Loosely


def under_drift(reader: R, word: SchemaDrift) -> R:
    """Copy a reader, a dataclass with `columns` and `drift`, under a policy.

    Raises:
        TerminalError: It infers all of its columns, so that none is unknown.
    """
    if reader.columns is None and word != "evolve":
        problem = f"schema_drift={word!r} needs a {type(reader).__name__} with declared columns"
        fix = "Declare them, or use schema_drift='evolve'."
        raise TerminalError(problem, got="columns that are inferred", fix=fix, code="reader_invalid")
    drifting: R = replace(reader, drift=word)
    return drifting


def refuses(word: SchemaDrift | None, extra_columns: str) -> bool:
    """Tell whether undeclared columns fail a file."""
    return word == "freeze" or (word is None and extra_columns == "fail")


def looks(word: SchemaDrift | None) -> bool:
    """Tell whether undeclared columns have to be read."""
    return word in ("evolve", "discard_row", "discard_value")


def apply_drift(
    records: Records,
    word: SchemaDrift | None,
    types: Types,
    unknown: Sequence[str],
    loosely: Loosely,
    retype: Retype,
    of_file: Mapping[str, str] | None = None,
) -> Records:
    """Apply schema drift to records.

    Args:
        records: The records as declared; the columns that are not declared are in their table as loose values.
        word: What to do; None and ``"freeze"`` leave the records as they are.
        types: The declared columns.
        unknown: The columns that are not declared.
        loosely: Reads again, the given declared columns as loose values.
        retype: Makes loose values of a type.
        of_file: The types that columns have in the whole file, where :func:`types_of_file` has found them.
    """
    if word is None or word == "freeze":
        return records
    if word == "discard_row":
        return _without_rows(records, unknown)
    evolved = {name: type_of(kind) for name, kind in (of_file or {}).items()} if word == "evolve" else {}
    unfit: dict[str, list[int]] = {name: [] for name in evolved if name in types}
    if unfit:
        records = loosely(unfit.keys())
    # A reader may find the bad values of one column only after those of another.
    while more := {n: rows for n, rows in _unfit(records, types).items() if n not in unfit}:
        unfit |= more
        records = loosely(unfit.keys())
    if word == "evolve":
        return _evolved(records, types, unfit, unknown, retype, evolved)
    return _emptied(records, types, unfit, unknown, retype)


def with_missing(table: pa.Table, types: Types) -> pa.Table:
    """Add missing declared columns as nulls, and order columns as declared."""
    for name, kind in types.items():
        if name not in table.column_names:
            table = table.append_column(name, pa.nulls(table.num_rows, kind))
    return table.select([*types, *(name for name in table.column_names if name not in types)])


def _without_rows(records: Records, unknown: Sequence[str]) -> Records:
    """Set apart records with values in undeclared columns. Those of wrong types already are."""
    typed = tuple(replace(b, rule="drift") if b.rule == "type" else b for b in records.bad)
    extra = [
        Bad(int(records.rows[i]), "drift", name, shorten(str(records.table[name][i].as_py())))
        for name in unknown
        for i in np.flatnonzero(records.table[name].is_valid().to_numpy()).tolist()
    ]
    return set_apart(replace(records, table=records.table.drop_columns(list(unknown)), bad=typed), extra)


def types_of_file(sights: Callable[[], Iterable[Sight]], types: Types, look: Look, retype: Retype) -> dict[str, str]:
    """Choose the types of drifting columns for all pieces of a file.

    Args:
        sights: Each time that it is asked: what was read of each piece.
        types: The declared columns.
        look: What loose values may be.
        retype: Makes loose values of a type.

    Returns:
        The types of columns that are not declared, and of those declared that have values of other types.
    """
    unknown: dict[str, Any] = {}
    unfit: set[str] = set()
    for sight in sights():
        unfit |= _unfit(sight.records, types).keys()
        _look_at(unknown, sight.records.table, sight.unknown, look)
    wider: dict[str, list[pa.DataType]] = {}
    while unfit - wider.keys():  # the records that were not as declared have their say now
        wider, unknown = {name: [*_wider(types[name])] for name in unfit}, {}
        for sight in sights():
            loose = sight.loosely(wider.keys())
            unfit |= _unfit(loose, types).keys()
            _look_at(unknown, loose.table, sight.unknown, look)
            for name, kinds in wider.items():
                wider[name] = [k for k in kinds if _widens(one_array(loose.table[name]), types[name], k, retype)]
    chosen = {name: or_text(looks.type) for name, looks in unknown.items()}
    chosen |= {name: next(iter(kinds), pa.string()) for name, kinds in wider.items()}
    return {name: type_text(kind) for name, kind in chosen.items()}


def _look_at(known: dict[str, Any], table: pa.Table, names: Iterable[str], look: Look) -> None:
    for name in names:
        looks = look(one_array(table[name]))
        known[name] = known[name] | looks if name in known else looks


def _evolved(
    records: Records,
    types: Types,
    unfit: Iterable[str],
    unknown: Sequence[str],
    retype: Retype,
    of_file: Types,
) -> Records:
    table = records.table
    for name in unfit:
        values = one_array(table[name])
        wide = retype(values, of_file[name]) if name in of_file else _widened(values, types[name], retype)
        table = _put(table, name, wide)
    for name in unknown:
        table = _put(table, name, retype(one_array(table[name]), of_file.get(name)))
    return replace(records, table=table)


def _emptied(records: Records, types: Types, unfit: Rows, unknown: Sequence[str], retype: Retype) -> Records:
    table, discarded = records.table, Counter[str]()
    for name, rows in unfit.items():
        old = one_array(table[name])
        new = _fitting(old, np.isin(records.rows, rows), types[name], retype)
        discarded[name] += new.null_count - old.null_count
        table = _put(table, name, new)
    for name in unknown:
        discarded[name] += len(table) - table[name].null_count
    kept = table.drop_columns(list(unknown))
    return replace(records, table=kept, discarded={n: k for n, k in discarded.items() if k})


def _unfit(records: Records, types: Types) -> Rows:
    """Map columns with values of wrong types to their records."""
    cells: Rows = {}
    for bad in records.bad:
        if bad.rule == "type" and bad.column in types:
            cells.setdefault(str(bad.column), []).append(bad.row)
    return cells


def _widened(values: pa.Array, kind: pa.DataType, retype: Retype) -> pa.Array:
    """Convert values to the narrowest wider type that takes them all."""
    wider = next((wide for wide in _wider(kind) if _widens(values, kind, wide, retype)), pa.string())
    return retype(values, wider)


def _widens(values: pa.Array, kind: pa.DataType, wider: pa.DataType, retype: Retype) -> bool:
    """Tell whether a wider type takes all values, and keeps every digit."""
    try:
        done = retype(values, wider)
    except pa.ArrowInvalid:
        return False
    return not (pa.types.is_integer(kind) and pa.types.is_floating(wider) and inexact(done))


def _wider(kind: pa.DataType) -> Iterator[pa.DataType]:
    if pa.types.is_integer(kind):
        yield from (pa.int64(), pa.uint64()) if pa.types.is_unsigned_integer(kind) else (pa.int64(),)
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        yield pa.float64()
    if pa.types.is_date(kind):
        yield from (pa.timestamp("s"), pa.timestamp("us"))
    if pa.types.is_timestamp(kind):
        yield pa.timestamp("us", kind.tz)


def _fitting(values: pa.Array, wrong: Bools, kind: pa.DataType, retype: Retype) -> pa.Array:
    """Convert values to a type, null where they cannot be. Some of these places are known."""
    values = pc.if_else(pa.array(wrong), pa.scalar(None, values.type), values)

    def fails(low: int, high: int) -> bool:
        try:
            retype(values.slice(low, high - low), kind)
        except pa.ArrowInvalid:
            return True
        return False

    mask = np.zeros(len(values), bool)
    mask[failing(fails, 0, len(values))] = True
    return retype(pc.if_else(pa.array(mask), pa.scalar(None, values.type), values), kind)


def text_as(values: pa.Array, kind: pa.DataType | None, timestamp_format: str | None = None) -> pa.Array:
    """Convert text as pyarrow's CSV parser does.

    Args:
        values: Texts.
        kind: The type; None for the one that fits them.
        timestamp_format: As strptime takes it; None for ISO 8601.

    Raises:
        pa.ArrowInvalid: A value is not of this type.
    """
    if kind is None:
        kind = or_text(choose(values, timestamp_format))
    if not len(values) or pa.types.is_string(kind):
        return values.cast(kind)
    if strictly_timed(kind, timestamp_format):
        return cast(values, kind, timestamp_format)
    quoted = pc.binary_join_element_wise('"', pc.replace_substring(values, '"', '""'), '"\n', "")
    lines = pc.fill_null(quoted, f"{_NOTHING}\n")
    table = pyarrow.csv.read_csv(
        pa.BufferReader(pc.binary_join(pa.ListArray.from_arrays([0, len(lines)], lines), "")[0].as_buffer()),
        read_options=ReadOptions(use_threads=False, block_size=lines.nbytes + 1, column_names=["value"]),
        parse_options=ParseOptions(newlines_in_values=True),
        convert_options=ConvertOptions(
            check_utf8=False,
            column_types={"value": kind},
            null_values=[_NOTHING],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
            timestamp_parsers=None if timestamp_format is None else [timestamp_format],
        ),
    )
    done = one_array(table["value"])
    if pa.types.is_signed_integer(done.type) and below_zero(done):
        refuse_wrapped(values, done)
    return done


def _put(table: pa.Table, name: str, values: pa.Array) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, values)
