"""Commit, recovery and replacement, with a crash at every single step."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.lake import Crash, FaultInjector, World
from support.selection import examples
from support.workers import until

from ingestlab.core.errors import BusySourceError, LostLeaseError, TerminalError
from ingestlab.lake.locks import Locks, source_lock
from ingestlab.maintenance.reconcile import reconcile

FIRST = [1, 2, 13, 4, 5000]
SECOND = [7, 8, 9, 13, 2000, 10]


@pytest.fixture
def world(tmp_path, redis_url):
    return World(tmp_path, redis_url)


def steps_of_a_commit(tmp_path_factory, redis_url, disposition="append") -> int:
    world = World(tmp_path_factory.mktemp("count"), redis_url, disposition)
    faults = FaultInjector()
    world.ingest([world.put("a.csv", FIRST)], faults)
    return faults.count


def crash_then(world, uris, at, after):
    try:
        world.ingest(uris, FaultInjector(at, after=after))
    except Crash:
        return True
    return False


def test_a_commit_publishes_every_row_once(world):
    uris = [world.put("a.csv", FIRST), world.put("b.csv", SECOND)]
    result = world.ingest(uris)
    assert [o.status for o in result.outcomes] == ["committed", "committed"], result.outcomes
    assert result.rules == {"clean": 2, "n:less_than": 2}
    world.check(uris)


def test_the_same_again_is_unchanged(world):
    uris = [world.put("a.csv", FIRST)]
    world.ingest(uris)
    assert world.ingest(uris, run="r2").outcomes[0].status == "unchanged"
    world.check(uris)


def test_a_lost_index_is_built_again_from_the_manifests(world):
    uris = [world.put("a.csv", FIRST)]
    world.ingest(uris)
    world.redis.flushdb()
    assert world.ingest(uris, run="r2").outcomes[0].status == "unchanged"
    world.check(uris)


def test_append_adds_the_rows_of_changed_content(world):
    uri = world.put("a.csv", FIRST)
    world.ingest([uri])
    world.put("a.csv", SECOND)
    world.ingest([uri], run="r2")
    assert world.rows("small")[uri].total() == 3 + 4


def test_content_that_comes_back_is_appended_again(world):
    uri = world.put("a.csv", FIRST)
    world.ingest([uri])
    for run, numbers in (("r2", SECOND), ("r3", FIRST)):
        world.put("a.csv", numbers)
        world.ingest([uri], run=run)
    assert world.rows("small")[uri].total() == 3 + 4 + 3


@pytest.mark.slow("crashes at every step")
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("mend", ["retry", "reconcile", "both", "neighbour"])
def test_a_crash_at_any_step_leaves_nothing_undone_or_doubled(tmp_path_factory, redis_url, after, mend):
    crashes = 0
    for at in range(1, 40):
        world = World(tmp_path_factory.mktemp("w"), redis_url)
        a, b = world.put("a.csv", FIRST), world.put("b.csv", SECOND)
        world.ingest([world.put("old.csv", [3, 4, 1234])], run="r0")
        if not crash_then(world, [a, b], at, after):
            break
        crashes += 1
        if mend in ("reconcile", "both"):
            reconcile(world.context().lake)
        if mend == "neighbour":  # another request shares one of the sources, and comes first
            world.ingest([b], run="r2")
        world.ingest([a, b])
        if mend == "neighbour":  # the batch that died before its intent will never come again
            reconcile(world.context().lake)
        world.check([a, b, (world.folder / "sources/old.csv").as_uri()])
    assert crashes > 8


@pytest.mark.slow("crashes at every step")
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("mend", ["retry", "reconcile"])
def test_a_crash_while_replacing_keeps_one_version_of_every_row(tmp_path_factory, redis_url, after, mend):
    crashes = 0
    for at in range(1, 60):
        world = World(tmp_path_factory.mktemp("w"), redis_url, "replace")
        a, b = world.put("a.csv", FIRST), world.put("b.csv", SECOND)
        world.ingest([a, b], run="r0")
        world.put("a.csv", [21, 22, 13, 23, 4000, 24])
        if not crash_then(world, [a], at, after):
            break
        crashes += 1
        if mend == "reconcile":
            reconcile(world.context().lake)
        world.ingest([a])
        world.check([a, b])
    assert crashes > 10


def test_after_reconcile_alone_a_dead_commit_is_wholly_there_or_wholly_gone(tmp_path_factory, redis_url):
    ends = set()
    for at in range(1, 40):
        world = World(tmp_path_factory.mktemp("w"), redis_url)
        uri = world.put("a.csv", FIRST)
        if not crash_then(world, [uri], at, after=False):
            break
        reconcile(world.context().lake)
        rows = world.rows("small")[uri].total()
        ends.add(rows)
        if rows:
            world.check([uri])
        assert reconcile(world.context().lake).clean
    assert ends == {0, 3}


@settings(max_examples=examples(15), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    story=st.lists(
        st.tuples(
            st.sampled_from("abc"),
            st.lists(st.sampled_from([1, 2, 13, 999, 1000, 7]), min_size=1, max_size=6),
            st.one_of(st.none(), st.integers(1, 16)),
            st.booleans(),
        ),
        min_size=1,
        max_size=6,
    )
)
def test_any_story_of_changes_and_crashes_ends_with_the_last_contents(tmp_path_factory, redis_url, story):
    world = World(tmp_path_factory.mktemp("story"), redis_url, "replace")
    for i, (name, numbers, at, after) in enumerate(story):
        uri = world.put(f"{name}.csv", numbers)
        try:
            world.ingest([uri], FaultInjector(at, after=after) if at else None, run=f"r{i}")
        except Crash:
            continue
    world.ingest(sorted(world.expected), run="last")
    reconcile(world.context().lake)  # a batch that died before its intent may never come again
    world.check(sorted(world.expected))


def test_replace_takes_the_earlier_rows_out_of_a_shared_part(tmp_path, redis_url):
    world = World(tmp_path, redis_url, "replace")
    a, b = world.put("a.csv", FIRST), world.put("b.csv", SECOND)
    world.ingest([a, b])
    world.put("a.csv", [100, 101])
    world.ingest([a], run="r2")
    world.check([a, b])


def test_force_ingests_unchanged_content_again_and_doubles_nothing(world):
    uri = world.put("a.csv", FIRST)
    world.ingest([uri])
    result = world.ingest([uri], run="r2", force=True)
    assert result.outcomes[0].status == "committed"
    world.check([uri])


def test_a_busy_source_makes_the_job_wait_its_turn(world):
    uri = world.put("a.csv", FIRST)
    with world.locks.lease() as other:
        other.acquire([source_lock("default", "small", uri)])
        with pytest.raises(BusySourceError, match=r"a\.csv"):
            world.ingest([uri])
    world.ingest([uri])
    world.check([uri])


def test_a_job_that_lost_its_locks_publishes_nothing(world):
    uri = world.put("a.csv", FIRST)

    class Thief(FaultInjector):
        def guard(self, function):
            def guarded(*args, **options):
                if args and str(args[0]).startswith("_ingestlab/intents"):
                    for key in world.redis.scan_iter("*lock:source*"):
                        world.redis.set(key, "another job")
                return function(*args, **options)

            return guarded

    with pytest.raises(LostLeaseError):
        world.ingest([uri], Thief())
    for key in world.redis.scan_iter("*lock:*"):
        world.redis.delete(key)
    assert reconcile(world.context().lake).settled
    assert world.rows("small")[uri].total() == 0


def test_a_job_that_lost_its_locks_and_takes_more_is_told_so(world):
    with Locks(world.redis, world.settings.lake_url, ttl=0.3).lease() as lease:
        lease.acquire(["one"])
        world.redis.set(lease._keys[0], "another job")
        until(lambda: not lease._thread.is_alive(), 20, "the end of the renewals")
        lease.acquire(["two"])
        with pytest.raises(LostLeaseError):
            lease.check()


def test_reconcile_leaves_a_job_at_work_alone(world):
    a = world.put("a.csv", FIRST)
    assert crash_then(world, [a], 6, after=False)
    with world.locks.lease() as other:
        other.acquire([source_lock("default", "small", a)])
        report = reconcile(world.context().lake)
    assert report.busy
    assert not report.orphans


def test_reconcile_reports_a_part_that_is_gone(world):
    a = world.put("a.csv", FIRST)
    world.ingest([a])
    path = next(p for p in world.store.walk("tables") if p.endswith(".parquet"))
    world.store.delete(path)
    assert reconcile(world.context().lake).missing == (path,)


def test_counts_that_do_not_add_up_stop_the_commit(world, monkeypatch):
    from ingestlab.sinks.parquet import ParquetWriter

    stage = ParquetWriter.stage
    monkeypatch.setattr(
        ParquetWriter, "stage", lambda self, rows: stage(self, replace(rows, table=rows.table.slice(1)))
    )
    uri = world.put("a.csv", FIRST)
    (outcome,) = world.ingest([uri]).outcomes
    assert isinstance(outcome.exception(), TerminalError)
    assert "every source row" in outcome.exception().expected
    assert world.rows("small")[uri].total() == 0


def test_reconcile_clears_old_temporary_files_and_leaves_new_ones(world):
    old, new = (world.store.scratch() / name for name in ("old", "new"))
    for file in (old, new):
        file.write_bytes(b"x")
    os.utime(old, (0, 0))
    reconcile(world.context().lake)
    assert (old.exists(), new.exists()) == (False, True)
