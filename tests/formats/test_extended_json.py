"""Extended JSON of MongoDB read as plain values: each BSON type, both forms, and what does not fit."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import numpy as np
import pyarrow as pa
import pytest
from bson import Binary, Code, Decimal128, Int64, MaxKey, ObjectId, Regex, Timestamp, json_util
from bson.datetime_ms import DatetimeMS
from hypothesis import given
from hypothesis import strategies as st

from ingestlab import JsonLines
from ingestlab.core.models import Piece
from ingestlab.formats.json.extended import plain
from ingestlab.lake.storage.store import LocalStore

OID = ObjectId("6b0c86a3b274f345f506140a")
WHEN = datetime(2026, 11, 29, 12, 30, 0, 123000, tzinfo=UTC)


def canonical(*documents: Any) -> str:
    options = json_util.CANONICAL_JSON_OPTIONS
    return "".join(json_util.dumps(each, json_options=options) + "\n" for each in documents)


@pytest.fixture(scope="module")
def read(tmp_path_factory):
    folder = tmp_path_factory.mktemp("extended")

    def read(text: str, columns: dict[str, Any] | None = None) -> Any:
        (folder / "f").write_text(text)
        piece = Piece(uri="u", path="f", name="f.jsonl", sha256="0")
        return JsonLines(columns=columns, extended=True).read(piece, LocalStore(str(folder)))

    return read


def test_each_type_becomes_the_value_of_its_declared_column(read):
    document = {
        "_id": OID,
        "small": 5,
        "long": Int64(2**53 + 1),
        "whole": 5.0,
        "double": -1.5e22,
        "price": Decimal128("12.50"),
        "at": WHEN,
        "local": WHEN,
        "day": datetime(2026, 1, 2, tzinfo=UTC),
        "blob": b"\x00\x01\xff",
        "user": Binary(UUID(int=7).bytes, 4),
        "key": Binary(UUID(int=7).bytes, 4),
        "yes": True,
        "none": None,
        "nested": {"n": 1, "at": WHEN},
        "list": [1, 2],
        "any": {"id": OID, "n": [Int64(1), 2.5]},
    }
    types = {
        "_id": "string",
        "small": "int32",
        "long": "int64",
        "whole": "int64",
        "double": "float64",
        "price": pa.decimal128(10, 2),
        "at": pa.timestamp("ms", "UTC"),
        "local": pa.timestamp("ms"),
        "day": "date32",
        "blob": "binary",
        "user": "string",
        "key": pa.binary(16),
        "yes": "bool",
        "none": "int64",
        "nested": pa.struct([("n", pa.int64()), ("at", pa.string())]),
        "list": pa.list_(pa.int64()),
        "any": "json",
    }
    records = read(canonical(document), types)
    assert records.bad == ()
    (row,) = records.table.to_pylist()
    assert json.loads(row.pop("any")) == {"id": str(OID), "n": [1, 2.5]}
    assert row == {
        "_id": str(OID),
        "small": 5,
        "long": 2**53 + 1,
        "whole": 5,
        "double": -1.5e22,
        "price": Decimal("12.50"),
        "at": WHEN,
        "local": WHEN.replace(tzinfo=None),
        "day": date(2026, 1, 2),
        "blob": b"\x00\x01\xff",
        "user": str(UUID(int=7)),
        "key": UUID(int=7).bytes,
        "yes": True,
        "none": None,
        "nested": {"n": 1, "at": "2026-11-29T12:30:00.123Z"},
        "list": [1, 2],
    }


def test_types_are_inferred_as_those_of_plain_json(read):
    text = canonical(
        {"_id": OID, "n": 1, "x": 2.0, "at": WHEN, "blob": b"a", "tags": ["a"], "in": {"n": Int64(2)}},
        {"_id": OID, "n": Int64(2), "x": math.nan, "at": WHEN, "blob": b"b", "tags": [], "in": {"n": Int64(3)}},
    )
    table = read(text).table
    assert {field.name: str(field.type) for field in table.schema} == {
        "_id": "string",
        "n": "int64",
        "x": "double",
        "at": "timestamp[us, tz=UTC]",
        "blob": "string",
        "tags": "list<item: string>",
        "in": "struct<n: int64>",
    }
    assert table["x"].to_pylist() == [2.0, None]
    assert table["blob"].to_pylist() == ["YQ==", "Yg=="]


def test_a_value_of_another_type_is_a_reject_with_its_column(read):
    wrong: list[tuple[str, Any, Any]] = [
        ("int64", "5", "type"),
        ("int64", 5.5, "type"),
        ("string", 5, "type"),
        ("date32", WHEN, "type"),
        (pa.timestamp("ms"), DatetimeMS(2**62), "type"),
        (pa.timestamp("ms", "UTC"), DatetimeMS(-(2**63)), "type"),
        (pa.timestamp("ms", "UTC"), "soon", "type"),
        ("binary", "no base64!", "type"),
        (pa.binary(4), b"123", "type"),
        ("int64", MaxKey(), "type"),
        ("float64", math.inf, "json"),
    ]
    for kind, value, rule in wrong:
        records = read(canonical({"n": 1, "v": None}, {"n": 2, "v": value}), {"n": "int64", "v": kind})
        assert records.table["n"].to_pylist() == [1], value
        assert [(bad.row, bad.rule) for bad in records.bad] == [(1, rule)], value
        assert rule == "json" or records.bad[0].column == "v"


def test_text_that_looks_like_extended_json_stays_text(read):
    text = '{"$oid":"6b0c86a3b274f345f506140a"} {"$numberInt":"5"} \\"'
    records = read(canonical({"a": text, '{"$numberInt":"1"}': 2}), {"a": "string", '{"$numberInt":"1"}': "int64"})
    assert records.table.to_pylist() == [{"a": text, '{"$numberInt":"1"}': 2}]


def test_an_array_as_mongoexport_writes_it_and_the_relaxed_form_are_read(read):
    text = """[{ "_id" : { "$oid" : "6b0c86a3b274f345f506140a" }, "n" : 1,
"at" : { "$date" : "2026-11-29T12:30:00Z" } }, {
"_id":{"$oid":"6b0c86a3b274f345f506140b"},"n":{"$numberLong":"2"},"at":{"$date":-1000}}]"""
    table = read(text, {"_id": "string", "n": "int64", "at": pa.timestamp("s", "UTC")}).table
    assert table["_id"].to_pylist() == [str(OID), str(OID)[:-1] + "b"]
    assert table["n"].to_pylist() == [1, 2]
    assert [str(at) for at in table["at"].to_pylist()] == ["2026-11-29 12:30:00+00:00", "1969-12-31 23:59:59+00:00"]


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**31), 2**31 - 1)
    | st.integers(-(2**63), 2**63 - 1).map(Int64)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
    | st.binary()
    | st.integers(-(2**63), 2**63 - 1).map(DatetimeMS)
    | st.builds(ObjectId)
    | st.decimals(allow_nan=False, allow_infinity=False, places=3, min_value=-(10**9), max_value=10**9).map(Decimal128)
    | st.just(Timestamp(1, 2))
    | st.text('a"\\}').map(lambda pattern: Regex(pattern, "i"))
    | st.text('a"\\}{$:').map(Code),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('ab"$\\', min_size=1), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.sampled_from("abcd"), VALUES, min_size=1))
def test_each_value_is_what_python_would_make_of_it(document):
    made = json.loads(plain(canonical(document).encode(), whole=False))
    assert made == {name: _plain(value) for name, value in document.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return next((say(value) for kind, say in SAID.items() if isinstance(value, kind)), value)


def _time(value: DatetimeMS) -> str:
    ms = int(value)
    text = str(np.datetime_as_string(np.datetime64(ms, "ms"), unit="ms")).removesuffix(".000")
    return str(ms) if ms == -(2**63) else f"{text}Z"


SAID: dict[type, Callable[[Any], Any]] = {
    DatetimeMS: _time,
    bytes: lambda value: base64.b64encode(value).decode(),
    Decimal128: lambda value: json.loads(str(value)),
    Timestamp: lambda value: {"t": value.time, "i": value.inc},
    Regex: lambda value: {"pattern": value.pattern, "options": "i"},
    Code: str,
    ObjectId: str,
}
