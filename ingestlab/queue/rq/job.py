"""The RQ job of a request: plain data for our handler, and no function that RQ would call."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from rq import Retry
from rq.exceptions import DeserializationError
from rq.job import Job, JobStatus

from ingestlab.core import errors
from ingestlab.core.jobs import Done, JobNotes, RetryLater
from ingestlab.interfaces import Handler
from ingestlab.queue.job_records import FIELDS, read_notes, write_notes
from ingestlab.queue.rq.serializer import ALLOWED, JOB_FUNCTION, NOTEBOOK_FUNCTION

log = logging.getLogger("ingestlab.queue.rq.job")

TRIES = 100_000_000  # for RQ, which would count them: what ends a job is the handler's decision
# The wish that a job be stopped is good for this start of it alone: one that is begun again later goes on.
_STOP, _STARTED = "ingestlab_stop", "started_at"
_ASK_TO_STOP = """
local started = redis.call('HGET', KEYS[1], ARGV[2])
if not started or redis.call('HGET', KEYS[1], 'status') ~= 'started' then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], started)
return 1
"""


class UndecodableJobError(errors.UndecodableJobError, DeserializationError):
    """The error of that name, of RQ's class too: RQ looks for it when it logs a job that it cannot read."""


class IngestJob(Job):
    """A job of one allowed name and plain data."""

    success_callback = failure_callback = stopped_callback = None  # RQ would call whatever function a message names
    abandoned = False  # its worker has died
    handler: Handler | None = None  # of the worker that runs it
    notes: JobNotes = {}  # noqa: RUF012 - replaced, never changed

    def restore(self, raw_data: Any) -> Any:
        """Read the job's hash, and what is noted in it."""
        super().restore(raw_data)
        fields: Mapping[bytes, bytes] = raw_data
        self.notes = read_notes(fields, self.meta)

    def note(self, notes: JobNotes) -> None:
        """Write notes into the job's hash."""
        write_notes(self.connection, self.key, notes)
        self.notes = {**self.notes, **notes}

    def set_status(self, status: JobStatus, pipeline: Any = None) -> None:
        """Do as RQ does, but for one case.

        RQ calls a job scheduled before it schedules it, and a worker that died in between would lose the job:
        here both happen in the pipeline that schedules it.
        """
        if status == JobStatus.SCHEDULED and pipeline is None:
            self._status = status
        else:
            super().set_status(status, pipeline)

    def get_retry_interval(self) -> int:
        """Return the seconds before the next try: none after the death of a worker."""
        return 0 if self.abandoned else super().get_retry_interval()

    def ask_to_stop(self) -> bool:
        """Ask the worker that runs it to stop; False if none does."""
        return bool(self.connection.eval(_ASK_TO_STOP, 1, self.key, _STOP, _STARTED))

    def asked_to_stop(self) -> str | None:
        """Give who has asked so since it began; None if nobody."""
        answers: Any = self.connection.hmget(self.key, [_STOP, _STARTED, *FIELDS])
        wish, started, *noted = answers
        if wish is None or wish != started:
            return None
        return read_notes(dict(zip(map(str.encode, FIELDS), noted, strict=True)), None).get("cancelled") or ""

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
        """Have the handler run one try. RQ carries out what this returns or raises."""
        name, args, kwargs = self.func_name, self.args, self.kwargs
        if self.handler is None or name not in tuple(ALLOWED) or not _is_one(args) or kwargs != {}:
            self.retries_left = 0
            expected = f"a job that calls {JOB_FUNCTION} or {NOTEBOOK_FUNCTION} with one request"
            got = f"{name!r} with {len(args)} arguments" if isinstance(args, list) else f"{name!r} with {args!r}"[:200]
            fix = "No other function is run. Enqueue with `ingestlab submit`."
            raise UndecodableJobError("Job calls a function that is not allowed", expected=expected, got=got, fix=fix)
        end = self.handler(args[0], RqDelivery(self))
        if isinstance(end, Done):
            return end.result.to_dict()
        if isinstance(end, RetryLater):
            if end.counts:
                log.warning("job %s is tried again in %g s: %s", self.id, end.seconds, end.error)
                self.retries_left = max(0, (self.retries_left or 0) - 1)
            return Retry(max=TRIES, interval=round(end.seconds))
        self.retries_left = 0
        raise end.error


def _is_one(args: Any) -> bool:
    return isinstance(args, list) and len(args) == 1


class RqDelivery:
    """See :class:`ingestlab.interfaces.Delivery`."""

    def __init__(self, job: IngestJob) -> None:
        self._job = job
        self.id, self.queue = job.id, job.origin
        self.retry_after = float(job.get_retry_interval()) if job.should_retry else None

    @property
    def notes(self) -> JobNotes:
        """What has been noted of the job."""
        return self._job.notes

    def note(self, notes: JobNotes) -> None:
        """Note something of the job."""
        self._job.note(notes)

    def stopped(self) -> str | None:
        """Who has asked to stop this try, and why."""
        return self._job.asked_to_stop()
