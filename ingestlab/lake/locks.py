"""Locks of sources, batches, tables and what they share, in Redis: those of a dead job run out."""

from __future__ import annotations

import hashlib
import threading
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache

import redis
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from ingestlab.core.archive_uri import container
from ingestlab.core.errors import BusySourceError, LostLeaseError, TerminalError
from ingestlab.core.signed_uri import bare

AGAIN = "The job starts again from its sources."
_MOMENT = 0.02  # seconds between two tries

# All locks or none: a job that got half of its sources would make others wait for nothing.
_ACQUIRE = """
for i, key in ipairs(KEYS) do
  local owner = redis.call('GET', key)
  if owner and owner ~= ARGV[1] then return key end
end
for i, key in ipairs(KEYS) do redis.call('SET', key, ARGV[1], 'PX', ARGV[2]) end
return false
"""
_RENEW = """
for i, key in ipairs(KEYS) do
  if redis.call('GET', key) ~= ARGV[1] then return 0 end
end
for i, key in ipairs(KEYS) do redis.call('PEXPIRE', key, ARGV[2]) end
return 1
"""
_RELEASE = """
for i, key in ipairs(KEYS) do
  if redis.call('GET', key) == ARGV[1] then redis.call('DEL', key) end
end
"""


def connect(url: str) -> redis.Redis:
    """Open a Redis client that rides out short outages; values are bytes.

    All clients of a process share one pool of connections a server, which has as many as were ever in use at
    once: a client costs nothing, and to close it closes none of them. A connection is made on first use.

    Raises:
        TerminalError: This is no URL of a Redis server; it is not repeated, for it may hold a password.
    """
    return redis.Redis(connection_pool=_pool(url))


@lru_cache(maxsize=16)
def _pool(url: str) -> redis.ConnectionPool:
    retry = Retry(ExponentialBackoff(cap=1, base=0.05), retries=3)
    try:
        return redis.ConnectionPool.from_url(url, retry=retry, health_check_interval=30, socket_connect_timeout=5)
    except ValueError:
        problem, expected = "The Redis URL cannot be read", "one such as redis://:password@host:6379/0"
        fix = "Check REDIS_URL; a password with special characters must be percent-encoded."
        raise TerminalError(problem, expected=expected, fix=fix, code="setting_invalid") from None


class Lease:
    """Locks of one job, renewed by a thread until released."""

    def __init__(self, client: redis.Redis, prefix: str, ttl: float) -> None:
        self.token = uuid.uuid4().hex
        self._client, self._prefix, self._ttl = client, prefix, ttl
        self._keys: list[str] = []
        self._lost = False
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)

    def acquire(self, names: Iterable[str]) -> None:
        """Take more locks, all or none.

        Raises:
            BusySourceError: Another job holds one of them.
        """
        keys = sorted({self._prefix + name for name in names})
        taken = self._client.eval(_ACQUIRE, len(keys), *keys, self.token, str(int(self._ttl * 1000)))
        if taken:
            name = taken.decode().removeprefix(self._prefix)
            raise BusySourceError(f"{name} is locked by another job", fix="This job waits its turn.")
        with self._lock:
            self._keys = sorted({*self._keys, *keys})
        if self._thread.ident is None:  # it ends when the locks are lost, which `check` says
            self._thread.start()

    def wait_for(self, names: Iterable[str], patience: float) -> None:
        """Take more locks that nobody holds for long.

        Args:
            names: Of the locks.
            patience: Seconds.

        Raises:
            BusySourceError: Another job has held one of them all the while.
        """
        known, end = list(names), time.monotonic() + patience
        while True:
            try:
                return self.acquire(known)
            except BusySourceError:
                if time.monotonic() > end:
                    raise
                time.sleep(_MOMENT)

    def check(self) -> None:
        """Confirm that all locks are still ours, and renew them.

        Raises:
            LostLeaseError: Another job may have our sources.
        """
        with self._lock:
            keys = list(self._keys)
        ttl = str(int(self._ttl * 1000))
        if self._lost or (keys and not self._client.eval(_RENEW, len(keys), *keys, self.token, ttl)):
            self._lost = True
            raise LostLeaseError("The locks have expired", fix=AGAIN)

    def release(self) -> None:
        """Give the locks back."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        if self._keys:
            self._client.eval(_RELEASE, len(self._keys), *self._keys, self.token)

    def _renew(self) -> None:
        while not self._stop.wait(self._ttl / 3):
            try:
                self.check()
            except LostLeaseError:
                return  # `check` has noted it; the job learns of it before it publishes
            except redis.RedisError:
                continue  # the next beat may get through, and `check` before publishing decides


class Locks:
    """The locks of one lake.

    Args:
        client: A connection from :func:`connect`.
        lake: The lake's URL; several lakes may share one Redis.
        ttl: How long, in seconds, the locks of a dead job stand.
    """

    def __init__(self, client: redis.Redis, lake: str, ttl: float = 30.0) -> None:
        self.client, self._ttl = client, ttl
        self.prefix = f"ingestlab:{hashlib.sha256(lake.encode()).hexdigest()[:12]}:"

    @contextmanager
    def lease(self) -> Iterator[Lease]:
        """Give an empty lease to take locks with. All are released at the end."""
        lease = Lease(self.client, self.prefix + "lock:", self._ttl)
        try:
            yield lease
        finally:
            lease.release()

    def held(self, names: Sequence[str]) -> list[bool]:
        """Tell which of the locks some job holds at this moment."""
        values = self.client.mget([f"{self.prefix}lock:{n}" for n in names]) if names else []
        return [v is not None for v in values]


def source_lock(tenant: str, table: str, uri: str) -> str:
    """Name of the lock of one source. An archive and its members have one.

    Args:
        tenant: Whose table.
        table: Its name.
        uri: Of the source.
    """
    return f"source:{tenant}:{table}:{bare(container(uri))}"


def batch_lock(batch: str) -> str:
    """Name of the lock of one batch: who holds it may use its staging folder."""
    return f"batch:{batch}"


def schema_lock(tenant: str, table: str) -> str:
    """Name of the lock for comparing a commit with a table's columns. It is held for a moment."""
    return f"schema:{tenant}:{table}"


def shared_lock(name: str) -> str:
    """Name of the lock for rebuilding what tables share in a sink: no commit may add to it meanwhile."""
    return f"shared:{name}"


def rewrite_lock(tenant: str, table: str) -> str:
    """Name of the lock for replacing parts of a table. Two jobs must not rewrite the same part.

    Args:
        tenant: Whose table.
        table: Its name.
    """
    return f"rewrite:{tenant}:{table}"


def catalogue_lock(tenant: str, table: str, catalogue: str) -> str:
    """Name the lock of whoever registers a table in a catalogue.

    Args:
        tenant: The tenant of the table.
        table: Its name.
        catalogue: Which one.
    """
    return f"catalogue:{catalogue}:{tenant}/{table}"
