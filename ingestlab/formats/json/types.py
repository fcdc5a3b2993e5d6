"""The types of JSON columns that are not declared: by the rules of inference.py, but that JSON says what is a number.

What is not within quotes is a number, however it is written: 2.50 is 2.5, and 1e3 is 1000. No digit is lost: a
column of numbers that float64 does not give back keeps their letters, as ``"json"`` does.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from functools import reduce
from itertools import islice

import pyarrow as pa
import pyarrow.compute as pc

from ingestlab.core.errors import TerminalError
from ingestlab.formats.common.columns import one_array
from ingestlab.formats.common.excerpts import listed
from ingestlab.formats.common.inference import EXACT, Looks, look, or_text, type_text
from ingestlab.formats.json.arrow import Shape, json_as, read_objects

_LONG = re.compile(rb'(?:"((?:[^"\\]++|\\.)*+)"[ \t]*+:|[\[,])[ \t]*+(-?\d[\d.]{15,}+(?:[eE][-+]?\d++)?)')
_DIGITS = bytes(ord("0") if 48 <= octet <= 57 or octet == 46 else 32 for octet in range(256))  # and points
# Kinds beside those of inference.py; letters and branches are what is kept as JSON text, of numbers and of the others.
_TEXT, _TRUTH, _LETTERS, _NESTED, _BRANCHES = "text", "bool", "letters", "nested", "branches"

_BRANCHED = Looks(frozenset({_BRANCHES, _NESTED}))
_MINUS_ZERO = re.compile(rb":[ \t]*+-0[,} \t\r\n]")
_MINUS_ZEROS = re.compile(rb'"((?:[^"\\]++|\\.)*+)"[ \t]*+:[ \t]*+-0[,} \t\r\n]')


@dataclass(frozen=True, slots=True)
class Found:
    """Types that fit all values of a column.

    Attributes:
        looks: The kinds of its values.
        shape: Of nested values.
        wide: Whether there is a whole number in them that float64 does not hold.
    """

    looks: Looks = field(default_factory=Looks)
    shape: pa.DataType | None = None
    wide: bool = False

    def __or__(self, other: Found) -> Found:
        shapes = [side.shape for side in (self, other) if side.shape is not None]
        looks, wide = self.looks | other.looks, self.wide or other.wide
        try:
            shape = reduce(_both, shapes) if shapes else None
        except (pa.ArrowInvalid, pa.ArrowTypeError):
            return Found(Looks(frozenset()))
        if wide and shape is not None and _has(shape, pa.types.is_floating):
            return Found(replace(looks, kinds=(looks.kinds or frozenset()) & {_BRANCHES}))
        return Found(looks, shape, wide)

    @property
    def type(self) -> pa.DataType | None:
        """Return the chosen type; None where the values have nothing in common."""
        kinds, simple = self.looks.kinds, self.looks.type
        if kinds is None or (kinds and not pa.types.is_string(simple)):
            return simple
        if _NESTED in kinds and self.shape is not None and not _nameless(self.shape):
            return _as_text(self.shape, pa.types.is_null)  # what has no value
        return pa.string() if _TEXT in kinds else pa.json_() if kinds else None


def survey(text: bytes, table: pa.Table, timestamp_format: str | None = None) -> dict[str, Found]:
    """Collect the types that fit the columns of some records.

    Args:
        text: The records.
        table: What the parser has inferred of them.
        timestamp_format: For strptime, in place of ISO 8601.
    """
    times = {field.name: pa.string() for field in table.schema if pa.types.is_timestamp(field.type)}
    strings = read_objects(text, table.num_rows, Shape(times)) if times else table
    lost = _lost(text, table.schema)
    letters = _letters(text, lost) if lost else {}
    signed = {name.decode() for name in _MINUS_ZEROS.findall(text)} if _MINUS_ZERO.search(text) else set()
    columns = {}
    for name in table.column_names:
        kind = table[name].type
        if pa.types.is_string(kind) or pa.types.is_timestamp(kind):
            columns[name] = _said(one_array((strings if name in times else table)[name]), timestamp_format)
        else:
            columns[name] = _found(table[name], letters.get(name), signed=name in signed)
    return columns


def intersected(columns: Mapping[str, Found], more: Mapping[str, Found]) -> dict[str, Found]:
    """Intersect the types of two pieces of a file, by column."""
    return {name: columns.get(name, Found()) | more.get(name, Found()) for name in {**columns, **more}}


def chosen(columns: Mapping[str, Found], file: str) -> dict[str, str]:
    """Name the types of a file's columns.

    Raises:
        TerminalError: The values of one have nothing in common.
    """
    types = {name: column.type for name, column in columns.items()}
    mixed = [name for name, kind in types.items() if kind is None]
    if mixed:
        problem, got = f"Not all values fit one type in each column of {file}", f"several kinds in {listed(mixed)}"
        raise TerminalError(problem, got=got, fix="Declare the columns, e.g. as 'json'.", code="types_conflict")
    return {name: type_text(kind) for name, kind in types.items() if kind is not None}


def look_at(texts: pa.Array) -> Found:
    """Collect the types that fit a column of JSON texts."""
    words = texts.drop_null()
    if not len(words):
        return Found()
    if pc.all(pc.starts_with(words, '"')).as_py():
        return _said(pa.array([json.loads(word) for word in words.to_pylist()], pa.string()))
    if pc.all(pc.is_in(words, pa.array(["true", "false"]))).as_py():
        return Found(Looks(frozenset({_TRUTH})))
    if pc.all(pc.match_substring_regex(words, r"^-?\d")).as_py():
        return Found(_numbers(words))
    return Found(Looks(frozenset()))


def retyped(values: pa.Array, kind: pa.DataType | None, timestamp_format: str | None = None) -> pa.Array:
    """Convert JSON text to a type. None for the one that is chosen, text where it is not a simple one."""
    if kind is None:
        kind = or_text(look_at(values).type)
    return json_as(values, pa.string() if isinstance(kind, pa.JsonType) else kind, timestamp_format)


def _found(column: pa.ChunkedArray, letters: list[str] | None, *, signed: bool) -> Found:
    """Collect the types that fit a column. `signed` says whether it has `-0`, which no unsigned type takes."""
    kind = column.type
    if pa.types.is_nested(kind):
        whole = Found(_BRANCHED, _as_text(kind, pa.types.is_timestamp), _wide(column))
        return Found(Looks(frozenset({_BRANCHES}))) if letters else whole
    if column.null_count == len(column):
        return Found()
    if pa.types.is_boolean(kind):
        return Found(Looks(frozenset({_TRUTH})))
    if letters:
        return Found(_numbers(pa.array(letters, pa.string())))
    if pa.types.is_integer(kind):
        low, high = (bound.as_py() for bound in pc.min_max(column).values())
        return Found(Looks(frozenset({"int64", _LETTERS, *_also(-1 if signed else low, high)})))
    return Found(Looks(frozenset({"float64", _LETTERS})))


def _said(strings: pa.Array, timestamp_format: str | None = None) -> Found:
    kinds = look(strings, timestamp_format, times_alone=True).kinds
    return Found() if kinds is None else Found(Looks(kinds | {_TEXT}))


def _also(low: int, high: int) -> list[str]:
    """List the other types that whole numbers fit."""
    return [*(["uint64"] if low >= 0 else []), *(["float64"] if max(-low, high) < EXACT else [])]


def _numbers(words: pa.Array) -> Looks:
    """Collect the types that numbers fit, by their letters."""
    whole = look(words).kinds or frozenset()
    if whole & {"int64", "uint64"}:
        return Looks(whole | {_LETTERS})
    exact = all(_given_back(word) for word in pc.unique(words).to_pylist())
    return Looks(frozenset({"float64", _LETTERS} if exact else {_LETTERS}))


def _given_back(number: str) -> bool:
    """Tell whether a float64 has all the digits of a number."""
    return Decimal(repr(float(number))) == Decimal(number) and (
        not number.lstrip("-").isdigit() or abs(int(number)) < EXACT
    )


def _lost(text: bytes, schema: pa.Schema) -> set[str]:
    """Find columns in which floats may have cost numbers their digits."""
    floats = {field.name for field in schema if _has(field.type, pa.types.is_floating)}
    if not floats or b"0" * 16 not in text.translate(_DIGITS):  # a float gives back what is shorter
        return set()
    nested = {name for field in schema if pa.types.is_nested(field.type) for name in _names(field.type)}
    safe = {name.encode() for name in schema.names if name not in floats and name not in nested}
    numbers = [pair for pair in _LONG.findall(text) if pair[0] not in safe or not pair[0]]
    doubtful = [numbers[i] for i in _doubtful([number for _, number in numbers])]
    names = {name for name, number in doubtful if not _given_back(number.decode())}
    if any(name.decode() not in schema.names for name in names):
        return floats  # deeper down, or written with escapes: nobody knows where
    lossy = {name.decode() for name in names}
    return {n for n in floats if n in lossy or (pa.types.is_nested(schema.field(n).type) and lossy & nested)}


def _doubtful(numbers: list[bytes]) -> list[int]:
    """Find the numbers that Arrow does not write as they were."""
    words = pa.array(numbers, pa.binary()).cast(pa.string())
    places: list[int] = pc.indices_nonzero(pc.not_equal(words, words.cast(pa.float64()).cast(pa.string()))).to_pylist()
    return places


def _letters(text: bytes, names: Collection[str]) -> dict[str, list[str]]:
    """Collect the letters of numbers by column. Of nested columns only those beyond a float count."""
    spellings: dict[str, list[str]] = {}
    for line in text.splitlines():
        if not line.strip():
            continue
        record = json.loads(line, parse_int=_Letters, parse_float=_Letters)
        for name in names:
            value = record.get(name)
            if isinstance(value, _Letters):
                spellings.setdefault(name, []).append(value)
            else:
                lost = (number for number in _inside(value) if not _given_back(number))
                spellings.setdefault(name, []).extend(islice(lost, 1))
    return spellings


class _Letters(str):
    """A number as it is written."""

    __slots__ = ()


def _inside(value: object) -> Iterable[str]:
    if isinstance(value, _Letters):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _inside(inner)


def _both(left: pa.DataType, right: pa.DataType) -> pa.DataType:
    schemas = [pa.schema([pa.field("x", kind)]) for kind in (left, right)]
    return pa.unify_schemas(schemas, promote_options="permissive").field("x").type


def _as_text(kind: pa.DataType, test: Callable[[pa.DataType], bool]) -> pa.DataType:
    """Replace some leaves of a nested type by text."""
    if pa.types.is_struct(kind):
        return pa.struct([(field.name, _as_text(field.type, test)) for field in kind])
    if pa.types.is_list(kind):
        return pa.list_(_as_text(kind.value_type, test))
    return pa.string() if test(kind) else kind


def _wide(values: pa.ChunkedArray) -> bool:
    """Tell whether a nested whole number is beyond what float64 holds."""
    kind = values.type
    if pa.types.is_struct(kind):
        return any(_wide(pc.struct_field(values, [i])) for i in range(kind.num_fields))
    if pa.types.is_list(kind):
        return _wide(pc.list_flatten(values))
    low, high = (bound.as_py() or 0 for bound in pc.min_max(values).values()) if pa.types.is_integer(kind) else (0, 0)
    return max(-low, high) >= EXACT


def _nameless(kind: pa.DataType) -> bool:
    """Tell whether some object in a nested type has no names."""
    return (pa.types.is_struct(kind) and not kind.num_fields) or any(map(_nameless, _children(kind)))


def _has(kind: pa.DataType, test: Callable[[pa.DataType], bool]) -> bool:
    return any(_has(child, test) for child in _children(kind)) or bool(test(kind))


def _names(kind: pa.DataType) -> Iterable[str]:
    if pa.types.is_struct(kind):
        yield from (field.name for field in kind)
    for child in _children(kind):
        yield from _names(child)


def _children(kind: pa.DataType) -> list[pa.DataType]:
    return [kind.field(i).type for i in range(kind.num_fields)] if pa.types.is_nested(kind) else []
