"""RQ as a queue: jobs, registries and workers in Redis."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Sequence

import redis
from rq.job import JobStatus
from rq.results import Result

from ingestlab.core.jobs import Job, JobEnding, JobNotes, Listener, QueueState
from ingestlab.core.messages import Request
from ingestlab.core.settings import Settings
from ingestlab.core.tenants import Tenant
from ingestlab.interfaces import Handler, Monitor
from ingestlab.lake.tenants import find, share
from ingestlab.queue.reading import wait_for_news
from ingestlab.queue.rq.fair import take_out
from ingestlab.queue.rq.listeners import free_name, is_needed, listeners, queue_names, queue_state
from ingestlab.queue.rq.monitor import RqMonitor
from ingestlab.queue.rq.queueing import ENDED, enqueue, fetch_job, open_queue, request_of
from ingestlab.queue.rq.view import read_ending, read_jobs


class RqQueue:
    """See :class:`ingestlab.interfaces.Queue`."""

    def __init__(self, settings: Settings, client: redis.Redis) -> None:
        self._settings, self._client = settings, client

    def publish(self, queue: str, request: Request, notes: JobNotes | None = None) -> tuple[str, bool]:
        """Queue a request with notes, unless the same is queued or running."""
        if self._settings.tenants_file or len(self._settings.tenants) > 1:
            share(find(request.tenant, self._settings) or Tenant(name=request.tenant), self._client)
        return enqueue(open_queue(self._client, queue), request, self._settings, notes)

    def jobs(self, ids: Sequence[str]) -> dict[str, Job]:
        """Look up the jobs that Redis still has."""
        return read_jobs(self._client, ids)

    def request(self, job: str) -> Request:
        """Read what a job is asked."""
        return request_of(fetch_job(self._client, job))

    def ending(self, job: str) -> JobEnding:
        """Read how the last try of a job ended."""
        return read_ending(self._client, job)

    def wait(self, ids: Iterable[str], seen: dict[str, str], seconds: float) -> list[str]:
        """Sleep on jobs' result streams; gives those with a new result."""
        return wait_for_news(self._client, {job: Result.get_key(job) for job in ids}, seen, seconds)

    def cancel(self, job: str, why: str = "") -> bool:
        """Take a job from the queue, or have its worker stop it."""
        rq_job = fetch_job(self._client, job)
        if rq_job is None or rq_job.get_status(refresh=False) in ENDED:
            return False
        rq_job.note({"cancelled": why})
        if rq_job.get_status(refresh=False) == JobStatus.STARTED:
            return rq_job.ask_to_stop()
        rq_job.cancel()
        take_out(self._client, rq_job.origin, job, str(rq_job.notes.get("tenant")))
        return True

    def again(self, job: str) -> None:
        """Queue a failed job once more, with no dead workers counted."""
        if rq_job := fetch_job(self._client, job):
            rq_job.note({"deaths": None, "cancelled": None})
            rq_job.requeue()

    def names(self) -> set[str]:
        """Name all queues."""
        return queue_names(self._client)

    def state(self, queue: str) -> QueueState:
        """Count what waits and runs on a queue, and who listens."""
        return queue_state(self._client, queue)

    def is_needed(self, queue: str) -> bool:
        """Whether a worker would find something to do, now or later."""
        return is_needed(self._client, queue)

    def listeners(self, queue: str) -> list[Listener]:
        """List the workers that listen on a queue."""
        return listeners(self._client, queue)

    def monitor(self) -> Monitor:
        """Open what the dashboard reads."""
        return RqMonitor(self._client)

    def consume(self, queues: Sequence[str], handler: Handler) -> int:
        """Run an RQ worker until it is told to stop."""
        from ingestlab.queue.rq.worker import IngestWorker  # noqa: PLC0415 - pulls in the engine

        opened = [open_queue(self._client, name) for name in queues]
        name = free_name(self._client, self._settings.worker_name or f"{socket.gethostname()}-{os.getpid()}")
        keep = self._settings.result_ttl
        worker = IngestWorker(opened, connection=self._client, name=name, default_result_ttl=keep)
        worker.handler, worker.alone = handler, True
        worker.work(logging_level=os.environ.get("INGESTLAB_LOG_LEVEL", "INFO"))
        return 0
