"""A lake that version 0.1 wrote (`lake_before`): manifests without numbers, and two jobs that died.

Its table `small` was made of a.csv and b.csv (r0), another a.csv in place of the first (r1) and c.csv (r2). The job
of d.csv died before its manifest, that of e.csv right after it; both left an intent.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import fsspec
import pytest
from support.lake import World

from ingestlab.analytics.lake import Lake
from ingestlab.lake import layout
from ingestlab.lake.log import TransactionLog, manifests
from ingestlab.maintenance.reconcile import reconcile

BEFORE = Path(__file__).parent / "lake_before"
HOME = "memory://lake-before/"
CONTENTS = {
    "a.csv": [21, 22, 13, 23],
    "b.csv": [7, 8, 9, 13, 2000, 10],
    "c.csv": [5, 6],
    "d.csv": [31, 32],
    "e.csv": [41, 42, 43],
}
COMMITTED = [HOME + name for name in ("a.csv", "b.csv", "c.csv")]


@pytest.fixture
def world(tmp_path, redis_url) -> World:
    found = World(tmp_path, redis_url, "replace")
    shutil.copytree(BEFORE, found.settings.lake_url)
    for name, numbers in CONTENTS.items():
        send(found, name, numbers)
    return found


def send(world: World, name: str, numbers: list[int]) -> str:
    with fsspec.open(HOME + name, "w") as file:
        file.write("n,word\n" + "".join(f"{n},w{n}\n" for n in numbers))
    world.expected[HOME + name] = numbers
    return HOME + name


def test_it_opens(world):
    table = Lake(world.settings).table("small")
    assert [m.run for m in table.manifests] == ["r0", "r1", "r2", "r4"]
    assert table.rows == 3 + 4 + 2 + 3
    assert sorted(table.pandas()["n"]) == [5, 6, 7, 8, 9, 10, 21, 22, 23, 41, 42, 43]
    assert len(Lake(world.settings).rejects("small")) == 3


def test_it_reconciles(world):
    report = reconcile(world.context().lake)
    assert sorted(line.split()[0] for line in report.settled) == ["finished", "rolled"]
    assert not report.missing
    world.check([*COMMITTED, HOME + "e.csv"])
    assert world.rows("small")[HOME + "d.csv"].total() == 0
    assert reconcile(world.context().lake).clean


def test_it_goes_on(world):
    log = TransactionLog(world.store, "default", "small")
    last = log.tip()
    assert [o.status for o in world.ingest(COMMITTED, run="r5").outcomes] == ["unchanged"] * 3
    assert log.tip() == last
    world.ingest([HOME + "d.csv", HOME + "e.csv"], run="r6")
    world.ingest([send(world, "b.csv", [70, 13])], run="r7")
    assert [m.sequence for m in log.history()][-2:] == [last + 1, last + 2]
    assert world.store.children(layout.checkpoints("default", "small")) == [f"{last + 1:010d}.parquet"]
    world.check(list(world.expected))
    world.locks.client.flushdb()
    assert [o.status for o in world.ingest(list(world.expected), run="r8").outcomes] == ["unchanged"] * 5
    assert reconcile(world.context().lake).clean


def test_its_manifests_go_with_the_first_entries(world, monkeypatch):
    monkeypatch.setattr("ingestlab.lake.log.EVERY", 40)
    reconcile(world.context().lake)
    before = world.rows("small")
    log = TransactionLog(world.store, "default", "small")
    last = log.history()[-1]
    for i in range(250):
        changed = {"batch": f"b{i}", "sources": (), "replaced": (), "parts": (), "profile": (), "rejects": ()}
        log.append(last.model_copy(update=changed), log.tip())
        log.fold(days=30)
    assert len(world.store.children(layout.manifests("default", "small"))) == 4
    log.fold(days=0, expire=True)
    assert world.store.children(layout.manifests("default", "small")) == []
    assert {r.uri for m in manifests(world.store, "default", "small") for r in m.sources} >= set(COMMITTED)
    assert reconcile(world.context().lake).clean
    assert world.rows("small") == before
