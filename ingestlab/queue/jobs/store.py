"""Jobs in Redis, for brokers that only carry messages: identity, states, delays, tries and endings.

A job is a hash, and a member of the sorted set of its queue that its status names. One script makes every change, so
that both agree at any time. With each way into `queued` a job gets a new *turn*, which goes with its message: what
comes twice, late or after a cancellation starts nothing. `unsent` holds the turns of which no broker has confirmed
the message yet.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import redis

from ingestlab.core.jobs import ENDED, Job, JobNotes, JobStatus
from ingestlab.core.settings import Settings
from ingestlab.queue.job_records import FIELDS, fields_of, read_notes, write_notes
from ingestlab.queue.reading import ask_each

QUEUES = "ingestlab:jobs:queues"
_AT_ONCE = 100  # jobs of one look
_TIMES = ("queued", "began", "ended")
_FIELDS = ("status", "queue", "description", "meta", "worker", *_TIMES)
# Gives whether it has moved the job, and the status that it had. The clock is that of Redis, for all machines.
_MOVE = """
local a, job, clock = cjson.decode(ARGV[1]), KEYS[1], redis.call('TIME')
local now = clock[1] + clock[2] / 1000000
local status, queue, turn = unpack(redis.call('HMGET', job, 'status', 'queue', 'turn'))
local before, set = status or 'unknown', 'ingestlab:jobs:'
local fits = false
for _, name in ipairs(a.from) do fits = fits or name == before end
if a.turn and a.turn ~= turn then fits = false end
if fits and a.lapsed then
  local score = redis.call('ZSCORE', set .. queue .. ':' .. before, a.job)
  fits = score and tonumber(score) <= now
end
local sending = (turn or '') .. ' ' .. a.job
if fits and a.unsent then fits = redis.call('ZSCORE', set .. queue .. ':unsent', sending) end
if not fits then return {0, before} end
if status then
  redis.call('ZREM', set .. queue .. ':' .. before, a.job)
  redis.call('ZREM', set .. queue .. ':unsent', sending)
end
if a.fresh then redis.call('DEL', job, KEYS[2]) end
if a.to == 'unknown' then return {1, before} end
queue = a.set.queue or queue
for name, value in pairs(a.set) do redis.call('HSET', job, name, value) end
for _, name in ipairs(a.drop) do redis.call('HDEL', job, name) end
for _, name in ipairs(a.stamp) do redis.call('HSET', job, name, string.format('%.6f', now)) end
redis.call('HSET', job, 'status', a.to)
redis.call('ZADD', set .. queue .. ':' .. a.to, string.format('%.6f', now + a.delay), a.job)
redis.call('SADD', KEYS[3], queue)
if a.to == 'queued' then redis.call('ZADD', set .. queue .. ':unsent', now, a.set.turn .. ' ' .. a.job) end
if a.keep then
  redis.call('XADD', KEYS[2], 'MAXLEN', 1, '*', 'status', a.to)
  local seconds = math.max(1, tonumber(redis.call('HGET', job, a.keep) or 3600))
  redis.call('EXPIRE', job, seconds)
  redis.call('EXPIRE', KEYS[2], seconds)
else
  redis.call('PERSIST', job)
end
return {1, before}
"""
_NOTE = """
if redis.call('HGET', KEYS[1], 'turn') ~= ARGV[1] then return 0 end
for i = 2, #ARGV, 2 do redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
return 1
"""


@dataclass(frozen=True)
class Turn:
    """A job's way through its queue, once."""

    job: str
    queue: str
    turn: str


@dataclass(frozen=True)
class Taken:
    """A turn that has begun.

    Attributes:
        turn: Whose it is.
        message: What is asked, as plain data.
        retry_after: Seconds to the next try after a passing failure; None if this is the last.
        timeout: Seconds that it may take.
        notes: What is known of the job.
    """

    turn: Turn
    message: Any
    retry_after: float | None
    timeout: int
    notes: JobNotes


def job_key(job: str) -> str:
    """Name the hash of a job."""
    return f"ingestlab:job:{job}"


def ended_key(job: str) -> str:
    """Name the stream that tells of a job's ends."""
    return f"ingestlab:job:{job}:ended"


def set_key(queue: str, name: str) -> str:
    """Name the sorted set of a queue's jobs of one status."""
    return f"ingestlab:jobs:{queue}:{name}"


class JobStore:
    """Changes and reads the jobs of all queues.

    Args:
        client: Of Redis.
    """

    def __init__(self, client: redis.Redis) -> None:
        self.client = client

    # Changes

    def create(
        self, queue: str, job: str, message: Any, settings: Settings, notes: JobNotes, description: str
    ) -> tuple[Turn, bool]:
        """Queue a job, unless it is queued or running.

        Args:
            queue: Its name.
            job: Its id.
            message: What is asked, as plain data.
            settings: Say how often it is tried, how long it may take, and how long it is kept.
            notes: What is known of it.
            description: One line for people.

        Returns:
            Its turn, with an empty name where it is not this queue's to begin, and whether it is new.
        """
        turn = Turn(job, queue, secrets.token_hex(8))
        fields = {
            "queue": queue,
            "turn": turn.turn,
            "message": json.dumps(message),
            "description": description,
            "meta": json.dumps(notes),
            "delays": json.dumps(settings.retry_delays),
            "tries": "0",
            "timeout": str(settings.job_timeout),
            "result_ttl": str(settings.result_ttl),
            "failure_ttl": str(settings.failure_ttl),
        }
        new = self._move(job, ("unknown", *ENDED), "queued", fields, stamp=("queued",), fresh=True)
        return turn, new

    def unsent(self, job: str) -> Turn | None:
        """Give a queued job's turn if no broker has confirmed its message."""
        queue, turn = map(_text, self.client.hmget(job_key(job), "queue", "turn"))
        waits = self.client.zscore(set_key(queue, "unsent"), f"{turn} {job}") is not None
        return Turn(job, queue, turn) if waits else None

    def sent(self, turn: Turn) -> None:
        """Note that the broker has a turn's message."""
        self.client.zrem(set_key(turn.queue, "unsent"), f"{turn.turn} {turn.job}")

    def withdraw(self, turn: Turn) -> bool:
        """Forget a job of which no message was sent."""
        return self._move(turn.job, ("queued",), "unknown", turn=turn.turn, fresh=True, unsent=True)

    def begin(self, turn: Turn, worker: str, silence: float) -> Taken | None:
        """Take a queued job to run it. None if it does not wait, or not for this message.

        Args:
            turn: As the message names it.
            worker: Who takes it.
            silence: Seconds without a beat after which others get it.
        """
        fields = {"worker": worker}
        if not self._move(
            turn.job, ("queued",), "running", fields, turn=turn.turn, stamp=("began",), delay=silence, drop=("ended",)
        ):
            return None
        raw: Any = self.client.hgetall(job_key(turn.job))
        delays, tries = json.loads(raw[b"delays"]), int(raw[b"tries"])
        return Taken(
            turn=Turn(turn.job, _text(raw[b"queue"]), turn.turn),
            message=json.loads(raw[b"message"]),
            retry_after=float(delays[tries]) if tries < len(delays) else None,
            timeout=int(raw[b"timeout"]),
            notes=read_notes(raw, json.loads(raw[b"meta"])),
        )

    def beat(self, turn: Turn, silence: float) -> bool:
        """Keep a running job for some more seconds. False if it is another one's by now."""
        return self._move(turn.job, ("running",), "running", turn=turn.turn, delay=silence)

    def finish(self, turn: Turn, result: Mapping[str, Any]) -> bool:
        """End a job well. False if it was another one's by then, as for the next two."""
        return self._end(turn, "finished", "result_ttl", {"result": json.dumps(result), "traceback": ""})

    def fail(self, turn: Turn, traceback: str, *, lapsed: bool = False) -> bool:
        """End a job badly; with `lapsed` only if its worker is silent."""
        fields = {"traceback": traceback, "result": ""}
        return self._end(turn, "failed", "failure_ttl", fields, lapsed=lapsed)

    def postpone(self, turn: Turn, seconds: float, *, counts: bool) -> bool:
        """Have a running job tried again.

        Args:
            turn: Of which it runs.
            seconds: From now.
            counts: Whether this was one of its tries.
        """
        if counts:
            tries = int(_text(self.client.hget(job_key(turn.job), "tries")) or 0)
            fields = {"tries": str(tries + 1)}
        else:
            fields = {}
        return self._move(
            turn.job, ("running",), "retrying", fields, turn=turn.turn, stamp=("ended",), delay=max(0.0, seconds)
        )

    def requeue(self, job: str, status: JobStatus, *, lapsed: bool = False, **fields: str) -> Turn | None:
        """Queue a known job once more.

        Args:
            job: Its id.
            status: In which it must be.
            lapsed: Whether its time there must be over.
            **fields: To set.

        Returns:
            Its new turn; None if it was in another state.
        """
        queue, turn = _text(self.client.hget(job_key(job), "queue")), secrets.token_hex(8)
        moved = self._move(job, (status,), "queued", {"turn": turn, **fields}, lapsed=lapsed, drop=("worker",))
        return Turn(job, queue, turn) if moved else None

    def cancel(self, job: str) -> bool:
        """Take a job off that waits, also for its next try."""
        return self._move(job, ("queued", "retrying"), "canceled", {}, stamp=("ended",), keep="failure_ttl")

    def ask_to_stop(self, job: str) -> bool:
        """Ask the worker that runs a job to stop this try."""
        turn = _text(self.client.hget(job_key(job), "turn"))
        score = self.client.zscore(set_key(_text(self.client.hget(job_key(job), "queue")), "running"), job)
        return score is not None and bool(
            self.client.eval(_NOTE, 1, job_key(job), turn, "stop", turn)  # for that turn alone
        )

    def note(self, job: str, notes: JobNotes) -> None:
        """Note something of a job, whoever has it."""
        write_notes(self.client, job_key(job), notes)

    def note_of(self, turn: Turn, notes: JobNotes) -> None:
        """Note something of a job, while this turn has it."""
        pairs = [text for pair in fields_of(notes).items() for text in pair]
        self.client.eval(_NOTE, 1, job_key(turn.job), turn.turn, *pairs)

    def stopped(self, turn: Turn) -> str | None:
        """Give who has asked to stop this turn; None if nobody."""
        answers: Any = self.client.hmget(job_key(turn.job), "stop", *FIELDS)
        stop, *noted = answers
        if stop is None or _text(stop) != turn.turn:
            return None
        return read_notes(dict(zip(map(str.encode, FIELDS), noted, strict=True)), None).get("cancelled") or ""

    def trim(self, queue: str, most: int) -> None:
        """Forget the oldest ended jobs of a queue.

        Args:
            queue: Its name.
            most: Of each kind of end to keep.
        """
        for status in ENDED:
            key = set_key(queue, status)
            surplus = self.client.zcard(key) - most
            oldest = [_text(job) for job in self.client.zrange(key, 0, _AT_ONCE - 1)]
            for place, job in enumerate(oldest):
                if place < surplus:
                    self._move(job, (status,), "unknown", fresh=True)
                elif not self.client.exists(job_key(job)):
                    self.client.zrem(key, job)

    def _end(
        self, turn: Turn, status: JobStatus, keep: str, fields: Mapping[str, str], *, lapsed: bool = False
    ) -> bool:
        return self._move(
            turn.job, ("running",), status, fields, turn=turn.turn, stamp=("ended",), keep=keep, lapsed=lapsed
        )

    def _move(
        self,
        job: str,
        origins: Sequence[str],
        status: str,
        fields: Mapping[str, str] | None = None,
        *,
        turn: str | None = None,
        stamp: Sequence[str] = (),
        drop: Sequence[str] = (),
        delay: float = 0.0,
        keep: str | None = None,
        **flags: bool,
    ) -> bool:
        """Change a job's status, if it has one of these."""
        change = {"job": job, "from": origins, "to": status, "delay": delay, "set": fields or {}, "stamp": stamp}
        change |= {"drop": drop, **flags} | ({"turn": turn} if turn else {}) | ({"keep": keep} if keep else {})
        moved, _ = self.client.eval(_MOVE, 3, job_key(job), ended_key(job), QUEUES, json.dumps(change))
        return bool(moved)

    # Reading

    def now(self) -> float:
        """Tell the time of Redis, which all deadlines are in."""
        seconds, micros = self.client.time()
        return float(seconds) + micros / 1e6

    def members(self, queue: str, name: str, until: float | None = None, most: int = _AT_ONCE) -> list[str]:
        """List the jobs of one status, the earliest first.

        Args:
            queue: Its name.
            name: The status, or `unsent`.
            until: Only those whose time there is over by then.
            most: How many.
        """
        limit = "+inf" if until is None else until
        return [_text(job) for job in self.client.zrangebyscore(set_key(queue, name), "-inf", limit, 0, most)]

    def count(self, queue: str, name: str) -> int:
        """Count the jobs of one status."""
        return int(self.client.zcard(set_key(queue, name)))

    def queues(self) -> set[str]:
        """Name all queues."""
        return {_text(name) for name in self.client.smembers(QUEUES)}

    def jobs(self, ids: Iterable[str]) -> dict[str, Job]:
        """Read the jobs that are still known, by id."""
        names = list(ids)
        answers = ask_each(self.client, names, lambda pipe, job: pipe.hmget(job_key(job), (*_FIELDS, *FIELDS)))
        return {job: _job(job, values) for job, (values,) in zip(names, answers, strict=True) if values[0]}

    def fields(self, job: str, *names: str) -> list[str]:
        """Read some fields of a job; empty texts for an unknown one."""
        return [_text(value) for value in self.client.hmget(job_key(job), *names)]


def _job(job: str, values: Sequence[bytes | None]) -> Job:
    status, queue, description, meta, worker, queued, began, ended = map(_text, values[: len(_FIELDS)])
    noted = dict(zip(map(str.encode, FIELDS), values[len(_FIELDS) :], strict=True))
    return Job(
        id=job,
        queue=queue,
        status=status,  # type: ignore[arg-type] # the script writes no other
        description=description or job,
        notes=read_notes(noted, json.loads(meta or "{}")),
        queued=_time(queued),
        began=_time(began),
        ended=_time(ended),
        worker=worker,
    )


def _time(value: str) -> datetime | None:
    return datetime.fromtimestamp(float(value), UTC) if value else None


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value or ""
