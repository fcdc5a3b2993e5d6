"""Queues and workers for the dashboard: RQ's keys, read in few and bounded round trips."""

from __future__ import annotations

import zlib
from collections import Counter, OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import redis
from redis.client import Pipeline

from ingestlab.core.errors import UndecodableJobError
from ingestlab.core.jobs import Listener, QueueSnapshot
from ingestlab.queue.reading import ask_each
from ingestlab.queue.rq.fair import waiting
from ingestlab.queue.rq.listeners import own_names, read_listeners
from ingestlab.queue.rq.serializer import JobSerializer
from ingestlab.queue.rq.view import plain, text

WORKERS = 64  # so many are read, and as many jobs that are running or to be tried again
AHEAD = 1000  # waiting jobs of a queue for which tenants are counted
LOOKUPS = 500  # tenants at a time
KEPT = 50_000
REGISTRIES = ("wip", "scheduled", "finished", "failed")  # of what runs, is to be tried again, and has ended


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
        return sorted(own_names(queues)), sorted(map(text, workers))

    def queues(self, names: Sequence[str], last: int) -> list[QueueSnapshot]:
        """Read queues, with at most `last` ended jobs of each kind."""

        def ask(pipe: Pipeline, name: str) -> None:
            pipe.llen(f"rq:queue:{name}")
            pipe.lrange(f"rq:queue:{name}", 0, AHEAD - 1)
            for registry in (*REGISTRIES, "canceled"):
                pipe.zcard(f"rq:{registry}:{name}")
            for registry in ("wip", "scheduled"):
                pipe.zrange(f"rq:{registry}:{name}", 0, WORKERS - 1)
            for registry in ("finished", "failed"):
                pipe.zrange(f"rq:{registry}:{name}", 0, last - 1, desc=True, withscores=True)

        found = [_queue(*each) for each in zip(names, ask_each(self._client, names, ask), strict=True)]
        return [self._with_tenants(queue) for queue in found]

    def _with_tenants(self, queue: QueueSnapshot) -> QueueSnapshot:
        """Add what waits in the lists of tenants."""
        counts = waiting(self._client, queue.name)
        return replace(queue, waiting=queue.waiting + sum(counts.values()), tenants=counts) if counts else queue

    def workers(self, keys: Sequence[str]) -> list[Listener]:
        """List the workers that are registered."""
        return read_listeners(self._client, keys[:WORKERS])

    def tenants(self, queues: Iterable[QueueSnapshot]) -> dict[str, Counter[str]]:
        """Count waiting jobs by queue and tenant. Those not asked yet have their turn at the next calls."""
        queues = list(queues)
        ahead = {queue.name: queue.ahead for queue in queues}
        unknown = [job for jobs in ahead.values() for job in jobs if job not in self._tenants][:LOOKUPS]
        answers = ask_each(self._client, unknown, lambda pipe, job: pipe.hmget(f"rq:job:{job}", "meta", "data"))
        self._tenants.update((job, _tenant(*values)) for job, (values,) in zip(unknown, answers, strict=True))
        while len(self._tenants) > KEPT:
            self._tenants.popitem(last=False)
        known = self._tenants
        apart = {queue.name: Counter(queue.tenants) for queue in queues}
        return {name: Counter(known[job] for job in ids if job in known) + apart[name] for name, ids in ahead.items()}


def _queue(name: str, answers: list[Any]) -> QueueSnapshot:
    waiting, ahead, running, retrying, finished, failed, canceled, begun, scheduled, *ended = answers
    states = {"running": running, "retrying": retrying, "finished": finished, "failed": failed, "canceled": canceled}
    return QueueSnapshot(
        name=name,
        waiting=waiting,
        counts=states,
        ahead=tuple(map(text, ahead)),
        running=tuple(text(key).partition(":")[0] for key in begun),  # RQ adds the execution's id
        retrying=tuple(map(text, scheduled)),
        ended={text(job): float(score) for registry in ended for job, score in registry},
    )


def _tenant(meta: bytes | None, data: bytes | None) -> str:
    if tenant := plain(meta).get("tenant"):
        return str(tenant)
    try:  # producers in other languages write no meta
        _name, _instance, args, _kwargs = JobSerializer.loads(zlib.decompress(data or b""))
        return str(args[0].get("tenant", "default"))
    except (UndecodableJobError, zlib.error, ValueError, TypeError, LookupError, AttributeError):
        return "?"  # no job of ours
