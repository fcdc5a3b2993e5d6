"""The queue where the broker only carries messages: what it asks of a carrier, and all else from the job store."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import redis
from pydantic import JsonValue

from ingestlab.core.errors import IngestError, TransientError, UndecodableJobError
from ingestlab.core.jobs import ENDED, Job, JobEnding, JobNotes, Listener, QueueState
from ingestlab.core.messages import Request, decode
from ingestlab.core.settings import Settings
from ingestlab.interfaces import Monitor
from ingestlab.queue.job_records import describe, error_in, notes_of
from ingestlab.queue.jobs.listeners import read_listeners, worker_names
from ingestlab.queue.jobs.monitor import JobMonitor
from ingestlab.queue.jobs.store import JobStore, Turn, ended_key
from ingestlab.queue.reading import wait_for_news

log = logging.getLogger("ingestlab.queue.jobs")


class Carrier(Protocol):
    """A broker that carries messages of jobs. It may bring one twice, late, or in another order."""

    def send(self, turn: Turn, message: JsonValue) -> None:
        """Send a turn's message, and wait until the broker has it.

        Args:
            turn: The job, its queue and the turn.
            message: What is asked, as plain data.

        Raises:
            IngestError: The broker is away or refuses it.
        """
        ...

    def waiting(self, queue: str) -> int | None:
        """Count the messages that the broker has for a queue. None if it cannot tell."""
        ...


class CarriedQueue:
    """All of :class:`ingestlab.interfaces.Queue` but `consume`.

    Args:
        settings: Say how often jobs are tried, and how long they are kept.
        client: Of the Redis with the jobs.
        carrier: Carries their messages.
    """

    def __init__(self, settings: Settings, client: redis.Redis, carrier: Carrier) -> None:
        self._settings, self._client, self._carrier = settings, client, carrier
        self._store = JobStore(client)

    def publish(self, queue: str, request: Request, notes: JobNotes | None = None) -> tuple[str, bool]:
        """Queue a request with notes, unless the same is queued or running."""
        job, message = request.job_id, request.to_dict()
        known: JobNotes = {**(notes or {}), **notes_of(request)}
        turn, new = self._store.create(queue, job, message, self._settings, known, describe(request))
        unsent = turn if new else self._store.unsent(job)
        if unsent is not None:  # of a producer that died in between, if it is not new
            self._send(unsent, message)
        return job, new

    def _send(self, turn: Turn, message: JsonValue) -> None:
        """Send a message. A job without one is forgotten: nothing was queued."""
        try:
            self._carrier.send(turn, message)
        except IngestError:
            self._store.withdraw(turn)
            raise
        self._store.sent(turn)

    def jobs(self, ids: Sequence[str]) -> Mapping[str, Job]:
        """Look up the jobs that Redis still has."""
        return self._store.jobs(ids)

    def request(self, job: str) -> Request:
        """Read what a job is asked."""
        (message,) = self._store.fields(job, "message")
        if not message:
            raise UndecodableJobError("Job has no request that can be read", got=f"no job {job}"[:200])
        return decode(json.loads(message))

    def ending(self, job: str) -> JobEnding:
        """Read how the last try of a job ended."""
        result, traceback = self._store.fields(job, "result", "traceback")
        return JobEnding(result=json.loads(result or "{}"), traceback=traceback.strip(), error=error_in(traceback))

    def wait(self, ids: Iterable[str], seen: dict[str, str], seconds: float) -> list[str]:
        """Sleep until jobs end, or a timeout; gives those that have."""
        return wait_for_news(self._client, {job: ended_key(job) for job in ids}, seen, seconds)

    def cancel(self, job: str, why: str = "") -> bool:
        """Take a job from the queue, or have its worker stop it."""
        known = self._store.jobs([job]).get(job)
        if known is None or known.status in ENDED:
            return False
        self._store.note(job, {"cancelled": why})
        return self._store.cancel(job) or self._store.ask_to_stop(job) or self._store.cancel(job)

    def again(self, job: str) -> None:
        """Queue a failed job once more, with all of its tries."""
        turn = self._store.requeue(job, "failed", tries="0")
        if turn is not None:
            self._store.note(job, {"deaths": None, "cancelled": None})
            resend(self._store, self._carrier, turn)

    def names(self) -> set[str]:
        """Name all queues."""
        return self._store.queues()

    def state(self, queue: str) -> QueueState:
        """Count what waits and runs on a queue, and who listens."""
        waiting, running = (self._store.count(queue, name) for name in ("queued", "running"))
        return QueueState(queue, waiting, running, len(self.listeners(queue)))

    def is_needed(self, queue: str) -> bool:
        """Tell whether a worker would find something to do, now or later."""
        return any(self._store.count(queue, name) for name in ("queued", "running", "retrying"))

    def listeners(self, queue: str) -> list[Listener]:
        """List the workers that listen on a queue."""
        workers = read_listeners(self._client, worker_names(self._client))
        return [worker for worker in workers if queue in worker.queues]

    def monitor(self) -> Monitor:
        """Open what the dashboard reads."""
        return JobMonitor(self._store)


def resend(store: JobStore, carrier: Carrier, turn: Turn) -> bool:
    """Send the message of a queued job. Where the broker is away, a worker's sweep tries on: the job is kept."""
    (message,) = store.fields(turn.job, "message")
    try:
        if message:
            carrier.send(turn, json.loads(message))
    except TransientError as error:
        log.warning("the message of job %s is not sent yet: %s", turn.job, error)
        return False
    store.sent(turn)
    return True
