"""Workers as they register themselves in Redis, where the broker knows them by connections alone."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from secrets import token_hex
from typing import Any

import redis

from ingestlab.core.jobs import Listener
from ingestlab.core.settings import MISSED_BEATS, Settings
from ingestlab.core.version import VERSION
from ingestlab.queue.reading import ask_each

WORKERS = "ingestlab:workers"
_STAYS = 60  # seconds beyond the missed beats that an entry stays, for those who ask why nobody works


def worker_key(name: str) -> str:
    """Name the hash of a worker."""
    return f"ingestlab:worker:{name}"


class Registration:
    """The entry of this process among the workers.

    Args:
        client: Of Redis.
        settings: Name the worker, and say how often it beats.
        queues: That it works on.
    """

    def __init__(self, client: redis.Redis, settings: Settings, queues: Sequence[str]) -> None:
        wanted = settings.worker_name or f"{socket.gethostname()}-{os.getpid()}"
        taken = any(listener.pid != os.getpid() for listener in read_listeners(client, [wanted]))
        self.name = f"{wanted}-{token_hex(2)}" if taken else wanted
        self._client, self._done, self._queues = client, 0, queues
        self._ttl = int(MISSED_BEATS * settings.beat) + _STAYS

    def beat(self, *, busy: bool) -> None:
        """Show that the process lives."""
        facts: Mapping[Any, Any] = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "beat": time.time(),
            "version": VERSION,
            "busy": int(busy),
            "queues": ",".join(self._queues),
            "done": self._done,
        }
        with self._client.pipeline() as pipe:
            pipe.hset(worker_key(self.name), mapping=facts)
            pipe.expire(worker_key(self.name), self._ttl)
            pipe.sadd(WORKERS, self.name)
            pipe.execute()

    def count(self) -> None:
        """Count a job that went well."""
        self._done += 1

    def close(self) -> None:
        """Take the entry out."""
        with self._client.pipeline() as pipe:
            pipe.delete(worker_key(self.name))
            pipe.srem(WORKERS, self.name)
            pipe.execute()


def worker_names(client: redis.Redis) -> list[str]:
    """Name all workers that have registered."""
    return sorted(_text(name) for name in client.smembers(WORKERS))


def read_listeners(client: redis.Redis, names: Sequence[str]) -> list[Listener]:
    """Read workers by name, in one round trip. Those that ended on this machine are left out."""
    answers = ask_each(client, names, lambda pipe, name: pipe.hgetall(worker_key(name)))
    listeners = []
    for name, (raw,) in zip(names, answers, strict=True):
        if not raw:
            client.srem(WORKERS, name)
            continue
        fields = {_text(key): _text(value) for key, value in raw.items()}
        listeners.append(
            Listener(
                name=name,
                pid=int(fields["pid"]),
                host=fields["host"],
                beat=datetime.fromtimestamp(float(fields["beat"]), UTC),
                version=fields["version"],
                busy=fields["busy"] == "1",
                queues=tuple(fields["queues"].split(",")),
                done=int(fields["done"]),
            )
        )
    return [listener for listener in listeners if not listener.gone]


def _text(value: Any) -> str:
    text: str = value.decode()
    return text
