"""Queues, jobs and workers for the dashboard: RQ's keys, read in few and bounded round trips."""

from __future__ import annotations

import json
import zlib
from base64 import b64decode
from collections import Counter, OrderedDict
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import redis

from ingestlab.core.errors import IngestError, UndecodableJobError
from ingestlab.core.jobs import JobSnapshot, Listener, QueueSnapshot
from ingestlab.queue.job_records import FIELDS, read_notes
from ingestlab.queue.rq.listeners import read_listeners
from ingestlab.queue.rq.serializer import JobSerializer
from ingestlab.queue.rq.view import error_in

WORKERS = 64  # so many are read, and as many jobs that are running or to be tried again
AHEAD = 1000  # waiting jobs of a queue for which tenants are counted
LOOKUPS = 500  # tenants at a time
KEPT = 50_000
JOB_FIELDS = ("status", "meta", "started_at", "ended_at", "origin", "description")
REGISTRIES = {"running": "wip", "retrying": "scheduled", "finished": "finished", "failed": "failed"}


class RqMonitor:
    """See :class:`ingestlab.interfaces.Monitor`."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        # A job's id is made from its request, so that each is asked for its tenant once.
        self._tenants: OrderedDict[str, str] = OrderedDict()

    def names(self) -> tuple[list[str], list[str]]:
        """Name all queues, and the keys of all workers."""
        with self._client.pipeline(transaction=False) as pipe:
            pipe.smembers("rq:queues")
            pipe.smembers("rq:workers")
            queues, workers = pipe.execute()
        return sorted(_text(key).removeprefix("rq:queue:") for key in queues), sorted(map(_text, workers))

    def queues(self, names: Sequence[str], last: int) -> list[QueueSnapshot]:
        """Read queues, with at most `last` ended jobs of each kind."""
        with self._client.pipeline(transaction=False) as pipe:
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

    def jobs(self, ids: Iterable[str]) -> list[JobSnapshot]:
        """Read the jobs that are still known."""
        wanted = list(dict.fromkeys(ids))
        with self._client.pipeline(transaction=False) as pipe:
            for job in wanted:
                pipe.hmget(f"rq:job:{job}", (*JOB_FIELDS, *FIELDS))
            answers = pipe.execute()
        return [_job(job, values) for job, values in zip(wanted, answers, strict=True) if values[0]]

    def results(self, ids: Sequence[str]) -> list[tuple[dict[str, Any], IngestError]]:
        """Read each job's result and the error that it left."""
        with self._client.pipeline(transaction=False) as pipe:
            for job in ids:
                pipe.xrevrange(f"rq:results:{job}", count=1)
            answers = pipe.execute()
        return [_result(dict(entries[0][1]) if entries else {}) for entries in answers]

    def workers(self, keys: Sequence[str]) -> list[Listener]:
        """List the workers that are registered."""
        return read_listeners(self._client, keys[:WORKERS])

    def tenants(self, queues: Iterable[QueueSnapshot]) -> dict[str, Counter[str]]:
        """Count waiting jobs by queue and tenant. Those not asked yet have their turn at the next calls."""
        ahead = {queue.name: queue.ahead for queue in queues}
        unknown = [job for jobs in ahead.values() for job in jobs if job not in self._tenants][:LOOKUPS]
        with self._client.pipeline(transaction=False) as pipe:
            for job in unknown:
                pipe.hmget(f"rq:job:{job}", "meta", "data")
            answers = pipe.execute()
        self._tenants.update((job, _tenant(*values)) for job, values in zip(unknown, answers, strict=True))
        while len(self._tenants) > KEPT:
            self._tenants.popitem(last=False)
        known = self._tenants
        return {name: Counter(known[job] for job in jobs if job in known) for name, jobs in ahead.items()}


def _queue(name: str, answers: list[Any]) -> QueueSnapshot:
    waiting, ahead, running, retrying, finished, failed, canceled, begun, scheduled, *ended = answers
    states = {"running": running, "retrying": retrying, "finished": finished, "failed": failed, "canceled": canceled}
    return QueueSnapshot(
        name=name,
        waiting=waiting,
        counts=states,
        ahead=tuple(map(_text, ahead)),
        running=tuple(_text(key).partition(":")[0] for key in begun),  # RQ adds the execution's id
        retrying=tuple(map(_text, scheduled)),
        ended={_text(job): float(score) for registry in ended for job, score in registry},
    )


def _job(job: str, values: Sequence[bytes | None]) -> JobSnapshot:
    status, meta, began, ended, queue, description, *notes = values
    return JobSnapshot(
        id=job,
        queue=_text(queue or b""),
        status=_text(status or b""),
        began=_time(began),
        ended=_time(ended),
        description=_text(description or b""),
        notes=read_notes(dict(zip(map(str.encode, FIELDS), notes, strict=True)), _plain(meta)),
    )


def _tenant(meta: bytes | None, data: bytes | None) -> str:
    if tenant := _plain(meta).get("tenant"):
        return str(tenant)
    try:  # producers in other languages write no meta
        _name, _instance, args, _kwargs = JobSerializer.loads(zlib.decompress(data or b""))
        return str(args[0].get("tenant", "default"))
    except (UndecodableJobError, zlib.error, ValueError, TypeError, LookupError, AttributeError):
        return "?"  # no job of ours


def _result(fields: dict[bytes, bytes]) -> tuple[dict[str, Any], IngestError]:
    value = _plain(b64decode(fields.get(b"return_value", b"")))
    trace = fields.get(b"exc_string", b"")
    lines = zlib.decompress(b64decode(trace)).decode(errors="replace").strip().splitlines() if trace else []
    return value, error_in(lines[-1] if lines else "")


def _plain(data: bytes | None) -> dict[str, Any]:
    """Read a dict that our serializer wrote; empty for anything else."""
    try:
        value = JobSerializer.loads(data) if data else {}
    except (UndecodableJobError, UnicodeDecodeError, json.JSONDecodeError):
        return {}
    return value if isinstance(value, dict) else {}


def _time(value: bytes | None) -> float | None:
    if not value:
        return None
    moment = datetime.fromisoformat(_text(value))
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _text(value: bytes | str) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value
