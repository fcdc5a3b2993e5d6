"""Workers and queues as RQ registers them, read from its Redis keys."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from secrets import token_hex

import redis

from ingestlab.core.jobs import Listener, QueueState
from ingestlab.queue.reading import ask_each
from ingestlab.queue.rq.fair import waiting as by_tenant
from ingestlab.queue.rq.view import text

OURS = "ingestlab"  # a field that our worker class adds to its entry: the version of ingestlab


def listeners(client: redis.Redis, queue: str) -> list[Listener]:
    """List the workers registered for a queue. Those that ended on this machine are left out."""
    return read_listeners(client, sorted(text(key) for key in client.smembers(f"rq:workers:{queue}")))


def read_listeners(client: redis.Redis, keys: Sequence[str]) -> list[Listener]:
    """Read workers by their keys, in one round trip. Those that ended on this machine are left out."""
    answers = ask_each(client, keys, lambda pipe, key: pipe.hgetall(key))
    listeners = [
        _listener(key.removeprefix("rq:worker:"), {text(k): text(v) for k, v in fields.items()})
        for key, (fields,) in zip(keys, answers, strict=True)
        if fields and b"death" not in fields
    ]
    return [listener for listener in listeners if not listener.gone]


def free_name(client: redis.Redis, wanted: str) -> str:
    """Name a new worker: as wanted, unless a living worker has that name."""
    key = f"rq:worker:{wanted}"
    if read_listeners(client, [key]):
        return f"{wanted}-{token_hex(2)}"
    client.delete(key)  # of one that was killed here: RQ would take it for alive for some minutes
    return wanted


def queue_names(client: redis.Redis) -> set[str]:
    """Name all queues that RQ knows, without the lists of their tenants."""
    return own_names(client.smembers("rq:queues"))


def own_names(keys: Iterable[bytes | str]) -> set[str]:
    """Name the queues that have workers: ``ingest`` for the lists of its tenants, ``ingest@acme``."""
    return {text(key).removeprefix("rq:queue:").partition("@")[0] for key in keys}


def queue_state(client: redis.Redis, name: str) -> QueueState:
    """Count what waits and runs on a queue, and who listens."""
    waiting, running = client.llen(f"rq:queue:{name}"), client.zcard(f"rq:wip:{name}")
    waiting += sum(by_tenant(client, name).values())
    return QueueState(name, waiting, running, len(listeners(client, name)))


def is_needed(client: redis.Redis, name: str) -> bool:
    """Tell whether jobs of a queue wait, run or await a retry."""
    registries = [f"rq:{registry}:{name}" for registry in ("queue", "wip", "scheduled")]
    return bool(client.exists(*registries, *(f"ingestlab:fair:{name}:{of}" for of in ("ring", "parked"))))


def _listener(name: str, fields: Mapping[str, str]) -> Listener:
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
