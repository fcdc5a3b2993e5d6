"""What Redis knows of queues, jobs and workers: RQ's keys, read in few and bounded round trips."""

from __future__ import annotations

import json
import zlib
from base64 import b64decode
from collections import Counter, OrderedDict
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import redis

from ingestlab.core.errors import UndecodableJobError
from ingestlab.core.jobs import Listener
from ingestlab.queue.monitor import WORKERS, Job, Queue
from ingestlab.queue.rq.listeners import read_listener
from ingestlab.queue.rq.serializer import JobSerializer
from ingestlab.queue.rq.view import error_in

AHEAD = 1000  # waiting jobs of a queue whose tenants are looked up
LOOKUPS = 500  # tenants at a time
KEPT = 50_000
JOB_FIELDS = ("status", "meta", "started_at", "ended_at", "origin", "description")
REGISTRIES = {"running": "wip", "retrying": "scheduled", "finished": "finished", "failed": "failed"}


class RqMonitor:
    """See :class:`ingestlab.queue.monitor.Monitor`."""

    def __init__(self, client: redis.Redis) -> None:
        self._client, self._tenants = client, Tenants()

    def names(self) -> tuple[list[str], list[str]]:
        """The names of all queues, and the keys of all workers."""
        return read_names(self._client)

    def queues(self, names: Sequence[str], last: int) -> list[Queue]:
        """The states of queues, with so many ended jobs each."""
        return read_queues(self._client, names, last)

    def jobs(self, ids: Iterable[str]) -> list[Job]:
        """The jobs that are still there."""
        return read_jobs(self._client, ids)

    def results(self, ids: Sequence[str]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        """For each job, its return value, and the error that it has left."""
        return [(value, error_in(words).to_dict()) for value, words in read_results(self._client, ids)]

    def workers(self, keys: Sequence[str]) -> list[Listener]:
        """The workers that are registered."""
        return read_workers(self._client, keys)

    def tenants(self, queues: Iterable[Queue]) -> dict[str, Counter[str]]:
        """Waiting jobs by queue and tenant."""
        return self._tenants.count(self._client, queues)


def read_names(client: redis.Redis) -> tuple[list[str], list[str]]:
    """The names of all queues, and the keys of all workers."""
    with client.pipeline(transaction=False) as pipe:
        pipe.smembers("rq:queues")
        pipe.smembers("rq:workers")
        queues, workers = pipe.execute()
    return sorted(_text(key).removeprefix("rq:queue:") for key in queues), sorted(map(_text, workers))


def read_queues(client: redis.Redis, names: Sequence[str], last: int) -> list[Queue]:
    """The states of queues; `last` is how many ended jobs are listed for each."""
    with client.pipeline(transaction=False) as pipe:
        for name in names:
            pipe.llen(f"rq:queue:{name}")
            pipe.lrange(f"rq:queue:{name}", 0, AHEAD - 1)
            for registry in (*REGISTRIES.values(), "canceled"):
                pipe.zcard(f"rq:{registry}:{name}")
            pipe.zrange(f"rq:wip:{name}", 0, WORKERS - 1)
            pipe.zrange(f"rq:scheduled:{name}", 0, WORKERS - 1)
            for registry in ("finished", "failed"):
                pipe.zrange(f"rq:{registry}:{name}", 0, last - 1, desc=True, withscores=True)
        answers = pipe.execute()
    each = len(answers) // max(1, len(names))
    return [_queue(name, answers[i * each : (i + 1) * each]) for i, name in enumerate(names)]


def read_jobs(client: redis.Redis, ids: Iterable[str]) -> list[Job]:
    """The jobs that are still there."""
    wanted = list(dict.fromkeys(ids))
    with client.pipeline(transaction=False) as pipe:
        for job in wanted:
            pipe.hmget(f"rq:job:{job}", JOB_FIELDS)
        answers = pipe.execute()
    return [_job(job, values) for job, values in zip(wanted, answers, strict=True) if values[0]]


def read_results(client: redis.Redis, ids: Sequence[str]) -> list[tuple[dict[str, Any], str]]:
    """For each job, its return value and the last line of its traceback; empty where there is none."""
    with client.pipeline(transaction=False) as pipe:
        for job in ids:
            pipe.xrevrange(f"rq:results:{job}", count=1)
        answers = pipe.execute()
    return [_result(dict(entries[0][1]) if entries else {}) for entries in answers]


def read_workers(client: redis.Redis, keys: Sequence[str]) -> list[Listener]:
    """The workers that are registered, but for those that ended on this machine."""
    with client.pipeline(transaction=False) as pipe:
        for key in keys[:WORKERS]:
            pipe.hgetall(key)
        answers = pipe.execute()
    found = [
        read_listener(key.removeprefix("rq:worker:"), {_text(k): _text(v) for k, v in fields.items()})
        for key, fields in zip(keys, answers, strict=False)
        if fields and b"death" not in fields
    ]
    return [worker for worker in found if not worker.gone]


class Tenants:
    """Whose the waiting jobs are. A job's id is made from its request, so that each is asked once."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, str] = OrderedDict()

    def count(self, client: redis.Redis, queues: Iterable[Queue]) -> dict[str, Counter[str]]:
        """Waiting jobs by queue and tenant; those not asked yet are left out, and asked the next times."""
        ahead = {queue.name: queue.ahead for queue in queues}
        unknown = [job for jobs in ahead.values() for job in jobs if job not in self._known][:LOOKUPS]
        with client.pipeline(transaction=False) as pipe:
            for job in unknown:
                pipe.hmget(f"rq:job:{job}", "meta", "data")
            answers = pipe.execute()
        self._known.update((job, _tenant(*found)) for job, found in zip(unknown, answers, strict=True))
        while len(self._known) > KEPT:
            self._known.popitem(last=False)
        return {name: Counter(self._known[job] for job in jobs if job in self._known) for name, jobs in ahead.items()}


def _queue(name: str, answers: list[Any]) -> Queue:
    waiting, ahead, running, retrying, finished, failed, canceled, at_work, scheduled, *ended = answers
    states = {"running": running, "retrying": retrying, "finished": finished, "failed": failed, "canceled": canceled}
    return Queue(
        name=name,
        waiting=waiting,
        counts=states,
        ahead=tuple(map(_text, ahead)),
        at_work=tuple(_text(key).partition(":")[0] for key in at_work),  # RQ adds the execution's id
        retrying=tuple(map(_text, scheduled)),
        ended={_text(job): float(score) for registry in ended for job, score in registry},
    )


def _job(job: str, values: Sequence[bytes | None]) -> Job:
    status, meta, began, ended, queue, description = values
    return Job(
        id=job,
        queue=_text(queue or b""),
        status=_text(status or b""),
        began=_time(began),
        ended=_time(ended),
        description=_text(description or b""),
        meta=_plain(meta),
    )


def _tenant(meta: bytes | None, data: bytes | None) -> str:
    if said := _plain(meta).get("tenant"):
        return str(said)
    try:  # producers in other languages write no meta
        _name, _instance, args, _kwargs = JobSerializer.loads(zlib.decompress(data or b""))
        return str(args[0].get("tenant", "default"))
    except (UndecodableJobError, zlib.error, ValueError, TypeError, LookupError, AttributeError):
        return "?"  # no job of ours


def _result(fields: dict[bytes, bytes]) -> tuple[dict[str, Any], str]:
    value = _plain(b64decode(fields.get(b"return_value", b"")))
    trace = fields.get(b"exc_string", b"")
    lines = zlib.decompress(b64decode(trace)).decode(errors="replace").strip().splitlines() if trace else []
    return value, lines[-1] if lines else ""


def _plain(data: bytes | None) -> dict[str, Any]:
    """A dict that was written by our serializer; empty where it is something else."""
    try:
        found = JobSerializer.loads(data) if data else {}
    except (UndecodableJobError, UnicodeDecodeError, json.JSONDecodeError):
        return {}
    return found if isinstance(found, dict) else {}


def _time(value: bytes | None) -> float | None:
    if not value:
        return None
    found = datetime.fromisoformat(_text(value))
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def _text(value: bytes | str) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value
