"""A lake on S3 is kept up as a local one: compaction, replays, aggregates and profiles; deletions go in bulk."""

from __future__ import annotations

import secrets
from typing import Any

import fsspec
import pandas as pd
import pytest
from support.aggregates import Tally
from support.lake import Crash, FaultInjector

from ingestlab.analytics.lake import Lake
from ingestlab.core.errors import TransientError
from ingestlab.lake.storage.store import ObjectStore, open_store
from ingestlab.maintenance import compact as compaction
from ingestlab.maintenance.compact import Compacted, compact
from ingestlab.maintenance.reconcile import reconcile


@pytest.fixture
def place(s3) -> dict[str, Any]:
    """Settings of a lake in a bucket of its own."""
    name = f"b-{secrets.token_hex(4)}"
    fsspec.filesystem("s3", **s3).mkdir(name)
    return {"lake": f"s3://{name}/lake", "storage_options": {"s3": s3}}


@pytest.fixture
def world(tmp_path, redis_url, place) -> Tally:
    """A table of three requests, with rejects, states and profiles."""
    world = Tally(tmp_path, redis_url, **place)
    for i in range(3):
        numbers = [1500 + i, 13, *range(i * 20, i * 20 + 8)]
        world.ingest([world.put(f"{i}.csv", numbers)], run=f"r{i}")
    return world


def merge_small(world: Tally, faults: FaultInjector | None = None) -> Compacted:
    return compact("small", world.context(faults))  # type: ignore[arg-type]


def frame(world: Tally) -> pd.DataFrame:
    return Lake(world.settings).table("small").pandas()


def check(world: Tally) -> None:
    """Rows, aggregates and profile agree, and nothing lies about."""
    world.check(sorted(world.expected))
    lake = Lake(world.settings)
    found = lake.aggregate("small", "all")
    rows = frame(world)
    assert (found["rows"].iloc[0], found["sum"].iloc[0]) == (len(rows), rows["n"].sum())
    assert lake.profile("small").now["rows"] == len(rows)
    assert reconcile(world.context().lake).clean


def test_compaction(world, monkeypatch):
    assert isinstance(world.store, ObjectStore)
    before = frame(world).sort_values(["_source", "_row"], ignore_index=True)
    monkeypatch.setattr(compaction, "MOST_PARTS", 3)
    report = merge_small(world)
    assert (report.before, report.after, report.commits) == (9, 3, 3)
    pd.testing.assert_frame_equal(frame(world).sort_values(["_source", "_row"], ignore_index=True), before)
    check(world)


@pytest.mark.slow("crashes at every step")
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_compaction_that_dies(world, after):
    """At every third step; tests of the local lake take them all."""
    crashes = 0
    for at in range(2, 60, 3):
        try:
            merge_small(world, FaultInjector(at, after=after))
        except Crash:
            crashes += 1
            assert len(frame(world)) == 24, "readers see all rows in between"
        else:
            break
    merge_small(world)
    check(world)
    assert crashes > 3


def test_replay(world):
    world.mend(limit=1502)
    result = world.replay()
    assert result is not None
    assert [o.status for o in result.outcomes] == ["committed"] * 3
    assert sum(o.tally.accepted for o in result.outcomes) == 2, "1500 and 1501"
    assert len(Lake(world.settings).rejects("small")) == 4
    check(world)


def test_an_aggregate_and_where_it_is_materialized(world):
    lake = Lake(world.settings)
    shown = lake.aggregate("small", "by_kind")
    assert shown["rows"].sum() == len(frame(world))
    where = lake.materialize("small", "by_kind")
    assert where.startswith("s3://")
    options = world.settings.storage_options["s3"]
    written = pd.read_parquet(where, storage_options=options)
    assert written.columns.tolist() == shown.columns.tolist()
    assert written["sum"].tolist() == shown["sum"].tolist()
    elsewhere = world.settings.lake_url.rsplit("/", 1)[0] + "/out/small.parquet"
    assert lake.materialize("small", "all", elsewhere) == elsewhere
    assert len(pd.read_parquet(elsewhere, storage_options=options)) == 1


class TestDeletion:
    """`delete_files` of an object store."""

    @pytest.fixture(params=["s3", "memory"])
    def store(self, request) -> ObjectStore:
        if request.param == "memory":
            found = open_store(f"memory://{secrets.token_hex(4)}/lake")
        else:
            place = request.getfixturevalue("place")
            found = open_store(place["lake"], place["storage_options"])
        assert isinstance(found, ObjectStore)
        return found

    def test_files_go_together_and_those_that_are_gone_do_not_matter(self, store):
        names = [f"t/day=1/{i} ü%20.parquet" for i in range(5)]
        for path in (*names, "t/day=1/stays", "t/day=10/stays"):
            store.write(path, b"x")
        store.delete_files([*names[:3], "t/never"])
        assert list(store.walk("t")) == [*names[3:], "t/day=1/stays", "t/day=10/stays"]
        assert not store.exists(names[0])
        store.delete_files(iter(names))
        store.delete_files([])
        assert list(store.walk("t")) == ["t/day=1/stays", "t/day=10/stays"]

    def test_s3_is_asked_once_for_a_thousand(self, place, monkeypatch):
        store = open_store(place["lake"], place["storage_options"])
        assert isinstance(store, ObjectStore)
        names = [f"a/{i}" for i in range(1003)]
        for path in (*names[:3], *names[-2:]):
            store.write(path, b"x")
        calls: list[str] = []
        real = store.fs._call_s3

        async def count(method: str, *args: Any, **options: Any) -> Any:
            calls.append(method if isinstance(method, str) else method.__name__)
            return await real(method, *args, **options)

        monkeypatch.setattr(store.fs, "_call_s3", count)
        monkeypatch.setattr(store.fs, "call_s3", lambda *a, **k: fsspec.asyn.sync(store.fs.loop, count, *a, **k))
        store.delete_files(names)
        assert calls == ["delete_objects"] * 2
        assert list(store.walk("a")) == []

    def test_a_file_that_s3_does_not_delete_is_no_silence(self, place, monkeypatch):
        store = open_store(place["lake"], place["storage_options"])
        assert isinstance(store, ObjectStore)
        said = {"Errors": [{"Key": "lake/a", "Code": "InternalError", "Message": "try again"}]}
        monkeypatch.setattr(store.fs, "call_s3", lambda *_, **__: said)
        with pytest.raises(TransientError, match="InternalError"):
            store.delete_files(["a", "b"])
