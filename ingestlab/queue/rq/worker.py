"""An RQ worker that takes JSON jobs only, hands them to our handler, and beats its heart while it works.

Run it as ``ingestlab worker``, or with stock RQ:
``RQ_WORKER_CLASS=ingestlab.worker.IngestWorker rq worker QUEUE --url $REDIS_URL``.
"""

from __future__ import annotations

import faulthandler
import sys
import threading
from typing import Any

from rq import Queue
from rq.executions import Execution
from rq.job import Job
from rq.timeouts import UnixSignalDeathPenalty

from ingestlab.core.errors import JobStoppedError, TerminalError
from ingestlab.core.settings import MISSED_BEATS, load_settings
from ingestlab.core.version import VERSION
from ingestlab.interfaces import Handler
from ingestlab.queue.heart import heart
from ingestlab.queue.rq.fair import FairQueue
from ingestlab.queue.rq.job import IngestJob
from ingestlab.queue.rq.listeners import OURS
from ingestlab.queue.rq.serializer import JobSerializer
from ingestlab.queue.rq.takeover import TakeoverWorker
from ingestlab.queue.stopping import STOPPER
from ingestlab.queue.worker import JobHandler, main, prepare


class TimeLimit(UnixSignalDeathPenalty):
    """Ends a job that has had its time. It passes through code that catches all exceptions."""

    def handle_death_penalty(self, *_signal: Any) -> None:
        """End the job, in the main thread."""
        fix = "Ask for less at once, or set INGESTLAB_JOB_TIMEOUT where the job is submitted."
        problem = f"Job exceeded its time limit of {self._timeout} s"
        raise JobStoppedError(TerminalError(problem, fix=fix, code="job_timeout"))


def _fair(queue: Any) -> Any:
    """Replace a queue of the rq command line."""
    return FairQueue(queue.name, connection=queue.connection) if type(queue) is Queue else queue


class IngestWorker(TakeoverWorker):
    """See the module's text; takes the arguments of :class:`rq.worker.SimpleWorker`."""

    job_class = IngestJob
    log_result_lifespan = False
    death_penalty_class = TimeLimit
    handler: Handler | None = None  # made at the start where RQ's own command line has made the worker
    alone = False  # whether this process is nothing but the worker, and may end

    def __init__(self, queues: Any, *args: Any, **options: Any) -> None:
        options.update(serializer=JobSerializer, job_class=IngestJob, queue_class=FairQueue)
        super().__init__([_fair(queue) for queue in queues], *args, **options)
        for queue in self.queues:  # the rq command line makes them with the serializer of its own options
            queue.serializer, queue.job_class = JobSerializer, IngestJob
        self._finished = threading.Event()

    def work(self, *args: Any, **options: Any) -> bool:
        """Work until told to stop. Ctrl-C before the first job stops it as well."""
        try:
            return super().work(*args, **options)
        except KeyboardInterrupt:  # RQ takes signals only once it is registered
            self.teardown()
            return False

    def bootstrap(self, *args: Any, **options: Any) -> None:
        """Make the handler if there is none, register, and start the heart."""
        settings = load_settings()
        if self.handler is None:
            self.handler = prepare(self.queue_names(), settings, self.connection)
        super().bootstrap(*args, **options)
        self.connection.hset(self.key, OURS, VERSION)  # so that `doctor` tells our class from others
        self.beat, self.keep = settings.beat, settings.keep_jobs
        self.job_monitoring_interval = int(2 * self.beat)
        STOPPER.listen()
        heart(self._finished, self.beat, self._beat, busy=lambda: bool(self.executions), alone=self.alone).start()

    def teardown(self) -> None:
        """Stop the heart, then say goodbye to Redis."""
        self._finished.set()
        if isinstance(self.handler, JobHandler):
            self.handler.over.set()
        if self.alone:
            faulthandler.cancel_dump_traceback_later()
        super().teardown()  # type: ignore[no-untyped-call]

    def prepare_job_execution(self, job: Job, remove_from_intermediate_queue: bool = False) -> None:  # noqa: ARG002, FBT001, FBT002 - RQ's signature
        """Begin a job. Those of workers on several queues are among what is taken, too."""
        super().prepare_job_execution(job, True)

    def perform_job(self, job: Job, queue: Queue, execution: Execution) -> bool:
        """Run one try of a job by the handler."""
        if isinstance(job, IngestJob):
            job.handler = self.handler
        return super().perform_job(job, queue, execution)

    def get_heartbeat_ttl(self, job: Job, working_time: float = 0.0) -> int:  # noqa: ARG002 - RQ's signature
        """Return the seconds of silence after which others get the job."""
        return max(2, int(MISSED_BEATS * self.beat))

    def _beat(self) -> None:
        """Beat, take over what dead workers left, and move due retries."""
        for execution in list(self.executions.values()):
            self.maintain_heartbeats(execution.job, execution)
        if not self.connection.hexists(self.key, OURS):  # Redis has lost it, with all else
            self.connection.delete(self.key)
            self.register_birth()  # type: ignore[no-untyped-call]
            self.connection.hset(self.key, OURS, VERSION)
        self.heartbeat(self.worker_ttl + 60)
        self.sweep()


if __name__ == "__main__":  # as versions before 0.2 started it
    sys.exit(main())
