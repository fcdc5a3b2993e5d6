"""Fair turns among tenants: jobs wait in a list for each, and a worker takes that of the tenant who is furthest behind.

Producers push onto RQ's own list, whoever they are. A worker's dequeue first spreads what is there over lists of the
tenants, which are queues of RQ too: those of ``ingest`` are ``ingest@acme``, ``ingest@beta``. Then it serves the tenant
with the least *tag*: what its jobs have cost so far, in bytes, divided by its weight. A tenant that comes back begins
at the tag that is being served, so that it neither catches up what it did not use nor is held back. This is start-time
fair queueing, which keeps the law of weighted deficit round robin without its rounds.

A job is in one place at any time: RQ's list, a tenant's list, or RQ's list of what is taken and not begun. Each step
between them is one script. Where no tenant has limits or company, the queue is as RQ has it.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from functools import cache
from typing import Any

import redis
from rq import Queue
from rq.exceptions import DequeueTimeout

from ingestlab.lake.tenants import WEIGHTS

SPREAD = 200  # jobs that one dequeue spreads; the sweep of a queue spreads more
LOOK = 1.0  # seconds between two looks of an idle worker at tenants that run as many jobs as they may
_LOOK_SINGLE = 30.0  # likewise while there is one tenant
_LOOK_SEVERAL = 0.1  # likewise of a worker of several queues, which can wait for the first alone
_RESERVED = 15_000  # ms for which a place is kept between the dequeue and the beginning of a job
_HERE = secrets.token_hex(8)  # this process, among idle workers

_COMMON = """
local q = ARGV[1]
local main = 'rq:queue:' .. q
local taken, fair = main .. ':intermediate', 'ingestlab:fair:' .. q
local ring, parked, tags, idle = fair .. ':ring', fair .. ':parked', fair .. ':tags', fair .. ':idle'
local function text(number) return string.format('%.17g', number) end
local function served() return tonumber(redis.call('GET', fair .. ':served')) or 0 end
local function about(job)
  local meta = redis.call('HGET', 'rq:job:' .. job, 'meta')
  local at = meta and string.find(meta, '{', 1, true)
  local good, notes = pcall(cjson.decode, at and string.sub(meta, at) or '{}')
  if not good or type(notes) ~= 'table' then notes = {} end
  local tenant = type(notes.tenant) == 'string' and notes.tenant or 'default'
  return tenant, math.max(1, tonumber(notes.cost) or 1048576)
end
local function enter(tenant, floor)
  local tag = math.max(tonumber(redis.call('HGET', tags, tenant)) or 0, floor)
  redis.call('ZADD', ring, text(tag), tenant)
end
local function place(tenant, job)
  if job and string.sub(job, 1, 9) == 'notebook-' then return true end
  local cap = tonumber(redis.call('HGET', 'ingestlab:fair:caps', tenant) or nil)
  if not cap then return true end
  local keys = {}
  for i = 0, cap - 1 do keys[#keys + 1] = 'ingestlab:slot:' .. tenant .. ':' .. i end
  local owners = redis.call('MGET', unpack(keys))
  for i, owner in ipairs(owners) do
    if not owner or owner == job then
      if job then redis.call('SET', keys[i], job, 'PX', ARGV[4]) end
      return true
    end
  end
  return false
end
local function pay(tenant, tag, cost)
  redis.call('SET', fair .. ':served', text(math.max(tag, served())))
  local weight = tonumber(redis.call('HGET', 'ingestlab:fair:weights', tenant) or 1)
  redis.call('HSET', tags, tenant, text(tag + cost / weight))
  return tag + cost / weight
end
local function spread(most, leave)
  local floor, moved = served(), 0
  while moved < most and redis.call('LLEN', main) > leave do
    local job = redis.call('LPOP', main)
    local tenant, cost = about(job)
    local list = main .. '@' .. tenant
    if redis.call('EXISTS', 'rq:job:' .. job) == 1
        and redis.call('HSETNX', 'rq:job:' .. job, 'ingestlab:turn', text(cost)) == 1 then
      if redis.call('RPUSH', list, job) == 1 then
        redis.call('SADD', 'rq:queues', list)
        if redis.call('HEXISTS', parked, tenant) == 0 then enter(tenant, floor) end
      end
    end
    moved = moved + 1
  end
  return moved
end
local function now()
  local clock = redis.call('TIME')
  return clock[1] + clock[2] / 1000000
end
"""
# Takes the next job. Without one the worker is noted as idle: what comes then is left for it in RQ's list.
_TAKE = (
    _COMMON
    + """
local worker, most, seconds = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[5])
if redis.call('EXISTS', 'ingestlab:fair:weights') == 0 and redis.call('EXISTS', ring) == 0 then
  return redis.call('LMOVE', main, taken, 'LEFT', 'RIGHT')
end
redis.call('ZREM', idle, worker)
redis.call('ZREMRANGEBYSCORE', idle, '-inf', text(now()))
if redis.call('EXISTS', parked) == 1 then
  for _, tenant in ipairs(redis.call('HRANDFIELD', parked, 32)) do
    if place(tenant, nil) then
      redis.call('HDEL', parked, tenant)
      enter(tenant, served())
    end
  end
end
spread(most, redis.call('ZCARD', idle))
while true do
  local head = redis.call('ZRANGE', ring, 0, 0, 'WITHSCORES')
  if not head[1] then break end
  local tenant, tag = head[1], tonumber(head[2])
  local list = main .. '@' .. tenant
  local job = redis.call('LINDEX', list, 0)
  local cost = job and redis.call('HGET', 'rq:job:' .. job, 'ingestlab:turn')
  if not job then
    redis.call('ZREM', ring, tenant)
    redis.call('SREM', 'rq:queues', list)
  elseif not cost or redis.call('HGET', 'rq:job:' .. job, 'status') == 'canceled' then
    redis.call('LPOP', list)
    if cost then redis.call('HDEL', 'rq:job:' .. job, 'ingestlab:turn') end
  elseif not place(tenant, job) then
    redis.call('ZREM', ring, tenant)
    redis.call('HSET', parked, tenant, 1)
  else
    redis.call('LPOP', list)
    redis.call('HDEL', 'rq:job:' .. job, 'ingestlab:turn')
    redis.call('RPUSH', taken, job)
    local after = pay(tenant, tag, tonumber(cost))
    if redis.call('EXISTS', list) == 1 then
      redis.call('ZADD', ring, text(after), tenant)
    else
      redis.call('ZREM', ring, tenant)
      redis.call('SREM', 'rq:queues', list)
    end
    return job
  end
end
redis.call('ZADD', idle, text(now() + seconds), worker)
return false
"""
)
# Lets a worker that was idle have what it was given, unless its tenant runs as many jobs as it may.
_ADMIT = (
    _COMMON
    + """
local job = ARGV[2]
redis.call('ZREM', idle, ARGV[3])
if redis.call('EXISTS', 'ingestlab:fair:weights') == 0 then return 1 end
local tenant, cost = about(job)
local list = main .. '@' .. tenant
if redis.call('HDEL', 'rq:job:' .. job, 'ingestlab:turn') == 1 then redis.call('LREM', list, 1, job) end
if place(tenant, job) then
  pay(tenant, math.max(tonumber(redis.call('HGET', tags, tenant)) or 0, served()), cost)
  return 1
end
redis.call('LREM', taken, 1, job)
if redis.call('EXISTS', 'rq:job:' .. job) == 1 then
  redis.call('HSET', 'rq:job:' .. job, 'ingestlab:turn', text(cost))
  redis.call('LPUSH', list, job)
  redis.call('SADD', 'rq:queues', list)
  redis.call('ZREM', ring, tenant)
  redis.call('HSET', parked, tenant, 1)
end
return 0
"""
)
_SPREAD = (
    _COMMON
    + """
if redis.call('EXISTS', 'ingestlab:fair:weights') == 0 then return 0 end
redis.call('ZREMRANGEBYSCORE', idle, '-inf', text(now()))
return spread(tonumber(ARGV[2]), redis.call('ZCARD', idle))
"""
)
_WAITING = (
    _COMMON
    + """
local found = {}
for _, tenant in ipairs(redis.call('ZRANGE', ring, 0, -1)) do
  found[#found + 1] = tenant
  found[#found + 1] = redis.call('LLEN', main .. '@' .. tenant)
end
for _, tenant in ipairs(redis.call('HKEYS', parked)) do
  found[#found + 1] = tenant
  found[#found + 1] = redis.call('LLEN', main .. '@' .. tenant)
end
return found
"""
)
_TAKE_OUT = """
if redis.call('HDEL', 'rq:job:' .. ARGV[2], 'ingestlab:turn') == 0 then return 0 end
return redis.call('LREM', 'rq:queue:' .. ARGV[1] .. '@' .. ARGV[3], 1, ARGV[2])
"""


class FairQueue(Queue):
    """A queue of RQ whose workers take turns among tenants."""

    @classmethod
    def dequeue_any(cls, queues: Any, timeout: int | None, connection: Any, *args: Any, **classes: Any) -> Any:
        """Take the next job. See :meth:`rq.Queue.dequeue_any`, also for the arguments."""
        names = [queue.name for queue in queues]
        until = None if timeout is None else time.monotonic() + timeout
        while True:
            look = (LOOK if connection.exists(WEIGHTS) else _LOOK_SINGLE) if len(names) == 1 else _LOOK_SEVERAL
            if timeout is not None:
                look = min(look, timeout)
            taken = next(((name, job) for name in names if (job := take(connection, name, seconds=look + 1))), None)
            if taken is None and until is not None:
                taken = _wait(connection, names[0], look)
            if taken is not None:
                name, job = taken
                if fetched := cls._fetch_dequeued_job(connection, key_of(name), job, *args, **classes):
                    return fetched
                connection.lrem(f"{key_of(name)}:intermediate", 1, job)  # forgotten meanwhile
            elif until is None:
                return None
            elif time.monotonic() >= until:
                raise DequeueTimeout(timeout, [key_of(name) for name in names])


def _wait(client: redis.Redis, queue: str, seconds: float) -> tuple[str, str] | None:
    """Sleep until a job is left for this worker. None if its tenant runs as many as it may, or none comes."""
    key = key_of(queue)
    job: Any = client.blmove(key, f"{key}:intermediate", seconds)  # type: ignore[arg-type] # Redis 6 takes fractions
    if job is None or not _call(client, _ADMIT, queue, job, _HERE, _RESERVED):
        return None
    return queue, job.decode()


def key_of(queue: str) -> str:
    """Name the list of a queue."""
    return f"rq:queue:{queue}"


def take(client: redis.Redis, queue: str, seconds: float = LOOK, most: int = SPREAD) -> str | None:
    """Take the next job of a queue. It is then taken and not begun.

    Args:
        client: Of Redis.
        queue: Its name.
        seconds: For which the worker counts as idle if there is none.
        most: Jobs that are spread over the tenants' lists before.
    """
    job: Any = _call(client, _TAKE, queue, _HERE, most, _RESERVED, seconds)
    return job.decode() if job else None


def spread(client: redis.Redis, queue: str, most: int = 50 * SPREAD) -> int:
    """Spread what producers have pushed over the lists of the tenants.

    Args:
        client: Of Redis.
        queue: Its name.
        most: Jobs; each call of Redis moves some hundreds.

    Returns:
        How many were moved.
    """
    moved = 0
    while moved < most:
        count: Any = _call(client, _SPREAD, queue, SPREAD)
        moved += count
        if count < SPREAD:
            break
    return moved


def take_out(client: redis.Redis, queue: str, job: str, tenant: str) -> None:
    """Take a job out of its tenant's list, if it waits there.

    Args:
        client: Of Redis.
        queue: Its name.
        job: The id.
        tenant: Whose it is.
    """
    _call(client, _TAKE_OUT, queue, job, tenant)


def waiting(client: redis.Redis, queue: str) -> dict[str, int]:
    """Count the jobs in the tenants' lists of a queue.

    Args:
        client: Of Redis.
        queue: Its name.
    """
    answer: Any = _call(client, _WAITING, queue)
    return {tenant.decode(): count for tenant, count in zip(answer[::2], answer[1::2], strict=True) if count}


def _call(client: redis.Redis, script: str, *arguments: Any) -> Any:
    """Call a script by its hash. It is sent once."""
    try:
        return client.evalsha(_hash(script), 0, *arguments)
    except redis.exceptions.NoScriptError:
        return client.eval(script, 0, *arguments)


@cache
def _hash(script: str) -> str:
    return hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()
