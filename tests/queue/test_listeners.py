"""Listeners in sight: each tells Redis how it is, a dead one is seen, and what one puts aside is kept for people."""

from __future__ import annotations

import json
import threading
import time

import pytest
from support.lake import World
from support.workers import PATIENCE, until

from ingestlab.core.errors import TerminalError, TransientError
from ingestlab.core.models import SourceRecord
from ingestlab.interfaces import Message, Notice
from ingestlab.queue.arrival import listening, refusals
from ingestlab.queue.arrival.listening import Target, listen
from ingestlab.queue.arrival.refusals import Refused, refused_messages
from ingestlab.queue.arrival.status import ListenerStatus, known_listeners, listeners

BEAT = 0.05
WEEK = 7 * 24 * 3600


class Scripted:
    """A feed that does what a test says, turn by turn, and then waits."""

    name = "scripted://q"

    def __init__(self, *turns: list[Message] | Exception, enter: Exception | None = None) -> None:
        self.turns, self.trouble, self.lag = list(turns), enter, 7
        self.settled: list[str] = []
        self.idle, self.stop = threading.Event(), threading.Event()

    def __enter__(self):
        if trouble := self.trouble:
            self.trouble = None
            raise trouble
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def receive(self, seconds: float):
        if not self.turns:
            self.idle.set()
            self.stop.wait(seconds)
            return []
        turn = self.turns.pop(0)
        if isinstance(turn, Exception):
            raise turn
        return turn

    def settle(self, messages):
        self.settled += [message.handle for message in messages]

    def postpone(self, message, seconds):
        pass

    def refuse(self, message, reason):
        pass

    def keep(self, messages):
        pass

    def waiting(self):
        return self.lag


class Running:
    """A listener at work in a thread, until the block ends."""

    def __init__(
        self, feed: Scripted, world: World, target: Target | None = None, folders: tuple[str, ...] = ()
    ) -> None:
        self._feed, self._world, self._folders = feed, world, folders
        self._target = target or Target(pipeline="small")
        self._thread = threading.Thread(target=self._run)
        self.error: BaseException | None = None

    def _run(self) -> None:
        try:
            listen(self._feed, self._world.context(), self._target, self._feed.stop, self._folders)
        except TerminalError as error:
            self.error = error

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._feed.stop.set()
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()


@pytest.fixture
def world(tmp_path, redis_url, monkeypatch):
    monkeypatch.setattr(listening, "PAUSE", BEAT)
    world = World(tmp_path, redis_url, "replace", executor="threads", beat=BEAT, tenants=("default", "acme"))
    world.ingest([world.put("a.csv", [1, 2])])
    return world


def status(world: World) -> ListenerStatus:
    (found,) = listeners(world.redis)
    return found


def uri(world: World, name: str) -> str:
    return (world.folder / "sources" / name).as_uri()


def test_a_listener_tells_what_it_does_and_how_much_waits(world):
    (world.folder / "sources/gone.csv").unlink(missing_ok=True)
    there, late, bad = (
        Message("1", (Notice(uri(world, "a.csv")),)),
        Message("2", (Notice(uri(world, "late.csv")),)),
        Message("3", (), body="hello", problem="The message tells of no object: not JSON"),
    )
    feed = Scripted([there, late, bad])
    folder = str(world.folder / "sources")
    with Running(feed, world, folders=(folder,)):
        until(lambda: any(s.refused for s in listeners(world.redis)), PATIENCE, "its counts")
        told = status(world)
        assert (told.address, told.tenant, told.pipeline, told.folders) == (feed.name, "default", "small", (folder,))
        assert (told.submitted, told.postponed, told.refused, told.waiting) == (1, 1, 1, 7)
        assert told.since <= told.synced <= told.event <= told.beat
        assert "1 unchanged" in told.sync
        assert not told.gone
        assert told.said().startswith("7 waiting, last event ")
        feed.lag = 3
        until(lambda: status(world).waiting == 3, PATIENCE, "another lag")
    assert listeners(world.redis) == [], "it has ended as it was told to"


def test_a_dead_listener_is_seen_and_forgotten_when_another_takes_its_place(world):
    feed = Scripted()
    dead = ListenerStatus(
        name="listener-1", host="elsewhere", pid=1, address=feed.name, tenant="default",
        since=time.time() - 60, beat=time.time() - 30, every=5.0,
    )  # fmt: skip
    other = dead.model_copy(update={"address": "scripted://other", "name": "x"})
    for one in (dead, other):
        world.redis.hset("ingestlab:listeners", f"{one.name}@{one.host} {one.address}", one.model_dump_json())
    assert [s.gone for s in listeners(world.redis)] == [True, True]
    assert listeners(world.redis)[0].said().startswith("gone since")
    with Running(feed, world):
        until(lambda: [s.gone for s in listeners(world.redis)] == [True, False], PATIENCE, "one in its place")
    assert [s.address for s in listeners(world.redis)] == [other.address]


def test_a_listener_that_fails_stays_in_sight_with_its_error(world):
    with Running(Scripted(TerminalError("There is no queue q", code="not_found")), world) as running:
        until(lambda: running.error, PATIENCE, "its end")
    assert (status(world).gone, status(world).trouble) == (True, "There is no queue q")


@pytest.mark.parametrize("where", ["enter", "receive"])
def test_an_outage_is_sat_out_and_seen(world, where):
    away = TransientError("No answer from q", code="source_unavailable")
    there = Message("1", (Notice(uri(world, "a.csv")),))
    feed = Scripted([there], enter=away) if where == "enter" else Scripted(away, [there])
    with Running(feed, world):
        until(lambda: feed.settled, PATIENCE, "a message after the outage")
        until(lambda: status(world).event and not status(world).trouble, PATIENCE, "its recovery")
        assert status(world).error == "No answer from q"


def test_a_listener_in_trouble_says_so():
    now = time.time()
    options = {"host": "h", "pid": 1, "address": "a", "tenant": "t", "since": now, "beat": now, "every": 5.0}
    troubled = ListenerStatus(name="n", error="No answer", error_at=now, answer=now - 1, **options)
    assert troubled.trouble == "No answer"
    assert troubled.said().startswith("trouble since")


def test_what_is_put_aside_is_kept_with_reason_and_beginning_for_its_tenant(world):
    bad = Message("1", (), body="x" * 1000, problem="not JSON")
    forbidden = Message("2", (Notice("gopher://h/a.csv"),), tries=3)
    feed = Scripted([bad], [forbidden])
    with Running(feed, world, Target(pipeline="small", tenant="acme")):
        until(feed.idle.is_set, PATIENCE, "both messages")
    count, (last, first) = refused_messages(["default", "acme"], WEEK, world.redis)
    assert count == 2
    assert (first.tenant, first.address, first.tries, first.files) == ("acme", feed.name, 1, ())
    assert first.reason.startswith("not JSON")
    assert first.body == "x" * 500
    assert (last.files, last.tries) == (("gopher://h/a.csv",), 3)
    assert "gopher" in last.reason
    assert refused_messages(["default"], WEEK, world.redis) == (0, [])


def test_of_what_is_put_aside_the_last_ones_are_kept(world, monkeypatch):
    monkeypatch.setattr(refusals, "_KEPT", 3)

    def put(at: float, seconds: float = WEEK, body: str = "") -> None:
        message = Refused(at=at, tenant="default", address="q", reason="r", tries=1, body=body or str(at))
        refusals.keep(message, seconds, world.redis)

    now = time.time()
    for age in (50, 40, 30, 20):
        put(now - age)
    assert [round(now - m.at) for m in refused_messages(["default"], WEEK, world.redis)[1]] == [20, 30, 40]
    assert len(refused_messages(["default"], 35, world.redis)[1]) == 2
    put(now, seconds=25)
    assert refused_messages(["default"], WEEK, world.redis)[0] == 2, "the expired ones have gone"
    assert world.redis.hlen("ingestlab:refused:default:messages") == 2
    put(now + 1, body=str(now))
    count, messages = refused_messages(["default"], WEEK, world.redis)
    assert (count, round(messages[0].at - now)) == (2, 1), "what comes again is one"


def test_commands_show_listeners_and_what_they_put_aside(world, cli):
    feed = Scripted([Message("1", (), body="hello [b]", problem="not JSON")])
    env = {"REDIS_URL": world.settings.redis}
    with Running(feed, world):
        until(lambda: any(s.refused for s in listeners(world.redis)), PATIENCE, "its counts")
        shown = cli("status", **env).stdout
        assert feed.name in shown
        assert "no folder is named" in shown
        (told,) = json.loads(cli("status", "--json", **env).stdout)["listeners"]
        assert (told["waiting"], told["refused"], told["gone"]) == (7, 1, False)
    failed = cli("failed", **env).stdout
    assert "not JSON" in failed
    assert "hello [b]" in failed
    (message,) = json.loads(cli("failed", "--messages", "--json", **env).stdout)
    assert message["body"] == "hello [b]"
    assert json.loads(cli("failed", "--json", **env).stdout) == []


def test_without_redis_there_is_nothing_to_tell(world):
    away = world.settings.model_copy(update={"redis_url": "redis://127.0.0.1:1/0"})
    assert known_listeners(away, 0.2) is None


# What is removed, and no table has as a file


@pytest.fixture
def index(world):
    return world.context().table("default", "small").index


def scans(world: World) -> int:
    return int(world.redis.info("commandstats").get("cmdstat_hscan", {}).get("calls", 0))


def test_what_no_table_has_costs_one_look_however_long_the_index_is(world, index):
    index.ensure(world.context().table("default", "small").log.records)
    before = scans(world)
    names = [uri(world, f"{n}.part") for n in range(500)] + ["s3://b", "file:///", "x"]
    assert list(index.below(names)) == []
    assert scans(world) == before
    feed = Scripted([Message("1", tuple(Notice(name, removed=True) for name in names[:500]))])
    with Running(feed, world):
        until(feed.idle.is_set, PATIENCE, "the message")
    assert feed.settled == ["1"]
    assert scans(world) == before


@pytest.mark.parametrize("built", ["by jobs", "from the log"])
def test_a_folder_gives_its_files_and_the_members_of_its_archives(world, index, built):
    folder = "file:///data/a[1]*?b"
    inside = [f"{folder}/x.csv", f"{folder}/deep/y.csv", f"{folder}/z.zip", f"zip://m.csv::{folder}/z.zip"]
    outside = ["file:///data/a1x?b/x.csv", f"{folder}2/x.csv", "file:///data/x.csv"]
    template = next(iter(index.known([uri(world, "a.csv")]).values()))
    records = [template.model_copy(update={"uri": name}) for name in (*inside, *outside)]
    records = [r.model_copy(update={"members": ("zip://m.csv",)}) if r.uri.endswith("z.zip") else r for r in records]
    if built == "by jobs":
        index.record(records)
    else:
        index.forget()
        index.ensure(lambda: records)
    assert {r.uri for r in index.below([folder, f"{folder}/deep"])} == set(inside)
    assert {r.uri for r in index.below([f"{folder}/deep"])} == {inside[1]}
    assert all(isinstance(r, SourceRecord) for r in index.below(["file:///data"]))
