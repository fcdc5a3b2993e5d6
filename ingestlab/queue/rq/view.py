"""A job of RQ's as the rest of the package sees it."""

from __future__ import annotations

from datetime import datetime

from rq.exceptions import DeserializationError
from rq.job import JobStatus

from ingestlab.core import jobs
from ingestlab.core.errors import IngestError, TerminalError, UndecodableJobError
from ingestlab.core.jobs import JobNotes
from ingestlab.core.messages import Request, decode
from ingestlab.core.models import IngestResult
from ingestlab.queue.rq.job import IngestJob
from ingestlab.queue.rq.serializer import REFUSAL, WORKER_CLASS

_STATUS: dict[JobStatus, jobs.JobStatus] = {
    JobStatus.STARTED: "running",
    JobStatus.SCHEDULED: "retrying",
    JobStatus.FINISHED: "finished",
    JobStatus.FAILED: "failed",
    JobStatus.STOPPED: "stopped",
    JobStatus.CANCELED: "canceled",
}


class RqJob:
    """See :class:`ingestlab.interfaces.Job`. Its status is that of the time when it was fetched."""

    def __init__(self, job: IngestJob) -> None:
        self._job = job

    @property
    def id(self) -> str:
        """Made from its request."""
        return self._job.id

    @property
    def status(self) -> jobs.JobStatus:
        """Where it is."""
        return _STATUS.get(self._job.get_status(refresh=False), "queued")

    @property
    def notes(self) -> JobNotes:
        """What producer and worker have noted of it."""
        return self._job.notes

    @property
    def description(self) -> str:
        """One line for people."""
        return self._job.description or self._job.id

    @property
    def queued(self) -> datetime | None:
        """When it was published."""
        return self._job.enqueued_at

    @property
    def began(self) -> datetime | None:
        """When its last try began."""
        return self._job.started_at

    @property
    def ended(self) -> datetime | None:
        """When its last try ended."""
        return self._job.ended_at

    @property
    def worker(self) -> str:
        """Who has it, or had it last."""
        return self._job.worker_name or ""

    def request(self) -> Request:
        """Read what is asked; raises UndecodableJobError."""
        try:
            message = self._job.args[0]
        except (DeserializationError, LookupError, TypeError) as error:
            raise UndecodableJobError("Job has no request that can be read", got=f"{error!r}"[:200]) from None
        return decode(message)

    def result(self) -> IngestResult | None:
        """Read the result of a job that has ended. Of a failed one it is what its last try has left."""
        value = self._job.return_value(refresh=True) if self.status == "finished" else self.notes.get("result")
        return IngestResult.from_dict(value) if isinstance(value, dict) else None

    def traceback(self) -> str:
        """Return how its last try failed, in Python's words."""
        latest = self._job.latest_result()
        return (latest.exc_string if latest else None) or ""

    def error(self) -> IngestError:
        """Return why it ended without a note of ours."""
        if self.status in ("canceled", "stopped"):
            return TerminalError(f"Job was {self.status}", fix="Submit it again.", code="job_stopped")
        return error_in(self.traceback())


def error_in(traceback: str) -> IngestError:
    """Translate a traceback that RQ kept, its last line, or nothing."""
    if REFUSAL in traceback:
        fix = f"Set RQ_WORKER_CLASS={WORKER_CLASS}; retry the run."
        return TerminalError("A plain RQ worker took the job and refused it unread", fix=fix, code="job_refused")
    lines = traceback.strip().splitlines() or ["its worker left no message"]
    return TerminalError("Job failed", got=lines[-1], fix="See the worker's log; retry the run.", code="unforeseen")
