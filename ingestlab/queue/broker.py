"""The broker that the settings choose."""

from __future__ import annotations

import redis

from ingestlab.core.plugins import load
from ingestlab.core.settings import Settings
from ingestlab.interfaces import Queue
from ingestlab.lake.locks import connect


def broker(settings: Settings, client: redis.Redis | None = None) -> Queue:
    """Make the queue of ``INGESTLAB_BROKER``.

    Args:
        settings: Name it, and what it has to connect to.
        client: A connection to Redis, where there is one.

    Raises:
        TerminalError: There is no plug-in of that name.
    """
    queue: Queue = load("queues", settings.broker)(settings, client if client is not None else connect(settings.redis))
    return queue
