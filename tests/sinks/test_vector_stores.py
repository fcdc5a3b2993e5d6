"""One suite for every vector store: what process, commit and search rely on."""

from __future__ import annotations

import os
import uuid
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest
from support.vector_world import ALL, DIM, FULL, PAYLOAD, model, rows, vectors_of

from ingestlab.core.errors import CollectionError, TerminalError
from ingestlab.core.settings import Settings
from ingestlab.core.tenants import Tenant
from ingestlab.sinks.milvus.memory import MemoryVectors
from ingestlab.sinks.milvus.sink import check_room
from ingestlab.sinks.milvus.store import _batches
from ingestlab.sinks.milvus.vector_rows import primary_key, shortened
from ingestlab.sinks.milvus.vector_values import MAX_BYTES, Collection, Column, Where
from ingestlab.sinks.milvus.vectors import open_vectors

ODD = [
    "it's",
    'say "hi"',
    "back\\slash\\",
    "two\nlines\ttab",
    "{braces} %s",
    "ünï ☃ 🐧",
    'a" or tenant != "',
    "\x01\x1f",
    "",
]
KINDS = ["memory", pytest.param("lite", marks=pytest.mark.slow("Milvus Lite"))]
if FULL in os.environ:
    KINDS.append(pytest.param("full", marks=pytest.mark.milvus))


@pytest.fixture(scope="module", params=KINDS)
def store(request):
    if request.param == "memory":
        yield MemoryVectors()
        return
    if request.param == "lite":
        settings = Settings(milvus_uri=request.getfixturevalue("milvus_lite").url)
    else:
        settings = Settings(milvus_uri=os.environ[FULL], milvus_token=os.environ.get(f"{FULL}_TOKEN"))
    opened = open_vectors(settings)
    yield opened
    opened.close()


@pytest.fixture
def docs(store):
    """A collection of the test's own."""
    wanted = Collection(name=f"docs_{uuid.uuid4().hex[:8]}", fingerprint=model(), payload=PAYLOAD)
    store.ensure(wanted)
    yield wanted
    while store.resolve(wanted.name):
        store.drop(wanted.name)


def test_what_is_written_is_counted_at_once(store, docs):
    assert store.count(docs.name, ALL) == 0
    assert store.upsert(docs.name, rows("abc")) == 3
    assert store.count(docs.name, ALL) == 3
    assert store.count(docs.name, Where()) == 3
    store.delete(docs.name, ALL)
    assert store.count(docs.name, ALL) == 0


def test_collections_are_listed_by_the_names_that_users_gave(store, docs):
    other = store.build(docs.model_copy(update={"fingerprint": model("other")}))  # half filled, for the same name
    assert store.names().count(docs.name) == 1
    assert other not in store.names()
    with pytest.raises(TerminalError, match=f"the collection 'nothing'; got collections: .*{docs.name}"):
        store.search("nothing", np.ones((1, DIM)))
    store.drop(other)


def test_writing_twice_is_once_and_the_last_values_count(store, docs):
    store.upsert(docs.name, rows("abc", sha="s1"))
    store.upsert(docs.name, rows("abcd", sha="s2", seed=1))
    assert store.count(docs.name, ALL) == 4
    assert store.count(docs.name, Where(tenant="default", sha256=("s1",))) == 0
    assert store.fetch(docs.name, ALL, ["sha256"])["sha256"].to_pylist() == ["s2"] * 4


def test_of_duplicates_in_one_batch_the_last_counts(store, docs):
    table = rows("abab", title=["first", "x", "last", "y"])
    assert store.upsert(docs.name, table) == 2
    found = store.fetch(docs.name, ALL, ["title", "row"]).to_pylist()
    assert sorted(r["title"] for r in found) == ["last", "y"]
    (hit,), *_ = store.search(docs.name, vectors_of(table)[2:3], limit=1, where=ALL)
    assert (hit.values["title"], hit.score) == ("last", pytest.approx(1, abs=1e-4))


def test_more_rows_than_one_batch_and_one_page_hold(store, docs):
    table = rows(range(17_000))
    assert store.upsert(docs.name, table) == 17_000
    assert store.count(docs.name, ALL) == 17_000
    assert store.fetch(docs.name, ALL, ["pk"])["pk"].to_pylist() == sorted(table["pk"].to_pylist())
    store.delete(docs.name, ALL)
    assert store.count(docs.name, Where()) == 0


def test_every_tenant_finds_its_own_rows_alone(store, docs):
    for tenant in ("north", "south"):
        store.upsert(docs.name, rows("abcde", tenant=tenant))
        store.upsert(docs.name, rows("abcde", tenant=tenant, seed=1))
    for tenant in ("north", "south"):
        assert store.count(docs.name, Where(tenant=tenant)) == 5
        (hits,) = store.search(docs.name, np.ones((1, DIM)), limit=20, where=Where(tenant=tenant))
        assert [hit.values["tenant"] for hit in hits] == [tenant] * 5
    store.delete(docs.name, Where(tenant="north"))
    assert store.count(docs.name, Where()) == store.count(docs.name, Where(tenant="south")) == 5


def test_a_stale_source_goes_and_its_neighbours_stay(store, docs):
    store.upsert(docs.name, rows("abc", sha="old"))
    store.upsert(docs.name, rows("abc", source="b", sha="old"))
    store.upsert(docs.name, rows("abc", table="other", sha="old"))
    store.upsert(docs.name, rows("ab", sha="new"))
    stale = Where(tenant="default", table="t", sources=("http://a/1.csv",), not_sha256=("new",))
    assert store.count(docs.name, stale) == 1
    store.delete(docs.name, stale)
    assert store.count(docs.name, stale) == 0
    assert store.count(docs.name, ALL) == 2 + 3 + 3


def test_rows_are_told_apart_by_their_runs(store, docs):
    store.upsert(docs.name, rows("abc"))
    store.upsert(docs.name, rows("cd", run=["r2", "r2"]))
    assert store.count(docs.name, Where(tenant="default", runs=("r2", "r3"))) == 2
    store.delete(docs.name, Where(tenant="default", table="t", sources=("http://a/1.csv",), not_runs=("r2",)))
    assert store.fetch(docs.name, ALL, ["run"])["run"].to_pylist() == ["r2", "r2"]


def test_hundreds_of_sources_can_be_named(store, docs):
    uris = [f"http://host/{i}.csv" for i in range(450)]
    store.upsert(docs.name, rows(range(450), source=uris))
    assert store.count(docs.name, Where(tenant="default", sources=(*uris[:449], uris[0], "none"))) == 449
    store.delete(docs.name, Where(sources=tuple(uris[1:])))
    assert store.fetch(docs.name, ALL, ["source"])["source"].to_pylist() == uris[:1]


def test_any_text_can_be_a_value_and_none_can_end_its_quotes(store, docs):
    table = rows(range(len(ODD)), source=ODD, title=[t[:3] for t in ODD])
    store.upsert(docs.name, table)
    for text in ODD:
        assert store.fetch(docs.name, Where(sources=(text,)), ["source"])["source"].to_pylist() == [text], repr(text)
        (hits,) = store.search(docs.name, np.ones((1, DIM)), limit=20, only={"source": text})
        assert [hit.values["source"] for hit in hits] == [text]


def test_payload_keeps_its_types_and_a_field_holds_so_many_bytes(store, docs):
    when = datetime(2024, 2, 29, 12, 30, tzinfo=UTC)
    table = rows("a", title=["ünïçödé"], text=["☃" * (MAX_BYTES // 3)])
    assert len(table["title"][0].as_py().encode()) == 12
    store.upsert(docs.name, table)
    (hit,) = store.search(docs.name, vectors_of(table), limit=1, where=ALL)[0]
    assert hit.values["title"] == "ünïçödé"
    assert hit.values["text"] == "☃" * (MAX_BYTES // 3)
    assert (hit.values["year"], hit.values["mark"], hit.values["new"]) == (2000, 0.0, True)
    assert [type(hit.values[c]) for c in ("year", "mark", "new")] == [int, float, bool]
    assert hit.pk == hit.values["pk"] == primary_key("default", "t", "http://a/1.csv", "a")
    timed = rows("a", title=pa.array([when], pa.timestamp("ns", "UTC")))
    with pytest.raises(CollectionError, match=r"at most 12 bytes in 'title'.*got 27, and 1 such rows.*reembed"):
        store.upsert(docs.name, timed)
    store.upsert(docs.name, shortened(timed, docs, ["title", "source"]))
    assert store.fetch(docs.name, ALL, ["title"])["title"].to_pylist() == ["2024-02-29 1"]


@pytest.mark.parametrize(
    ("text", "kept"),
    [("ünïçödé and more", "ünïçödé"), ("xünïçödé", "xünïçöd"), ("☃" * 5, "☃" * 4), ("a" * 12, "a" * 12), (None, None)],
)
def test_what_may_be_cut_is_cut_between_characters_and_nothing_else_is(docs, text, kept):
    table = rows("a", title=pa.array([text], pa.string()), text=["☃" * 3000])
    assert shortened(table, docs, ["title"])["title"].to_pylist() == [kept]
    assert shortened(table, docs, ["text"])["title"].to_pylist() == [text]
    assert shortened(table, docs, ["source"]).equals(table)


def test_long_texts_go_few_at_a_time(store, docs, monkeypatch):
    monkeypatch.setattr("ingestlab.sinks.milvus.store.MESSAGE", 200_000)
    table = rows(range(20), text=["x" * 60_000] * 20)
    assert store.upsert(docs.name, table) == 20
    assert store.count(docs.name, ALL) == 20
    assert [b.num_rows for b in _batches(table, 16)] == [2] * 10


def test_null_and_what_is_no_number_do_no_harm(store, docs):
    nulls = {
        "title": [None],
        "year": pa.array([None], pa.int64()),
        "mark": [float("nan")],
        "new": pa.array([None], pa.bool_()),
    }
    store.upsert(docs.name, rows("a", **nulls))
    (found,) = store.fetch(docs.name, ALL, list(nulls)).to_pylist()
    assert all(not value for value in found.values())


def test_the_nearest_come_first_and_filters_hold(store, docs):
    table = rows(range(200))
    store.upsert(docs.name, table)
    store.settle(docs.name)
    asked = vectors_of(table)[:5]
    found = store.search(docs.name, asked, limit=10, where=ALL)
    unit = vectors_of(table) / np.linalg.norm(vectors_of(table), axis=1, keepdims=True)
    for query, hits in zip(asked / np.linalg.norm(asked, axis=1, keepdims=True), found, strict=True):
        best = np.argsort(-(unit @ query))[:10]
        assert [hit.values["row"] for hit in hits] == best.tolist()
        assert [hit.score for hit in hits] == pytest.approx(sorted((unit @ query).tolist())[:-11:-1], abs=1e-4)
    (hits,) = store.search(docs.name, asked[:1], limit=10, where=ALL, only={"year": [2003, 2004], "new": True})
    assert [hit.values["year"] for hit in hits] == [2004]
    assert store.search(docs.name, asked[:1], limit=10, where=ALL, only={"year": []}) == [[]]


def test_a_filter_that_few_rows_pass_finds_the_nearest_of_these_though_many_are_equal(store, docs):
    thirty = np.random.default_rng(0).normal(size=(30, DIM)).astype(np.float32)
    table = rows(
        range(3000), vector=pa.FixedSizeListArray.from_arrays(pa.array(np.tile(thirty, (100, 1)).ravel()), DIM)
    )
    store.upsert(docs.name, table)
    store.upsert(docs.name, rows(range(20), tenant="small", seed=1))
    store.settle(docs.name)
    asked = vectors_of(table)[:1]
    unit = vectors_of(table) / np.linalg.norm(vectors_of(table), axis=1, keepdims=True)
    best = sorted((unit @ unit[0])[900:960].tolist(), reverse=True)[:10]
    (hits,) = store.search(docs.name, asked, limit=10, where=ALL, only={"year": list(range(2900, 2960))})
    assert [hit.score for hit in hits] == pytest.approx(best, abs=1e-4)
    assert all(900 <= hit.values["row"] < 960 and "vector" not in hit.values for hit in hits)
    (hits,) = store.search(docs.name, asked, limit=20, where=Where(tenant="small"))
    assert len(hits) == 20


def test_a_filter_on_an_unknown_column_names_those_there_are(store, docs):
    store.upsert(docs.name, rows("a"))
    with pytest.raises(TerminalError, match=r"title.*filter on 'colour'"):
        store.search(docs.name, np.ones((1, DIM)), only={"colour": 1})


def test_another_model_is_refused_with_both_names(store, docs):
    other = model("minilm", version="2")
    with pytest.raises(TerminalError, match=r"tiny 1 \(8-d\).*minilm 2 \(8-d\).*reembed"):
        store.ensure(docs.model_copy(update={"fingerprint": other}))
    with pytest.raises(TerminalError, match=r"tiny 1 \(8-d\).*tiny 1 \(16-d\)"):
        store.ensure(docs.model_copy(update={"fingerprint": model(dim=16, canary=())}))
    with pytest.raises(TerminalError, match="not normalised"):
        store.ensure(docs.model_copy(update={"fingerprint": model(normalised=False)}))


def test_a_namesake_with_another_canary_is_refused_and_noise_is_not(store, docs):
    noisy = model(canary=tuple(0.5 + 0.0009 * (-1) ** i for i in range(DIM)))
    assert store.ensure(docs.model_copy(update={"fingerprint": noisy})) == store.resolve(docs.name)
    with pytest.raises(TerminalError, match="another canary"):
        store.ensure(docs.model_copy(update={"fingerprint": model(canary=(0.5,) * (DIM - 1) + (0.502,))}))


def test_other_fields_are_refused_by_name(store, docs):
    with pytest.raises(TerminalError, match=r"year int.*got no payload"):
        store.ensure(docs.model_copy(update={"payload": ()}))


def test_a_new_target_is_filled_beside_the_old_and_takes_its_place_at_once(store, docs):
    store.upsert(docs.name, rows("ab"))
    wanted = docs.model_copy(update={"fingerprint": model("minilm")})
    fresh = store.build(wanted)
    assert store.build(wanted) == fresh
    assert store.upsert(fresh, rows("abc")) == 3
    assert (store.count(docs.name, ALL), store.count(fresh, ALL)) == (2, 3)
    old = store.switch(docs.name, fresh)
    assert old != fresh == store.resolve(docs.name) == store.ensure(wanted)
    store.drop(old)
    store.drop(old)
    assert (store.count(docs.name, ALL), store.resolve(old)) == (3, None)
    assert store.describe(docs.name).fingerprint.model == "minilm"


def test_a_namesake_with_another_canary_gets_a_target_of_its_own(store, docs):
    wanted = docs.model_copy(update={"fingerprint": model(canary=(0.7,) * DIM)})
    fresh = store.build(wanted)
    assert fresh != store.resolve(docs.name)
    assert store.build(wanted) == fresh
    store.drop(fresh)


def test_a_collection_that_is_not_there_is_empty_but_cannot_be_searched(store):
    assert store.count("nowhere", ALL) == 0
    assert store.fetch("nowhere", ALL, ["pk", "sha256"]).column_names == ["pk", "sha256"]
    assert store.resolve("nowhere") is store.describe("nowhere") is None
    store.delete("nowhere", ALL)
    store.drop("nowhere")
    with pytest.raises(TerminalError, match=r"the collection 'nowhere'.*collections:"):
        store.search("nowhere", np.ones((1, DIM)))


def test_what_was_written_is_confirmed_by_its_keys_and_its_run(store, docs):
    store.upsert(docs.name, rows(["x", "y"], source="http://a/9.csv", run=["r8", "r9"]))
    keys, where = rows(["x", "y"], source="http://a/9.csv")["pk"].to_pylist(), Where(sources=("http://a/9.csv",))
    assert store.confirm(docs.name, keys, where.model_copy(update={"runs": ("r9",)})) == 1
    assert store.confirm(docs.name, keys, where.model_copy(update={"runs": ("r8", "r9")})) == 2


def test_nothing_is_deleted_without_a_condition(store, docs):
    with pytest.raises(TerminalError, match="drop it"):
        store.delete(docs.name, Where())


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"vector": pa.FixedSizeListArray.from_arrays(pa.array(np.ones(4, np.float32)), 4)}, "vectors of 8 numbers"),
        ({"vector": pa.FixedSizeListArray.from_arrays(pa.array(np.full(8, np.nan, np.float32)), 8)}, "finite"),
        ({"year": ["soon"]}, "int values in column 'year'"),
        ({"sha256": ["x" * 65]}, "64 bytes in 'sha256'"),
        ({"run": pa.array([None], pa.string())}, "a value in 'run'"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_written(store, docs, changes, text):
    with pytest.raises(TerminalError, match=text):
        store.upsert(docs.name, rows("a", **changes))
    assert store.count(docs.name, Where()) == 0


def test_a_missing_column_is_named(store, docs):
    with pytest.raises(TerminalError, match=r"the columns row, year"):
        store.upsert(docs.name, rows("a").drop_columns(["row", "year"]))


def test_an_empty_batch_is_fine(store, docs):
    assert store.upsert(docs.name, rows("")) == 0


def test_primary_keys_depend_on_every_part_and_on_their_borders():
    parts = [("a", "b", "c", "d", 0), ("ab", "", "c", "d", 0), ("a", "b", "cd", "", 0), ("a", "b", "c", "d", 1)]
    assert len({primary_key(*p) for p in parts}) == len(parts)
    assert primary_key(*parts[0]) == primary_key(*parts[0])
    assert len(primary_key(*parts[0])) == 40


@pytest.mark.parametrize(("kind", "wanted"), [
    (pa.int8(), "int"), (pa.float32(), "float"), (pa.decimal128(9, 2), "float"), (pa.bool_(), "bool"),
    (pa.large_string(), "text"), (pa.timestamp("s"), "text"), (pa.dictionary(pa.int32(), pa.string()), "text"),
])  # fmt: skip
def test_a_column_is_made_of_an_arrow_field(kind, wanted):
    assert Column.of(pa.field("x", kind)).kind == wanted


@pytest.mark.parametrize(
    "field", [pa.field("x", pa.list_(pa.int8())), pa.field("tenant", pa.string()), pa.field("a b", pa.string())]
)
def test_what_cannot_be_a_payload_is_refused(field):
    with pytest.raises(TerminalError, match=field.name):
        Column.of(field)


def test_a_tenant_has_as_many_vectors_as_it_may(store, docs):
    name = f"acme-{uuid.uuid4().hex[:8]}"
    store.upsert(docs.name, rows(range(3), tenant=name))
    for tenant in (None, Tenant(name=name), Tenant(name=name, vectors=4), Tenant(name=f"{name}-other", vectors=1)):
        check_room(tenant, store)
    with pytest.raises(TerminalError, match="reached: vectors") as error:
        check_room(Tenant(name=name, vectors=3), store)
    assert error.value.code == "limit_exceeded"
