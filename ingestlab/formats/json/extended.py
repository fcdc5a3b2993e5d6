"""Extended JSON, in which MongoDB writes what JSON has no type for, as plain JSON: ``{"$oid": "6b0c…"}`` is text.

Both forms are read, the canonical and the relaxed one. The text is rewritten without parsing it: within a string each
quote has a backslash, so that no string holds what is looked for.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from uuid import UUID

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ingestlab.formats.common.columns import convert, set_apart
from ingestlab.formats.common.cutting import Ints
from ingestlab.formats.common.excerpts import shorten
from ingestlab.interfaces import Bad, Records

Converted = tuple[pa.Array, Iterable[int]]  # values, and the positions of those that are none


def _pattern(text: str) -> re.Pattern[bytes]:
    """Compile a pattern. A blank in it stands for any number."""
    return re.compile(text.replace(" ", r"[ \t]*+").encode())


_TEXT = r'"(?:[^"\\]++|\\.)*+"'
_FIELD = rf'"(?:t|i|pattern|options)" : (?:\d++|{_TEXT})'
_DATE = _pattern(r'\{ "\$date" : (?:\{ "\$numberLong" : "(-?\d++)" \}|(-?\d++)) \}')
_BINARY = _pattern(r'\{ "\$binary" : \{ "base64" : "([A-Za-z0-9+/=]*+)" , "subType" : "([0-9A-Fa-f]{1,2})" \} \}')
_NOTHING = _pattern(r'\{ "\$(?:number(?:Double|Decimal)" : "NaN"|undefined" : true) \}')
# In place of each is what the group has: a number without quotes, a text, or an object of two fields.
_VALUE = (
    r'\{ "\$(?:number(?:Int|Long|Double|Decimal)" : "(?=[-+\dI])|(?:oid|date|symbol|code|uuid)" : (?=")'
    r'|(?:timestamp|regularExpression)" : (?=\{))'
    rf'(NUMBER[-+\d.eE]++|-?Infinity|{_TEXT}|\{{ {_FIELD} , {_FIELD} \}})"? \}}'
)
_EXACT = _pattern(_VALUE.replace("NUMBER", ""))
_WHOLE = _pattern(_VALUE.replace("NUMBER", r'-?\d++(?=(?:\.0)?")|').replace('"? ', r'(?:\.0)?"? '))
_UUID = (b"4", b"04")
_MIDNIGHT, _UTC = r"T00:00:00(?:\.0+)?Z$", "Z$"
_LOWEST = -(2**63)  # which numpy takes for no time


def plain(data: bytes, *, whole: bool) -> bytes:
    """Rewrite extended JSON as plain JSON. Lines stay lines.

    Args:
        data: Text of any form of JSON.
        whole: Whether doubles without a fraction become whole numbers, which columns of all numeric types take.
    """
    if b'"$' not in data:
        return data
    data = _dated(data)
    if b'"$binary"' in data:
        data = _BINARY.sub(_binary, data)
    if b'"NaN"' in data or b'"$undefined"' in data:
        data = _NOTHING.sub(b"null", data)
    return b"".join((_WHOLE if whole else _EXACT).split(data))


def _dated(data: bytes) -> bytes:
    """Write milliseconds since 1970 as times of ISO 8601."""
    parts: list[bytes | None] = list(_DATE.split(data))
    if len(parts) == 1:
        return data
    numbers = [int(one or other or b"") for one, other in zip(parts[1::3], parts[2::3], strict=True)]
    inside = [_LOWEST < number < -_LOWEST for number in numbers]
    times = np.array([number if fits else 0 for number, fits in zip(numbers, inside, strict=True)], "M8[ms]")
    texts = np.datetime_as_string(times, unit="ms").tolist()
    told = zip(texts, inside, numbers, strict=True)
    parts[1::3] = [
        f'"{text.removesuffix(".000")}Z"'.encode() if fits else f'"{number}"'.encode() for text, fits, number in told
    ]
    parts[2::3] = [b""] * len(numbers)
    return b"".join(part or b"" for part in parts)


def _binary(match: re.Match[bytes]) -> bytes:
    """Write bytes as base64, and those of a UUID as one."""
    text, kind = match.groups()
    data = _bytes(text) if kind in _UUID else None
    return b'"%b"' % (str(UUID(bytes=data)).encode() if data and len(data) == 16 else text)


def _bytes(text: bytes) -> bytes | None:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        return None


def texts_of(columns: Mapping[str, pa.DataType]) -> dict[str, pa.DataType]:
    """Return the columns that are read as text, for :func:`typed`.

    Args:
        columns: Declared types by name.
    """
    return {name: pa.string() for name, kind in columns.items() if _converter(kind)}


def typed(records: Records, columns: Mapping[str, pa.DataType], timestamp_format: str | None) -> Records:
    """Convert text to bytes, dates and times without a zone.

    Args:
        records: With text in these columns.
        columns: Declared types by name.
        timestamp_format: For strptime; None for ISO 8601.
    """
    table, bad = records.table, list[Bad]()
    for place, (name, kind) in enumerate(columns.items()):
        if converter := _converter(kind):
            texts = table[name].combine_chunks()
            values, failed = converter(texts, kind, timestamp_format)
            bad += [Bad(int(records.rows[i]), "type", name, shorten(texts[i].as_py())) for i in failed]
            table = table.set_column(place, name, values)
    return set_apart(replace(records, table=table), bad)


def _as_bytes(texts: pa.Array, kind: pa.DataType, _format: str | None) -> Converted:
    values, failed = list[bytes | None](), list[int]()
    width = kind.byte_width if pa.types.is_fixed_size_binary(kind) else None
    for i, text in enumerate(texts.to_pylist()):
        data = None if text is None else _bytes(text.encode()) if len(text) != 36 else _of_uuid(text)
        if text is not None and (data is None or width not in (None, len(data))):
            failed.append(i)
            data = None
        values.append(data)
    return pa.array(values, kind), failed


def _of_uuid(text: str) -> bytes | None:
    try:
        return UUID(text).bytes
    except ValueError:
        return _bytes(text.encode())


def _as_date(texts: pa.Array, kind: pa.DataType, timestamp_format: str | None) -> tuple[pa.Array, Ints]:
    return convert(pc.replace_substring_regex(texts, _MIDNIGHT, ""), kind, timestamp_format)


def _as_local(texts: pa.Array, kind: pa.DataType, timestamp_format: str | None) -> tuple[pa.Array, Ints]:
    return convert(pc.replace_substring_regex(texts, _UTC, ""), kind, timestamp_format)


def _converter(kind: pa.DataType) -> Callable[[pa.Array, pa.DataType, str | None], Converted] | None:
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
        return _as_bytes
    if pa.types.is_date(kind):
        return _as_date
    return _as_local if pa.types.is_timestamp(kind) and kind.tz is None else None
