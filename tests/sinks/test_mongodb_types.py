"""Every type has the answer that docs/how-to/documents.md gives, as a server gives it back."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from ingestlab import Documents
from ingestlab.core.errors import TerminalError
from ingestlab.core.models import Piece
from ingestlab.core.mongodb import connected, server_of
from ingestlab.core.settings import Settings
from ingestlab.interfaces import Destination, Rows
from ingestlab.sinks.mongodb.values import LARGEST
from ingestlab.sinks.mongodb.writer import DocumentsWriter

GUIDE = Path(__file__).parents[2] / "docs/how-to/documents.md"
NOON = datetime(2026, 11, 29, 12, 30, 0, 123456)
CUT = datetime(2026, 11, 29, 12, 30, 0, 123000)
BIG = Decimal(1234567890123456789012345678901234)
CASES: list[tuple[str, pa.DataType, Any, Any]] = [
    ("null", pa.null(), None, None),
    ("bool", pa.bool_(), True, True),
    ("int8 to int64", pa.int8(), -7, -7),
    ("int8 to int64", pa.int64(), -(2**63), -(2**63)),
    ("int8 to int64", pa.int64(), None, None),
    ("uint64", pa.uint64(), 2**63 - 1, 2**63 - 1),
    ("uint64", pa.uint64(), 2**64 - 1, Decimal(2**64 - 1)),
    ("float16 to float64", pa.float16(), np.float16(1.5), 1.5),
    ("float16 to float64", pa.float64(), 0.1, 0.1),
    ("float16 to float64", pa.float64(), float("inf"), float("inf")),
    ("float16 to float64", pa.float64(), float("nan"), "nan"),
    ("decimal", pa.decimal128(6, 2), Decimal("12.70"), Decimal("12.70")),
    ("decimal", pa.decimal256(76, 0), BIG, BIG),
    ("text", pa.string(), "né\0", "né\0"),
    ("text", pa.large_string(), "x", "x"),
    ("binary", pa.binary(), b"\xff\0", b"\xff\0"),
    ("binary", pa.binary(2), b"ab", b"ab"),
    ("date", pa.date32(), date(1, 1, 1), datetime(1, 1, 1)),
    ("date", pa.date64(), date(9999, 12, 31), datetime(9999, 12, 31)),
    ("timestamp", pa.timestamp("us"), NOON, CUT),
    ("timestamp", pa.timestamp("ns", "Europe/Rome"), NOON.replace(tzinfo=UTC), CUT),
    ("timestamp", pa.timestamp("s"), datetime(1969, 12, 31, 23, 59, 59), datetime(1969, 12, 31, 23, 59, 59)),
    ("timestamp", pa.timestamp("us"), datetime(1969, 12, 31, 23, 59, 59, 999), datetime(1969, 12, 31, 23, 59, 59)),
    ("timestamp", pa.timestamp("us"), None, None),
    ("time", pa.time64("us"), time(12, 30), "12:30:00.000000"),
    ("time", pa.time32("s"), time(12, 30), "12:30:00"),
    ("duration", pa.duration("ms"), timedelta(seconds=90), 90_000),
    ("list", pa.list_(pa.timestamp("us")), [NOON, None], [CUT, None]),
    ("list", pa.list_(pa.int64(), 2), [1, 2], [1, 2]),
    ("struct", pa.struct([("a.b", pa.date32()), ("$c", pa.int64())]), {"a.b": None, "$c": 1}, {"a_b": None, "_c": 1}),
    ("struct", pa.struct([("a", pa.list_(pa.uint64()))]), {"a": [2**64 - 1]}, {"a": [Decimal(2**64 - 1)]}),
    ("map", pa.map_(pa.string(), pa.int64()), [("a.b", 1)], [{"key": "a.b", "value": 1}]),
    ("dictionary", pa.dictionary(pa.int32(), pa.string()), "x", "x"),
]
REJECTS: list[tuple[str, pa.DataType, Any, str]] = [
    ("document:decimal", pa.decimal256(76, 0), Decimal("1" * 35), "1" * 35),
    ("document:date", pa.timestamp("s"), 10**12, "1000000000000 s since 1970"),
    ("document:date", pa.timestamp("s"), 2**62, "4611686018427387904 s since 1970"),
    ("document:date", pa.list_(pa.date32()), [-(2**31)], "-185542587187200000 ms since 1970"),
    ("document:too large", pa.binary(), b"x" * LARGEST, "16,777,"),
]
KEYS: list[tuple[pa.DataType, Any]] = [
    (pa.int64(), None),
    (pa.uint64(), 2**64 - 1),
    (pa.timestamp("us"), NOON),
    (pa.timestamp("s"), 10**12),
]


def encoded(table: pa.Table, **words: Any) -> tuple[list[bytes], dict[Any, Any]]:
    """What a task makes of rows: documents, and the rows that cannot be any."""
    pipeline = SimpleNamespace(documents=Documents(**words).named("t"), key_columns=())
    to = Destination(run="r", batch="b", tenant="default", table="t", pipeline=pipeline, store=None)
    count = len(table)
    table = table.append_column("_source", pa.array(["a"] * count)).append_column("_row", pa.array(range(count)))
    piece = Piece(uri="a", path="a", name="a", sha256="0")
    writer = DocumentsWriter(to)
    faults = writer.refuse(Rows(name="n", table=table, rejects=None, pieces={"a": piece}, raw=None))
    return writer._encoded["n"]["_document"].to_pylist(), faults


def test_the_guide_names_the_types_that_are_tried_here():
    table = GUIDE.read_text().partition("## Types")[2]
    named = re.findall(r"^\| ([a-z].*?) \|", table, re.MULTILINE)
    assert named == list(dict.fromkeys(name for name, *_ in CASES))
    assert set(re.findall(r"document:[a-z ]+", table)) == {rule for rule, *_ in REJECTS}


def test_every_type_comes_back_as_the_guide_says(mongodb):
    from bson import decode
    from bson.decimal128 import Decimal128

    def plain(value: Any) -> Any:
        if isinstance(value, Decimal128):
            return value.to_decimal()
        if isinstance(value, dict):
            return {name: plain(inner) for name, inner in value.items()}
        return [plain(inner) for inner in value] if isinstance(value, list) else value

    collection = connected(server_of(Settings(mongodb_uri=mongodb)))["types"]["all"]
    for number, (_, kind, value, expected) in enumerate(CASES):
        (data,), faults = encoded(pa.table({"v": pa.array([value], kind)}))
        assert not faults
        collection.insert_one(decode(data) | {"_id": number, "v": decode(data)["v"]})
        there = plain(collection.find_one(number)["v"])
        assert (str(there) if expected == "nan" else there) == expected, kind
        assert expected == "nan" or isinstance(there, type(expected)), kind


@pytest.mark.parametrize(("rule", "kind", "value", "shown"), REJECTS)
def test_what_no_document_can_hold_is_a_reject_and_the_others_go(rule, kind, value, shown):
    documents, faults = encoded(pa.table({"v": pa.array([None, value], kind)}))
    assert len(documents) == 1
    ((place, reason),) = faults.items()
    assert place == ("a", 1)
    assert (reason.rule, reason.column) == (rule, None if rule == "document:too large" else "v")
    assert reason.value.startswith(shown)


@pytest.mark.parametrize(("kind", "value"), KEYS)
def test_a_row_without_a_usable_key_is_a_reject(kind, value):
    documents, faults = encoded(pa.table({"v": pa.array([1000, value], kind), "w": [1, 2]}), key="v")
    assert len(documents) == 1
    assert faults["a", 1].rule == "document:key"


def test_keys_and_names_that_cannot_be_fail_with_what_to_write():
    one = pa.array([1])
    for table, words, text in (
        (pa.table({"a.b": one, "a_b": one}), {}, "another 'a_b'"),
        (pa.table({"_id": one}), {}, "another '_id'"),
        (pa.table({"_ingestlab": one}), {}, "another '_ingestlab'"),
        (pa.table({"s": pa.array([{"$a": 1, "_a": 2}])}), {}, "Two fields of a struct"),
        (pa.table({"v": one}), {"key": "w"}, "the column 'w'"),
        (pa.table({"v": pa.array([0.5])}), {"key": "v"}, "double in 'v'"),
        (pa.table({"v": pa.array([[1]])}), {"key": "v"}, "list<item: int64> in 'v'"),
    ):
        with pytest.raises(TerminalError, match=re.escape(text)):
            encoded(table, **words)
    (document,), _ = encoded(pa.table({"_id": pa.array(["x"]), "": one}), key="_id")
    from bson import decode

    assert list(decode(document)) == ["_id", "_", "_ingestlab"]
