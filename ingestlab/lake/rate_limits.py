"""How much all workers together may ask of a server: buckets in Redis, or in this process where there is none.

A bucket is the time at which all that was taken from it will have come in (the generic cell rate algorithm). Whoever
takes is told how long to wait, in the order of asking, and asks no second time.
"""

from __future__ import annotations

import hashlib
import threading
import time
from functools import lru_cache

import redis

from ingestlab.core.errors import TransientError
from ingestlab.core.settings import Settings
from ingestlab.interfaces import RateLimiter
from ingestlab.lake.locks import connect

BURST = 5.0  # seconds of a rate that may be taken at once
_DAY = 86_400_000  # milliseconds; a bucket that nobody used for so long is full

# Keys: the bucket, its pause. Arguments: seconds that the amount takes to come in, burst, patience.
_RESERVE = """
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local due = math.max(now, tonumber(redis.call('GET', KEYS[1]) or 0))
local cost, burst = tonumber(ARGV[1]), tonumber(ARGV[2])
local wait = math.max(0, due + cost - math.max(burst, cost) - now, tonumber(redis.call('GET', KEYS[2]) or 0) - now)
if wait <= tonumber(ARGV[3]) and cost > 0 then
  redis.call('SET', KEYS[1], string.format('%.6f', math.max(due, now + wait) + cost), 'PX', ARGV[4])
end
return string.format('%.6f', wait)
"""
_PAUSE = """
local time = redis.call('TIME')
local till = time[1] + time[2] / 1000000 + tonumber(ARGV[1])
if till > tonumber(redis.call('GET', KEYS[1]) or 0) then
  redis.call('SET', KEYS[1], string.format('%.6f', till), 'PX', math.ceil(tonumber(ARGV[1]) * 1000) + 1000)
end
"""


class LocalLimiter(RateLimiter):
    """Pace the threads of this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._due: dict[str, float] = {}
        self._paused: dict[str, float] = {}

    def reserve(self, name: str, amount: float, rate: float, patience: float) -> float:
        """See RateLimiter."""
        cost = amount / rate if rate else 0.0
        with self._lock:
            now = time.monotonic()
            due = max(now, self._due.get(name, 0.0))
            wait = max(0.0, due + cost - max(BURST, cost) - now, self._paused.get(name, 0.0) - now)
            if wait <= patience and cost:
                self._due[name] = max(due, now + wait) + cost
        return _patient(wait, patience)

    def pause(self, name: str, seconds: float) -> None:
        """See RateLimiter."""
        with self._lock:
            self._paused[name] = max(self._paused.get(name, 0.0), time.monotonic() + seconds)


class RedisLimiter(RateLimiter):
    """Pace all workers of a Redis server."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    def reserve(self, name: str, amount: float, rate: float, patience: float) -> float:
        """See RateLimiter."""
        cost = amount / rate if rate else 0.0
        try:
            wait = float(self._client.eval(_RESERVE, 2, *_keys(name), cost, BURST, patience, _DAY))
        except redis.RedisError as error:
            raise _away(error) from error
        return _patient(wait, patience)

    def pause(self, name: str, seconds: float) -> None:
        """See RateLimiter."""
        try:
            self._client.eval(_PAUSE, 1, _keys(name)[1], seconds)
        except redis.RedisError as error:
            raise _away(error) from error


def open_limiter(settings: Settings) -> RateLimiter:
    """Give the limiter that the workers of these settings share.

    Args:
        settings: Where Redis is; without one, it is this process's own.
    """
    return _shared(settings.redis if settings.redis_url or settings.redis_host else "")


@lru_cache(maxsize=8)
def _shared(url: str) -> RateLimiter:
    return RedisLimiter(connect(url)) if url else LocalLimiter()


def _keys(name: str) -> tuple[str, str]:
    key = f"ingestlab:rate:{hashlib.sha256(name.encode()).hexdigest()[:16]}"
    return key, f"{key}:paused"


def _patient(wait: float, patience: float) -> float:
    """Refuse a wait that is too long."""
    if wait > patience:
        raise TransientError(
            "The rate limit is used up",
            expected=f"a turn within {patience:.0f} s",
            got=f"one in {wait:.0f} s",
            fix="It will be tried again; raise the limit, or run fewer workers.",
            code="http_unavailable",
        )
    return wait


def _away(error: redis.RedisError) -> TransientError:
    fix = "Start it with `ingestlab up`, or check REDIS_URL."
    return TransientError.wrap(
        error, "Redis, which holds the rate limits, does not answer", fix, code="redis_unavailable"
    )
