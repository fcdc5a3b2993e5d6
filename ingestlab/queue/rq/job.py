"""The RQ job of a request: what a message on the queue may make a worker do."""

from __future__ import annotations

from typing import Any

from rq.exceptions import AbandonedJobError, DeserializationError
from rq.job import Job, JobStatus

from ingestlab.core import errors
from ingestlab.core.access import shown
from ingestlab.core.archive_uri import label
from ingestlab.core.models import Progress
from ingestlab.queue.results import uris_of
from ingestlab.queue.rq.queueing import asked_to_stop, stopped
from ingestlab.queue.rq.serializer import ALLOWED, JOB_FUNCTION, NOTEBOOK_FUNCTION
from ingestlab.queue.rq.view import RqJob

DEATHS = 3  # so many workers may die at a job before the job is blamed
SHOWN = 5  # files that its error names


class UndecodableJobError(errors.UndecodableJobError, DeserializationError):
    """The error of that name, of RQ's class too: RQ looks for it when it logs a job that it cannot read."""


class IngestJob(Job):
    """A job that is one allowed function called with plain data."""

    success_callback = failure_callback = stopped_callback = None  # RQ would call whatever function a message names
    abandoned = False  # its worker has died

    def set_status(self, status: JobStatus, pipeline: Any = None) -> None:
        """As RQ does, but for one case.

        RQ calls a job scheduled before it schedules it, and a worker that died in between would lose the job:
        here both happen in the pipeline that schedules it.
        """
        if status == JobStatus.SCHEDULED and pipeline is None:
            self._status = status
        else:
            super().set_status(status, pipeline)

    def get_retry_interval(self) -> int:
        """Seconds before the next try: none after the death of a worker."""
        return 0 if self.abandoned else super().get_retry_interval()

    def _deserialize_data(self) -> None:
        try:
            super()._deserialize_data()  # type: ignore[no-untyped-call]
        except DeserializationError as error:
            self.retries_left = 0  # it will never be readable
            cause = error.__cause__
            if isinstance(cause, errors.UndecodableJobError):
                raise UndecodableJobError(cause.reason, fix=cause.fix) from None
            problem = "Job is not in JSON"
            got = f"{cause!r}"[:200]
            raise UndecodableJobError(
                problem, expected="a job in JSON: [function, null, args, kwargs]", got=got
            ) from None

    def _execute(self) -> Any:
        name, args, kwargs = self.func_name, self.args, self.kwargs
        if name in tuple(ALLOWED) and isinstance(args, list) and len(args) == 1 and kwargs == {}:
            return super()._execute()
        self.retries_left = 0
        expected = f"a job that calls {JOB_FUNCTION} or {NOTEBOOK_FUNCTION} with one request"
        got = f"{name!r} with {len(args)} arguments" if isinstance(args, list) else f"{name!r} with {args!r}"[:200]
        fix = "No other function is run. Enqueue with `ingestlab submit`."
        raise UndecodableJobError("Job calls a function that is not allowed", expected=expected, got=got, fix=fix)


def bury(job: IngestJob, kind: type[BaseException], *_error: object) -> None:
    """RQ calls this for every error of a job, and before it decides about one whose worker has died."""
    if not issubclass(kind, AbandonedJobError):
        return
    deaths = job.meta["deaths"] = int(job.meta.get("deaths", 0)) + 1
    unwanted = asked_to_stop(job)
    if deaths < DEATHS and not unwanted:
        job.abandoned, job.retries_left = True, (job.retries_left or 0) + 1
        return
    job.retries_left = 0
    error = stopped() if unwanted else _story(job, deaths)
    job.meta["error"] = error.to_dict()
    job.save_meta()  # type: ignore[no-untyped-call]


def _story(job: IngestJob, deaths: int) -> errors.TerminalError:
    """What is known of a job that has ended its workers: where it was, and with which files."""
    progress, uris = Progress.from_dict(job.meta.get("progress", {})), uris_of(RqJob(job))
    names = ", ".join(label(shown(uri)) for uri in uris[:SHOWN]) + (
        f" and {len(uris) - SHOWN:,} more" * (len(uris) > SHOWN)
    )
    done = f"{progress.files_done:,} of {progress.files or len(uris):,} files were fetched"
    return errors.TerminalError(
        f"Job abandoned: {deaths} workers died while running it (out of memory?)",
        got=f"the last stage was '{progress.state}', {done}; its files are {names}",
        fix="See the worker logs. Submit the files one by one to find the one that does it.",
        code="job_abandoned",
    )
