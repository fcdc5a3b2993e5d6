"""Profiles: exact where they say so, within their error elsewhere, after any split, merge, story and crash."""

from __future__ import annotations

import datetime as dt
import json
import math
import random
import xml.etree.ElementTree as ET
from collections import Counter
from decimal import Decimal
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.lake import Crash, FaultInjector, World
from support.replay import Mendable, filled
from support.selection import examples

from ingestlab.analytics.lake import Lake
from ingestlab.analytics.profiles import files as profiling
from ingestlab.analytics.profiles import sketches, states
from ingestlab.analytics.profiles.drift import MOVED, drifts
from ingestlab.analytics.profiles.few import TOP
from ingestlab.analytics.profiles.kinds import clip, kind_of, parse, to_text
from ingestlab.analytics.profiles.merging import deviation, distinct, mean, merge
from ingestlab.analytics.profiles.report import RunProfile, TableProfile
from ingestlab.analytics.profiles.states import MAX_COLUMNS, profile
from ingestlab.cli.profile import bar, spark
from ingestlab.core.errors import TerminalError
from ingestlab.core.models import DataFile, Manifest, Receipt
from ingestlab.lake import layout
from ingestlab.lake.log import live_parts, manifests
from ingestlab.maintenance.compact import compact
from ingestlab.maintenance.reconcile import reconcile

UTC = dt.UTC
DAY = dt.date(2013, 1, 31)
NOON = dt.datetime(2013, 1, 31, 12, 0, 1, 500_000)


def state_of(values: Any, type_: Any = None) -> dict[str, Any]:
    return json.loads(json.dumps(profile(pa.table({"x": pa.array(values, type_)}))))["columns"]["x"]


def nanos(when: dt.datetime) -> int:
    return (when.replace(tzinfo=UTC) - dt.datetime(1970, 1, 1, tzinfo=UTC)) // dt.timedelta(microseconds=1) * 1000


# --- one table --------------------------------------------------------------------------------------------------

TYPES = [
    (pa.int8(), [3, -5, None, 3], "int", (-5, 3), "3"),
    (pa.uint64(), [2**64 - 1, 2**63, 2**64 - 1], "int", (2**63, 2**64 - 1), str(2**64 - 1)),
    (pa.int64(), [-(2**63), 2**63 - 1, 2**63 - 1, 2**63 - 1], "int", (-(2**63), 2**63 - 1), str(2**63 - 1)),
    (pa.float64(), [1.5, None, -2.0, 1.5], "float", (-2.0, 1.5), "1.5"),
    (pa.float16(), [np.float16(1.5), None], "float", (1.5, 1.5), "1.5"),
    (
        pa.decimal128(10, 2),
        [Decimal("1.50"), Decimal("-3.25"), None, Decimal("1.50")],
        "decimal",
        ("-3.25", "1.5"),
        "1.5",
    ),
    (pa.bool_(), [True, None, False, True], "bool", (False, True), "true"),
    (pa.string(), ["b", "a", None, "b", ""], "text", ("", "b"), "b"),
    (pa.large_string(), ["ä", "z"], "text", ("z", "ä"), "ä"),
    (pa.string_view(), ["b", None, "b"], "text", ("b", "b"), "b"),
    (pa.dictionary(pa.int32(), pa.string()), ["b", "a", None, "b"], "text", ("a", "b"), "b"),
    (pa.timestamp("s"), [NOON.replace(microsecond=0)] * 2, "timestamp", None, "2013-01-31 12:00:01"),
    (pa.timestamp("us"), [NOON], "timestamp", (nanos(NOON), nanos(NOON)), "2013-01-31 12:00:01.5"),
    (pa.timestamp("ms", "UTC"), [NOON.replace(tzinfo=UTC)], "instant", (nanos(NOON),) * 2, "2013-01-31 12:00:01.5Z"),
    (pa.date32(), [DAY, None, DAY], "date", None, "2013-01-31"),
    (pa.date64(), [DAY, None, DAY], "date", None, "2013-01-31"),
    (pa.time32("s"), [dt.time(1, 2, 3)], "time", None, "01:02:03"),
    (pa.time64("us"), [dt.time(1, 2, 3)], "time", None, "01:02:03"),
    (pa.duration("ms"), [dt.timedelta(hours=1)], "duration", (3600 * 10**9,) * 2, "1:00:00"),
]


@pytest.mark.parametrize(("type_", "values", "kind", "ends", "common"), TYPES, ids=[str(t[0]) for t in TYPES])
def test_every_type_of_column_has_its_state(type_, values, kind, ends, common):
    state = state_of(values, type_)
    full = [v for v in values if v is not None]
    assert (state["kind"], state["count"], kind_of(type_) in (kind, "other")) == (kind, len(full), True)
    if ends:
        assert (state["min"], state["max"]) == ends
    assert distinct(state) == len(set(full))
    top = [value for value, count in state["top"] if count == state["top"][0][1]]
    assert common in [to_text(value, kind) for value in top]
    if kind in ("int", "bool"):
        assert state["sum"] == sum(full), "of integers, however large"
        assert mean(state) == sum(full) / len(full)
    if kind in ("float", "decimal"):
        assert mean(state) == pytest.approx(float(sum(full)) / len(full))
    if len(full) > 1 and kind in ("float", "decimal"):
        assert deviation(state) == pytest.approx(float(np.std([float(v) for v in full], ddof=1)))


DRAWN = [
    (pa.int8(), st.integers(-3, 100)),
    (pa.int64(), st.integers(-(2**63), 2**63 - 1) | st.integers(0, 5)),
    (pa.uint64(), st.integers(0, 2**64 - 1) | st.integers(2**63, 2**63 + 5)),
    (pa.float64(), st.floats() | st.integers(0, 5).map(float)),
    (pa.float32(), st.floats(width=32)),
    (pa.bool_(), st.booleans()),
    (pa.string(), st.text(max_size=3) | st.integers(40, 50).map(lambda n: "é" * n)),
    (pa.dictionary(pa.int32(), pa.string()), st.sampled_from(["a", "b", ""])),
    (pa.timestamp("s", "UTC"), st.integers(-(2**33), 2**33)),
    (pa.timestamp("ns"), st.integers(-(2**62), 2**62)),
    (pa.date32(), st.integers(-100_000, 100_000)),
    (pa.date64(), st.integers(-1000, 1000).map(lambda day: day * 86_400_000)),
    (pa.time32("s"), st.integers(0, 86_399)),
    (pa.duration("ms"), st.integers(0, 10**9)),
]


@given(st.data(), st.sampled_from(DRAWN))
@settings(max_examples=examples(400), deadline=None)
def test_few_rows_have_the_state_that_they_would_have_among_many(data, drawn):
    type_, values = drawn
    listed = [
        None if v == 0 and type_ in (pa.float64(), pa.float32()) else v
        for v in data.draw(st.lists(values | st.none(), min_size=1, max_size=60))
    ]
    column = pa.chunked_array(
        [pa.array(listed[: len(listed) // 2], type_), pa.array(listed[len(listed) // 2 :], type_)]
    )
    few, many = profile(pa.table({"x": column}))["columns"]["x"], states._column_state(column)
    assert json.loads(json.dumps(few)) == few, "plain JSON"
    close = lambda state: {n: pytest.approx(float(state.pop(n)), nan_ok=True) for n in ("sum", "m2") if n in state}  # noqa: E731
    exact = type_ not in (pa.float64(), pa.float32())
    assert not exact or few.get("sum") == many.get("sum")
    assert {n: float(few.pop(n)) for n in ("sum", "m2") if n in few} == close(many)
    assert sorted(map(str, few.pop("top", ()))) == sorted(map(str, many.pop("top", ())))
    assert few == many


def test_not_a_number_and_infinity_are_counted_apart():
    state = state_of([1.0, math.nan, math.inf, -math.inf, math.nan, 3.0, None])
    assert (state["count"], state["nan"], state["inf"]) == (6, 2, 2)
    assert (state["min"], state["max"], mean(state)) == ("-inf", "inf", 2.0)
    assert distinct(state) == 4
    nothing = state_of([math.nan, None])
    assert (nothing["count"], nothing["nan"], mean(nothing), distinct(nothing)) == (1, 1, None, 0)
    huge = state_of([1.7e308] * 3)
    assert (mean(huge), huge["max"]) == (math.inf, 1.7e308)


@pytest.mark.parametrize(
    "type_",
    [pa.list_(pa.int64()), pa.struct({"a": pa.int64()}), pa.map_(pa.string(), pa.int64()), pa.null(), pa.int64()],
)
def test_of_nested_and_empty_columns_rows_and_nulls_are_known(type_):
    assert profile(pa.table({"x": pa.nulls(3, type_)}))["columns"]["x"]["count"] == 0
    assert profile(pa.table({"x": pa.chunked_array([], type_)})) == {
        "rows": 0,
        "columns": {"x": {"kind": kind_of(type_), "count": 0}},
        "omitted": 0,
    }
    assert state_of([[1], None, [2, 3]], pa.list_(pa.int64())) == {"kind": "other", "count": 2}


def test_long_texts_are_cut_but_told_apart():
    texts = ["x" * 100 + str(i) for i in range(5)]
    state = state_of([*texts, "a"])
    assert (state["short"], state["long"], state["min"], state["max"]) == (1, 101, "a", "x" * 40 + "…")
    assert distinct(state) == 6
    assert state["top"][0] == ["x" * 40 + "…", 5]
    assert len(json.dumps(state)) < 1200
    binary = state_of([b"ab", b"abc", None, b"ab"])
    assert (binary["kind"], binary["count"], binary["short"], binary["long"], distinct(binary)) == ("bytes", 3, 2, 3, 2)


def test_a_dictionary_may_hold_values_that_no_row_has_and_differ_by_chunk():
    def chunk(indices: list[int | None], words: list[str | None]) -> pa.Array:
        return pa.DictionaryArray.from_arrays(pa.array(indices, pa.int32()), pa.array(words))

    column = pa.chunked_array([chunk([0, 1, None], ["a", "b", "unused"]), chunk([0, 0], ["b"])])
    state = profile(pa.table({"x": column}))["columns"]["x"]
    assert (state["count"], state["top"], state["max"]) == (4, [["b", 3], ["a", 1]], "b")
    odd = profile(pa.table({"x": chunk([0, 1, 1], ["a", None])}))["columns"]["x"]
    assert (odd["count"], odd["top"]) == (1, [["a", 1]])


def test_only_the_first_500_columns_have_a_profile():
    wide = pa.table({f"c{i}": [i] for i in range(MAX_COLUMNS + 7)})
    found = profile(wide)
    assert (len(found["columns"]), found["omitted"]) == (MAX_COLUMNS, 7)
    assert profile(pa.table({"_source": ["f"], "_row": [0], "n": [1]}))["columns"].keys() == {"n"}
    both = merge([found, profile(pa.table({"c0": [1], "c505": [1]}))])
    assert both["columns"]["c0"]["count"] == 2
    assert "c505" not in both["columns"], "in the wide rows it may hold anything"
    assert both["omitted"] == 7


# --- merging ----------------------------------------------------------------------------------------------------

COLUMNS = {
    "n": st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1), st.integers(0, 40)),
    "f": st.one_of(st.none(), st.floats(width=64), st.integers(-30, 30).map(float)),
    "t": st.one_of(st.none(), st.text(max_size=45), st.sampled_from("abc")),
    "b": st.one_of(st.none(), st.booleans()),
    "d": st.one_of(st.none(), st.dates()),
    "w": st.one_of(st.none(), st.datetimes()),
    "m": st.one_of(st.none(), st.decimals(-(10**6), 10**6, places=2)),
}
SCHEMA = pa.schema(
    {
        "n": pa.int64(), "f": pa.float64(), "t": pa.string(), "b": pa.bool_(), "d": pa.date32(),
        "w": pa.timestamp("us"), "m": pa.decimal128(12, 2),
    }
)  # fmt: skip
ROWS = st.lists(st.fixed_dictionaries(COLUMNS), max_size=70)


@settings(max_examples=examples(60), deadline=None)
@given(rows=ROWS, cuts=st.lists(st.integers(0, 70), max_size=5), seed=st.randoms(use_true_random=False))
def test_any_pieces_merged_in_any_order_are_the_whole(rows, cuts, seed):
    table = pa.Table.from_pylist(rows, SCHEMA)
    edges = [0, *sorted(min(c, len(rows)) for c in cuts), len(rows)]
    pieces = [profile(table.slice(a, b - a)) for a, b in pairwise(edges)]
    seed.shuffle(pieces)
    while len(pieces) > 2:  # some of them together, then with the rest: merging has no favourite tree
        pieces = [*pieces[2:], json.loads(json.dumps(merge(pieces[:2])))]
    agree(merge(pieces), table)


def agree(found: dict[str, Any], table: pa.Table) -> None:
    """A profile says of a table what the table says."""
    assert (found["rows"], found["omitted"]) == (table.num_rows, 0)
    assert set(found["columns"]) == set(table.column_names)
    for name in table.column_names:
        values, state = [v for v in table[name].to_pylist() if v is not None], found["columns"][name]
        assert state["count"] == len(values), name
        plain = [v for v in values if not (isinstance(v, float) and math.isnan(v))]
        if plain:
            agree_on_counts(state, plain, name)
            agree_on_measures(state, plain)


def agree_on_counts(state: dict[str, Any], plain: list[Any], name: str) -> None:
    """The summaries are within their errors, and exact where there is none."""
    counts = Counter(plain)
    allowed = 0 if len(counts) <= TOP and "hll" not in state else max(3, 0.25 * len(counts))  # five standard errors
    assert abs(distinct(state) - len(counts)) <= allowed, name
    slack = state.get("slack", 0)
    assert slack <= state["count"] / (TOP + 1), name
    for value, count in state["top"] if state["kind"] in ("int", "bool", "text") else ():
        if not str(value).endswith("…"):
            assert count <= counts[value] <= count + slack, name


def agree_on_measures(state: dict[str, Any], plain: list[Any]) -> None:
    """The exact measures are."""
    kind, least, greatest = state["kind"], min(plain), max(plain)
    if kind in ("int", "bool"):
        assert (state["min"], state["max"], state["sum"]) == (least, greatest, sum(plain))
    elif kind == "text":
        assert (state["short"], state["long"]) == (min(map(len, plain)), max(map(len, plain)))
        assert (state["min"], state["max"]) == (clip(least), clip(greatest))
    elif kind in ("date", "timestamp"):
        days = [v if isinstance(v, dt.datetime) else dt.datetime(v.year, v.month, v.day) for v in plain]
        assert (state["min"], state["max"], state["sum"]) == (nanos(min(days)), nanos(max(days)), sum(map(nanos, days)))
    else:
        assert (float(state["min"]), float(state["max"])) == (float(least), float(greatest))
        finite = [float(v) for v in plain if math.isfinite(v)]
        if finite and max(map(abs, finite)) < 1e150:
            tolerance = {"rel": 1e-9, "abs": 1e-9 * max(map(abs, finite))}
            assert mean(state) == pytest.approx(math.fsum(finite) / len(finite), **tolerance)


def test_columns_that_some_pieces_lack_are_null_there():
    found = merge([profile(pa.table({"a": [1, 2]})), profile(pa.table({"b": ["x"]})), profile(pa.table({"a": [None]}))])
    assert found["rows"] == 3 + 1
    assert {name: s["count"] for name, s in found["columns"].items()} == {"a": 2, "b": 1}
    assert found["columns"]["a"]["kind"] == "int", "a column of nulls alone goes with any other"


def test_numbers_of_several_types_go_together_and_other_types_do_not():
    three = merge([profile(pa.table({"x": v})) for v in ([1, 2], [2.0, 3.5], [Decimal("2.00"), Decimal("9.75")])])
    state = three["columns"]["x"]
    assert (state["kind"], state["min"], state["max"], distinct(state)) == ("float", 1.0, 9.75, 4)
    assert state["top"][0] == [2.0, 3]
    assert mean(state) == pytest.approx(20.25 / 6)
    mixed = merge([three, profile(pa.table({"x": ["2", "two"]}))])["columns"]["x"]
    assert (mixed["kind"], mixed["count"]) == ("mixed", 8)
    assert abs(distinct(mixed) - 6) <= 1
    assert mean(mixed) is None


def test_many_pieces_are_told_apart_like_the_whole():
    """A summary of a few values becomes a sketch when merging makes them many: of integers, texts, floats, times."""
    for make in (int, str, lambda i: i / 7, lambda i: dt.datetime(2020, 1, 1) + dt.timedelta(hours=i)):
        pieces = [profile(pa.table({"x": [make(i * 10 + j) for j in range(10)]})) for i in range(100)]
        assert all("hll" not in p["columns"]["x"] for p in pieces)
        merged, whole = merge(pieces), profile(pa.table({"x": [make(i) for i in range(1000)]}))
        assert merged["columns"]["x"]["hll"] == whole["columns"]["x"]["hll"]


@pytest.mark.parametrize("count", [100, 1_000, 10_000, 200_000])
def test_the_sketch_is_within_its_error(count):
    errors = []
    for start in range(0, 20 * count, count):
        hashes = sketches.hash_numbers(np.arange(start, start + count))
        errors.append(sketches.estimate(sketches.registers(hashes)) / count - 1)
    assert np.sqrt(np.mean(np.square(errors))) < 1.5 * sketches.ERROR
    assert abs(np.mean(errors)) < 3 * sketches.ERROR / math.sqrt(20)


def test_large_columns_are_sampled_for_their_commonest_values_alone():
    rng = np.random.default_rng(1)
    values = rng.random(200_000)
    values[:10_000] = 0.5
    rng.shuffle(values)
    state = profile(pa.table({"x": pa.array(values, mask=np.arange(200_000) < 1_000)}))["columns"]["x"]
    left = values[1_000:]
    assert (state["count"], state["min"], state["max"]) == (199_000, left.min(), left.max())
    assert mean(state) == pytest.approx(left.mean())
    assert deviation(state) == pytest.approx(left.std(ddof=1))
    assert distinct(state) == pytest.approx(189_000, rel=5 * sketches.ERROR)
    assert state["top"][0] == [0.5, pytest.approx(10_000, abs=0.006 * 200_000)]
    texts = profile(pa.table({"x": [f"user-{i}" for i in range(100_000)]}))["columns"]["x"]
    assert distinct(texts) == pytest.approx(100_000, rel=5 * sketches.ERROR)
    assert (texts["short"], texts["long"], texts["max"]) == (6, 10, "user-99999")


def test_heavy_values_stay_known_through_many_merges():
    rng = random.Random(3)
    rows = [rng.choice("ab") if rng.random() < 0.3 else f"v{rng.randrange(5000)}" for _ in range(20_000)]
    state = merge(profile(pa.table({"x": rows[i : i + 500]})) for i in range(0, 20_000, 500))["columns"]["x"]
    top = dict(state["top"])
    for value in "ab":
        assert top[value] <= rows.count(value) <= top[value] + state["slack"]
    assert state["slack"] <= 20_000 / (TOP + 1)
    assert len(json.dumps(state)) < 1500


# --- in the lake ------------------------------------------------------------------------------------------------

STORY = st.lists(
    st.tuples(
        st.lists(st.sampled_from("abc"), min_size=1, max_size=2, unique=True),
        st.lists(st.sampled_from([1, 2, 13, 998, 999, 1000, 7]), min_size=1, max_size=6),
        st.one_of(st.none(), st.integers(1, 16)),
        st.booleans(),
    ),
    min_size=1,
    max_size=6,
)


def seen_in(world: World, run: str | None = None) -> TableProfile:
    return Lake(world.settings).profile("small", run)


def now_agrees(world: World, *, read: int | None = 0) -> TableProfile:
    """The profile says what the table says; `read` parts were read for it."""
    table = Lake(world.settings).table("small").arrow().drop_columns(["_source", "_row"])
    if "even" in table.column_names:
        even = parse(table["even"].combine_chunks().cast(pa.string()), "bool")
        table = table.set_column(table.column_names.index("even"), "even", even)
    found = seen_in(world)
    agree(found.now, table)
    assert read is None or found.read == read
    return found


@pytest.mark.parametrize("disposition", ["append", "replace"])
@settings(max_examples=examples(12), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(story=STORY)
def test_after_any_story_the_profile_is_that_of_the_table(tmp_path_factory, redis_url, disposition, story):
    world = World(tmp_path_factory.mktemp("story"), redis_url, disposition)
    for i, (names, numbers, at, after) in enumerate(story):
        uris = [world.put(f"{name}.csv", [*numbers, k]) for k, name in enumerate(names)]
        try:
            world.ingest(uris, FaultInjector(at, after=after) if at else None, run=f"r{i}", force=at == 16)
        except Crash:
            continue
    world.ingest(sorted(world.expected), run="last")
    reconcile(world.context().lake)
    found = now_agrees(world)
    if disposition == "append" and not any(at == 16 for _, _, at, _ in story):
        assert merge(r.profile for r in found.runs)["rows"] == found.now["rows"], "every row came with one run"


@pytest.fixture
def world(tmp_path, redis_url):
    return World(tmp_path, redis_url, "replace")


def test_what_is_left_of_replaced_parts_has_a_profile_and_so_have_its_siblings(world):
    a, b = world.put("a.csv", [2, 4, 6, 7]), world.put("b.csv", [8, 11, 900])
    world.ingest([a, b])
    world.put("a.csv", [100])  # the even rows of a and b share a part, and that one a profile with the odd ones
    world.ingest([a], run="r2")
    found = now_agrees(world)
    assert found.now["columns"]["n"]["sum"] == 100 + 8 + 11 + 900
    assert found.now["columns"]["even"]["kind"] == "bool"
    assert [r.profile["rows"] for r in found.runs] == [7, 1], "rows that were kept count for the run that brought them"
    assert [one.anew for one in manifests(world.store, "default", "small")[-1].profile] == [False, True, True]


def test_parts_without_a_profile_are_read(world):
    world.ingest([world.put("a.csv", [1, 2, 3]), world.put("b.csv", [4])])
    world.ingest([world.put("c.csv", [5])], run="r2")
    first = manifests(world.store, "default", "small")[0]
    before = seen_in(world).now
    old = first.model_copy(update={"profile": ()}).model_dump_json().encode()
    world.store.write(layout.entry("default", "small", first.sequence), old)
    found = now_agrees(world, read=2)
    assert {n: s["count"] for n, s in found.now["columns"].items()} == {
        n: s["count"] for n, s in before["columns"].items()
    }
    assert [r.profile["rows"] for r in found.runs] == [4, 1]
    for target in (p.target for p in first.parts):
        world.store.delete(target)
    with pytest.raises(TerminalError, match="Not all data files of small"):
        seen_in(world)


def test_rows_that_come_back_in_a_replay_are_of_its_run(tmp_path, redis_url):
    world = filled(Mendable(tmp_path, redis_url))
    before = seen_in(world).now["rows"]
    world.mend(limit=2000)
    world.replay(run="mended")
    found = now_agrees(world)
    assert (found.last.run, found.last.profile["rows"]) == ("mended", found.now["rows"] - before)


def test_compacted_parts_have_their_profile(world):
    for i in range(4):
        world.ingest([world.put(f"{i}.csv", [i, i + 1, i + 100])], run=f"r{i}")
    context = world.context()  # type: ignore[arg-type]
    assert compact("small", context).commits
    found = now_agrees(world)
    assert [r.run for r in found.runs] == ["r0", "r1", "r2", "r3"], "a compaction brings no rows"


def test_a_profile_is_kept_in_the_manifest_and_does_not_grow_with_the_tasks():
    receipts = [
        Receipt(
            number=i,
            parts=(DataFile(target=f"t/{i}.parquet", staged="s", rows=3, size=1),),
            profile=profile(pa.table({"n": [i, i, 2**62 + i], "w": [str(i), "a", None]})),
        )
        for i in range(2_000)
    ]
    entries = profiling.of_receipts(receipts)
    assert sum(len(one.columns) for one in entries) <= profiling.MAX_STATES
    assert [t for one in entries for t in one.parts] == [f"t/{i}.parquet" for i in range(2_000)]
    manifest = Manifest(
        batch="b", run="r", tenant="t", table="t", pipeline="p", code="c", sequence=1, committed_at="", sources=(),
        parts=(), profile=entries,
    )  # fmt: skip
    back = Manifest.model_validate_json(manifest.model_dump_json())
    assert back == manifest
    assert merge(one.profile for one in back.profile)["columns"]["n"]["sum"] == sum(
        2 * i + 2**62 + i for i in range(2_000)
    )


def test_a_run_is_compared_with_all_before_it(world):
    for i, numbers in enumerate(([1, 2, 3], [4, 5], [6])):
        world.ingest([world.put(f"{i}.csv", numbers)], run=f"r{i}")
    assert (seen_in(world).last.run, seen_in(world).earlier["rows"]) == ("r2", 5)
    assert (seen_in(world, "r1").last.profile["rows"], seen_in(world, "r1").earlier["rows"]) == (2, 3)
    assert seen_in(world, "r0").drift == {}
    with pytest.raises(TerminalError, match=r"a run that published rows \(the last: r0, r1, r2\); got 'r9'"):
        seen_in(world, "r9")
    with pytest.raises(TerminalError, match="a table of published rows"):
        Lake(world.settings).profile("small__rejects")


def test_a_table_whose_rows_were_all_rejected_has_an_empty_profile(world):
    world.ingest([world.put("a.csv", [13, 5000])])
    found = seen_in(world)
    assert (found.now["rows"], found.runs, found.frame().empty, found.compare().empty) == (0, (), True, True)
    assert "0 rows" in found._repr_html_()


# --- drift ------------------------------------------------------------------------------------------------------


def two(earlier: Any, last: Any, type_: Any = None) -> TableProfile:
    """A table with one column and two runs."""
    runs = [profile(pa.table({"x": pa.array(v, type_)})) for v in (earlier, last)]
    made = tuple(RunProfile(f"r{i}", "2026-01-01T00:00:00", p) for i, p in enumerate(runs))
    return TableProfile("t", merge(runs), made)


def rows(seed: int, size: int, kind: str) -> list[Any]:
    rng = np.random.default_rng(seed)
    some = {
        "normal": lambda: rng.normal(10, 3, size).tolist(),
        "few": lambda: rng.choice(list("abcde"), size, p=[0.4, 0.3, 0.2, 0.05, 0.05]).tolist(),
        "many": lambda: [f"v{i}" for i in rng.zipf(1.3, size) % 1000],
        "ids": lambda: [f"{i:x}" for i in rng.integers(0, 2**60, size)],
        "holes": lambda: [None if hole else 1 for hole in rng.random(size) < 0.1],
    }
    return some[kind]()


@pytest.mark.parametrize("kind", ["normal", "few", "many", "ids", "holes"])
@pytest.mark.parametrize("size", [3, 30, 3000])
def test_more_of_the_same_has_not_moved(kind, size):
    moved = [seed for seed in range(30) if two(rows(seed, 5000, kind), rows(seed + 1000, size, kind)).moved]
    assert len(moved) <= 3, "chance alone is no drift"


@pytest.mark.parametrize(
    ("earlier", "last", "what"),
    [
        (rows(1, 2000, "normal"), [v + 3 for v in rows(2, 500, "normal")], "mean 9.9"),
        (rows(1, 2000, "few"), ["b" if v == "a" else v for v in rows(2, 500, "few")], "b 30% → 7"),
        (rows(1, 2000, "holes"), [None if i % 2 else 1 for i in range(500)], "nulls 9.5% → 50%"),
        ([1] * 100, [2] * 100, "1 100% → 0%"),
        ([1, 2] * 50, ["1", "2"] * 50, "int → text"),
        ([1] * 100, [None] * 100, "nulls 0% → 100%"),
        (["x"] * 100, rows(2, 500, "ids"), "x 100% → 0."),
    ],
    ids=["mean", "values", "nulls", "constant", "kind", "all null", "unique"],
)
def test_what_has_moved_is_marked_and_said(earlier, last, what):
    seen = two(earlier, last)
    assert seen.moved == ["x"]
    assert seen.drift["x"].what.startswith(what)


def test_numbers_that_are_too_large_to_square_have_no_drift():
    assert two([1e308, -1e308] * 50, [1e300, 5e307] * 50).drift["x"].score <= 10
    assert two([math.inf] * 50, [math.nan] * 50).drift["x"].score <= 10


def test_time_moves_on_and_that_is_no_drift():
    days = [dt.datetime(2020, 1, 1) + dt.timedelta(hours=i) for i in range(2000)]
    assert two(days[:1000], days[1000:]).moved == []


def test_new_and_lost_columns_have_moved_but_those_that_were_too_many():
    one, other = profile(pa.table({"a": [1], "b": [1]})), profile(pa.table({"a": [1], "c": [1]}))
    assert {name: d.what for name, d in drifts(one, other).items() if d.score > MOVED} == {
        "b": "column is gone",
        "c": "new column",
    }
    assert not drifts({**one, "omitted": 1}, other)["c"].moved


# --- how it looks -----------------------------------------------------------------------------------------------

EVIL = "<script>alert('x')</script>&\""


def shown() -> TableProfile:
    names = pa.array(["a", EVIL, None, "a"] * 20)
    first = pa.table(
        {EVIL: names, "n": range(80), "f": [1.5, math.inf, math.nan, None] * 20, "l": [[1]] * 80, "z": pa.nulls(80)}
    )
    last = first.set_column(1, "n", pa.array([v + 500 for v in range(80)]))
    profiles = [profile(first), profile(first), profile(last)]
    runs = tuple(RunProfile(f"r{i}", "2026-01-01T00:00:00", p) for i, p in enumerate(profiles))
    return TableProfile("t", merge(profiles), runs)


def test_the_frames_have_a_row_for_each_column():
    seen = shown()
    frame, pairs = seen.frame().set_index("column"), seen.compare().set_index("column")
    assert list(frame.index) == [EVIL, "n", "f", "l", "z"]
    assert frame.loc["n", ["nulls", "min", "max", "mean"]].tolist() == [0, 0, 579, pytest.approx(39.5 + 500 / 3)]
    assert frame.loc["f", ["nulls", "null_share", "max"]].tolist() == [60, 0.25, math.inf]
    assert frame.loc[EVIL, "top"].startswith("a 67%")
    assert frame["moved"].to_dict() == {EVIL: False, "n": True, "f": False, "l": False, "z": False}
    assert pairs.loc["n", ["rows_earlier", "rows_last", "mean_earlier", "mean_last"]].tolist() == [160, 80, 39.5, 539.5]
    assert pairs.index[0] == "n", "what moved most comes first"
    assert seen.history("n") == [39.5, 39.5, 539.5]
    assert repr(seen) == "<TableProfile t: 240 rows, 5 columns; moved: n>"


def test_the_html_is_well_formed_and_harmless():
    seen = shown()
    text = seen._repr_html_()
    ET.fromstring(text)
    assert "<script" not in text
    assert text.count("<tr") == 6
    assert "moved: n" in text
    assert "≈ " in text
    alone = TableProfile("t", seen.now, seen.runs[:1])._repr_html_()
    ET.fromstring(alone)
    assert "no earlier run" in alone
    ET.fromstring(TableProfile("t", profile(pa.table({"x": [1]})), ())._repr_html_())


def test_small_plots_of_text():
    assert spark([1.0, None, 3.0, 2.0]) == "▁ █▅"
    assert spark([2.0, 2.0]) == "▄▄"
    assert spark([1.0]) == ""
    assert [bar(part, 4) for part in (0, 0.001, 0.5, 1, 2)] == ["    ", "▏   ", "██  ", "████", "████"]


def test_the_command_shows_a_table_and_prints_json(world, cli):
    world.ingest([world.put("a.csv", list(range(1, 60)))], run="r1")
    world.ingest([world.put("b.csv", list(range(900, 960)))], run="r2")
    home = world.settings.home
    shown = cli("profile", "small", "--home", home, COLUMNS="200")
    assert shown.returncode == 0, shown.stderr
    assert "small: 118 rows; last run r2: 60 rows; 1 earlier run: 58 rows" in shown.stdout
    assert "▁█" in shown.stdout
    assert "moved  n" in shown.stdout
    plain = json.loads(cli("profile", "small", "--home", home, "--json").stdout)
    assert (plain["rows"], plain["moved"][0], plain["columns"][0]["column"]) == (118, "n", "n")
    assert json.loads(cli("profile", "small", "--home", home, "--json", "--run", "r1").stdout)["moved"] == []
    wrong = cli("profile", "nothing", "--home", home)
    assert (wrong.returncode, "of tenant" in wrong.stderr) == (1, True)


def test_a_live_part_is_in_one_profile_only(world):
    uris = [world.put(f"{c}.csv", [1, 2, 3]) for c in "abc"]
    for run, chosen in (("r1", uris), ("r2", uris[:1]), ("r3", uris[1:2]), ("r4", uris[:2])):
        world.ingest(chosen, run=run, force=True)
        history = manifests(world.store, "default", "small")
        live = [p for p in live_parts(history) if "__rejects" not in p.target]
        covered = [t for one in profiling.believed(history, live) for t in one.parts]
        assert sorted(covered) == sorted(p.target for p in live)
    assert pc.sum(Lake(world.settings).table("small").arrow()["n"]).as_py() == seen_in(world).now["columns"]["n"]["sum"]
