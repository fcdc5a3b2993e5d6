"""Columns of a table from the JSON schema of a stream."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_SIMPLE = {"integer": "int64", "number": "float64", "boolean": "bool"}
_STRINGS = {  # by Airbyte's own word for the type, or else by the format
    "timestamp_with_timezone": "timestamp[us, tz=UTC]",
    "timestamp_without_timezone": "timestamp[us]",
    "big_integer": "string",
    "big_number": "string",
    "time_without_timezone": "string",
    "time_with_timezone": "string",
    "date-time": "timestamp[us, tz=UTC]",
    "date": "date32",
}
_NUMBERS = {"integer": "int64", "big_integer": "json", "big_number": "json"}  # JSON text keeps every digit


def columns_of(schema: Mapping[str, Any]) -> dict[str, str]:
    """Choose a type for each property, as `JsonLines` declares it.

    Nested values, and values of several types, are kept as JSON text.

    Args:
        schema: Of the stream's records.
    """
    properties = schema.get("properties")
    if not isinstance(properties, Mapping):
        return {}
    return {str(name): kind_of(described) for name, described in properties.items()}


def kind_of(described: Any) -> str:
    """Choose the type of one property.

    Args:
        described: Its JSON schema.
    """
    kinds = set(_kinds(described))
    return kinds.pop() if len(kinds) == 1 else "json"


def _kinds(described: Any) -> Iterator[str]:
    """Yield the types that values of a schema may have. Null is none."""
    if not isinstance(described, Mapping):
        return
    branches = [branch for word in ("oneOf", "anyOf", "allOf") for branch in described.get(word) or ()]
    if branches and "type" not in described:
        for branch in branches:
            yield from _kinds(branch)
        return
    said = described.get("type")
    for word in said if isinstance(said, list) else [said]:
        if word != "null":
            yield _kind(word, described)


def _kind(word: Any, described: Mapping[str, Any]) -> str:
    own = described.get("airbyte_type")
    if word == "string":
        return _STRINGS.get(str(own), _STRINGS.get(str(described.get("format")), "string"))
    if word == "number":
        return _NUMBERS.get(str(own), "float64")
    if word == "integer" and own in {"big_integer", "big_number"}:
        return "json"
    return _SIMPLE.get(str(word), "json")
