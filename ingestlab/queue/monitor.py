"""What the dashboard reads of a broker: queues, jobs and workers, in few and bounded round trips."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from ingestlab.core.jobs import Listener

QUEUES = 24  # so many are shown
WORKERS = 64


@dataclass(frozen=True)
class Queue:
    """A queue: how many jobs are in which state, and which ones are at work or have ended lately."""

    name: str
    waiting: int
    counts: Mapping[str, int]  # by state: running, retrying, finished, failed, canceled
    ahead: tuple[str, ...]  # the first of those that wait
    at_work: tuple[str, ...]
    retrying: tuple[str, ...]
    ended: Mapping[str, float]  # the last ones: what RQ sorts them by, which changes when a job ends again
    tenants: Mapping[str, int] = field(default_factory=dict)  # waiting jobs, of those ahead


@dataclass(frozen=True)
class Job:
    """What a job's hash says of it."""

    id: str
    queue: str
    status: str
    began: float | None
    ended: float | None
    description: str
    meta: Mapping[str, Any]

    @property
    def progress(self) -> Mapping[str, Any]:
        """Where it is; empty if it has not begun."""
        found = self.meta.get("progress")
        return found if isinstance(found, dict) else {}

    @property
    def files(self) -> int:
        """How many files its request names."""
        found = self.meta.get("files")
        return found if isinstance(found, int) else 1

    @property
    def counts(self) -> dict[str, int]:
        """How much it has done, in the words of rates."""
        return {"files": self.number("files_done")} | {
            n: self.number(n) for n in ("rows", "rejected", "bytes", "failed")
        }

    def number(self, name: str) -> int:
        """A number of its progress; 0 where it does not say, or says something else."""
        found = self.progress.get(name)
        return found if isinstance(found, int) else 0


class Monitor(Protocol):
    """What a broker can tell of itself; each call raises redis.RedisError where it does not answer."""

    def names(self) -> tuple[list[str], list[str]]:
        """The names of all queues, and the keys of all workers."""
        ...

    def queues(self, names: Sequence[str], last: int) -> list[Queue]:
        """The states of queues; `last` is how many ended jobs are listed for each."""
        ...

    def jobs(self, ids: Iterable[str]) -> list[Job]:
        """The jobs that are still there."""
        ...

    def results(self, ids: Sequence[str]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        """For each job, its return value, and the error that it has left; empty where there is none."""
        ...

    def workers(self, keys: Sequence[str]) -> list[Listener]:
        """The workers that are registered, but for those that ended on this machine."""
        ...

    def tenants(self, queues: Iterable[Queue]) -> dict[str, Counter[str]]:
        """Waiting jobs by queue and tenant."""
        ...
