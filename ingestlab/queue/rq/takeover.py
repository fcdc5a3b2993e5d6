"""A worker that takes over what dead workers left, and at most once."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, NamedTuple

from rq import Queue
from rq.exceptions import AbandonedJobError
from rq.job import Job
from rq.registry import clean_registries
from rq.scheduler import RQScheduler
from rq.worker import SimpleWorker
from rq.worker_registration import clean_worker_registry

from ingestlab.core.settings import MISSED_BEATS
from ingestlab.queue.abandoned import after_a_death
from ingestlab.queue.rq.fair import spread
from ingestlab.queue.rq.job import IngestJob
from ingestlab.queue.rq.queueing import request_of, trim
from ingestlab.queue.rq.serializer import JobSerializer

SWEEP_EVERY = 900  # ms between two sweeps of a queue, whoever does them
SWEEP_AT_MOST = 10_000  # ms after which a sweep is taken for dead

# Only if no worker has begun the job in the meantime.
_PUT_BACK = """
if redis.call('LREM', KEYS[1], 1, ARGV[1]) == 0 then return 0 end
return redis.call('LPUSH', KEYS[2], ARGV[1])
"""


class Taken(NamedTuple):
    """A job taken from a queue, and since when it was there."""

    job: str
    enqueued: Any


class TakeoverWorker(SimpleWorker):
    """Its heart calls :meth:`sweep` in each beat; takes the arguments of :class:`rq.worker.SimpleWorker`."""

    beat = 5.0  # seconds
    keep = 10_000  # ended jobs of a queue

    def __init__(self, queues: Any, *args: Any, **options: Any) -> None:
        super().__init__(queues, *args, **options)
        self.push_exc_handler(after_death)  # type: ignore[no-untyped-call]
        self._taken: dict[str, dict[Taken, float]] = {}  # by queue: jobs taken and not begun, since when

    def clean_registries(self) -> None:
        """Do RQ's own housekeeping, at the start and every ten minutes. What it leaves out, the sweep does."""
        for queue in self.queues:
            with self._alone(queue) as alone:
                if alone:
                    clean_registries(queue, self._exc_handlers)
                    clean_worker_registry(queue)
        self.last_cleaned_at = datetime.now(UTC)  # type: ignore[assignment] # RQ declares it as None alone

    def sweep(self) -> None:
        """Take over what dead workers left, and move retries that are due."""
        for queue in self.queues:
            with self._alone(queue) as alone:
                if alone:
                    self._put_back(queue)
                    spread(self.connection, queue.name)
                    queue.started_job_registry.cleanup(exception_handlers=self._exc_handlers)
                    scheduler = RQScheduler([queue.name], self.connection, serializer=JobSerializer)
                    scheduler.prepare_registries([queue.name])
                    scheduler.enqueue_scheduled_jobs()
                    trim(queue, self.keep)

    @contextmanager
    def _alone(self, queue: Queue) -> Iterator[bool]:
        """Let one thread of all workers look after the dead: two would queue a job of theirs twice.

        Unlike the locks of RQ, this one does not outlive its holder for long.
        """
        lock = f"ingestlab:sweep:{queue.name}"
        alone = bool(self.connection.set(lock, self.name, nx=True, px=SWEEP_AT_MOST))
        try:
            yield alone
        finally:
            if alone:
                self.connection.pexpire(lock, SWEEP_EVERY)

    def _put_back(self, queue: Queue) -> None:
        """Queue again what dead workers took and never began.

        A job that waits for a busy source is taken each second, and may be seen each time: it counts from its last.
        """
        now, before = time.monotonic(), self._taken.get(queue.name, {})
        jobs = queue.intermediate_queue.get_job_ids()
        taken = [Taken(job, self.connection.hget(Job.key_for(job), "enqueued_at")) for job in jobs]
        self._taken[queue.name] = {job: before.get(job, now) for job in taken}
        for (job, _), since in self._taken[queue.name].items():
            if now - since >= MISSED_BEATS * self.beat:
                self.connection.eval(_PUT_BACK, 2, queue.intermediate_queue_key, queue.key, job)


def after_death(job: IngestJob, kind: type[BaseException], *_error: object) -> None:
    """Decide about a job after its worker has died. RQ calls this for every error, before it decides."""
    if not issubclass(kind, AbandonedJobError):
        return
    notes, again = after_a_death(job.notes, job.asked_to_stop(), lambda: request_of(job))
    job.note(notes)
    if again:
        job.abandoned, job.retries_left = True, (job.retries_left or 0) + 1
    else:
        job.retries_left = 0
