"""Any order of ingests, deletions, compactions and undos is the same story told to a dict, at each of its moments."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.lake import World
from support.selection import examples

from ingestlab.analytics.lake import Lake
from ingestlab.core.errors import TerminalError
from ingestlab.lake.log import TransactionLog
from ingestlab.maintenance.compact import compact
from ingestlab.maintenance.delete import delete
from ingestlab.maintenance.reconcile import reconcile
from ingestlab.maintenance.undo import undo

CONTENTS = ([1, 2], [3], [4, 13, 5], [2000])
STEP = st.one_of(
    st.tuples(st.just("ingest"), st.dictionaries(st.sampled_from("abc"), st.integers(0, 3), min_size=1)),
    st.tuples(st.just("delete"), st.sets(st.sampled_from("abc"), min_size=1)),
    st.tuples(st.just("compact"), st.none()),
    st.tuples(st.just("undo"), st.integers(0, 20)),
    st.tuples(st.just("undo"), st.integers(0, 20)),
)


class File(NamedTuple):
    """What a table has of a file: its numbers, and the content that counts as known."""

    numbers: tuple[int, ...] = ()
    known: tuple[int, ...] | None = None


class Event(NamedTuple):
    """A commit: what it changed, by file: before and after."""

    run: str
    changed: dict[str, tuple[File, File]]
    undoes: str = ""


@dataclass
class Told:
    """The story, told to a dict."""

    replaces: bool
    files: dict[str, File] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)

    def change(self, run: str, new: dict[str, File], undoes: str = "") -> None:
        self.events.append(Event(run, {name: (self.files.get(name, File()), to) for name, to in new.items()}, undoes))
        self.files |= new

    def ingest(self, run: str, contents: dict[str, tuple[int, ...]]) -> None:
        new = {}
        for name, content in contents.items():
            before = self.files.get(name, File())
            if before.known != content:
                new[name] = File(content if self.replaces else before.numbers + content, content)
        if new:
            self.change(run, new)

    def delete(self, run: str, names: set[str]) -> None:
        gone = {name: File() for name in names if self.files.get(name, File()).known is not None}
        if gone:
            self.change(run, gone)

    def standing(self) -> list[Event]:
        """The events without pairs of an event and its undo."""
        left = list(self.events)
        while undos := [event for event in left if event.undoes]:
            left.remove(undos[-1])
            left = [event for event in left if event.run != undos[-1].undoes]
        return left

    def undoable(self, run: str) -> dict[str, File] | None:
        """What comes back; None if a later event is in the way; nothing if it is undone already."""
        undone = {event.run for event in self.events} - {e.run for e in self.standing()}
        (place,) = [i for i, event in enumerate(self.events) if event.run == run]
        event = self.events[place]
        active = bool(event.undoes) and not self.cancelled(run)
        if run in undone and not active:
            return {}
        later = [e for e in self.events[place + 1 :] if e in self.standing()]
        if any(event.changed.keys() & e.changed.keys() for e in later):
            return None
        return {name: before for name, (before, _) in event.changed.items()}

    def cancelled(self, run: str) -> bool:
        """Tell whether an undo of a run counts no more."""
        left = list(self.events)
        while undos := [event for event in left if event.undoes]:
            if undos[-1].undoes == run:
                return True
            if undos[-1].run == run:
                return False
            left.remove(undos[-1])
            left = [event for event in left if event.run != undos[-1].undoes]
        return False


def rows(world: World, as_of: Any = None) -> Counter[tuple[str, int]]:
    table = Lake(world.settings).table("small", as_of).arrow()
    pairs = zip(table["_source"].to_pylist(), table["n"].to_pylist(), strict=True) if table.num_rows else ()
    return Counter((uri.rsplit("/", 1)[1][0], n) for uri, n in pairs)


def told_rows(files: dict[str, File]) -> Counter[tuple[str, int]]:
    return Counter((name, n) for name, file in files.items() for n in file.numbers if n != 13 and n < 1000)


def last_run(world: World) -> str:
    return TransactionLog(world.store, "default", "small").history()[-1].run


def play(world: World, told: Told, number: int, step: tuple[str, Any]) -> None:
    """Do a step to the lake and to the dict."""
    kind, what = step
    if kind == "ingest":
        contents = {name: tuple(CONTENTS[content]) for name, content in what.items()}
        world.ingest([world.put(f"{name}.csv", numbers) for name, numbers in contents.items()], run=f"r{number}")
        told.ingest(f"r{number}", contents)
    elif told.events and kind == "delete":
        names = {name for name in what if name in told.files}
        if names:
            done = delete([f"{world.folder}/sources/{name}.csv" for name in names], world.context())
            told.delete(last_run(world) if done[0].sources else "", names)
    elif told.events and kind == "compact":
        compact("small", world.context())
    elif told.events and kind == "undo":
        run = told.events[what % len(told.events)].run
        back = told.undoable(run)
        if back is None:
            with pytest.raises(TerminalError) as raised:
                undo(run, world.context())
            assert raised.value.code == "later_changes"
        else:
            (done,) = undo(run, world.context())
            assert bool(done.sources) == bool(back)
            if back:
                told.change(last_run(world), back, undoes=run)


@settings(max_examples=examples(40), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(STEP, min_size=3, max_size=9), replaces=st.booleans())
def test_any_order_is_what_a_dict_says(tmp_path_factory, redis_url, steps, replaces):
    world = World(tmp_path_factory.mktemp("story"), redis_url, "replace" if replaces else "append")
    told, log = Told(replaces), TransactionLog(world.store, "default", "small")
    states = {}
    for number, step in enumerate(steps):
        play(world, told, number, step)
        if told.events:
            assert rows(world) == told_rows(told.files)
            states[log.tip()] = told_rows(told.files)
    for number, state in states.items():
        assert rows(world, number) == state
    assert reconcile(world.context().lake).clean
    known = {name: file.known for name, file in told.files.items() if file.known is not None}
    for name, content in known.items():
        statuses = [o.status for o in world.ingest([world.put(f"{name}.csv", content)], run="again").outcomes]
        assert statuses == ["unchanged"]
