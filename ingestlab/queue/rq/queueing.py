"""Jobs on RQ queues: one job for one request, however often it is asked."""

from __future__ import annotations

from typing import Any

import redis
from rq import Queue, Retry
from rq.exceptions import DuplicateJobError, NoSuchJobError
from rq.job import Job, JobStatus
from rq.registry import CanceledJobRegistry, FailedJobRegistry, FinishedJobRegistry
from rq.results import Result

from ingestlab.core.access import shown
from ingestlab.core.errors import TerminalError
from ingestlab.core.messages import NotebookRequest, Request, subjects
from ingestlab.core.settings import Settings
from ingestlab.queue.rq.serializer import JOB_FUNCTION, NOTEBOOK_FUNCTION, JobSerializer

ENDED = (JobStatus.FINISHED, JobStatus.FAILED, JobStatus.STOPPED, JobStatus.CANCELED)

# A job that has ended makes room for the same request; one that is queued or running stays.
_CLEAR_ENDED = """
local status = redis.call('HGET', KEYS[1], 'status')
for _, ended in ipairs(ARGV) do
  if status == ended then return redis.call('DEL', KEYS[1], KEYS[2]) end
end
return 0
"""
_AT_ONCE = 1000  # jobs that are forgotten in one go
_FORGET = """
redis.call('ZREM', KEYS[1], ARGV[1])
local status = redis.call('HGET', KEYS[2], 'status')
for i = 2, #ARGV do
  if status == ARGV[i] then return redis.call('DEL', KEYS[2], KEYS[3]) > 0 and 1 or 0 end
end
return 0
"""
# The wish that a job be stopped is good for this start of it alone: one that is begun again later goes on.
_STOP, _STARTED = "ingestlab_stop", "started_at"
_ASK_TO_STOP = """
local started = redis.call('HGET', KEYS[1], ARGV[2])
if not started or redis.call('HGET', KEYS[1], 'status') ~= 'started' then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], started)
return 1
"""


def open_queue(client: redis.Redis, name: str) -> Queue:
    """A queue that speaks JSON."""
    return Queue(name, connection=client, serializer=JobSerializer)


def enqueue(client: redis.Redis, queue: Queue, request: Request, settings: Settings) -> tuple[str, bool]:
    """Puts a request on a queue, unless the same is queued or running.

    Returns:
        The job's id, and whether it is a new job.
    """
    job_id = request.job_id
    keys = (Job.key_for(job_id), Result.get_key(job_id))
    if client.eval(_CLEAR_ENDED, 2, *keys, *[s.value for s in ENDED]):
        for registry in (FinishedJobRegistry, FailedJobRegistry, CanceledJobRegistry):
            client.zrem(registry(queue.name, connection=client).key, job_id)
    delays = [round(delay) for delay in settings.retry_delays]
    notebook = isinstance(request, NotebookRequest)
    try:
        queue.enqueue_call(
            NOTEBOOK_FUNCTION if notebook else JOB_FUNCTION,
            args=(request.to_dict(),),
            job_id=job_id,
            unique=True,
            timeout=settings.job_timeout,
            result_ttl=settings.result_ttl,
            failure_ttl=settings.failure_ttl,
            description=_description(request),
            retry=Retry(max=len(delays), interval=delays) if delays else None,
            meta={"run": request.run, "tenant": request.tenant, "files": len(subjects(request))},
        )
    except DuplicateJobError:
        return job_id, False
    return job_id, True


def trim(queue: Queue, most: int) -> int:
    """Forgets the oldest jobs of a queue that have ended, beyond `most` of each kind; gives their number.

    How they ended is in the lake's records.
    """
    client, gone = queue.connection, 0
    for kind in (FinishedJobRegistry, FailedJobRegistry, CanceledJobRegistry):
        key = kind(queue.name, connection=client).key
        surplus = min(client.zcard(key) - most, _AT_ONCE)
        if surplus <= 0:
            continue
        ids: Any = client.zrange(key, 0, surplus - 1)
        for job in (name.decode() for name in ids):
            gone += client.eval(_FORGET, 3, key, Job.key_for(job), Result.get_key(job), job, *[s.value for s in ENDED])
    return gone


def _description(request: Request) -> str:
    """One line for people."""
    if isinstance(request, NotebookRequest):
        return f"notebook {request.notebook}"
    name = f"replay of {request.table}" if request.replay else request.pipeline or "by name"
    more = f" and {len(request.sources) - 1} more" if len(request.sources) > 1 else ""
    return f"{name}: {shown(request.sources[0].uri)}{more}"


def ask_to_stop(job: Job) -> bool:
    """Asks the worker that is at a job to stop it; False if none is at it."""
    return bool(job.connection.eval(_ASK_TO_STOP, 1, job.key, _STOP, _STARTED))


def stopped() -> TerminalError:
    """Return the error of a job that someone asked to stop."""
    return TerminalError("Job was stopped on request", fix="`ingestlab retry` runs it again.", code="job_stopped")


def asked_to_stop(job: Job) -> bool:
    """Whether somebody has asked so since the job was begun."""
    wish, started = job.connection.hmget(job.key, [_STOP, _STARTED])
    return wish is not None and wish == started


def fetch_jobs(client: redis.Redis, ids: list[str]) -> dict[str, Job]:
    """The jobs that Redis still has, by id."""
    jobs = Job.fetch_many(ids, connection=client, serializer=JobSerializer)
    return {job.id: job for job in jobs if job is not None}


def fetch_job(client: redis.Redis, job_id: str) -> Job | None:
    """One job; None if Redis does not have it."""
    try:
        return Job.fetch(job_id, connection=client, serializer=JobSerializer)
    except NoSuchJobError:
        return None
