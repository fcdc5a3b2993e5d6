"""Messages that listeners have put aside: the last ones of each tenant, for people to look at."""

from __future__ import annotations

import time
from collections.abc import Sequence

import redis

from ingestlab.core.models import Value, digest
from ingestlab.core.settings import Settings
from ingestlab.lake.locks import connect
from ingestlab.lake.tenants import own
from ingestlab.queue.broker import reaching

_KEY = "ingestlab:refused:{}"  # the names of a tenant's messages by time; what is to be said of each is in `:messages`
_KEPT = 1000  # messages of a tenant
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

    One that comes again, where no dead-letter queue takes it, is still one.

    Args:
        refused: What was put aside.
        seconds: For which it is kept.
        client: The Redis of the queue.
    """
    name = digest([refused.address, refused.files, refused.body or refused.reason])[:16]
    short = refused.model_copy(update={"files": refused.files[:_FILES], "body": refused.body[:_BODY]})
    key = _KEY.format(refused.tenant)
    with client.pipeline(transaction=True) as pipe:
        pipe.zadd(key, {name: refused.at})
        pipe.hset(key + ":messages", name, short.model_dump_json())
        pipe.zrangebyscore(key, "-inf", f"({refused.at - seconds}")
        pipe.zrange(key, 0, -_KEPT - 1)
        for each in (key, key + ":messages"):
            pipe.expire(each, int(seconds))
        _, _, expired, surplus, *_ = pipe.execute()
    if old := {*expired, *surplus}:
        with client.pipeline(transaction=True) as pipe:
            pipe.zrem(key, *old)
            pipe.hdel(key + ":messages", *old)
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
    since, keys = time.time() - seconds, [_KEY.format(tenant) for tenant in tenants]
    with client.pipeline(transaction=False) as pipe:
        for key in keys:
            pipe.zcount(key, since, "+inf")
            pipe.zrevrangebyscore(key, "+inf", since, start=0, num=limit)
        answers = pipe.execute()
    texts = [text for key, names in zip(keys, answers[1::2], strict=True) for text in _texts(key, names, client)]
    messages = sorted(map(Refused.model_validate_json, texts), key=lambda message: -message.at)
    return sum(answers[::2]), messages[:limit]


def _texts(key: str, names: Sequence[bytes], client: redis.Redis) -> list[bytes | str]:
    texts = client.hmget(key + ":messages", list(names)) if names else []
    return [text for text in texts if text]


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
        settings = own(settings)
        return refused_messages(settings.tenants, settings.failure_ttl, connect(settings.redis), limit)
