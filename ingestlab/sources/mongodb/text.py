"""Documents of BSON as lines of canonical extended JSON, which keeps all types: what the raw zone has of them."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable
from functools import lru_cache
from json.encoder import encode_basestring as quoted
from typing import Any

from ingestlab.core.extras import needed

Write = Callable[[Any], str]
_DAMAGED = "surrogateescape"


class Encoder:
    """Writes documents. What no text may hold, as bytes that are no UTF-8, stays as it is, and is its record's end."""

    def __init__(self) -> None:
        bson = needed("bson", "mongodb", "MongoDB")
        options = needed("bson.codec_options", "mongodb", "MongoDB")
        self.options = options.CodecOptions(datetime_conversion=options.DatetimeConversion.DATETIME_MS)
        self._damaged = self.options.with_options(unicode_decode_error_handler=_DAMAGED)
        self._decode_all, self._invalid = bson.decode_all, needed("bson.errors", "mongodb", "MongoDB").InvalidBSON
        self._write: dict[type, Write] = {**_PLAIN, **self._types(), dict: self._object, list: self._array}

    def decoded(self, batch: bytes) -> list[dict[str, Any]]:
        """Decode documents that follow each other.

        Args:
            batch: Their BSON.

        Raises:
            bson.errors.InvalidBSON: They are none.
        """
        try:
            documents: list[dict[str, Any]] = self._decode_all(batch, self.options)
        except self._invalid:
            documents = self._decode_all(batch, self._damaged)
        return documents

    def line(self, document: dict[str, Any]) -> bytes:
        """Write a document, with a line feed.

        Args:
            document: As :meth:`decoded` gives it.
        """
        text = self._object(document) + "\n"
        try:
            return text.encode()
        except UnicodeEncodeError:
            return text.encode(errors=_DAMAGED)

    def value(self, value: Any) -> str:
        """Write a value.

        Args:
            value: Of a document.

        Raises:
            TypeError: BSON has no such type.
        """
        write = self._write.get(type(value))
        if write is None:
            raise TypeError(f"a {type(value).__name__} is no value of BSON")
        return write(value)

    def _object(self, document: dict[str, Any]) -> str:
        write = self._write
        return "{" + ",".join([_name(name) + write[type(value)](value) for name, value in document.items()]) + "}"

    def _array(self, values: list[Any]) -> str:
        write = self._write
        return "[" + ",".join([write[type(value)](value) for value in values]) + "]"

    def _types(self) -> dict[type, Write]:
        """Say how values of BSON's own types are written."""
        bson = needed("bson", "mongodb", "MongoDB")
        regex, dbref = needed("bson.regex", "mongodb", "MongoDB"), needed("bson.dbref", "mongodb", "MongoDB")
        return {
            bson.Int64: lambda value: f'{{"$numberLong":"{value:d}"}}',
            bson.ObjectId: lambda value: f'{{"$oid":"{value}"}}',
            bson.DatetimeMS: lambda value: f'{{"$date":{{"$numberLong":"{int(value)}"}}}}',
            bson.Decimal128: lambda value: f'{{"$numberDecimal":"{value}"}}',
            bson.Timestamp: lambda value: f'{{"$timestamp":{{"t":{value.time},"i":{value.inc}}}}}',
            bson.Binary: lambda value: _binary(value, value.subtype),
            bson.MinKey: lambda _: '{"$minKey":1}',
            bson.MaxKey: lambda _: '{"$maxKey":1}',
            bson.Code: self._code,
            regex.Regex: lambda value: _regex(value.pattern, value.flags),
            dbref.DBRef: lambda value: self._object(dict(value.as_doc())),
        }

    def _code(self, value: Any) -> str:
        if value.scope is None:
            return f'{{"$code":{quoted(value)}}}'
        return f'{{"$code":{quoted(value)},"$scope":{self._object(value.scope)}}}'


@lru_cache(maxsize=4096)
def _name(name: str) -> str:
    return quoted(name) + ":"


def _double(value: float) -> str:
    if math.isfinite(value):
        return f'{{"$numberDouble":"{value!r}"}}'
    return '{"$numberDouble":"%s"}' % ("NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity")


def _binary(value: bytes, kind: int = 0) -> str:
    return f'{{"$binary":{{"base64":"{base64.b64encode(value).decode()}","subType":"{kind:02x}"}}}}'


def _regex(pattern: str | bytes, flags: int) -> str:
    text = pattern if isinstance(pattern, str) else pattern.decode(errors=_DAMAGED)
    options = "".join(letter for letter, flag in _FLAGS if flags & flag)
    return f'{{"$regularExpression":{{"pattern":{quoted(text)},"options":"{options}"}}}}'


_FLAGS = (("i", 2), ("l", 4), ("m", 8), ("s", 16), ("u", 32), ("x", 64))  # as the module `re` counts them
_PLAIN: dict[type, Write] = {
    str: quoted,
    int: lambda value: f'{{"$numberInt":"{value}"}}',
    float: _double,
    bool: lambda value: "true" if value else "false",
    type(None): lambda _: "null",
    bytes: _binary,
}
