"""Documents of MongoDB as pages of records, from a real server: each once, wherever a pull stops and goes on."""

from __future__ import annotations

import asyncio
import json
import math
import random
from collections.abc import Iterable, Mapping
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import bson
import pytest
from bson import Code, Decimal128, Int64, ObjectId, Regex, Timestamp, json_util
from bson.datetime_ms import DatetimeMS
from hypothesis import given, settings
from hypothesis import strategies as st
from support.selection import examples

from ingestlab import Mongo
from ingestlab.core.errors import TerminalError, TransientError
from ingestlab.core.mongodb import connected, server_of
from ingestlab.core.settings import Settings
from ingestlab.interfaces import Page, Pull
from ingestlab.sources.mongodb import reading
from ingestlab.sources.mongodb.order import packed, unpacked
from ingestlab.sources.mongodb.text import Encoder
from ingestlab.stack.valkey import free_port

NOW = datetime(2026, 11, 29, 12, 0, tzinfo=UTC)
MIXED: list[Any] = [
    math.nan,
    -5,
    1,
    Int64(2**53 + 1),
    2.5,
    Decimal128("7.50"),
    "a",
    "b",
    {"a": 1},
    {"a": 1, "b": 2},
    b"bytes",
    ObjectId("6b0c86a3b274f345f506140a"),
    False,
    True,
    datetime(2026, 1, 1, tzinfo=UTC),
    Timestamp(1, 2),
]


class Shop:
    """A collection of its own, and the pulls of it."""

    def __init__(self, url: str) -> None:
        self.settings = Settings(mongodb_uri=url, mongodb_timeout=20)
        self.database = f"s{uuid4().hex[:12]}"
        self.stored = connected(server_of(self.settings))[self.database]["orders"]

    def source(self, **more: Any) -> Mongo:
        return Mongo(**{"database": self.database, "collection": "orders", **more})

    def put(self, documents: Iterable[Mapping[str, Any]]) -> None:
        self.stored.insert_many([dict(each) for each in documents])

    def ask(self, cursor: Any = None, **more: Any) -> Pull:
        cursor = None if cursor is None else json.loads(json.dumps(cursor))  # as the log keeps it
        return Pull(name="orders", run="r1", settings=self.settings, cursor=cursor, **more)

    def pages(self, source: Mongo, pull: Pull | None = None, most: int = 10**9) -> list[Page]:
        async def collect() -> list[Page]:
            pages: list[Page] = []
            async with aclosing(source.pages(pull or self.ask())) as coming:  # type: ignore[type-var]
                async for page in coming:
                    pages.append(page)
                    if len(pages) >= most:
                        break
            return pages

        source.check("orders")
        return asyncio.run(collect())

    def divided(self, source: Mongo, pull: Pull, parts: int) -> list[Pull]:
        return list(asyncio.run(source.divide(pull, parts)))


def ids(pages: Iterable[Page]) -> list[Any]:
    found = []
    for page in pages:
        lines = page.lines.decode().splitlines()
        assert page.lines.endswith(b"\n")
        assert len(lines) == page.rows > 0
        found += [json_util.loads(line, json_options=json_util.CANONICAL_JSON_OPTIONS)["_id"] for line in lines]
    return found


@pytest.fixture
def shop(mongodb) -> Shop:
    return Shop(mongodb)


@pytest.fixture
def small_pages(monkeypatch):
    """Pages of some documents, batches of two."""
    monkeypatch.setattr(reading, "PAGE_BYTES", 150)
    monkeypatch.setattr(reading, "_BATCH", 2)


def test_a_pull_brings_every_document_in_order_with_query_and_projection(shop):
    shop.put({"_id": n, "n": n % 3, "secret": "x"} for n in range(20))
    assert ids(shop.pages(shop.source())) == [*range(20)]
    (page,) = shop.pages(shop.source(query={"n": 1}, projection={"secret": 0}))
    assert page.lines.splitlines()[0] == b'{"_id":{"$numberInt":"1"},"n":{"$numberInt":"1"}}'
    assert (page.rows, page.resume, page.cursor) == (7, None, None)
    assert page.request == f"find {shop.database}.orders by _id"
    assert ids(shop.pages(shop.source(query={"n": 5}))) == []


def test_a_pull_goes_on_behind_each_page_also_among_ids_of_all_types(shop, small_pages):
    shop.put({"_id": each, "x": "y" * 20} for each in MIXED)
    source = shop.source()
    pages = shop.pages(source)
    everything = ids(pages)
    assert len(everything) == len(MIXED)
    assert len(pages) > 4
    assert [page.resume is None for page in pages] == [False] * (len(pages) - 1) + [True]
    for at, page in enumerate(pages[:-1]):
        rest = shop.pages(source, shop.ask(resume=json.loads(json.dumps(page.resume))))
        assert [each.lines for each in rest] == [each.lines for each in pages[at + 1 :]]


def test_parts_hold_each_document_once_also_among_ids_of_all_types(shop, monkeypatch):
    monkeypatch.setattr(reading, "PART", 1)
    monkeypatch.setattr(reading, "_SAMPLED", 1)
    shop.put({"_id": each} for each in MIXED)
    everything = [page.lines for page in shop.pages(shop.source())]
    for _ in range(5):
        parts = shop.divided(shop.source(), shop.ask(), 6)
        assert 1 < len(parts) <= 6
        lines = [page.lines for part in parts for page in shop.pages(shop.source(), part)]
        assert b"".join(lines) == b"".join(everything)


def test_parts_by_a_cursor_hold_equal_values_together(shop, monkeypatch):
    monkeypatch.setattr(reading, "PART", 1)
    monkeypatch.setattr(reading, "_SAMPLED", 2)
    rows = [{"_id": n, "day": NOW + timedelta(days=n // 50)} for n in range(300)]
    shop.put(random.sample(rows, len(rows)))
    source = shop.source(cursor="day")
    parts = shop.divided(source, shop.ask(), 4)
    shop.put([{"_id": 1000, "day": NOW + timedelta(days=100)}])  # comes with the next pull
    pages = [page for part in parts for page in shop.pages(source, part)]
    assert ids(pages) == [*range(300)]
    assert ids(shop.pages(source, shop.ask(pages[-1].cursor))) == [1000]


def test_documents_at_the_border_of_two_pulls_come_once(shop, small_pages):
    source = shop.source(cursor="at")
    shop.put({"_id": n, "at": NOW + timedelta(seconds=n // 4)} for n in range(10, 20))
    pages = shop.pages(source)
    assert len(pages) > 2
    cursor = pages[-1].cursor
    assert shop.pages(source, shop.ask(cursor)) == []
    late = [{"_id": n, "at": NOW + timedelta(seconds=4)} for n in (3, 99)]  # as the last ones: before and behind them
    shop.put([*late, {"_id": 100, "at": NOW + timedelta(seconds=5)}])
    more = shop.pages(source, shop.ask(cursor))
    assert ids(more) == [3, 99, 100]
    assert shop.pages(source, shop.ask(more[-1].cursor)) == []
    shop.stored.update_one({"_id": 10}, {"$set": {"at": NOW + timedelta(seconds=6)}})
    assert ids(shop.pages(source, shop.ask(more[-1].cursor))) == [10]


def test_very_many_documents_with_the_last_value_come_once(shop, monkeypatch):
    monkeypatch.setattr(reading, "TIES", 3)
    source = shop.source(cursor="at")
    shop.put({"_id": n, "at": NOW} for n in range(10))
    cursor = shop.pages(source)[-1].cursor
    assert "ids" not in cursor
    shop.put({"_id": n, "at": NOW} for n in range(10, 12))
    assert ids(shop.pages(source, shop.ask(cursor))) == [10, 11]


@pytest.mark.parametrize(
    ("first", "later"),
    [
        (lambda n: n, lambda n: n),
        (lambda n: n, lambda n: Int64(n) if n % 2 else Decimal128(f"{n}.0")),
        (lambda n: f"{n:05d}", lambda n: f"{n:05d}"),
        (lambda n: ObjectId(f"{n:024x}"), lambda n: ObjectId(f"{n:024x}")),
        (lambda n: Timestamp(n, 1), lambda n: Timestamp(n, 1)),
        (lambda n: NOW + timedelta(days=n), lambda n: NOW + timedelta(days=n)),
    ],
)
def test_a_cursor_is_of_any_type_that_grows(shop, first, later):
    for name in ("_id", "deep.value"):
        shop.stored.drop()
        make = (lambda v, n: {"_id": v}) if name == "_id" else (lambda v, n: {"_id": n, "deep": {"value": v}})
        shop.put(make(first(n), n) for n in range(5))
        source = shop.source(cursor=name)
        cursor = shop.pages(source)[-1].cursor
        shop.put(make(later(n), n) for n in range(5, 9))
        more = shop.pages(source, shop.ask(cursor))
        assert sum(page.rows for page in more) == 4
        assert shop.pages(source, shop.ask(more[-1].cursor)) == []


@given(data=st.data())
@settings(max_examples=examples(30), deadline=None)
def test_pulls_and_parts_of_any_story_bring_each_document_once(mongodb, data):
    """Documents come between pulls, with few values of the cursor, and pulls stop at any page."""
    patch = pytest.MonkeyPatch()
    with patch.context() as set_to:
        set_to.setattr(reading, "PAGE_BYTES", 100)
        set_to.setattr(reading, "_BATCH", 3)
        set_to.setattr(reading, "PART", 1)
        set_to.setattr(reading, "_SAMPLED", 1)
        set_to.setattr(reading, "TIES", 100)
        shop, taken, cursor, n = Shop(mongodb), [], None, 0
        shop.stored.database.create_collection("orders")
        source = shop.source(cursor="v")
        lowest = 0
        for _ in range(data.draw(st.integers(1, 3))):
            values = data.draw(st.lists(st.integers(lowest, lowest + 3), max_size=8))
            order = data.draw(st.permutations(range(n, n + len(values))))
            if values:
                shop.put({"_id": -i if i % 2 else i, "v": v} for i, v in zip(order, values, strict=True))
                lowest = max(lowest, *values)
            n += len(values)
            ask = shop.ask(cursor)
            parts = shop.divided(source, ask, data.draw(st.integers(1, 3)))
            for part in parts:
                pages = shop.pages(source, part, most=data.draw(st.integers(1, 5)))
                while pages and pages[-1].resume is not None:
                    taken += ids(pages)
                    cursor = pages[-1].cursor
                    pull = shop.ask(ask.cursor, window=part.window, resume=json.loads(json.dumps(pages[-1].resume)))
                    pages = shop.pages(source, pull)
                taken += ids(pages)
                cursor = pages[-1].cursor if pages else cursor
        assert sorted(taken) == sorted(each["_id"] for each in shop.stored.find())


@pytest.mark.parametrize(
    ("odd", "said"),
    [
        ({}, "null, or no such field"),
        ({"v": None}, "null, or no such field"),
        ({"v": "x"}, "a value of type string"),
        ({"v": math.nan}, "NaN"),
        ({"v": [5, 60]}, "a value of type array"),
        ({"v": {"a": 1}}, "a value of type object"),
        ({"v": NOW}, "a value of type date"),
    ],
)
def test_a_document_without_a_usable_cursor_is_named(shop, odd, said):
    source = shop.source(cursor="v")
    shop.put({"_id": n, "v": n} for n in range(10))
    cursor = shop.pages(source)[-1].cursor
    shop.put([{"_id": "odd one", **odd}])
    for pull in (shop.ask(), shop.ask(cursor)):
        with pytest.raises(TerminalError) as caught:
            shop.pages(source, pull)
        assert caught.value.code == "cursor_invalid"
        assert said in str(caught.value)
        assert '"odd one"' in str(caught.value)
    assert ids(shop.pages(shop.source(cursor="v", query={"_id": {"$ne": "odd one"}}))) == [*range(10)]


def test_a_lag_leaves_young_documents_for_the_next_pull(shop):
    now = datetime.now(UTC)
    shop.put({"_id": ObjectId.from_datetime(at), "at": at} for at in (now - timedelta(hours=1), now))
    for name in ("_id", "at"):
        (page,) = shop.pages(shop.source(cursor=name, lag=60))
        assert page.rows == 1
        assert shop.pages(shop.source(cursor=name, lag=60), shop.ask(page.cursor)) == []
        assert [each.rows for each in shop.pages(shop.source(cursor=name), shop.ask(page.cursor))] == [1]
    shop.stored.update_many({}, {"$set": {"n": 1}})
    with pytest.raises(TerminalError, match="A lag needs a cursor that is a time"):
        shop.pages(shop.source(cursor="n", lag=60))


def test_a_window_is_of_the_cursor_from_and_before(shop):
    shop.put(
        {"_id": ObjectId.from_datetime(NOW + timedelta(days=n)), "at": NOW + timedelta(days=n), "n": n}
        for n in range(9)
    )
    day = {"from": "2026-11-30T12:00:00Z", "to": "2026-12-02T12:00:00+00:00"}
    for source, window in (
        (shop.source(), day),
        (shop.source(cursor="at"), day),
        (shop.source(cursor="n"), {"from": "1", "to": "3"}),
    ):
        (page,) = shop.pages(source, shop.ask(window=window))
        assert [json.loads(line)["n"]["$numberInt"] for line in page.lines.splitlines()] == ["1", "2"]
    with pytest.raises(TerminalError, match="bound cannot be compared with 'at'"):
        shop.pages(shop.source(cursor="at"), shop.ask(window={"from": "yesterday"}))


def test_a_cursor_of_another_field_is_an_error(shop):
    shop.put([{"_id": 1, "a": 1, "b": 1}])
    cursor = shop.pages(shop.source(cursor="a"))[-1].cursor
    with pytest.raises(TerminalError, match=r"The cursor of .* is another field"):
        shop.pages(shop.source(cursor="b"), shop.ask(cursor))


def test_an_unknown_collection_names_the_others_and_an_empty_one_has_no_pages(shop):
    shop.put([{"_id": 1}])
    with pytest.raises(TerminalError, match=r"There is no collection 'order'.*got orders") as caught:
        shop.pages(shop.source(collection="order"))
    assert caught.value.code == "collection_unknown"
    with pytest.raises(TerminalError, match="a database without any"):
        shop.pages(shop.source(database=shop.database + "x"))
    shop.stored.delete_many({})
    for source in (shop.source(), shop.source(cursor="_id"), shop.source(cursor="at")):
        assert shop.pages(source) == []
        assert len(shop.divided(source, shop.ask(), 4)) == 1


def test_a_view_is_read_and_needs_its_ids(shop, small_pages):
    shop.put({"_id": n, "n": n} for n in range(20))
    database = shop.stored.database
    database.create_collection("even", viewOn="orders", pipeline=[{"$match": {"n": {"$mod": [2, 0]}}}])
    database.create_collection("bare", viewOn="orders", pipeline=[{"$project": {"_id": 0, "n": 1}}])
    for cursor in (None, "n"):
        assert ids(shop.pages(shop.source(collection="even", cursor=cursor))) == [*range(0, 20, 2)]
    with pytest.raises(TerminalError, match="has no _id"):
        shop.pages(shop.source(collection="bare"))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"database": ""}, "The database"),
        ({"database": "a.b"}, "The database"),
        ({"collection": "$cmd"}, "The collection"),
        ({"query": [1]}, "The query"),
        ({"cursor": "$x"}, "The cursor"),
        ({"cursor": ""}, "The cursor"),
        ({"lag": 5}, "The lag"),
        ({"lag": -1, "cursor": "_id"}, "The lag"),
        ({"server": "mongodb://u:secret@h"}, "The server"),
        ({"projection": {"_id": 0}}, "The projection"),
        ({"projection": ["a"], "cursor": "b"}, "The projection"),
        ({"projection": {"b": 0}, "cursor": "b.c"}, "The projection"),
    ],
)
def test_a_source_that_cannot_be_is_refused_when_its_pipeline_is_loaded(wrong, said):
    with pytest.raises(TerminalError, match=said) as caught:
        Mongo(**{"database": "shop", "collection": "orders", **wrong}).check("orders")
    assert "secret" not in str(caught.value)
    Mongo(database="shop", collection="or.ders", projection={"b": 1}, cursor="b.c").check("orders")


def test_a_server_that_is_away_or_refuses_says_so_without_its_password(shop, monkeypatch):
    monkeypatch.setenv("SHOP_URI", f"mongodb://me:hush@127.0.0.1:{free_port()}")
    shop.settings = Settings(mongodb_timeout=1)
    source = shop.source(server="SHOP_URI")
    with pytest.raises(TransientError, match="SHOP_URI") as caught:
        shop.pages(source)
    assert caught.value.code == "mongodb_unavailable"
    assert "hush" not in f"{caught.value!r} {source!r} {source.address(shop.settings)!r}"
    with pytest.raises(TerminalError, match="No MongoDB server is named"):
        shop.pages(shop.source())
    monkeypatch.delenv("SHOP_URI")
    with pytest.raises(TerminalError, match="SHOP_URI"):
        shop.pages(source)


def test_each_bson_value_is_written_as_the_server_vendor_writes_it():
    encoder = Encoder()
    document = {
        "a": [
            1,
            Int64(2),
            2.0,
            -0.0,
            math.inf,
            -math.inf,
            math.nan,
            True,
            None,
            '\x00\u2028é"\\',
            b"\x00",
            Decimal128("1E+3"),
        ],
        "b": bson.Binary(b"x", 128),
        "c": Regex("a/b", "imsx"),
        "d": Code("f()"),
        "e": Code("f()", {"x": DatetimeMS(10**17)}),
        "f": [bson.MinKey(), bson.MaxKey(), Timestamp(1, 2), ObjectId(), bson.DBRef("c", 1)],
        "g": {"": DatetimeMS(-(2**63)), "$x": NOW},
    }
    (decoded,) = encoder.decoded(bson.encode(document))
    options = json_util.CANONICAL_JSON_OPTIONS
    read = bson.decode(
        bson.encode(document), bson.CodecOptions(datetime_conversion=bson.DatetimeConversion.DATETIME_MS)
    )
    assert json.loads(encoder.line(decoded)) == json.loads(json_util.dumps(read, json_options=options))
    for value in decoded["a"][:4] + decoded["f"]:
        assert encoder.value(unpacked(packed(value, encoder))) == encoder.value(value)


def test_text_that_is_no_text_stays_as_it_is():
    data = bson.encode({"_id": 1, "t": "abc"}).replace(b"abc", b"a\xffc")
    encoder = Encoder()
    (document,) = encoder.decoded(data)
    assert encoder.line(document) == b'{"_id":{"$numberInt":"1"},"t":"a\xffc"}\n'
