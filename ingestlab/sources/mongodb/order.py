"""The order of BSON: kinds of values, one after another, and filters for what comes before and after a value.

A comparison in a filter finds values of one kind alone, and NaN not at all; sorting knows all of them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from ingestlab.core.extras import needed
from ingestlab.sources.mongodb.text import Encoder

# As a server sorts them, by the names that its operator $type knows.
KINDS = (
    "minKey", "null", "number", "string", "object", "array", "binData", "objectId", "bool", "date", "timestamp",
    "regex", "javascript", "javascriptWithScope", "maxKey",
)  # fmt: skip
Filter = dict[str, Any]
_BY_TYPE = {
    "NoneType": "null",
    "int": "number",
    "Int64": "number",
    "float": "number",
    "Decimal128": "number",
    "str": "string",
    "dict": "object",
    "DBRef": "object",
    "list": "array",
    "bytes": "binData",
    "Binary": "binData",
    "ObjectId": "objectId",
    "bool": "bool",
    "DatetimeMS": "date",
    "datetime": "date",
    "Timestamp": "timestamp",
    "Regex": "regex",
    "Code": "javascript",
    "MinKey": "minKey",
    "MaxKey": "maxKey",
}


def kind_of(value: Any) -> str:
    """Name the kind of a value, among :data:`KINDS`.

    Args:
        value: Of a document.
    """
    return _BY_TYPE[type(value).__name__]


def is_nan(value: Any) -> bool:
    """Tell whether a value is the number that is none.

    Args:
        value: Of a document.
    """
    return (isinstance(value, float) and math.isnan(value)) or str(value) == "NaN" != value


def exact(value: Any) -> Any:
    """Return a value that equals what the server takes for equal.

    Args:
        value: Of a document.
    """
    return value.to_decimal() if type(value).__name__ == "Decimal128" else value


def after(name: str, value: Any) -> Filter:
    """Find what is sorted behind a value.

    Args:
        name: Of the field.
        value: Of any kind.
    """
    same: Filter = {name: {"$gte": -math.inf}} if is_nan(value) else {name: {"$gt": value}}
    later = [{name: {"$type": kind}} for kind in KINDS[KINDS.index(kind_of(value)) + 1 :]]
    return {"$or": [same, *later]}


def until(name: str, value: Any) -> Filter:
    """Find what is sorted before a value, and the value.

    Args:
        name: Of the field.
        value: Of any kind.
    """
    same: list[Filter] = [{name: {"$lte": value}}]
    if kind_of(value) == "number":
        same = [{name: math.nan}, *(same if not is_nan(value) else [])]
    earlier = [{name: {"$type": kind}} for kind in KINDS[: KINDS.index(kind_of(value))]]
    return {"$or": [*same, *earlier]}


def packed(value: Any, encoder: Encoder) -> Any:
    """Write a value as plain data for JSON.

    Args:
        value: Of a document.
        encoder: Writes it.
    """
    return json.loads(encoder.value(value))


def unpacked(data: Any) -> Any:
    """Read what :func:`packed` wrote.

    Args:
        data: Plain data.
    """
    util = needed("bson.json_util", "mongodb", "MongoDB")
    options = needed("bson.codec_options", "mongodb", "MongoDB")
    as_written = util.JSONOptions(
        json_mode=util.JSONMode.CANONICAL, tz_aware=False, datetime_conversion=options.DatetimeConversion.DATETIME_MS
    )
    return util.loads(json.dumps({"": data}), json_options=as_written)[""]


def found(document: Mapping[str, Any], path: str) -> Any:
    """Look a field up. None where it is missing; a list in between is what is there.

    Args:
        document: Of the server.
        path: Names of fields with dots in between.
    """
    value: Any = document.get(path)
    if value is not None or "." not in path:
        return value
    value = document
    for name in path.split("."):
        if not isinstance(value, Mapping):
            return value if isinstance(value, list) else None
        value = value.get(name)
    return value
