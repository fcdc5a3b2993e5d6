"""Jobs on RQ queues: one job for one request, however often it is asked."""

from __future__ import annotations

from typing import Any

import redis
from rq import Queue, Retry
from rq.exceptions import DeserializationError, DuplicateJobError, NoSuchJobError
from rq.job import Job, JobStatus
from rq.registry import CanceledJobRegistry, FailedJobRegistry, FinishedJobRegistry
from rq.results import Result

from ingestlab.core.errors import UndecodableJobError
from ingestlab.core.jobs import JobNotes
from ingestlab.core.messages import NotebookRequest, Request, decode
from ingestlab.core.settings import Settings
from ingestlab.queue.job_records import describe, notes_of
from ingestlab.queue.rq.fair import FairQueue
from ingestlab.queue.rq.job import IngestJob
from ingestlab.queue.rq.serializer import JOB_FUNCTION, NOTEBOOK_FUNCTION, JobSerializer

ENDED = (JobStatus.FINISHED, JobStatus.FAILED, JobStatus.STOPPED, JobStatus.CANCELED)
_REGISTRIES = (FinishedJobRegistry, FailedJobRegistry, CanceledJobRegistry)
_AT_ONCE = 1000  # jobs that are forgotten in one go
# A job that has ended makes room for the same request; one that is queued or running stays.
_FORGET_ENDED = """
local status = redis.call('HGET', KEYS[1], 'status')
local ended = not status
for i = 2, #ARGV do ended = ended or status == ARGV[i] end
if not ended then return 0 end
for i = 3, #KEYS do redis.call('ZREM', KEYS[i], ARGV[1]) end
return redis.call('DEL', KEYS[1], KEYS[2]) > 0 and 1 or 0
"""


def open_queue(client: redis.Redis, name: str) -> Queue:
    """Open a queue that speaks JSON."""
    return FairQueue(name, connection=client, serializer=JobSerializer)


def enqueue(queue: Queue, request: Request, settings: Settings, notes: JobNotes | None = None) -> tuple[str, bool]:
    """Queue a request with notes, unless the same is queued or running.

    Returns:
        The job's id, and whether it is a new job.
    """
    job_id = request.job_id
    _forget_ended(queue, job_id)
    delays = [round(delay) for delay in settings.retry_delays]
    try:
        queue.enqueue_call(
            NOTEBOOK_FUNCTION if isinstance(request, NotebookRequest) else JOB_FUNCTION,
            args=(request.to_dict(),),
            job_id=job_id,
            unique=True,
            timeout=settings.job_timeout,
            result_ttl=settings.result_ttl,
            failure_ttl=settings.failure_ttl,
            description=describe(request),
            retry=Retry(max=len(delays), interval=delays) if delays else None,
            meta={**(notes or {}), **notes_of(request)},
        )
    except DuplicateJobError:
        return job_id, False
    return job_id, True


def trim(queue: Queue, most: int) -> int:
    """Forget the oldest ended jobs of a queue. How they ended is in the lake's records.

    Args:
        queue: Of any name.
        most: Jobs of each kind of end to keep.

    Returns:
        The number of jobs forgotten, a thousand of a kind at most.
    """
    client, gone = queue.connection, 0
    for kind in _REGISTRIES:
        key = kind(queue.name, connection=client).key
        surplus = min(client.zcard(key) - most, _AT_ONCE)
        if surplus <= 0:
            continue
        ids: Any = client.zrange(key, 0, surplus - 1)
        for job in (name.decode() for name in ids):
            gone += _forget_ended(queue, job)
    return gone


def _forget_ended(queue: Queue, job: str) -> int:
    """Delete a job if it has ended; gives the number deleted."""
    registries = [kind(queue.name, connection=queue.connection).key for kind in _REGISTRIES]
    keys = [Job.key_for(job), Result.get_key(job), *registries]
    return int(queue.connection.eval(_FORGET_ENDED, len(keys), *keys, job, *(status.value for status in ENDED)))


def fetch_job(client: redis.Redis, job_id: str) -> IngestJob | None:
    """Read one job as RQ has it; None if Redis does not."""
    job = IngestJob(job_id, connection=client, serializer=JobSerializer)
    try:
        job.refresh()  # type: ignore[no-untyped-call]
    except NoSuchJobError:
        return None
    return job


def fetch_jobs(client: redis.Redis, ids: list[str]) -> dict[str, IngestJob]:
    """Read the jobs that Redis still has, by id; notebooks call it."""
    return {name: job for name in ids if (job := fetch_job(client, name))}


def request_of(job: Job | None) -> Request:
    """Decode what a job is asked; raises UndecodableJobError."""
    try:
        return decode(job.args[0] if job else None)
    except (DeserializationError, LookupError, TypeError) as error:
        raise UndecodableJobError("Job has no request that can be read", got=f"{error!r}"[:200]) from None
