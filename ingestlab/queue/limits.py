"""What a tenant may have at once and in a day: asked before jobs are queued, and before one is begun."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from typing import Any

import redis

from ingestlab.core.errors import BusySourceError, TerminalError
from ingestlab.core.jobs import ENDED
from ingestlab.core.messages import Request
from ingestlab.core.models import IngestRequest
from ingestlab.core.tenants import Tenant
from ingestlab.executors.feeding import in_flight
from ingestlab.interfaces import Queue
from ingestlab.lake.locks import Lease

SLOT = "ingestlab:slot:"  # locks, one for each job that a tenant may run at once
_KEPT = 3 * 86400  # seconds that a day's counts are kept
# Keys: the tenant's jobs, its counts of the day. All of it, or the name of the limit that is in the way.
_ADMIT = """
local jobs, files, bytes = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local known = 0
for i = 7, #ARGV do known = known + redis.call('SISMEMBER', KEYS[1], ARGV[i]) end
if jobs >= 0 and redis.call('SCARD', KEYS[1]) + #ARGV - 6 - known > jobs then return 'queued_jobs' end
local counts = redis.call('HMGET', KEYS[2], 'files', 'bytes')
if files >= 0 and (tonumber(counts[1]) or 0) + tonumber(ARGV[4]) > files then return 'files_a_day' end
if bytes >= 0 and (tonumber(counts[2]) or 0) + tonumber(ARGV[5]) > bytes then return 'bytes_a_day' end
if jobs >= 0 then redis.call('SADD', KEYS[1], unpack(ARGV, 7)) end
redis.call('HINCRBY', KEYS[2], 'files', ARGV[4])
redis.call('HINCRBY', KEYS[2], 'bytes', ARGV[5])
redis.call('EXPIRE', KEYS[2], ARGV[6])
return false
"""
_AT_ONCE = 1000  # jobs that are admitted in one go


def admit(requests: Sequence[Request], tenant: Tenant | None, queue: Queue, client: redis.Redis) -> list[Request]:
    """Count requests that are to be queued, all or none.

    Args:
        requests: Of one run.
        tenant: Whose; None for one without limits.
        queue: Knows which of its jobs have ended.
        client: Of Redis.

    Returns:
        Those that were counted: others are queued or running already, or nothing is counted.

    Raises:
        TerminalError: A limit of the tenant is in the way.
    """
    if tenant is None or (tenant.queued_jobs, tenant.files_a_day, tenant.bytes_a_day) == (None,) * 3:
        return []
    known = queue.jobs([request.job_id for request in requests])
    if not (new := [r for r in requests if r.job_id not in known or known[r.job_id].status in ENDED]):
        return []
    _check(new, tenant, queue, client)
    return new


def _check(requests: Sequence[Request], tenant: Tenant, queue: Queue, client: redis.Redis) -> None:
    refusal = _admit(requests, tenant, client)
    if refusal == "queued_jobs":
        _forget_ended(tenant, queue, client)
        refusal = _admit(requests, tenant, client)
    if refusal:
        most = getattr(tenant, refusal)
        raise TerminalError(
            f"Limit of tenant '{tenant.name}' reached: {refusal.replace('_', ' ')}",
            expected=f"{most:,} at most",
            got=_asked(refusal, requests, tenant, client),
            fix="Wait for jobs to end, or submit less." if refusal == "queued_jobs" else "Wait until midnight UTC.",
            code="limit_exceeded",
        )


def give_back(requests: Sequence[Request], tenant: Tenant | None, client: redis.Redis) -> None:
    """Take back what was counted of requests that were not queued.

    Args:
        requests: That were queued or running already, or could not be queued.
        tenant: As for :func:`admit`.
        client: Likewise.
    """
    if tenant is None or not requests or (tenant.files_a_day, tenant.bytes_a_day) == (None, None):
        return
    files, size = _amount(requests)
    client.hincrby(_day(tenant), "files", -files)
    client.hincrby(_day(tenant), "bytes", -size)


@contextmanager
def slot(job: str, tenant: Tenant | None, client: redis.Redis, ttl: float) -> Iterator[None]:
    """Hold a place of a tenant's running jobs. Its tasks are bounded.

    Args:
        job: Its id.
        tenant: Whose; None for one without limits.
        client: Of Redis.
        ttl: Seconds after which the place of a dead worker is free.

    Raises:
        BusySourceError: All places are taken; the job waits its turn.
    """
    if tenant is None or tenant.running_jobs is None:
        yield
        return
    lease = Lease(client, SLOT, ttl)
    lease.token = job  # whoever takes the job over has its place at once; so has who was given it with the job
    try:
        _take_place(lease, job, tenant.name, tenant.running_jobs, client)
        with in_flight(tenant.tasks_a_job) if tenant.tasks_a_job else nullcontext():
            yield
    finally:
        lease.release()


def _take_place(lease: Lease, job: str, tenant: str, places: int, client: redis.Redis) -> None:
    names = [f"{tenant}:{place}" for place in range(places)]
    owners: Any = client.mget([SLOT + name for name in names])
    mine = [name for name, owner in zip(names, owners, strict=True) if owner == job.encode()]
    for name in mine or [name for name, owner in zip(names, owners, strict=True) if owner is None]:
        try:
            return lease.acquire([name])
        except BusySourceError:
            continue
    raise BusySourceError(f"Tenant '{tenant}' runs {places} jobs, which is its limit", fix="This job waits its turn.")


def _admit(requests: Sequence[Request], tenant: Tenant, client: redis.Redis) -> str:
    files, size = _amount(requests)
    caps = [-1 if most is None else most for most in (tenant.queued_jobs, tenant.files_a_day, tenant.bytes_a_day)]
    ids = [request.job_id for request in requests]
    if tenant.queued_jobs is not None and len(ids) > tenant.queued_jobs:
        return "queued_jobs"  # which also keeps the call small
    keys, ids = (_jobs(tenant), _day(tenant)), ids if tenant.queued_jobs is not None else []
    refusal: Any = client.eval(_ADMIT, 2, *keys, *caps, files, size, _KEPT, *ids)
    return refusal.decode() if refusal else ""


def _forget_ended(tenant: Tenant, queue: Queue, client: redis.Redis) -> None:
    members: Any = client.smembers(_jobs(tenant))
    ids = [member.decode() for member in members]
    known = queue.jobs(ids)
    over = [job for job in ids if job not in known or known[job].status in ENDED]
    for first in range(0, len(over), _AT_ONCE):
        client.srem(_jobs(tenant), *over[first : first + _AT_ONCE])


def _asked(limit: str, requests: Sequence[Request], tenant: Tenant, client: redis.Redis) -> str:
    files, size = _amount(requests)
    if limit == "queued_jobs":
        return f"{client.scard(_jobs(tenant)):,}, and {len(requests):,} more"
    name, more = ("files", files) if limit == "files_a_day" else ("bytes", size)
    return f"{int(client.hget(_day(tenant), name) or 0):,} today, and {more:,} more"


def _amount(requests: Sequence[Request]) -> tuple[int, int]:
    sources = [source for request in requests if isinstance(request, IngestRequest) for source in request.sources]
    return len(sources), sum(source.size or 0 for source in sources)


def _jobs(tenant: Tenant) -> str:
    return f"ingestlab:tenant:{tenant.name}:jobs"


def _day(tenant: Tenant) -> str:
    return f"ingestlab:tenant:{tenant.name}:day:{datetime.now(UTC):%Y-%m-%d}"
