"""Syncs by the clock: kept in Redis, and run by one worker, whichever comes first.

A schedule's next moment is its score in a sorted set. Who finds it past sets the next one, counted from now, and only
if nobody else has: so one worker runs it, and of all that was missed while none was there, one run is made up.

Who runs a schedule holds a lock that ends with the worker. What was begun, and whose lock has ended, was not finished:
another worker runs it again. While the lock stands the schedule is not begun a second time.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import redis
from croniter import croniter
from pydantic import Field, ValidationError

from ingestlab.core.access import shown
from ingestlab.core.errors import IngestError, TerminalError, did_you_mean
from ingestlab.core.listening import absolute
from ingestlab.core.models import NAME, Value, digest
from ingestlab.core.settings import Settings
from ingestlab.queue.arrival.sync import sync
from ingestlab.queue.heart import keep_doing

log = logging.getLogger("ingestlab.queue.arrival")

LOOK_EVERY = 5.0  # seconds between two looks for what is due
_DUE, _ALL, _LAST = "ingestlab:schedules:due", "ingestlab:schedules", "ingestlab:schedules:last"
_BEGUN, _LOCK = "ingestlab:schedules:begun", "ingestlab:schedules:lock:{}"
_CLAIM = """
if redis.call('ZSCORE', KEYS[1], ARGV[1]) == ARGV[2] and redis.call('SET', KEYS[3], ARGV[4], 'NX', 'PX', ARGV[5]) then
  redis.call('ZADD', KEYS[1], ARGV[3], ARGV[1])
  redis.call('SADD', KEYS[2], ARGV[1])
  return 1
end
return 0
"""
_ADOPT = """
if redis.call('SISMEMBER', KEYS[1], ARGV[1]) == 1 and redis.call('SET', KEYS[2], ARGV[2], 'NX', 'PX', ARGV[3]) then
  return 1
end
return 0
"""
_RENEW = "return redis.call('GET', KEYS[1]) == ARGV[1] and redis.call('PEXPIRE', KEYS[1], ARGV[2]) or 0"
_FINISH = """
if redis.call('GET', KEYS[2]) == ARGV[2] then
  redis.call('SREM', KEYS[1], ARGV[1])
  redis.call('DEL', KEYS[2])
end
"""


class Schedule(Value):
    """A sync that is run by the clock.

    Fields beside the first two are those of :func:`ingestlab.queue.sync`.
    """

    cron: str  # minute, hour, day, month, day of the week
    zone: str = "UTC"  # in which its times are meant
    folder: str
    match: str = "*"
    pipeline: str | None = Field(None, pattern=NAME)
    table: str | None = Field(None, pattern=NAME)
    tenant: str | None = Field(None, pattern=NAME)
    queue: str | None = Field(None, pattern=NAME)
    keep_vanished: bool = False
    max_vanish_ratio: float | None = Field(None, ge=0, le=1)

    @property
    def id(self) -> str:
        """Name it by what it says: the same added twice is one."""
        return digest(self.model_dump(mode="json"))[:8]

    def next(self, now: float) -> int:
        """Compute its next moment after `now`, both in seconds since the epoch."""
        start = datetime.fromtimestamp(now, UTC).astimezone(ZoneInfo(self.zone))
        return int(croniter(self.cron, start).get_next(float))


class Scheduled(Value):
    """A schedule as it stands.

    Attributes:
        schedule: What is run.
        due: When next, in seconds since the epoch.
        last: How it ended last; empty if it never ran.
    """

    schedule: Schedule
    due: float
    last: str = ""


def add(schedule: Schedule, client: redis.Redis, now: float | None = None) -> Scheduled:
    """Keep a schedule. One that is there stays as it is.

    Args:
        schedule: What is to be run.
        client: The Redis of the queue.
        now: Seconds since the epoch; the clock's if not given.

    Raises:
        TerminalError: Its times or its zone mean nothing.
    """
    try:
        ZoneInfo(schedule.zone)
    except (ZoneInfoNotFoundError, ValueError) as error:
        fix = "Name one such as Europe/Berlin, or UTC."
        raise TerminalError(f"There is no time zone '{schedule.zone}'", fix=fix, code="argument_invalid") from error
    if len(schedule.cron.split()) != 5 or not croniter.is_valid(schedule.cron):
        raise TerminalError(
            f"Not the times of a schedule: '{schedule.cron}'",
            expected="minute, hour, day, month and day of the week, e.g. '0 * * * *' for every hour",
            fix="Quote all five as one text.",
            code="argument_invalid",
        )
    schedule = schedule.model_copy(update={"folder": absolute(schedule.folder)})  # workers are elsewhere
    client.hset(_ALL, schedule.id, schedule.model_dump_json())
    client.zadd(_DUE, {schedule.id: schedule.next(time.time() if now is None else now)}, nx=True)
    return next(s for s in schedules(client) if s.schedule.id == schedule.id)


def remove(name: str, client: redis.Redis) -> None:
    """Forget a schedule.

    Args:
        name: Its id.
        client: The Redis of the queue.

    Raises:
        TerminalError: There is none of this name.
    """
    if not client.hdel(_ALL, name):
        known = [s.schedule.id for s in schedules(client)]
        fix = did_you_mean(name, known, "`ingestlab schedule list` shows them.")
        raise TerminalError(f"There is no schedule '{name}'", fix=fix, code="argument_invalid")
    client.zrem(_DUE, name)
    client.srem(_BEGUN, name)
    client.hdel(_LAST, name)


def schedules(client: redis.Redis) -> list[Scheduled]:
    """List all schedules, those that are due first.

    Args:
        client: The Redis of the queue.
    """
    pairs: Any = client.zrange(_DUE, 0, -1, withscores=True)
    due = {_text(name): float(score) for name, score in pairs}
    last = {_text(name): _text(said) for name, said in client.hgetall(_LAST).items()}
    known = dict(_known(client))
    there = (Scheduled(schedule=known[n], due=at, last=last.get(n, "")) for n, at in due.items() if n in known)
    return sorted(there, key=lambda scheduled: scheduled.due)


def run_due(settings: Settings, client: redis.Redis, now: float | None = None) -> int:
    """Run what is due, unless another worker does.

    Gives how many it were.

    Args:
        settings: Those of the worker.
        client: The Redis of the queue.
        now: Seconds since the epoch; the clock's if not given.
    """
    at, count = time.time() if now is None else now, 0
    begun = {_text(name) for name in client.smembers(_BEGUN)}
    for scheduled in schedules(client):
        turn = _Turn(scheduled, settings, client)
        if (scheduled.due <= at and turn.claim(at)) or (scheduled.schedule.id in begun and turn.adopt()):
            with turn:
                client.hset(_LAST, scheduled.schedule.id, _run(scheduled.schedule, settings, at))
            count += 1
    return count


class _Turn:
    """One worker's right to run a schedule now. A context manager once it is had."""

    def __init__(self, scheduled: Scheduled, settings: Settings, client: redis.Redis) -> None:
        self._scheduled, self._id, self._client = scheduled, scheduled.schedule.id, client
        self._lock, self._token, self._ttl = _LOCK.format(self._id), uuid.uuid4().hex, int(settings.lock_ttl * 1000)
        self._done = threading.Event()
        self._thread = keep_doing(f"schedule {self._id}", self._done, self._ttl / 3000, self._renew)

    def claim(self, now: float) -> bool:
        """Take a schedule that is due, unless another worker has it."""
        arguments = self._id, int(self._scheduled.due), self._scheduled.schedule.next(now), self._token, self._ttl
        return bool(self._client.eval(_CLAIM, 3, _DUE, _BEGUN, self._lock, *arguments))

    def adopt(self) -> bool:
        """Take one whose worker has died while it ran."""
        return bool(self._client.eval(_ADOPT, 2, _BEGUN, self._lock, self._id, self._token, self._ttl))

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *error: object) -> None:
        self._done.set()
        self._thread.join()
        self._client.eval(_FINISH, 2, _BEGUN, self._lock, self._id, self._token)

    def _renew(self) -> None:
        self._client.eval(_RENEW, 1, self._lock, self._token, self._ttl)


def _run(schedule: Schedule, settings: Settings, at: float) -> str:
    """Run one; gives how it ended."""
    moment = datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")
    options = schedule.model_dump(exclude={"cron", "zone", "folder"})
    try:
        said = str(sync(schedule.folder, settings=settings, **options))
    except IngestError as error:
        said = f"{shown(schedule.folder)}: {error}"
    except Exception:  # a worker lives on
        log.exception("schedule %s", schedule.id)
        said = f"{shown(schedule.folder)}: an unforeseen error, see the worker's log"
    log.info("schedule %s: %s", schedule.id, said)
    return f"{moment} {said}"


def _known(client: redis.Redis) -> Iterator[tuple[str, Schedule]]:
    for key, text in client.hgetall(_ALL).items():
        try:
            yield _text(key), Schedule.model_validate_json(text)
        except ValidationError as error:  # of a later version
            log.warning("schedule %s is passed over: %s", _text(key), error.errors()[0]["msg"])


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
