"""Values that pass between a broker, its workers and those who ask about jobs, queues and listeners."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, NamedTuple, TypedDict

import psutil

from ingestlab.core.errors import IngestError
from ingestlab.core.models import IngestResult

JobStatus = Literal["queued", "running", "retrying", "finished", "failed", "stopped", "canceled"]
ENDED: tuple[JobStatus, ...] = ("finished", "failed", "stopped", "canceled")


class JobNotes(TypedDict, total=False):
    """Notes of producer and worker on a job, as plain data. None is as good as missing."""

    run: str  # that has published it
    tenant: str
    files: int  # that its request names
    cost: int  # that it is likely to be, in bytes: for turns among tenants
    progress: dict[str, Any] | None  # a Progress
    error: dict[str, str] | None  # why its last try failed
    kept: dict[str, Any] | None  # an IngestResult: files that this try has ended, whatever becomes of the job
    result: dict[str, Any] | None  # an IngestResult over all attempts that have ended, unless the last went well
    attempt: dict[str, Any] | None  # that has begun and not ended, an ingestlab.queue.attempts.Opened
    cancelled: str | None  # why somebody wished it to be stopped, and who
    assumed: list[list[str]] | None  # pairs of a URI and what its reader has assumed
    deaths: int | None  # of workers while they ran it


@dataclass(frozen=True, slots=True)
class Job:
    """A job as its broker tells of it at one moment.

    Foreign producers may have noted anything: what displays read is checked here.
    """

    id: str  # made from its request: the same request is the same job
    queue: str
    status: JobStatus
    description: str  # one line for people
    notes: JobNotes
    queued: datetime | None = None  # when it was published; this and the next two in UTC
    began: datetime | None = None  # when its last try began
    ended: datetime | None = None  # when its last try ended
    worker: str = ""  # that has it, or had it last

    @property
    def progress(self) -> Mapping[str, Any]:
        """Return where it is; empty if it has not begun."""
        progress = self.notes.get("progress")
        return progress if isinstance(progress, dict) else {}

    @property
    def files(self) -> int:
        """Count the files that its request names."""
        files = self.notes.get("files")
        return files if isinstance(files, int) else 1

    def number(self, name: str) -> int:
        """Return a number of its progress. It is 0 where the progress says nothing, or no number."""
        value = self.progress.get(name)
        return value if isinstance(value, int) else 0

    def seconds(self, name: str) -> float:
        """Return a time of its progress, in seconds since the epoch. It is 0 where the progress says nothing."""
        value = self.progress.get(name)
        return value if isinstance(value, float) else 0.0


@dataclass(frozen=True, slots=True)
class JobEnding:
    """The end of a job's last try, as its broker has it."""

    result: Mapping[str, Any]  # an IngestResult as plain data; empty if there is none
    traceback: str  # in Python's words; empty if it did not fail
    error: IngestError  # made from the traceback, for a job that has noted none


@dataclass(frozen=True, slots=True)
class Done:
    """The job has ended. Files that failed for good are among the result's outcomes."""

    result: IngestResult


@dataclass(frozen=True, slots=True)
class RetryLater:
    """The job is to be tried again, whatever retries its broker has."""

    error: IngestError
    seconds: float  # from now
    counts: bool = True  # as one of the job's tries; False for waiting


@dataclass(frozen=True, slots=True)
class Failed:
    """The job has failed for good."""

    error: IngestError


TryEnd = Done | RetryLater | Failed


@dataclass(frozen=True)
class Listener:
    """One worker, as it has registered itself."""

    name: str
    pid: int
    host: str
    beat: datetime | None  # of its heart, the last time
    version: str | None  # of ingestlab; None for a worker of another class
    busy: bool = False
    queues: tuple[str, ...] = ()
    done: int = 0  # jobs that went well

    @property
    def gone(self) -> bool:
        """Tell whether it ran on this machine and has ended. Its entry stays for some minutes."""
        return self.host == socket.gethostname() and not psutil.pid_exists(self.pid)

    def silence(self, now: datetime) -> float:
        """Return the seconds since its last heartbeat."""
        return (now - self.beat).total_seconds() if self.beat else float("inf")


class BrokerFinding(NamedTuple):
    """One thing that a queue has to say of its broker."""

    level: Literal["ok", "warning", "error"]
    text: str
    fix: str = ""


@dataclass(frozen=True)
class QueueState:
    """One queue at one moment."""

    name: str
    waiting: int
    running: int
    workers: int


@dataclass(frozen=True)
class QueueSnapshot:
    """A queue with its jobs by state. Those that run or have ended lately are named."""

    name: str
    waiting: int
    counts: Mapping[str, int]  # by state: running, retrying, finished, failed, canceled
    ahead: tuple[str, ...]  # the first jobs that wait
    running: tuple[str, ...]
    retrying: tuple[str, ...]
    ended: Mapping[str, float]  # the last ones, each with a number that changes when it ends again
    tenants: Mapping[str, int] = field(default_factory=dict)  # waiting jobs, of those ahead
