"""Queues and workers for the dashboard, read from the job store in few and bounded round trips."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any

from redis.client import Pipeline

from ingestlab.core.jobs import Listener, QueueSnapshot
from ingestlab.queue.jobs.listeners import read_listeners, worker_names
from ingestlab.queue.jobs.store import JobStore, job_key, set_key
from ingestlab.queue.reading import ask_each

WORKERS = 64  # so many are read, and as many jobs that are running or to be tried again
AHEAD = 1000  # waiting jobs of a queue for which tenants are counted
STATES = ("running", "retrying", "finished", "failed", "canceled")


class JobMonitor:
    """See :class:`ingestlab.interfaces.Monitor`."""

    def __init__(self, store: JobStore) -> None:
        self._store, self._client = store, store.client

    def names(self) -> tuple[list[str], list[str]]:
        """Name all queues and all workers."""
        return sorted(self._store.queues()), worker_names(self._client)

    def queues(self, names: Sequence[str], last: int) -> list[QueueSnapshot]:
        """Read queues, with at most `last` ended jobs of each kind."""

        def ask(pipe: Pipeline, name: str) -> None:
            for state in ("queued", *STATES):
                pipe.zcard(set_key(name, state))
            pipe.zrange(set_key(name, "queued"), 0, AHEAD - 1)
            for state in ("running", "retrying"):
                pipe.zrange(set_key(name, state), 0, WORKERS - 1)
            for state in ("finished", "failed"):
                pipe.zrange(set_key(name, state), 0, last - 1, desc=True, withscores=True)

        return [_queue(*each) for each in zip(names, ask_each(self._client, names, ask), strict=True)]

    def workers(self, keys: Sequence[str]) -> list[Listener]:
        """List the workers that are registered."""
        return read_listeners(self._client, keys[:WORKERS])

    def tenants(self, queues: Iterable[QueueSnapshot]) -> dict[str, Counter[str]]:
        """Count waiting jobs by queue and tenant."""
        ahead = {queue.name: queue.ahead for queue in queues}
        jobs = list(chain.from_iterable(ahead.values()))
        metas = iter(ask_each(self._client, jobs, lambda pipe, job: pipe.hget(job_key(job), "meta")))
        return {name: Counter(_tenant(*next(metas)) for _ in jobs) for name, jobs in ahead.items()}


def _queue(name: str, answers: list[Any]) -> QueueSnapshot:
    waiting, *counts = answers[: 1 + len(STATES)]
    ahead, running, retrying, *ended = answers[1 + len(STATES) :]
    return QueueSnapshot(
        name=name,
        waiting=waiting,
        counts=dict(zip(STATES, counts, strict=True)),
        ahead=_names(ahead),
        running=_names(running),
        retrying=_names(retrying),
        ended={job.decode(): float(score) for some in ended for job, score in some},
    )


def _names(jobs: Iterable[bytes]) -> tuple[str, ...]:
    return tuple(job.decode() for job in jobs)


def _tenant(meta: bytes | None) -> str:
    return str(json.loads(meta or b"{}").get("tenant", "default"))
