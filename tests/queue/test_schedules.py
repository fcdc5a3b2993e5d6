"""Syncs by the clock: one worker runs each, what was missed is made up once, and times are those of a zone."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime

import pytest
from support.lake import World
from support.workers import PATIENCE, environment, until

from ingestlab.core.errors import TerminalError
from ingestlab.queue import recent_runs
from ingestlab.queue.arrival.schedules import Schedule, add, remove, run_due, schedules
from ingestlab.stack.services import environment as environment_of

NOON = datetime(2026, 3, 28, 12, tzinfo=UTC).timestamp()
HOUR = 3600.0
STUCK = """
import sys, time
from ingestlab.core.settings import load_settings
from ingestlab.lake.locks import connect
from ingestlab.queue.arrival import schedules

def sync(*args, **options):
    print("begun", flush=True)
    time.sleep(3600)

schedules.sync = sync
settings = load_settings()
schedules.run_due(settings, connect(settings.redis), float(sys.argv[1]))
"""


@pytest.fixture
def world(tmp_path, redis_url):
    world = World(tmp_path, redis_url, "replace", executor="threads")
    world.put("a.csv", [1])
    return world


def hourly(world: World, **more: object) -> Schedule:
    return Schedule(cron="0 * * * *", folder=str(world.folder / "sources"), pipeline="small", **more)


def test_what_is_due_is_run_once_and_then_an_hour_later(world):
    kept = add(hourly(world), world.redis, NOON + 60)
    assert kept.due == NOON + HOUR
    assert run_due(world.settings, world.redis, NOON + HOUR - 1) == 0
    assert run_due(world.settings, world.redis, NOON + HOUR) == 1
    assert run_due(world.settings, world.redis, NOON + HOUR + 1) == 0
    (run,) = recent_runs(world.settings)
    assert (run.record.files, run.record.via) == (1, "sync")
    (scheduled,) = schedules(world.redis)
    assert scheduled.due == NOON + 2 * HOUR
    assert scheduled.last.startswith("2026-03-28T13:00:00+00:00")
    assert "1 new" in scheduled.last


def test_of_many_workers_one_runs_it(world):
    add(hourly(world), world.redis, NOON)
    ran: list[int] = []
    start = threading.Barrier(8)

    def work() -> None:
        start.wait()
        ran.append(run_due(world.settings, world.redis, NOON + HOUR))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(ran) == [0] * 7 + [1]


def test_what_was_missed_is_made_up_once(world):
    add(hourly(world), world.redis, NOON)
    assert run_due(world.settings, world.redis, NOON + 50.5 * HOUR) == 1
    assert run_due(world.settings, world.redis, NOON + 50.6 * HOUR) == 0
    assert schedules(world.redis)[0].due == NOON + 51 * HOUR


def test_what_a_killed_worker_has_begun_is_run_once_by_another(world):
    world.settings = world.settings.model_copy(update={"lock_ttl": 3.0})
    add(hourly(world), world.redis, NOON)
    command = [sys.executable, "-c", STUCK, str(NOON + HOUR)]
    env = {**environment(), **environment_of(world.settings)}
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout.readline() == "begun\n"
        lock = f"ingestlab:schedules:lock:{hourly(world).id}"
        token = world.redis.get(lock)
        left = [int(world.redis.pttl(lock))]
        until(lambda: left.append(int(world.redis.pttl(lock))) or left[-1] > left[-2], PATIENCE, "a renewed lock")
        assert run_due(world.settings, world.redis, NOON + HOUR + 1) == 0, "it is being run"
        assert run_due(world.settings, world.redis, NOON + 3 * HOUR) == 0, "and not begun beside it"
        assert world.redis.get(lock) == token
        worker.kill()
    assert recent_runs(world.settings) == []
    until(lambda: run_due(world.settings, world.redis, NOON + HOUR + 2), PATIENCE, "another that runs it")
    assert run_due(world.settings, world.redis, NOON + HOUR + 3) == 0
    (run,) = recent_runs(world.settings)
    assert run.record.files == 1
    assert schedules(world.redis)[0].due == NOON + 2 * HOUR


@pytest.mark.slow("workers look every five seconds")
def test_of_two_workers_one_makes_up_what_was_missed(ready):
    home = ready.folder / "by-the-clock"
    home.mkdir()
    (home / "a.csv").write_text("n,word\n1,a\n")
    kept = add(
        Schedule(cron="0 0 1 1 *", folder=str(home), pipeline="plain"), ready.client, time.time() - 400 * 24 * HOUR
    )
    assert kept.due < time.time()
    before = len(recent_runs(ready.settings))
    try:
        until(lambda: schedules(ready.client)[0].last, PATIENCE, "a worker that runs it")
        assert recent_runs(ready.settings)[0].wait(PATIENCE).count("committed") == 1
    finally:
        remove(kept.schedule.id, ready.client)
    assert len(recent_runs(ready.settings)) == before + 1


def test_times_are_those_of_the_zone_in_summer_too(world):
    daily = Schedule(cron="30 6 * * *", zone="Europe/Berlin", folder="/x")
    moments = [datetime.fromtimestamp(daily.next(NOON + day * 24 * HOUR), UTC) for day in range(2)]
    assert [f"{m:%d %H:%M}" for m in moments] == ["29 04:30", "30 04:30"], "the clock went forward on the 29th"
    assert f"{datetime.fromtimestamp(daily.next(NOON - 24 * HOUR), UTC):%d %H:%M}" == "28 05:30"


def test_the_same_schedule_twice_is_one(world):
    add(hourly(world), world.redis, NOON)
    add(hourly(world), world.redis, NOON + 10 * HOUR)
    assert [s.due for s in schedules(world.redis)] == [NOON + HOUR]


def test_an_error_is_told_and_the_next_time_comes(world):
    add(Schedule(cron="0 * * * *", folder=str(world.folder / "nowhere")), world.redis, NOON)
    assert run_due(world.settings, world.redis, NOON + HOUR) == 1
    (scheduled,) = schedules(world.redis)
    assert "no folder" in scheduled.last
    assert scheduled.due == NOON + 2 * HOUR


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"cron": "never"}, "minute, hour"),
        ({"cron": "0 25 * * *"}, "minute, hour"),
        ({"cron": "* * * * * *"}, "minute, hour"),
        ({"cron": "0 * * * *", "zone": "Mars/Base"}, "Mars/Base"),
    ],
)
def test_times_that_mean_nothing_are_refused(world, fields, word):
    with pytest.raises(TerminalError, match=word.partition(",")[0]):
        add(Schedule(folder="/x", **fields), world.redis)


def test_what_is_not_there_cannot_be_removed(world):
    kept = add(hourly(world), world.redis)
    with pytest.raises(TerminalError, match="no schedule"):
        remove("other", world.redis)
    remove(kept.schedule.id, world.redis)
    assert schedules(world.redis) == []


def test_the_commands(world, cli):
    env = {"REDIS_URL": world.settings.redis}
    added = cli("schedule", "add", "0 * * * *", "sync", world.folder / "sources", "--zone", "Europe/Berlin", **env)
    assert "next at" in added.stdout, added.stderr
    (listed,) = json.loads(cli("schedule", "list", "--json", **env).stdout)
    assert listed["schedule"]["zone"] == "Europe/Berlin"
    assert listed["id"] in cli("schedule", "list", **env).stdout
    assert cli("schedule", "remove", listed["id"], **env).returncode == 0
    assert f"sync {world.folder / 'here'}, next" in cli("schedule", "add", "0 * * * *", "sync", "here", **env).stdout
    (here,) = schedules(world.redis)
    assert here.schedule.folder == str(world.folder / "here"), "workers are in other folders"
    remove(here.schedule.id, world.redis)
    assert "No schedules" in cli("schedule", "list", **env).stdout
