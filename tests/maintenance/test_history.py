"""Earlier states of a table: what was there after each commit can be read as long as its files are kept."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from support.lake import Crash, FaultInjector, World

from ingestlab.analytics.lake import Lake
from ingestlab.core.errors import TerminalError
from ingestlab.lake import layout
from ingestlab.lake.kept_files import place_of
from ingestlab.lake.log import TransactionLog
from ingestlab.maintenance.compact import compact
from ingestlab.maintenance.delete import delete
from ingestlab.maintenance.history import read_history
from ingestlab.maintenance.reconcile import reconcile


@pytest.fixture
def world(tmp_path, redis_url):
    return World(tmp_path, redis_url, "replace")


def state(world, table="small", as_of=None) -> Counter[int]:
    """The numbers that a reader finds."""
    column = "n" if table == "small" else "row"
    rows = Lake(world.settings).table(table, as_of).arrow()
    return Counter(rows[column].to_pylist()) if rows.num_rows else Counter()


def story(world) -> list[tuple[Counter[int], Counter[int]]]:
    """Ingests, replaces, deletes and compacts; gives rows and rejects after each commit."""
    a, b = world.put("a.csv", [1, 2, 13]), world.put("b.csv", [3, 4, 2000])
    world.ingest([a, b], run="r1")
    states = [(state(world), state(world, "small__rejects"))]
    world.put("a.csv", [5, 6])
    world.ingest([a], run="r2")
    states.append((state(world), state(world, "small__rejects")))
    compact("small", world.context())
    states.append((state(world), state(world, "small__rejects")))
    delete(b, world.context())
    return [*states, (state(world), state(world, "small__rejects"))]


@pytest.mark.parametrize("where", ["disk", "object store"])
def test_every_state_is_read_by_number_run_and_time(tmp_path, redis_url, where):
    lake = {"lake": f"memory://{tmp_path.name}-history/lake"} if where == "object store" else {}
    world = World(tmp_path, redis_url, "replace", **lake)
    states = story(world)
    log = TransactionLog(world.store, "default", "small")
    for entry, (rows, rejects) in zip(log.history(), states, strict=True):
        moment = datetime.fromisoformat(entry.committed_at)
        for as_of in (entry.sequence, str(entry.sequence), entry.run, moment, entry.committed_at):
            assert state(world, as_of=as_of) == rows
            assert state(world, "small__rejects", as_of) == rejects
    table = Lake(world.settings).table("small", 1)
    assert Counter(table.dask().compute()["n"]) == Counter(table.pandas()["n"]) == states[0][0]
    assert (table.rows, len(table.manifests)) == (4, 1)
    assert sorted(set(table.pandas()["even"])) == ["False", "True"]


@pytest.mark.parametrize("as_of", [99, "r99", "2001-01-01", datetime(2001, 1, 1, tzinfo=UTC), "soon"])
def test_a_state_that_never_was_is_an_error(world, as_of):
    story(world)
    with pytest.raises(TerminalError, match="no state as of") as raised:
        state(world, as_of=as_of)
    assert raised.value.code == "history_gone"


def test_a_table_folder_has_live_files_only_and_what_is_kept_is_known_to_the_log(world):
    story(world)
    entries = TransactionLog(world.store, "default", "small").history()
    assert {place_of(m, t) for m in entries for t in m.replaced} == set(world.store.walk(layout.kept()))
    assert reconcile(world.context().lake).clean


def test_the_history_tells_what_each_commit_changed(world):
    story(world)
    found = read_history("small", world.store, world.settings)
    assert [(c.number, c.kind, c.added, c.removed) for c in found.commits] == [
        (4, "delete", 0, 2),
        (3, "compact", 0, 0),
        (2, "ingest", 2, 2),
        (1, "ingest", 4, 0),
    ]
    assert [(c.rejects_added, c.rejects_removed) for c in found.commits] == [(0, 1), (0, 0), (0, 1), (2, 0)]
    assert [(c.readable, c.undoable) for c in found.commits] == [
        (True, True),
        (True, False),
        (True, True),
        (True, True),
    ]
    times = [c.readable_until for c in found.commits]
    assert times[0] is None
    assert times[3] is not None
    assert datetime.fromisoformat(times[3]) - datetime.now(UTC) > timedelta(days=6.9)
    assert (found.files, found.bytes > 0) == (len(list(world.store.walk(layout.kept()))), True)
    assert list(found.frame()["number"]) == [4, 3, 2, 1]
    assert len(read_history("small", world.store, world.settings, limit=1).commits) == 1


def test_without_retention_nothing_is_kept_and_the_error_says_what_can_be_read(tmp_path, redis_url):
    world = World(tmp_path, redis_url, "replace", history_days=0)
    states = story(world)
    assert list(world.store.walk(layout.kept())) == []
    with pytest.raises(TerminalError, match="no longer kept") as raised:
        state(world, as_of=1)
    assert raised.value.code == "history_gone"
    assert state(world, as_of=4) == states[3][0]
    found = read_history("small", world.store, world.settings)
    assert [(c.readable, c.undoable) for c in found.commits][-2:] == [(False, False), (False, True)]


def test_what_was_kept_goes_once_nothing_is_to_be_kept(world):
    story(world)
    world.settings = world.settings.model_copy(update={"history_days": 0})
    reconcile(world.context().lake)
    assert list(world.store.walk(layout.kept())) == []


@pytest.mark.parametrize("by", ["a commit", "reconcile"])
def test_what_is_older_than_the_retention_goes(world, by):
    story(world)
    kept = layout.kept("default", "small")
    for hour in list(world.store.children(kept)):
        for path in list(world.store.walk(f"{kept}/{hour}")):
            world.store.move(path, path.replace(f"/{hour}/", "/20200101-00/"))
    if by == "reconcile":
        reconcile(world.context().lake)
    else:
        world.put("a.csv", [8])
        world.ingest([f"{world.folder.as_uri()}/sources/a.csv"], run="r9")
    assert "20200101-00" not in world.store.children(kept)
    assert not read_history("small", world.store, world.settings).commits[-1].readable


def test_states_before_a_checkpoint_are_read(world, monkeypatch):
    """Entries are folded every three commits, and forgotten at once where nothing needs them."""
    monkeypatch.setattr("ingestlab.lake.log.EVERY", 3)
    monkeypatch.setattr("ingestlab.lake.log.KEPT", 2)
    states = []
    for i in range(12):
        uri = world.put(f"{i % 4}.csv", [2 * i + 100, 13])
        world.ingest([uri], run=f"r{i}")
        states.append(state(world))
        TransactionLog(world.store, "default", "small").fold(days=0, expire=True, history=7)
    assert [state(world, as_of=f"r{i}") for i in range(12)] == states


@pytest.mark.slow("crashes at every step")
@pytest.mark.parametrize("after", [False, True])
def test_a_crash_at_any_step_of_a_replacement_loses_no_state(tmp_path_factory, redis_url, after):
    crashes = 0
    for at in range(1, 60):
        world = World(tmp_path_factory.mktemp("h"), redis_url, "replace")
        uri, other = world.put("a.csv", [1, 2, 2000]), world.put("b.csv", [3, 4])
        world.ingest([uri, other], run="r1")
        before = state(world)
        world.put("a.csv", [5, 6, 13])
        try:
            world.ingest([uri], FaultInjector(at, after=after), run="r2")
        except Crash:
            crashes += 1
        else:
            break
        reconcile(world.context().lake)
        assert reconcile(world.context().lake).clean
        assert state(world, as_of="r1") == before
        world.ingest([uri], run="r2")
        world.check([uri, other])
        assert state(world, as_of="r1") == before
    assert crashes > 10
