"""Pulls of records: rows and cursor are one commit, and what has come is not asked for again."""

from __future__ import annotations

import json

import pytest
from support.lake import Crash, FaultInjector
from support.pulling import PullWorld

from ingestlab.core.errors import IngestError
from ingestlab.engine.services import Services
from ingestlab.lake import layout
from ingestlab.lake.log import manifests
from ingestlab.maintenance.delete import delete
from ingestlab.maintenance.reconcile import reconcile
from ingestlab.maintenance.undo import undo


@pytest.fixture
def world(tmp_path, redis_url):
    return PullWorld(tmp_path, redis_url)


def cursor(world) -> int | None:
    records = [r for m in manifests(world.store, "default", "shop") for r in m.sources if r.uri == "rest://shop"]
    return json.loads(records[-1].version)["last"] if records and records[-1].version else None


def waiting(world) -> list[str]:
    return list(world.store.walk(layout.pulls("default", "shop")))


def good(*numbers) -> list[int]:
    return sorted(n for n in numbers if n != 13 and n < 1000)


def test_a_pull_is_published_with_its_cursor(world):
    numbers = [*range(1, 14), 5000]
    world.stock(*numbers)
    result = world.pull()
    (outcome,) = result.outcomes
    assert (outcome.uri, outcome.status, outcome.table) == ("rest://shop", "committed", "shop")
    assert (outcome.tally.rows_in, outcome.tally.rejected, outcome.facts["pulled"]) == (14, 2, "3 pages")
    assert world.values() == good(*numbers)
    assert cursor(world) == 13
    assert waiting(world) == []


def test_the_next_pull_brings_what_is_new(world):
    world.stock(1, 2, 3)
    world.pull()
    assert world.pull(run="r2").outcomes[0].status == "unchanged"
    world.stock(4, 5)
    assert world.pull(run="r3").outcomes[0].tally.rows_in == 2
    assert world.values() == [1, 2, 3, 4, 5]
    assert cursor(world) == 4


def test_a_run_that_committed_asks_nobody_again(world):
    world.stock(1, 2, 3)
    world.pull()
    world.asked()
    world.stock(4)
    (outcome,) = world.pull().outcomes
    assert (outcome.status, outcome.tally.rows_in) == ("committed", 3)
    assert world.asked() == []


def test_nothing_at_all_is_unchanged(world):
    world.stock()
    assert world.pull().outcomes[0].status == "unchanged"


def test_a_pull_of_everything_takes_the_place_of_the_one_before(tmp_path, redis_url):
    world = PullWorld(tmp_path, redis_url, incremental=False)
    world.stock(*range(1, 9))
    world.pull()
    assert world.pull(run="r2").outcomes[0].status == "unchanged"
    world.records[0]["n"] = 70
    del world.records[3]
    world.write()
    assert world.pull(run="r3").outcomes[0].status == "committed"
    assert world.values() == [2, 3, 5, 6, 7, 8, 70]
    world.records.clear()
    world.write()
    assert world.pull(run="r4").outcomes[0].error["code"] == "no_rows"
    assert len(world.values()) == 7


def test_force_begins_at_the_beginning_and_doubles_nothing(world):
    world.stock(1, 2, 3)
    world.pull()
    world.stock(4)
    world.pull(run="r2")
    world.asked()
    assert world.pull(run="r3", force=True).outcomes[0].tally.rows_in == 4
    assert world.values() == [1, 2, 3, 4]
    world.stock(5)
    world.pull(run="r4")
    assert world.values() == [1, 2, 3, 4, 5]


def test_a_window_is_a_source_of_its_own(world):
    world.stock(*range(1, 9))
    for window in ("from=0&to=3", "from=3&to=6"):
        assert world.pull(run=window[5], uri=f"rest://shop?{window}").outcomes[0].status == "committed"
    assert world.values() == [1, 2, 3, 4, 5, 6]
    assert world.pull(run="again", uri="rest://shop?from=0&to=3").outcomes[0].status == "unchanged"
    assert cursor(world) is None


@pytest.mark.parametrize("kind", ["crash", "away"])
def test_a_try_goes_on_at_the_page_where_the_one_before_ended(world, kind):
    world.stock(*range(1, 19))
    for place in (0, 5, 10, 15):
        world.fault(kind, place)
        if kind == "crash":
            with pytest.raises(Crash):
                world.pull()
        else:
            assert world.pull().outcomes[0].error["kind"] == "transient"
        assert world.values() == []
    world.fault()
    assert world.pull().outcomes[0].status == "committed"
    assert sorted(world.asked()) == [0, 0, 5, 5, 10, 10, 15, 15]
    assert world.values() == good(*range(1, 19))
    assert waiting(world) == []


def test_a_damaged_page_is_asked_for_again(world):
    world.stock(*range(1, 19))
    world.fault("away", 15)
    world.pull()
    (data,) = [path for path in waiting(world) if path.endswith("1.jsonl")]
    text = world.store.read(data)
    world.store.write(data, text[:-9] + b"!" + text[-8:])
    world.fault()
    world.asked()
    world.pull()
    assert world.asked() == [10, 15]
    assert world.values() == good(*range(1, 19))


def test_another_run_begins_anew(world):
    world.stock(*range(1, 9))
    world.fault("away", 5)
    world.pull()
    world.fault()
    world.asked()
    world.pull(run="r2")
    assert world.asked() == [0, 5]
    assert waiting(world) == []


def test_a_part_that_fails_keeps_all_of_it_back(tmp_path, redis_url, monkeypatch):
    from ingestlab.sources.pulls import spool

    world = PullWorld(tmp_path, redis_url, more="")
    text = (tmp_path / "pipelines/shop.py").read_text().replace("max_reject_ratio=1", "max_reject_ratio=0.5")
    (tmp_path / "pipelines/shop.py").write_text(text)
    monkeypatch.setattr(spool, "SEGMENT", 50)
    world.stock(1, 2, 3, 4, 5, 13, 13, 13, 13, 13, 6)
    (outcome,) = world.pull().outcomes
    assert (outcome.uri, outcome.error["code"]) == ("rest://shop", "quality_gate")
    assert (world.values(), cursor(world)) == ([], None)
    for i in range(5, 9):
        world.records[i]["n"] = 7
    world.write()
    assert world.pull(run="r2").outcomes[0].status == "committed"
    assert world.values() == [1, 2, 3, 4, 5, 6, 7, 7, 7, 7]


def test_delete_takes_rows_and_cursor(world):
    world.stock(1, 2, 3)
    world.pull()
    world.stock(4)
    world.pull(run="r2")
    services: Services = world.context()
    (gone,) = delete("rest://shop", services)
    assert gone.rows == 4
    assert (world.values(), cursor(world)) == ([], None)
    world.pull(run="r3")
    assert world.values() == [1, 2, 3, 4]


def test_undo_takes_the_cursor_back(world):
    world.stock(1, 2, 3)
    world.pull()
    world.stock(4)
    world.pull(run="r2")
    undo("r2", world.context())
    assert (world.values(), cursor(world)) == ([1, 2, 3], 2)
    world.pull(run="r3")
    assert (world.values(), cursor(world)) == ([1, 2, 3, 4], 3)


def test_pages_without_end_end_with_an_error(tmp_path, redis_url):
    world = PullWorld(tmp_path, redis_url, max_pull_pages=2)
    world.stock(*range(1, 19))
    error = IngestError.from_dict(world.pull().outcomes[0].error)
    assert error.code == "limit_exceeded"
    assert world.values() == []


@pytest.mark.slow("crashes at every step")
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("mend", ["retry", "reconcile", "another run"])
@pytest.mark.parametrize("incremental", [True, False], ids=["incremental", "whole"])
def test_a_crash_at_any_step_leaves_rows_and_cursor_together(tmp_path_factory, redis_url, after, mend, incremental):
    crashes = 0
    for at in range(1, 60):
        world = PullWorld(tmp_path_factory.mktemp("w"), redis_url, incremental=incremental)
        world.stock(1, 2, 13, 4, 5000, 6, 7)
        world.pull(run="r0")
        world.stock(8, 9, 13, 10, 11, 12)
        try:
            world.pull(FaultInjector(at, after=after))
        except Crash:
            crashes += 1
        else:
            break
        if mend == "reconcile":
            reconcile(world.context().lake)
            rows = len(world.values())
            assert rows == (10 if not incremental or cursor(world) == 12 else 5) or (rows == 5 and not incremental)
        run = "r2" if mend == "another run" else "r1"
        world.pull(run=run)
        reconcile(world.context().lake)
        assert world.values() == [1, 2, 4, 6, 7, 8, 9, 10, 11, 12]
        assert world.values("shop__rejects").__len__() == 3
        if incremental:
            assert cursor(world) == 12
        assert list(world.store.walk(layout.stagings())) == []
    assert crashes > 8
