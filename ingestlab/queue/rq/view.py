"""A job of RQ's as the rest of the package sees it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from rq.exceptions import DeserializationError
from rq.job import Job, JobStatus

from ingestlab.core import jobs
from ingestlab.core.errors import IngestError, TerminalError, UndecodableJobError
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
    """See :class:`ingestlab.interfaces.Job`; its status is that of the time when it was fetched."""

    def __init__(self, job: Job) -> None:
        self.rq = job

    @property
    def id(self) -> str:
        """Made from its request."""
        return self.rq.id

    @property
    def status(self) -> jobs.JobStatus:
        """Where it is."""
        return _STATUS.get(self.rq.get_status(refresh=False), "queued")

    @property
    def meta(self) -> dict[str, Any]:
        """What producer and worker have noted on it."""
        return dict(self.rq.meta)

    @property
    def description(self) -> str:
        """One line for people."""
        return self.rq.description or self.rq.id

    @property
    def queued(self) -> datetime | None:
        """When it was published."""
        return self.rq.enqueued_at

    @property
    def began(self) -> datetime | None:
        """When its last try began."""
        return self.rq.started_at

    @property
    def ended(self) -> datetime | None:
        """When its last try ended."""
        return self.rq.ended_at

    @property
    def worker(self) -> str:
        """Who has it, or had it last."""
        return self.rq.worker_name or ""

    def request(self) -> Any:
        """What is asked, as plain data; raises UndecodableJobError."""
        try:
            return self.rq.args[0]
        except (DeserializationError, IndexError) as error:
            raise UndecodableJobError("Job has no request that can be read", got=f"{error!r}"[:200]) from None

    def result(self) -> dict[str, Any] | None:
        """The result of a job that has ended; of a failed one, what it left in its meta."""
        if self.status == "finished":
            value = self.rq.return_value(refresh=True)
            return dict(value) if isinstance(value, dict) else None
        kept = self.rq.meta.get("result")
        return dict(kept) if kept else None

    def traceback(self) -> str:
        """How its last try failed, in Python's words."""
        latest = self.rq.latest_result()
        return (latest.exc_string if latest else None) or ""

    def error(self) -> IngestError:
        """Why it ended without a word of ours."""
        if self.status in ("canceled", "stopped"):
            return TerminalError(f"Job was {self.status}", fix="Submit it again.", code="job_stopped")
        return error_in(self.traceback())


def error_in(traceback: str) -> IngestError:
    """Translate a traceback that RQ kept, or its last line; it may be empty."""
    if REFUSAL in traceback:
        fix = f"Set RQ_WORKER_CLASS={WORKER_CLASS}; retry the run."
        return TerminalError("A plain RQ worker took the job and refused it unread", fix=fix, code="job_refused")
    lines = traceback.strip().splitlines() or ["no word of its worker"]
    return TerminalError("Job failed", got=lines[-1], fix="See the worker's log; retry the run.", code="unforeseen")
