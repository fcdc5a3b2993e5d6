"""What waits on queues and who listens there, asked through the broker."""

from __future__ import annotations

from typing import Any

import redis

from ingestlab.core.jobs import QueueState
from ingestlab.core.settings import Settings
from ingestlab.queue.broker import broker


def queue_summary(settings: Settings) -> dict[str, Any]:
    """What waits on the queue and how many listen, as plain data; None for both if Redis does not answer."""
    queue: dict[str, Any] = {"name": settings.queue, "waiting": None, "workers": None}
    try:
        with redis.Redis.from_url(settings.redis, socket_timeout=2) as client:
            state = broker(settings, client).state(settings.queue)
            queue |= {"waiting": state.waiting, "workers": state.workers}
    except redis.RedisError as error:
        queue["error"] = str(error)
    return queue


def queues(settings: Settings, seconds: float = 2.0) -> list[QueueState] | None:
    """The queue of the settings, then all others where something waits, runs or listens; None if Redis is away."""
    try:
        with redis.Redis.from_url(settings.redis, socket_timeout=seconds, socket_connect_timeout=seconds) as client:
            asked = broker(settings, client)
            found = [asked.state(n) for n in (settings.queue, *sorted(asked.names() - {settings.queue}))]
    except redis.RedisError:
        return None
    return [q for q in found if q.name == settings.queue or q.waiting or q.running or q.workers]
