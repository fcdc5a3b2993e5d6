"""Small parts merged: nothing lost or doubled, whatever dies on the way, and appends go on."""

from __future__ import annotations

import json
import shutil
import uuid
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.lake import Crash, FaultInjector, Inline, World
from support.selection import examples
from support.workers import ONCE, PATIENCE

from ingestlab.analytics.lake import Lake
from ingestlab.core.errors import BusySourceError, TerminalError, TransientError
from ingestlab.core.models import DataFile
from ingestlab.engine.services import Services
from ingestlab.engine.task.merge import common_schema
from ingestlab.lake import layout
from ingestlab.lake.locks import rewrite_lock
from ingestlab.lake.log import manifests
from ingestlab.maintenance import compact as module
from ingestlab.maintenance.compact import Compacted, compact
from ingestlab.maintenance.reconcile import reconcile
from ingestlab.notebook import Lab

FILES = {"a.csv": [1, 2, 13, 4, 5000], "b.csv": [7, 8, 13, 2000, 10], "c.csv": [3, 6], "d.csv": [13, 12]}


@pytest.fixture
def world(tmp_path, redis_url):
    return filled(World(tmp_path, redis_url))


def filled(world: World) -> World:
    """A world with one request, and so some parts, for each file."""
    for i, (name, numbers) in enumerate(FILES.items()):
        world.ingest([world.put(name, numbers)], run=f"r{i}")
    return world


def copy(template: World, folder: Path, redis_url: str) -> World:
    """The same lake and sources elsewhere: quicker than to fill one anew."""
    world = World(folder, redis_url, "replace")
    shutil.copytree(template.settings.lake_url, world.settings.lake_url)
    world.folder, world.expected = template.folder, dict(template.expected)
    return world


def merge_small(world: World, faults: FaultInjector | None = None, **options) -> Compacted:
    return compact("small", world.context(faults), **options)


def check(world: World) -> None:
    world.check(sorted(world.expected))


def files(world: World, table: str = "small") -> list[str]:
    return list(world.store.walk(layout.table("default", table)))


def rows(table: pa.Table) -> list[dict[str, object]]:
    return sorted(table.to_pylist(), key=lambda row: (row["_source"], row["_row"]))


def test_the_small_parts_of_a_folder_become_one(world):
    before = len(files(world)) + len(files(world, "small__rejects"))
    report = merge_small(world)
    assert sorted(p.split("/")[-2] for p in files(world)) == ["even=False", "even=True"]
    assert len(files(world, "small__rejects")) == 1
    assert (report.before, report.after, report.commits) == (before, 3, 1)
    check(world)


def test_values_stay_and_sources_stay_encoded(world):
    before = Lake(world.settings).table("small").arrow()
    merge_small(world)
    table = Lake(world.settings).table("small")
    after = table.arrow()
    assert rows(after) == rows(before)
    assert pa.types.is_dictionary(after.schema.field("_source").type)
    odd = next(p for p in table.parts if "even=False" in p.target)
    assert odd.sources == tuple(sorted(u for u in world.expected if u.endswith(("a.csv", "b.csv", "c.csv"))))


def test_the_second_time_there_is_nothing_to_merge(world):
    merge_small(world)
    again = merge_small(world)
    assert (again.commits, again.before) == (0, 3)
    assert "nothing to merge" in str(again)


def test_big_parts_are_left_alone(world):
    report = merge_small(world, target=10)
    assert report.commits == 0
    assert report.before == report.after > 3


def test_rows_are_sorted_if_asked(world):
    merge_small(world, sort=["word", "_source"])
    for path in files(world):
        words = pq.ParquetFile(pa.BufferReader(world.store.read(path))).read()["word"].to_pylist()
        assert words == sorted(words)
    check(world)


def test_a_column_to_sort_by_must_be_there(world):
    with pytest.raises(TerminalError, match=r"column 'wrd' to sort by.*columns n, word"):
        merge_small(world, sort=["wrd"])
    check(world)


def test_a_table_must_be_there(world):
    with pytest.raises(TerminalError, match="of tenant default"):
        compact("smal", world.context())


@pytest.mark.slow("crashes at every step")
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("mend", ["compact", "ingest", "replace", "reconcile"])
def test_a_crash_at_any_step_loses_and_doubles_nothing(tmp_path_factory, redis_url, monkeypatch, after, mend):
    monkeypatch.setattr(module, "MOST_PARTS", 4)  # so that there are several commits
    template = filled(World(tmp_path_factory.mktemp("template"), redis_url, "replace"))
    crashes = 0
    for at in range(1, 60):
        world = copy(template, tmp_path_factory.mktemp("w"), redis_url)
        try:
            merge_small(world, FaultInjector(at, after=after))
        except Crash:
            crashes += 1
        else:
            break
        if mend == "reconcile":
            reconcile(world.context().lake)
        elif mend == "compact":
            merge_small(world)
        else:
            world.ingest([world.put("e.csv" if mend == "ingest" else "a.csv", [9, 13, 7000])], run="new")
            assert list(world.store.walk(layout.intents())) == []
            reconcile(world.context().lake)  # a batch that died before its intent may never come again
        check(world)
        merge_small(world)
        assert len(files(world)) == 2
        check(world)
    assert crashes > 15


@settings(max_examples=examples(12), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    story=st.lists(
        st.tuples(
            st.sampled_from("abc-"),  # a file to change, or a compaction
            st.lists(st.sampled_from([1, 2, 13, 999, 1000, 7]), min_size=1, max_size=6),
            st.one_of(st.none(), st.integers(1, 22)),
            st.booleans(),
        ),
        min_size=2,
        max_size=8,
    )
)
def test_any_story_of_changes_and_compactions_and_crashes_ends_well(tmp_path_factory, redis_url, story):
    world = World(tmp_path_factory.mktemp("story"), redis_url, "replace")
    world.ingest([world.put("z.csv", [1, 13])], run="first")
    for i, (name, numbers, at, after) in enumerate(story):
        faults = FaultInjector(at, after=after) if at else None
        try:
            if name == "-":
                merge_small(world, faults)
            else:
                world.ingest([world.put(f"{name}.csv", numbers)], faults, run=f"r{i}")
        except Crash:
            continue
    world.ingest(sorted(world.expected), run="last")
    merge_small(world)
    reconcile(world.context().lake)
    check(world)


def test_replace_finds_its_rows_in_a_merged_part(tmp_path, redis_url):
    world = filled(World(tmp_path, redis_url, "replace"))
    merge_small(world)
    world.ingest([world.put("a.csv", [100, 101, 13])], run="new")
    check(world)
    merge_small(world)
    check(world)


def test_appends_go_on_while_parts_are_merged(world):
    """An append in the middle of a compaction is neither held up nor swallowed."""

    class Meanwhile(Inline):
        def map(self, *args):
            world.ingest([world.put("late.csv", [1, 2, 13])], run="late")
            return super().map(*args)

    compact("small", Services(world.settings, world.store, world.locks, Meanwhile()))
    check(world)


def test_two_never_rewrite_the_same_parts(tmp_path, redis_url):
    world = filled(World(tmp_path, redis_url, "replace"))

    class Meanwhile(Inline):
        def map(self, *args):
            with pytest.raises(BusySourceError):
                world.ingest([world.put("a.csv", [1, 2, 3])], run="late")
            with pytest.raises(TransientError, match="Another job replaces data files of small"):
                merge_small(world)
            return super().map(*args)

    compact("small", Services(world.settings, world.store, world.locks, Meanwhile()))
    world.ingest([next(u for u in world.expected if u.endswith("a.csv"))], run="late")
    check(world)
    with world.locks.lease() as other:
        other.acquire([rewrite_lock("default", "small")])
        with pytest.raises(TransientError, match="Another job replaces data files"):
            merge_small(world)


def test_a_reader_that_goes_by_the_manifests_sees_every_row_once_at_every_step(world):
    expected = Lake(world.settings).table("small").rows

    def look() -> None:
        table = Lake(world.settings).table("small")
        assert table.arrow().num_rows == table.rows == expected

    class Watched(FaultInjector):
        def guard(self, function):
            def watched(*args, **options):
                look()
                result = function(*args, **options)
                look()
                self.count += 1
                return result

            return watched

    watched = Watched()
    merge_small(world, watched)
    assert watched.count > 15


def test_a_table_that_was_opened_before_is_read_after(world):
    table = Lake(world.settings).table("small")
    before = table.arrow().num_rows
    merge_small(world)
    assert table.arrow(["n"]).num_rows == before
    world.store.delete(files(world)[0])
    with pytest.raises(FileNotFoundError):
        table.arrow()


def test_rows_that_are_lost_on_the_way_end_it(world, monkeypatch):
    def lossy(*args):
        return [{**m, "part": {**m["part"], "rows": 1}} for m in real(*args)]

    real = module.merge
    monkeypatch.setattr(module, "merge", lossy)
    with pytest.raises(TerminalError, match="A merged data file has another number of rows"):
        merge_small(world)
    check(world)


def test_old_manifests_stay_and_the_index_is_built_from_them(world):
    merge_small(world)
    world.redis.flushdb()
    assert {o.status for o in world.ingest(sorted(world.expected), run="again").outcomes} == {"unchanged"}
    last = manifests(world.store, "default", "small")[-1]
    assert (last.kind, last.sources) == ("compact", ())


def test_on_a_real_cluster_while_workers_append(ready, script):
    """The command, with tasks on Dask workers, and jobs that go on appending."""
    name = uuid.uuid4().hex  # a second try of the test has other files
    uris = [ready.file(f"small-{name}-{i}.csv") for i in range(8)]
    for uri in uris[:5]:
        assert ready.submit(uri).wait(PATIENCE).count("committed") == 1
    late = [ready.submit(uri) for uri in uris[5:]]
    before = Lake(ready.settings).table("plain")
    found = ready.settings
    env = {"REDIS_URL": found.redis, "INGESTLAB_LAKE": found.lake_url, "DASK_SCHEDULER_ADDRESS": found.dask_scheduler}
    done = script("compact", "plain", "--sort", "n", "--json", **env)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["commits"] == 1
    assert told["after"] < told["before"]
    assert [run.wait(PATIENCE).count("committed") for run in late] == [1, 1, 1]
    lab = Lab(home=found.home, redis_url=found.redis, lake=found.lake_url)
    lab.compact("plain")  # what came late
    after = Lake(ready.settings).table("plain")
    assert (len(after.parts), len(before.parts) > 1) == (1, True)
    assert all(ready.rows(uri) == ONCE for uri in uris)


class TestSchemas:
    """Which parts go together."""

    @staticmethod
    def common(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
        found = [common_schema(pa.schema({"x": a}), pa.schema({"x": b})) for a, b in ((one, other), (other, one))]
        assert found[0] == found[1]
        return found[0] and found[0].field("x").type

    @pytest.mark.parametrize(
        ("one", "other", "both"),
        [
            (pa.int64(), pa.int64(), pa.int64()),
            (pa.int32(), pa.int64(), pa.int64()),
            (pa.float32(), pa.float64(), pa.float64()),
            (pa.null(), pa.timestamp("s"), pa.timestamp("s")),
            (pa.uint8(), pa.int32(), pa.int32()),
            (pa.int64(), pa.float64(), None),  # 2**53 + 1 is no float
            (pa.int64(), pa.string(), None),
            (pa.uint64(), pa.int64(), None),
            (pa.timestamp("s"), pa.timestamp("ns"), None),  # the year 9999 has no nanoseconds
        ],
        ids=str,
    )
    def test_a_type_is_widened_only_where_no_value_changes(self, one, other, both):
        assert self.common(one, other) == both

    def test_a_column_that_only_some_have_is_null_elsewhere(self):
        assert common_schema(pa.schema({"x": pa.int8()}), pa.schema({"y": pa.int8()})).names == ["x", "y"]

    def test_parts_that_do_not_go_together_stay_apart(self, world):
        tables = [
            pa.table(
                {"n": pa.array([2**53 + 1, i]), "_source": pa.array(["s", "s"]).dictionary_encode(), "_row": [0, 1]}
            )
            for i in range(2)
        ]
        tables += [t.set_column(0, "n", pa.array([0.5, 1.5])) for t in tables]
        tables += [tables[0].set_column(0, "n", pa.array(["x", "y"]))]
        parts = []
        for i, table in enumerate(tables):
            target = f"tables/default/mixed/p{i}.parquet"
            sink = pa.BufferOutputStream()
            pq.write_table(table, sink)
            world.store.write(target, sink.getvalue().to_pybytes())
            parts.append(
                DataFile(target=target, staged="", rows=2, size=sink.tell() if not sink.closed else 1, sources=("s",))
            )
        work = module.Merge(batch="b", number=0, parts=tuple(parts))
        merged = [module.Merged.from_dict(m) for m in module.merge(work.to_dict(), world.settings.lake_url, {})]
        assert [m.replaced for m in merged] == [tuple(p.target for p in parts[k : k + 2]) for k in (0, 2)]
        first = pq.ParquetFile(pa.BufferReader(world.store.read(merged[0].part.staged))).read()
        assert first["n"].to_pylist() == [2**53 + 1, 0, 2**53 + 1, 1]
