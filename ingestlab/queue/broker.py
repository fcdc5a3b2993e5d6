"""The broker that the settings choose."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import redis

from ingestlab.core.errors import TerminalError, TransientError
from ingestlab.core.plugins import load
from ingestlab.core.settings import Settings
from ingestlab.interfaces import Queue
from ingestlab.lake.locks import connect


def broker(settings: Settings, client: redis.Redis | None = None) -> Queue:
    """Make the queue of ``INGESTLAB_QUEUE_BACKEND``.

    Args:
        settings: Name it, and what it has to connect to.
        client: A connection to Redis, where there is one.

    Raises:
        TerminalError: There is no plug-in of that name.
    """
    queue: Queue = load("queues", settings.broker)(settings, client if client is not None else connect(settings.redis))
    return queue


@contextmanager
def reaching(
    settings: Settings,
    fix: str = "Start the stack with `ingestlab up`, or in a notebook with Lab(); or check REDIS_URL.",
) -> Iterator[None]:
    """Translate errors of the Redis client: it does not answer, or does not let us in.

    Args:
        settings: Name the server.
        fix: What to do if it does not answer.
    """
    try:
        yield
    except redis.AuthenticationError as error:
        problem = f"Redis at {settings.redis_shown} does not let us in"
        raise TerminalError.wrap(error, problem, "Check its password.", code="credentials_invalid") from None
    except (redis.ConnectionError, redis.TimeoutError) as error:
        problem = f"No answer from a Redis server at {settings.redis_shown}"
        raise TransientError.wrap(error, problem, fix, code="redis_unavailable") from None
