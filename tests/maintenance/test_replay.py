"""Rejects fed through a mended pipeline: what passes is published once and leaves the rejects, whatever dies."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.lake import Crash, FaultInjector
from support.replay import FIRST, Mendable, filled
from support.selection import examples
from support.workers import PATIENCE

from ingestlab.analytics.lake import Lake
from ingestlab.core.errors import BusySourceError, TerminalError
from ingestlab.core.models import Again, IngestRequest, IngestResult, Source
from ingestlab.lake import layout
from ingestlab.lake.locks import source_lock
from ingestlab.lake.log import manifests
from ingestlab.maintenance.compact import compact
from ingestlab.maintenance.reconcile import reconcile
from ingestlab.maintenance.replay.replay import replay
from ingestlab.queue import find_run
from ingestlab.queue.replays import submit_replay, with_rejects


@pytest.fixture
def world(tmp_path, redis_url):
    return filled(Mendable(tmp_path, redis_url))


def outcomes(result: IngestResult | None) -> dict[str, str]:
    assert result is not None
    return {o.uri.rsplit("/", 1)[-1]: o.status for o in result.outcomes}


def test_what_passes_now_is_published_and_leaves_the_rejects(world):
    world.mend(limit=2000)
    result = world.replay()
    assert outcomes(result) == dict.fromkeys(("a.csv", "b.csv", "c.csv"), "committed")
    assert [(o.tally.rows_in, o.tally.accepted) for o in result.outcomes] == [(3, 1), (3, 1), (2, 1)]
    assert result.rules == {"clean": 3, "n:less_than": 2}
    world.check_all()


def test_the_second_time_there_is_nothing_to_publish(world):
    world.mend(limit=2000)
    world.replay()
    before = manifests(world.store, "default", "small")
    assert set(outcomes(world.replay(run="r8")).values()) == {"unchanged"}
    assert manifests(world.store, "default", "small") == before
    world.mend(limit=9999, dropped=-1)
    world.replay(run="wider")
    assert world.replay(run="r9") is None
    world.check_all()


def test_jobs_of_one_run_tell_each_its_own(world):
    world.mend(limit=2000)
    for r in with_rejects(manifests(world.store, "default", "small")):
        request = IngestRequest(run="one", table="small", sources=(Source(uri=r.uri),), replay=Again())
        result = replay(request, world.context(), lambda _progress: None)
        assert sum(result.rules.values()) == r.tally.rejected - 1
    world.check_all()


def test_rows_that_clean_dropped_come_back(world):
    world.mend(dropped=2)
    world.replay()
    rows = world.rows("small")[next(u for u in world.expected if u.endswith("a.csv"))]
    assert rows[2] == 1, "13 was dropped, and is published"
    assert rows[1] == 1, "2 would be dropped now, and stays: it is no reject"
    assert world.counts() == {"less_than": 5}


def test_what_fails_again_stays_with_its_new_reason_and_its_old_run(world):
    world.mend(limit=10, dropped=1500)
    world.replay()
    rejects = Lake(world.settings).rejects("small").sort_values(["source", "row"])
    mine = rejects[rejects["source"].str.endswith("a.csv")]
    assert mine[["row", "rule", "run", "raw"]].values.tolist() == [
        [2, "less_than", "r0", "13,w13"],
        [4, "less_than", "r0", "5000,w5000"],
        [5, "clean", "r0", "1500,w1500"],
    ]
    assert set(outcomes(world.replay(run="same")).values()) == {"unchanged"}


def test_only_the_rejects_of_a_rule_or_a_run_if_so_asked(world):
    world.mend(limit=9999, dropped=-1)
    assert outcomes(world.replay(run_of="r1", rule="n:less_than")) == {"c.csv": "committed"}
    assert world.counts() == {"clean": 3, "less_than": 4}
    world.replay(rule="less_than", run="rules")
    assert world.counts() == {"clean": 3}
    assert world.replay(run_of="r7", run="none") is None
    world.replay(run="rest")
    world.check_all()


def test_only_the_present_content_of_a_source_counts(world):
    """In a table that appends, the rejects of an earlier content stay as they are."""
    uri = world.put("a.csv", [1700, 13])
    world.ingest([uri], run="r2")
    world.mend(limit=2000)
    world.replay()
    assert world.rows("small")[uri] == {0: 2, 1: 1, 3: 1}
    assert world.rows("small__rejects")[uri] == {1: 1, 2: 1, 4: 1, 5: 1}
    assert world.ingest([uri], run="r3").outcomes[0].status == "unchanged"


def test_a_replaced_content_has_no_rejects_any_more(tmp_path, redis_url):
    world = filled(Mendable(tmp_path, redis_url, "replace"))
    world.ingest([world.put("a.csv", [1, 1700])], run="r2")
    world.mend(limit=2000)
    world.replay()
    world.check_all()
    world.ingest([world.put("b.csv", [1, 2, 13])], run="r3")
    world.check_all()


def test_a_replayed_source_is_known_as_before(world):
    world.mend(limit=2000)
    world.replay()
    world.redis.flushdb()
    assert {o.status for o in world.ingest(sorted(world.expected), run="r5").outcomes} == {"unchanged"}
    world.ingest(sorted(world.expected), run="r6", force=True)
    world.check_all()


def test_raw_bytes_that_are_gone_fail_their_source_alone(world):
    uri = next(u for u in world.expected if u.endswith("a.csv"))
    record = world.context().lake.index("default", "small").known([uri])[uri]
    world.store.delete(record.raw)
    world.mend(limit=2000)
    result = world.replay()
    assert outcomes(result) == {"a.csv": "failed", "b.csv": "committed", "c.csv": "committed"}
    assert "The raw file of a.csv is missing" in str(result.outcomes[0].exception())
    assert "--force" in str(result.outcomes[0].exception())
    assert sorted(world.rows("small__rejects")[uri]) == [2, 4, 5]


def test_a_reader_that_counts_otherwise_fails_the_file(tmp_path, redis_url):
    world = Mendable(tmp_path, redis_url)
    uri = world.put("quoted.csv", [])
    (tmp_path / "sources/quoted.csv").write_text('n,word\n1,"two\nlines"\n5000,x\n')
    world.ingest([uri])
    path = Path(world.settings.pipelines[0]) / "small.py"
    path.write_text(path.read_text().replace("reader=Csv(", "reader=Csv(quote=None, "))
    result = world.replay()
    assert outcomes(result) == {"quoted.csv": "failed"}
    assert "2 records in quoted.csv, as the first time; got 3" in str(result.outcomes[0].exception())
    assert world.rows("small__rejects")[uri] == {1: 1}


def test_a_big_file_is_read_only_where_its_rejects_are(tmp_path, redis_url, monkeypatch):
    from ingestlab.formats.csv.reader import Csv

    world = Mendable(tmp_path, redis_url, partition_bytes=1024)
    numbers = [1500 if i in (3, 700) else 13 if i == 701 else i % 1000 for i in range(2000)]
    numbers = [14 if n == 13 and i != 701 else n for i, n in enumerate(numbers)]
    world.ingest([world.put("big.csv", numbers)])
    pieces = []
    read = Csv.read
    monkeypatch.setattr(Csv, "read", lambda self, piece, store: pieces.append(piece) or read(self, piece, store))
    world.mend(limit=2000)
    world.replay()
    assert len(pieces) == 3, "the two with rejects, and the last"
    assert pieces[-1].wanted.until == 2000
    world.check_all()


def test_a_quality_gate_does_not_hold_rejects_back(world):
    path = Path(world.settings.pipelines[0]) / "small.py"
    path.write_text(path.read_text().replace("max_reject_ratio=1", "max_reject_ratio=0.01"))
    world.mend(limit=2000)
    assert "failed" not in outcomes(world.replay()).values()
    world.check_all()


def test_a_pipeline_that_is_broken_fails_its_sources(world):
    (Path(world.settings.pipelines[0]) / "small.py").write_text("PIPELINE = 1 / 0")
    result = world.replay()
    assert set(outcomes(result).values()) == {"failed"}
    assert "ZeroDivisionError" in str(result.outcomes[0].exception())


def test_replay_waits_for_its_sources(world):
    uri = min(world.expected)
    with world.locks.lease() as other:
        other.acquire([source_lock("default", "small", uri)])
        with pytest.raises(BusySourceError):
            world.replay()


@pytest.mark.slow("crashes at every step")
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("mend", ["replay", "reconcile", "compact", "neighbour"])
def test_a_crash_at_any_step_loses_and_doubles_nothing(tmp_path_factory, redis_url, after, mend):
    crashes = 0
    for at in range(1, 40):
        world = filled(Mendable(tmp_path_factory.mktemp("w"), redis_url, "replace"))
        world.mend(limit=2000)
        try:
            world.replay(FaultInjector(at, after=after))
        except Crash:
            crashes += 1
        else:
            break
        if mend == "reconcile":
            reconcile(world.context().lake)
        elif mend == "compact":
            compact("small", world.context())
        elif mend == "neighbour":
            world.ingest([world.put("a.csv", [1, 1100, 2200, 13])], run="new")
        world.replay()
        if mend == "neighbour":  # the batch that died before its intent will never come again
            reconcile(world.context().lake)
        world.check_all()
        assert world.ingest(sorted(world.expected), run="r9").outcomes[0].status == "unchanged"
    assert crashes > 8


def test_a_job_that_died_after_its_commit_tells_what_it_did(world):
    world.mend(limit=2000)
    first = FaultInjector()
    world.replay(first, run="count")
    again = filled(Mendable(world.folder / "again", world.settings.redis))
    again.mend(limit=2000)
    with pytest.raises(Crash):
        again.replay(FaultInjector(first.count, after=True))
    result = again.replay()
    assert set(outcomes(result).values()) == {"committed"}
    assert sum(o.tally.accepted for o in result.outcomes) == 3
    assert result.rules == {"clean": 3, "n:less_than": 2}
    again.check_all()


NUMBERS = st.lists(st.sampled_from([1, 2, 13, 1200, 2200, 7]), min_size=1, max_size=6)
STEPS = st.one_of(
    st.tuples(st.sampled_from("ab"), NUMBERS),
    st.tuples(st.just("mend"), st.sampled_from([(1000, 13), (2000, 13), (3000, 7), (500, -1)])),
    st.tuples(st.just("replay"), st.none()),
    st.tuples(st.just("compact"), st.none()),
)
ACCIDENTS = st.one_of(st.none(), st.tuples(st.integers(1, 18), st.booleans()))


@settings(max_examples=examples(15), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(story=st.lists(st.tuples(STEPS, ACCIDENTS), min_size=3, max_size=9))
def test_any_story_keeps_every_row_once(tmp_path_factory, redis_url, story):
    """Every row of the present contents is published or rejected, however pipelines, files and replays change."""
    world = Mendable(tmp_path_factory.mktemp("story"), redis_url, "replace")
    world.ingest([world.put("z.csv", FIRST)], run="first")
    for i, ((what, how), accident) in enumerate(story):
        faults = FaultInjector(accident[0], after=accident[1]) if accident else None
        try:
            if what == "mend":
                world.mend(*how)
            elif what == "replay":
                world.replay(faults, run=f"r{i}")
            elif what == "compact":
                compact("small", world.context(faults))
            else:
                world.ingest([world.put(f"{what}.csv", how)], faults, run=f"r{i}")
        except Crash:
            continue
    world.ingest(sorted(world.expected), run="all")
    world.mend(9999, -1)
    world.replay(run="last")
    reconcile(world.context().lake)  # a batch that died before its intent may never come again
    world.check_all()


STRICT = """
from ingestlab import Csv, Pipeline
import pandera.pandas as pa

PIPELINE = Pipeline(
    reader=Csv(columns={"n": "int64", "word": "string"}),
    contract=pa.DataFrameSchema({"n": pa.Column(checks=pa.Check.lt(LIMIT))}),
)
"""


def test_through_real_workers(ready, cli):
    """Ingest, widen the contract, replay on the queue, and again: nothing to do."""
    uris = [ready.file(f"strict-{i}.csv", _hundred(i)) for i in range(3)]
    ready.pipeline("strict", STRICT.replace("LIMIT", "60"))
    first = ready.submit(*uris, pipeline="strict").wait(PATIENCE)
    assert (first.tally.out, first.tally.rejected) == (180, 120)
    assert find_run(_replayed(ready), ready.settings).result().count("unchanged") == 3
    ready.pipeline("strict", STRICT.replace("LIMIT", "90"))
    env = {"REDIS_URL": ready.settings.redis, "INGESTLAB_LAKE": ready.settings.lake_url}
    done = cli("replay", "strict", "--rule", "n:less_than", "--wait", "--json", **env)
    told = json.loads(done.stdout)
    assert (told["tally"]["rows_in"], told["tally"]["out"], told["tally"]["rejected"]) == (120, 90, 30)
    table = Lake(ready.settings).table("strict")
    assert table.rows == 270
    assert all(ready.rows(uri, "strict") == Counter(range(90)) for uri in uris)
    assert len(Lake(ready.settings).rejects("strict")) == 30
    with pytest.raises(TerminalError, match=r"broke the rule 'n:less_then'\. Did you mean 'n:less_than'\?"):
        submit_replay("strict", rule="n:less_then", settings=ready.settings)
    assert submit_replay("strict", run="nobody", settings=ready.settings) is None
    assert "that run nobody brought" in cli("replay", "strict", "--run", "nobody", **env).stdout
    ready.pipeline("strict", STRICT.replace("LIMIT", "1000"))
    find_run(_replayed(ready), ready.settings)
    assert submit_replay("strict", settings=ready.settings) is None
    assert "No rejects" in cli("replay", "strict", **env).stdout
    assert all(ready.rows(uri, "strict") == Counter(range(100)) for uri in uris)


def _hundred(seed: int) -> bytes:
    return b"n,word\n" + b"".join(b"%d,w%d\n" % (i, seed) for i in range(100))


def _replayed(yard) -> str:
    run = submit_replay("strict", settings=yard.settings)
    assert run is not None
    run.wait(PATIENCE)
    return run.id


def test_a_table_must_be_there(world):
    with pytest.raises(TerminalError, match="of tenant default"):
        submit_replay("smal", settings=world.settings)


def test_the_same_replay_asked_twice_is_one_job(world):
    one, two = (submit_replay("small", settings=world.settings) for _ in range(2))
    assert one.id == two.id
    plain = IngestRequest(run="r", table="t", sources=(Source(uri="file:///x"),))
    assert plain.job_id != plain.model_copy(update={"replay": Again()}).job_id
    assert list(world.store.walk(layout.intents())) == []
