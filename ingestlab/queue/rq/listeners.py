"""Who listens on a queue: RQ's register of workers, read from its Redis keys."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

import redis

from ingestlab.core.jobs import Listener, QueueState

OURS = "ingestlab"  # a field that our worker class adds to its entry: the version of ingestlab


def read_listener(name: str, fields: Mapping[str, str]) -> Listener:
    """Read the worker that an entry of RQ's register tells of."""
    beat = fields.get("last_heartbeat")
    return Listener(
        name=name,
        pid=int(fields.get("pid") or 0),
        host=fields.get("hostname", ""),
        beat=datetime.fromisoformat(beat).astimezone(UTC) if beat else None,
        version=fields.get(OURS),
        busy=fields.get("state") == "busy",
        queues=tuple(name for name in fields.get("queues", "").split(",") if name),
        done=int(fields.get("successful_job_count") or 0),
    )


def listeners(client: redis.Redis, queue: str) -> list[Listener]:
    """List the workers that say they listen on this queue, without those that ended on this machine."""
    found = []
    for key in sorted(_text(k) for k in client.smembers(f"rq:workers:{queue}")):
        fields = {_text(k): _text(v) for k, v in client.hgetall(key).items()}
        if fields and "death" not in fields:
            found.append(read_listener(key.removeprefix("rq:worker:"), fields))
    return [listener for listener in found if not listener.gone]


def queue_names(client: redis.Redis) -> set[str]:
    """Name all queues that RQ knows."""
    return {_text(key).removeprefix("rq:queue:") for key in client.smembers("rq:queues")}


def queue_state(client: redis.Redis, name: str) -> QueueState:
    """Count what waits and runs on a queue, and who listens."""
    waiting, running = client.llen(f"rq:queue:{name}"), client.zcard(f"rq:wip:{name}")
    return QueueState(name, waiting, running, len(listeners(client, name)))


def is_needed(client: redis.Redis, name: str) -> bool:
    """Whether anything waits, runs or is to be tried again on a queue."""
    return bool(client.exists(*(f"rq:{registry}:{name}" for registry in ("queue", "wip", "scheduled"))))


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
