"""Rows merged into a table by key: the same story told to a dict ends the same."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.lake import Crash, FaultInjector
from support.merging import LATEST, MergedVectors, MergeWorld, Row
from support.selection import examples

from ingestlab.analytics.aggregate_reader import AggregateReader
from ingestlab.core.errors import LostLeaseError, TerminalError
from ingestlab.engine import merging
from ingestlab.engine.task import merging as tasks
from ingestlab.lake import data_files, layout
from ingestlab.lake.arrow_schema import parse_type
from ingestlab.lake.keys import KeyIndex, comparable, hashed, kind_of_key
from ingestlab.lake.log import live_files, manifests
from ingestlab.lake.splice import SplicedPart
from ingestlab.maintenance.compact import compact
from ingestlab.maintenance.delete import delete
from ingestlab.maintenance.reconcile import reconcile
from ingestlab.maintenance.undo import undo
from ingestlab.pipeline.catalog import PipelineSource, load
from ingestlab.sinks.milvus import commit


@pytest.fixture
def make(tmp_path_factory, redis_url):
    return lambda more=LATEST, **options: MergeWorld(tmp_path_factory.mktemp("merge"), redis_url, more, **options)


def test_a_row_replaces_the_published_row_with_its_key(make):
    world = make("")
    world.merge("a.csv", [Row(1), Row(2), Row(3)], run="r1")
    result = world.merge("b.csv", [Row(2, n=7), Row(4)], run="r2")
    assert result.rules == {"merge:replaced": 1}
    world.check_merged()
    assert sorted(world.table) == [1, 2, 3, 4]
    assert world.table[2][2].n == 7


def test_the_last_row_of_a_key_in_a_commit_wins(make):
    world = make("")
    result = world.merge("a.csv", [Row(1, n=1), Row(2), Row(1, n=2), Row(1, n=3)], run="r1")
    assert result.rules == {"merge:superseded": 2}
    assert result.outcomes[0].tally.out == 2
    world.check_merged()
    assert world.table[1][2].n == 3


def test_an_older_row_that_comes_later_is_superseded(make):
    world = make()
    world.merge("a.csv", [Row(1, at=5), Row(2, at=5), Row(3, at=None)], run="r1")
    result = world.merge("b.csv", [Row(1, at=4), Row(2, at=5, n=1), Row(3, at=None, n=1)], run="r2")
    assert result.rules == {"merge:superseded": 1, "merge:replaced": 2}
    world.check_merged()
    assert [world.table[key][2].n for key in (1, 2, 3)] == [0, 1, 1]


def test_a_row_that_deletes_removes_its_key_unless_it_is_too_old(make):
    world = make()
    world.merge("a.csv", [Row(1, at=5), Row(2, at=5)], run="r1")
    result = world.merge("b.csv", [Row(1, at=6, gone=True), Row(2, at=4, gone=True), Row(9, gone=True)], run="r2")
    assert result.rules == {"merge:deleted": 2, "merge:superseded": 1, "merge:replaced": 1}
    world.check_merged()
    assert sorted(world.table) == [2]


def test_null_keys_are_rejected_and_null_ages_are_the_oldest(make):
    world = make()
    result = world.merge("a.csv", [Row(1, at=1), Row(None), Row(1, at=None), Row(2, at=None)], run="r1")
    assert result.rules == {"id:not_nullable": 1, "merge:superseded": 1}
    assert world.read("small__rejects")["rule"].to_pylist() == ["not_nullable"]
    world.check_merged()


def test_what_one_commit_takes_out_leaves_files_apart_that_hold_none_of_its_keys(make):
    world = make('partition_by="day",')
    world.merge("a.csv", [Row(i, day="mon") for i in range(50)], run="r1")
    world.merge("b.csv", [Row(i, day="tue") for i in range(100, 150)], run="r2")
    before = live(world)
    world.merge("c.csv", [Row(120, day="wed")], run="r3")
    assert list(before - live(world)) == [next(t for t in before if "day=tue" in t)]
    world.check_merged()


def test_indexes_that_are_lost_or_cut_are_built_again(make):
    world = make()
    world.merge("a.csv", [Row(i) for i in range(20)], run="r1")
    world.merge("b.csv", [Row(3, at=1)], run="r2")
    for path in list(world.store.walk(layout.key_indexes("default", "small", ["id"]))):
        world.store.write(path, world.store.read(path)[:-5])
    world.merge("c.csv", [Row(3, at=2), Row(4, at=2)], run="r3")
    world.check_merged()
    for path in list(world.store.walk(layout.key_indexes("default", "small", ["id"]))):
        world.store.delete(path)
    world.merge("d.csv", [Row(3, at=3), Row(5, at=3)], run="r4")
    world.check_merged()


def test_jobs_of_different_sources_merge_one_after_the_other(make):
    world = make()
    names = [f"{n}.csv" for n in range(4)]
    contents = [tuple(Row(i, at=n) for i in range(30)) for n in range(4)]
    uris = [world.put_rows(name, rows) for name, rows in zip(names, contents, strict=True)]
    with ThreadPoolExecutor(len(names)) as pool:
        results = list(pool.map(lambda uri: world.ingest([uri], run=f"r-{uri[-5]}"), uris))
    assert [r.outcomes[0].status for r in results] == ["committed"] * 4, results
    for uri, rows in zip(uris, contents, strict=True):
        world.tell(uri, rows)
    world.check_merged()
    assert sum(sum(r.rules.values()) for r in results) == 120 - 30


def test_big_batches_are_compared_by_ranges_of_hashes(make, monkeypatch):
    monkeypatch.setattr(merging, "RANGE", 5)
    world = make()
    world.merge("a.csv", [Row(i % 30, at=i % 7) for i in range(60)], run="r1")
    world.merge("b.csv", [Row(i % 40, at=i % 5, gone=i % 3 == 0) for i in range(60)], run="r2")
    world.check_merged()


def test_row_groups_that_lose_nothing_are_copied_and_large_files_are_cut(make, monkeypatch):
    _cut_small(monkeypatch)
    world, copied = make(), []
    monkeypatch.setattr(SplicedPart, "copy", _noted(SplicedPart.copy, copied))
    world.merge("a.csv", [Row(i) for i in range(60)], run="r1")
    world.merge("b.csv", [Row(59, at=1), Row(60)], run="r2")
    assert len(live(world)) > 2
    copied.clear()
    world.merge("c.csv", [Row(31, at=1)], run="r3")
    assert max(copied) > 1  # what is written is a file of one row group first
    world.check_merged()


def _cut_small(patch: pytest.MonkeyPatch) -> None:
    """Make files and row groups of few rows."""
    patch.setattr(merging, "_SMALLEST", 2500)
    patch.setattr(tasks, "_WORTH", 2)
    patch.setattr(tasks, "_GROUP_ROWS", 3)
    patch.setattr(data_files, "BATCH", 2)


def _noted(copy, groups):
    def note(part, source, number, sources):
        groups.append(len(source.groups))
        copy(part, source, number, sources)

    return note


def test_a_key_that_was_given_again_does_not_come_back_by_an_undo(make):
    world = make()
    world.merge("a.csv", [Row(1), Row(2)], run="r1")
    before = dict(world.table)
    world.merge("b.csv", [Row(1, at=1, gone=True)], run="r2")
    world.merge("c.csv", [Row(1, at=2)], run="r3")
    with pytest.raises(TerminalError, match="Run r3"):
        undo("r2", world.context())
    undo("r3", world.context())
    undo("r2", world.context())
    world.table = before
    world.check_merged()


def test_aggregates_follow(make):
    sums = 'aggregates={"sums": Aggregate(by=["day"], measures={"n": ("n", "sum"), "rows": "count"})},'
    world = make(f"{LATEST} {sums}")
    world.merge("a.csv", [Row(1, n=1), Row(2, n=2, day="tue"), Row(3, n=3), Row(3, n=30)], run="r1")
    world.merge("b.csv", [Row(1, at=1, n=10), Row(2, at=1, gone=True)], run="r2")
    world.check_merged()
    rows = AggregateReader(world.store, world.settings, "default", "small").read("sums").to_pylist()
    assert [(row["day"], row["n"], row["rows"]) for row in rows] == [("mon", 40, 2)]
    assert reconcile(world.context().lake).clean


@pytest.fixture
def make_vectors(tmp_path_factory, redis_url, monkeypatch):
    def make(more=LATEST, **options):
        world = MergedVectors(tmp_path_factory.mktemp("merge"), redis_url, more, **options)
        monkeypatch.setattr(commit, "connected", world.connected)
        return world

    return make


def test_vectors_follow(make_vectors):
    world = make_vectors()
    world.tell_and_check()


def live(world):
    return {part.target for part in live_files(manifests(world.store, "default", "small"), "parquet")}


def test_a_commit_that_has_not_seen_rows_of_another_is_refused(make):
    world = make()
    world.merge("a.csv", [Row(1)], run="r1")
    log = world.context().lake.log("default", "small")
    (entry,) = log.history()
    late = entry.model_copy(update={"batch": "late", "sources": (), "owner": "another"})
    with pytest.raises(LostLeaseError):
        log.append(late, base=0)
    assert log.append(late.model_copy(update={"key": ()}), base=0).sequence == 2


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ('write_disposition="merge"', "key is missing"),
        ('write_disposition="merg", key=["id"]', "write_disposition is unknown"),
        ('key=["id"]', "key is for tables that are merged"),
        ('latest_by="id"', "latest_by is for tables that are merged"),
        ('write_disposition="merge", key=["id", "id"]', "named twice"),
        ('write_disposition="merge", key=["id"], delete_if="id"', "named twice"),
        ('write_disposition="merge", key=["_row"]', "key is no column"),
        ('write_disposition="merge", key=["price"]', "key column 'price' cannot be compared"),
        ('write_disposition="merge", key=["ids"]', "key column 'ids' is missing"),
        (
            'write_disposition="merge", key=["id"], embedding=Embedding(source="name", model="wordllama")',
            "lacks the key",
        ),
        ('write_disposition="merge", key=["id"], latest_by="at"', "latest_by column 'at' is missing"),
        ('write_disposition="merge", key=["id"], delete_if="name"', "delete_if column 'name' is not boolean"),
        ('write_disposition="merge", key=["id"], latest_by="flag"', "latest_by column 'flag' has no order"),
        (
            'write_disposition="merge", key=["id"], latest_by="name", partition_by="name"',
            "latest_by is a column of partition_by",
        ),
    ],
)
def test_what_cannot_be_merged_is_said_when_the_pipeline_is_loaded(options, problem):
    columns = '{"id": "int64", "name": "string", "price": "float64", "flag": "bool"}'
    pipeline = f"Pipeline(reader=Csv(columns={columns}), {options})"
    text = f"from ingestlab import Csv, Embedding, Pipeline\nPIPELINE = {pipeline}\n"
    with pytest.raises(TerminalError, match=problem) as raised:
        load(PipelineSource(name="p", origin="p.py", text=text))
    assert raised.value.fix


@pytest.mark.parametrize(
    ("clean", "problem"),
    [
        ('df.drop(columns=["id"])', "key column 'id' is missing"),
        ('df.assign(id=df["id"] / 2)', "key column 'id' cannot be compared"),
        ("df.assign(id=[[1]] * len(df))", "key column 'id' cannot be compared"),
        ('df.drop(columns=["at"])', "latest_by column 'at' is missing"),
        ('df.assign(gone="yes")', "delete_if column 'gone' is not boolean"),
    ],
)
def test_columns_that_clean_spoils_fail_the_file_and_nothing_else(make, clean, problem):
    world = make(f"{LATEST} clean=lambda df: {clean},")
    (outcome,) = world.ingest([world.put_rows("a.csv", [Row(1)])]).outcomes
    assert problem in str(outcome.exception())
    assert not manifests(world.store, "default", "small")


def test_a_key_of_another_type_than_the_table_has_is_refused(make):
    world = make()
    world.merge("a.csv", [Row(1)], run="r1")
    world.more = f'{LATEST} schema_drift="evolve", clean=lambda df: df.assign(id="x" + df["id"].astype("string")),'
    world.limited(100)
    (outcome,) = world.ingest([world.put_rows("b.csv", [Row(1, at=9)])]).outcomes
    assert "ingestlab rewrite small --type id=string" in str(outcome.exception())
    world.check_merged()


def test_equal_keys_have_one_hash_and_others_mostly_not():
    texts = ["", "a", "b", "ab", "ba", "a\0", "\0a", "1", "äöü", "x" * 500, "x" * 501]
    hashes = hashed([comparable(pa.chunked_array([texts, texts]))]).tolist()
    assert hashes[: len(texts)] == hashes[len(texts) :]
    assert len(set(hashes)) == len(texts)
    numbers = hashed([comparable(pa.chunked_array([list(range(-500, 500))]))]).tolist()
    assert numbers == hashed([comparable(pa.chunked_array([pa.array(range(-500, 500), pa.int16())]))]).tolist()
    assert len(set(numbers)) == 1000
    pairs = [comparable(pa.chunked_array([["a", "b", "a"]])), comparable(pa.chunked_array([[1, 1, 2]]))]
    assert len({*hashed(pairs).tolist(), *hashed(pairs[::-1]).tolist()}) == 6


@pytest.mark.parametrize(
    "kind",
    [
        "int8",
        "uint64",
        "string",
        "large_string",
        "binary",
        "bool",
        "date32[day]",
        "timestamp[us, tz=UTC]",
        "time64[us]",
    ],
)
def test_every_kind_of_key_can_be_hashed_and_indexed(kind):
    values = pa.array([1, 0, 1]).cast(pa.string()).cast(pa.binary()) if kind == "binary" else _three(parse_type(kind))
    column = comparable(pa.chunked_array([values]))
    first, second, third = hashed([column]).tolist()
    assert first == third != second
    assert kind_of_key(values.type)


def _three(kind):
    numbers = pa.array([1, 0, 1])
    if pa.types.is_temporal(kind):
        return numbers.cast(pa.int32() if kind.bit_width == 32 else pa.int64()).cast(kind)
    return numbers.cast(kind)


def test_an_index_finds_every_row_of_a_hash():
    index = KeyIndex(np.array([1, 1, 5, 7, 7, 7], np.uint64), np.array([4, 0, 2, 1, 3, 5]))
    assert index.candidates(np.array([0, 1, 7, 9], np.uint64)).tolist() == [0, 1, 3, 4, 5]
    assert index.candidates(np.array([], np.uint64)).tolist() == []


names = st.sampled_from(["a.csv", "b.csv", "c.csv"])
rows = st.lists(
    st.builds(
        Row,
        st.one_of(st.integers(1, 6), st.none()),
        st.one_of(st.integers(0, 3), st.none()),
        st.booleans(),
        st.sampled_from([0, 1, 7]),
        st.sampled_from(["mon", "tue"]),
    ),
    min_size=1,
    max_size=6,
)
crashes = st.one_of(st.none(), st.tuples(st.integers(1, 30), st.booleans()))
steps = st.one_of(
    st.tuples(st.just("merge"), names, rows, crashes),
    st.tuples(st.just("merge"), names, rows, crashes),
    st.tuples(st.just("force"), names, rows, crashes),
    st.tuples(st.sampled_from(["delete", "replay", "compact", "reconcile", "limit"]), names, st.none(), crashes),
)


@settings(max_examples=examples(40), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    story=st.lists(steps, min_size=1, max_size=6),
    more=st.sampled_from(["", LATEST, 'partition_by="day", delete_if="gone",', f'{LATEST} partition_by=["day"],']),
    cut=st.booleans(),
)
def test_any_story_ends_as_it_does_in_a_dict(make, story, more, cut):
    with pytest.MonkeyPatch.context() as patch:
        if cut:
            _cut_small(patch)
        _check_story(make(more, limit=5), story)


@pytest.mark.slow("long work")
@settings(max_examples=examples(20), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(story=st.lists(steps, min_size=1, max_size=6), more=st.sampled_from(["", LATEST]))
def test_any_story_ends_as_it_does_in_a_dict_and_so_do_vectors(make_vectors, story, more):
    _check_story(make_vectors(more, limit=5), story)


def _check_story(world, story):
    for i, (what, name, content, crash) in enumerate(story):
        faults = FaultInjector(crash[0], after=crash[1]) if crash else None
        try:
            _tell(world, what, name, content, f"r{i}", faults)
        except Crash:
            _tell(world, what, name, content, f"r{i}", None)
    reconcile(world.context().lake)
    world.check_merged()


def _tell(world, what, name, content, run, faults):
    uri = (world.folder / "sources" / name).as_uri()
    if what in ("merge", "force"):
        world.merge(name, content, faults, run=run, force=what == "force")
    elif what == "limit":
        world.limited(100)
    elif what == "reconcile":
        reconcile(world.context().lake)
    elif uri not in world.contents:
        return
    elif what == "delete":
        delete(uri, world.context(faults))
        world.forget(uri)
    elif what == "replay":
        world.replay(uri, run, faults)
    elif what == "compact":
        compact("small", world.context(faults))
