"""What a broker tells of jobs, of queues, and of the workers that listen on them."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import psutil

JobStatus = Literal["queued", "running", "retrying", "finished", "failed", "stopped", "canceled"]
ENDED: tuple[JobStatus, ...] = ("finished", "failed", "stopped", "canceled")


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


@dataclass(frozen=True)
class QueueState:
    """One queue at one moment."""

    name: str
    waiting: int
    running: int
    workers: int
