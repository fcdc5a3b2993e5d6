"""What waits on queues and who listens there, asked through the broker."""

from __future__ import annotations

from typing import Any

import redis

from ingestlab.core.jobs import QueueState
from ingestlab.core.settings import Settings
from ingestlab.queue.broker import broker


def queue_summary(settings: Settings) -> dict[str, Any]:
    """Count what waits on the settings' queue and who listens there.

    Returns:
        ``name``, ``waiting`` and ``workers``; without an answer the last two are None, and ``error`` says why.
    """
    queue: dict[str, Any] = {"name": settings.queue, "waiting": None, "workers": None}
    try:
        with redis.Redis.from_url(settings.redis, socket_timeout=2) as client:
            state = broker(settings, client).state(settings.queue)
            queue |= {"waiting": state.waiting, "workers": state.workers}
    except redis.RedisError as error:
        queue["error"] = str(error)
    return queue


def queues(settings: Settings, seconds: float = 2.0) -> list[QueueState] | None:
    """Count jobs and workers on each queue.

    Args:
        settings: Their queue comes first, then all others where something waits, runs or listens.
        seconds: That Redis may take to answer.

    Returns:
        None if Redis does not answer.
    """
    try:
        with redis.Redis.from_url(settings.redis, socket_timeout=seconds, socket_connect_timeout=seconds) as client:
            door = broker(settings, client)
            states = [door.state(n) for n in (settings.queue, *sorted(door.names() - {settings.queue}))]
    except redis.RedisError:
        return None
    return [q for q in states if q.name == settings.queue or q.waiting or q.running or q.workers]
