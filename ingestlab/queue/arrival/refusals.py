"""Messages that listeners have put aside: the last ones of each tenant, for people to look at."""

from __future__ import annotations

import time
from collections.abc import Sequence

import redis

from ingestlab.core.models import Value
from ingestlab.core.settings import Settings
from ingestlab.lake.locks import connect
from ingestlab.queue.broker import reaching

_KEY = "ingestlab:refused:{}"
_KEPT = 1000  # messages of a tenant
_TRIM = 10  # old messages that go when a new one comes
_BODY = 500  # characters of a body
_FILES = 10  # names of files of a message


class Refused(Value):
    """A message that nothing could be done about."""

    at: float  # seconds since the epoch
    tenant: str
    address: str  # of the listener
    reason: str
    tries: int  # how often it came
    files: tuple[str, ...] = ()  # that it names, without secrets
    body: str = ""  # how it begins


def keep(refused: Refused, seconds: float, client: redis.Redis) -> None:
    """Keep a message for people to look at. The oldest one goes where there are too many.

    Args:
        refused: What was put aside.
        seconds: For which it is kept.
        client: The Redis of the queue.
    """
    short = refused.model_copy(update={"files": refused.files[:_FILES], "body": refused.body[:_BODY]})
    key = _KEY.format(refused.tenant)
    oldest = map(Refused.model_validate_json, client.lrange(key, -_TRIM, -1))
    expired = sum(refused.at - old.at > seconds for old in oldest)
    with client.pipeline(transaction=True) as pipe:
        if expired:
            pipe.ltrim(key, 0, -1 - expired)
        pipe.lpush(key, short.model_dump_json())
        pipe.ltrim(key, 0, _KEPT - 1)
        pipe.expire(key, int(seconds))
        pipe.execute()


def refused_messages(
    tenants: Sequence[str], seconds: float, client: redis.Redis, limit: int = _KEPT
) -> tuple[int, list[Refused]]:
    """List the messages that were put aside, the last one first.

    Args:
        tenants: Whose.
        seconds: Older ones are left out.
        client: The Redis of the queue.
        limit: How many at most.

    Returns:
        How many are kept, and the last ones.
    """
    with client.pipeline(transaction=False) as pipe:
        for tenant in tenants:
            pipe.llen(_KEY.format(tenant))
            pipe.lrange(_KEY.format(tenant), 0, limit - 1)
        answers = pipe.execute()
    messages = (Refused.model_validate_json(text) for texts in answers[1::2] for text in texts)
    recent = [message for message in messages if time.time() - message.at < seconds]
    return sum(answers[::2]), sorted(recent, key=lambda message: -message.at)[:limit]


def recent_refusals(settings: Settings, limit: int = _KEPT) -> tuple[int, list[Refused]]:
    """List the refused messages of all tenants, the last one first.

    Args:
        settings: Lead to Redis, and name the tenants.
        limit: How many at most.

    Returns:
        How many are kept, and the last ones.

    Raises:
        TransientError: Redis cannot be reached.
    """
    with reaching(settings):
        return refused_messages(settings.tenants, settings.failure_ttl, connect(settings.redis), limit)
