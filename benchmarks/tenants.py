"""What a quiet tenant waits beside a noisy one, and what a fair dequeue costs: our scripts on a real Valkey.

The scenarios are those of trigger.dev's pull request 4353: a tenant floods the queue, or spreads its flood over many
names. Workers are simulated, with a clock of their own, so that the waits are those of the order in which jobs are
taken and not of this machine: each takes the next job from the real queue, and is busy for as long as the job lasts.
A wait is the time from the submission of a job to its end.
"""

from __future__ import annotations

import argparse
import heapq
import json
import random
import statistics
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import redis
from measures import Measure, check

from ingestlab.core.tenants import Tenant
from ingestlab.lake.tenants import share
from ingestlab.queue.rq import fair
from ingestlab.stack import valkey

QUEUE = "bench"
WORKERS = 8
SECONDS = 1.0  # that a job lasts on average; each between half and one and a half of it
FLOOD = 4_000  # jobs of the noisy tenant
QUIET = 200  # jobs of the quiet one, one by one
NAMES = 200  # over which the noisy tenant spreads its jobs
PER_NAME = 2  # jobs of one name at once, with caps
TARGET, DEQUEUE = 1.5, 0.3  # times the wait alone; milliseconds
TENANTS, JOBS = 1_000, 100_000
TAKES = 5_000


@dataclass
class Job:
    """A job of the simulation."""

    id: str
    tenant: str
    name: str
    at: float
    lasts: float


@dataclass
class Fifo:
    """RQ's own list, first in, first out."""

    client: redis.Redis
    jobs: dict[str, Job] = field(default_factory=dict)

    def push(self, job: Job) -> None:
        """Queues a job as RQ does."""
        self.jobs[job.id] = job
        _push(self.client, [(job.id, job.tenant, 1 << 20)])

    def take(self) -> Job | None:
        """Takes the job that a worker gets."""
        taken = fair.take(self.client, QUEUE, seconds=0)
        return self.jobs[taken] if taken else None

    def end(self, job: Job) -> None:
        """Is told that a job has ended."""


class Ours(Fifo):
    """Turns among tenants."""

    def __init__(self, client: redis.Redis) -> None:
        super().__init__(client)
        for name in ("noisy", "quiet"):
            share(Tenant(name=name), client)


class Caps(Fifo):
    """First in, first out, but for names of which as many run as may: the knob that queues have."""

    def __init__(self, client: redis.Redis) -> None:
        super().__init__(client)
        self._lists: dict[str, deque[Job]] = {}
        self._running: Counter[str] = Counter()

    def push(self, job: Job) -> None:
        """Queues a job under its name."""
        self._lists.setdefault(job.name, deque()).append(job)

    def take(self) -> Job | None:
        """Takes the oldest job of a name of which another one may run."""
        heads = [jobs[0] for name, jobs in self._lists.items() if jobs and self._running[name] < PER_NAME]
        if not heads:
            return None
        job = min(heads, key=lambda head: head.at)
        self._lists[job.name].popleft()
        self._running[job.name] += 1
        return job

    def end(self, job: Job) -> None:
        """Lets another one of its name run."""
        self._running[job.name] -= 1


def measure(options: argparse.Namespace, folder: Path) -> Iterator[Measure]:
    """Yields the waits of the quiet tenant, and the cost of a dequeue."""
    del options
    folder.mkdir(parents=True, exist_ok=True)
    with valkey.serve(folder) as url, redis.Redis.from_url(url) as client:
        alone = _waits(client, Fifo, flood=False, names=1)
        yield Measure("quiet tenant alone, wait p50", _share(alone, 50) * 1000, "ms", details=_details(alone))
        for what, names in (("flood", 1), ("shards", NAMES)):
            for order in (Fifo, Caps, Ours):
                waits = _waits(client, order, flood=True, names=names)
                for percent in (50, 95):
                    yield Measure(
                        f"{what}, {order.__name__.lower()}: wait p{percent} to that alone",
                        _share(waits, percent) / _share(alone, percent),
                        "times",
                        target=TARGET if order is Ours else None,
                        bound="most",
                        details=_details(waits),
                    )
        yield from _dequeue(client)


def _waits(client: redis.Redis, order: Callable[[redis.Redis], Fifo], *, flood: bool, names: int) -> list[float]:
    """Simulates workers; gives what each job of the quiet tenant has waited."""
    client.flushall()
    queue, chance = order(client), random.Random(7)

    def lasts() -> float:
        return SECONDS * chance.uniform(0.5, 1.5)

    coming = [Job(f"q{n}", "quiet", "quiet", 2.0 * n + chance.random(), lasts()) for n in range(QUIET)]
    if flood:
        coming += [Job(f"n{n}", "noisy", f"noisy-{n % names}", 0.0, lasts()) for n in range(FLOOD)]
    coming.sort(key=lambda job: (job.at, job.id))
    arrivals, running, free, waits = deque(coming), [], WORKERS, []
    while arrivals or running:
        now = min(arrivals[0].at if arrivals else 1e9, running[0][0] if running else 1e9)
        while arrivals and arrivals[0].at <= now:
            queue.push(arrivals.popleft())
        while running and running[0][0] <= now:
            _, _, job = heapq.heappop(running)
            queue.end(job)
            free += 1
            if job.tenant == "quiet":
                waits.append(now - job.at)
        while free and (job := queue.take()):
            free -= 1
            heapq.heappush(running, (now + job.lasts, job.id, job))
    check(len(waits), QUIET)
    return waits


def _dequeue(client: redis.Redis) -> Iterator[Measure]:
    """Measures a dequeue among many tenants and jobs, beside RQ's own."""
    client.flushall()
    _push(client, [(f"j{n}", "default", 1 << 20) for n in range(JOBS)])
    plain = _takes(client)
    client.flushall()
    for n in range(TENANTS):
        share(Tenant(name=f"t{n}", weight=1 + n % 3), client)
    chance = random.Random(7)
    _push(client, [(f"j{n}", f"t{chance.randrange(TENANTS)}", chance.randint(1, 64 << 20)) for n in range(JOBS)])
    began = time.perf_counter()
    check(fair.spread(client, QUEUE, 2 * JOBS), JOBS)
    spread = (time.perf_counter() - began) / JOBS * 1000
    times = _takes(client)
    details = {"p95": _share(times, 95), "RQ's own": statistics.median(plain), "to spread a job": spread}
    name = f"dequeue, {TENANTS:,} tenants with {JOBS:,} jobs"
    yield Measure(name, statistics.median(times), "ms", target=DEQUEUE, bound="most", details=details)


def _takes(client: redis.Redis) -> list[float]:
    """Milliseconds of each dequeue, with the way to the server and back."""
    times = []
    for _ in range(TAKES):
        began = time.perf_counter()
        job = fair.take(client, QUEUE)
        times.append((time.perf_counter() - began) * 1000)
        check(job is not None, True)
    return times


def _push(client: redis.Redis, jobs: list[tuple[str, str, int]]) -> None:
    """Writes jobs as RQ does, as far as scripts read them."""
    for first in range(0, len(jobs), 5_000):
        with client.pipeline(transaction=False) as pipe:
            for job, tenant, cost in jobs[first : first + 5_000]:
                meta = json.dumps({"tenant": tenant, "cost": cost})
                pipe.hset(f"rq:job:{job}", mapping={"status": "queued", "meta": meta})
                pipe.rpush(f"rq:queue:{QUEUE}", job)
            pipe.execute()


def _share(values: list[float], percent: int) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


def _details(waits: list[float]) -> dict[str, float]:
    return {"p50 s": _share(waits, 50), "p95 s": _share(waits, 95)}
