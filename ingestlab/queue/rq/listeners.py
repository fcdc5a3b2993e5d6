"""Who listens on a queue: RQ's register of workers, read from its Redis keys."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import psutil
import redis

from ingestlab.core.settings import Settings

OURS = "ingestlab"  # a field that our worker class adds to its entry: the version of ingestlab


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

    @classmethod
    def read(cls, name: str, fields: Mapping[str, str]) -> Listener:
        """The worker that an entry of RQ's register tells of."""
        beat = fields.get("last_heartbeat")
        return cls(
            name=name,
            pid=int(fields.get("pid") or 0),
            host=fields.get("hostname", ""),
            beat=datetime.fromisoformat(beat).astimezone(UTC) if beat else None,
            version=fields.get(OURS),
            busy=fields.get("state") == "busy",
            queues=tuple(name for name in fields.get("queues", "").split(",") if name),
            done=int(fields.get("successful_job_count") or 0),
        )

    @property
    def gone(self) -> bool:
        """Whether it ran on this machine and does no more; its entry stays for some minutes."""
        return self.host == socket.gethostname() and not psutil.pid_exists(self.pid)

    def silence(self, now: datetime) -> float:
        """Seconds since its heart was last heard."""
        return (now - self.beat).total_seconds() if self.beat else float("inf")


def listeners(client: redis.Redis, queue: str) -> list[Listener]:
    """The workers that say they listen on this queue, those left out that ended on this machine."""
    found = []
    for key in sorted(_text(k) for k in client.smembers(f"rq:workers:{queue}")):
        fields = {_text(k): _text(v) for k, v in client.hgetall(key).items()}
        if fields and "death" not in fields:
            found.append(Listener.read(key.removeprefix("rq:worker:"), fields))
    return [listener for listener in found if not listener.gone]


def queue_state(settings: Settings) -> dict[str, Any]:
    """What waits on the queue and how many listen, as plain data; None for both if Redis does not answer."""
    queue: dict[str, Any] = {"name": settings.queue, "waiting": None, "workers": None}
    try:
        with redis.Redis.from_url(settings.redis, socket_timeout=2) as client:
            queue["waiting"] = client.llen(f"rq:queue:{settings.queue}")
            queue["workers"] = len(listeners(client, settings.queue))
    except redis.RedisError as error:
        queue["error"] = str(error)
    return queue


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value


@dataclass(frozen=True)
class QueueState:
    """One queue at one moment."""

    name: str
    waiting: int
    running: int
    workers: int


def queues(settings: Settings, seconds: float = 2.0) -> list[QueueState] | None:
    """The queue of the settings, then all others where something waits, runs or listens; None if Redis is away."""
    try:
        with redis.Redis.from_url(settings.redis, socket_timeout=seconds, socket_connect_timeout=seconds) as client:
            known = {_text(key).removeprefix("rq:queue:") for key in client.smembers("rq:queues")}
            found = [_queue(client, name) for name in (settings.queue, *sorted(known - {settings.queue}))]
    except redis.RedisError:
        return None
    return [q for q in found if q.name == settings.queue or q.waiting or q.running or q.workers]


def _queue(client: redis.Redis, name: str) -> QueueState:
    waiting, running = client.llen(f"rq:queue:{name}"), client.zcard(f"rq:wip:{name}")
    return QueueState(name, waiting, running, len(listeners(client, name)))
