"""How listeners are: each writes to Redis what it does, every few seconds, and a dead one is seen by its silence."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Self

import psutil
import redis
from pydantic import ConfigDict, ValidationError

from ingestlab.core.access import shown
from ingestlab.core.errors import IngestError
from ingestlab.core.models import Value
from ingestlab.core.settings import MISSED_BEATS, Settings
from ingestlab.core.templates import clock
from ingestlab.interfaces import Feed
from ingestlab.lake.tenants import is_visible

log = logging.getLogger("ingestlab.queue.arrival")

_KEY = "ingestlab:listeners"
_KEPT = 24 * 3600  # seconds for which a dead listener is shown


@dataclass
class Heard:
    """What a listener has done since it began. Times are seconds since the epoch; 0 is never."""

    submitted: int = 0  # files
    removed: int = 0
    postponed: int = 0  # messages
    refused: int = 0
    event: float = 0.0  # when the last messages came
    answer: float = 0.0  # when its system last answered, with messages or without
    synced: float = 0.0  # when the last sync ended
    sync: str = ""  # how
    error: str = ""  # the last one
    error_at: float = 0.0  # when the first one came that no answer has followed

    def failed(self, error: object) -> None:
        """Note an error."""
        self.error = str(error)
        if self.error_at <= self.answer:
            self.error_at = time.time()


class ListenerStatus(Value):
    """A listener, as it was when its heart last beat. Times as in :class:`Heard`."""

    model_config = ConfigDict(frozen=True, extra="ignore")  # a later version may write more

    name: str  # "listener-1" in the embedded stack; else its host and process
    host: str
    pid: int
    address: str  # without secrets
    tenant: str
    pipeline: str | None = None
    folders: tuple[str, ...] = ()  # that are synced behind it
    since: float
    beat: float
    every: float  # seconds between two beats
    waiting: int | None = None  # messages that wait to be received; None where nothing tells
    submitted: int = 0
    removed: int = 0
    postponed: int = 0
    refused: int = 0
    event: float = 0.0
    answer: float = 0.0
    synced: float = 0.0
    sync: str = ""
    error: str = ""
    error_at: float = 0.0
    ended: bool = False  # by its last error

    @property
    def gone(self) -> bool:
        """Tell whether it has failed, died, or been silent for too long."""
        dead = self.host == socket.gethostname() and not psutil.pid_exists(self.pid)
        return self.ended or dead or time.time() - self.beat > MISSED_BEATS * self.every

    @property
    def trouble(self) -> str:
        """Return the error that holds it up, or has ended it."""
        return self.error if self.ended or self.error_at > self.answer else ""

    def said(self) -> str:
        """Say in a few words how it is."""
        if self.gone:
            return f"gone since {clock(self.beat)}"
        if self.trouble:
            return f"trouble since {clock(self.error_at)}"
        waiting = "" if self.waiting is None else f"{self.waiting:,} waiting, "
        return f"{waiting}last event {clock(self.event)}" if self.event else f"{waiting}no event yet"


def status_of(
    feed: Feed, settings: Settings, tenant: str, pipeline: str | None, folders: Sequence[str]
) -> ListenerStatus:
    """Describe a listener that begins.

    Args:
        feed: What it listens to.
        settings: May name it.
        tenant: Of its files.
        pipeline: Likewise, where it is the same for all.
        folders: That are synced behind it.
    """
    host, pid, now = socket.gethostname(), os.getpid(), time.time()
    return ListenerStatus(
        name=settings.worker_name or f"{host}.{pid}",
        host=host,
        pid=pid,
        address=feed.name,
        tenant=tenant,
        pipeline=pipeline,
        folders=tuple(shown(folder, settings.secret_parameters) for folder in folders),
        since=now,
        beat=now,
        every=settings.beat,
    )


class Heartbeat:
    """Write a listener's status to Redis while it works. A context manager.

    At a clean end the status is removed; after an error it stays, as that of a dead one.

    Args:
        status: As it begins.
        feed: Tells how many messages wait, once it is open.
        heard: What the listener counts.
        client: The Redis of the queue.
    """

    def __init__(self, status: ListenerStatus, feed: Feed, heard: Heard, client: redis.Redis) -> None:
        self.heard = heard
        self._status, self._feed, self._client = status, feed, client
        self._ended, self._soon = False, threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self._ended = True
        self._soon.set()
        self._thread.join()
        if error is None:
            self._attempt(lambda: self._client.hdel(_KEY, _field(self._status)))
            return
        self.heard.failed(error)
        self._status = self._status.model_copy(update={"ended": True})
        self._attempt(self.beat)

    def soon(self) -> None:
        """Beat now, and not in some seconds: whether it listens has changed."""
        self._soon.set()

    def beat(self) -> None:
        """Write the status once."""
        waiting = self._waiting() if self.heard.answer else None
        status = self._status.model_copy(update={**asdict(self.heard), "beat": time.time(), "waiting": waiting})
        self._client.hset(_KEY, _field(status), status.model_dump_json())
        self._client.expire(_KEY, _KEPT)

    def _run(self) -> None:
        self._attempt(lambda: _forget_dead(self._status, self._client))
        while not self._ended:
            self._attempt(self.beat)
            self._soon.wait(self._status.every)
            self._soon.clear()

    def _waiting(self) -> int | None:
        try:
            return self._feed.waiting()
        except IngestError as error:
            told = self.heard.error_at > self.heard.answer  # the listener has said so
            log.log(logging.DEBUG if told else logging.WARNING, "%s: %s", self._feed.name, error)
            return None

    def _attempt(self, action: Callable[[], object]) -> None:
        """Do what may fail while Redis is away: the listening goes on."""
        try:
            action()
        except redis.RedisError as error:
            log.warning("the status of %s is not written: %s", self._feed.name, error)


def listeners(client: redis.Redis) -> list[ListenerStatus]:
    """List living listeners, and those that died within a day.

    Args:
        client: The Redis of the queue.
    """
    known = []
    for text in client.hvals(_KEY):
        try:
            known.append(ListenerStatus.model_validate_json(text))
        except ValidationError as error:  # of another version
            log.warning("the status of a listener is passed over: %s", error.errors()[0]["msg"])
    recent = (status for status in known if time.time() - status.beat < _KEPT)
    return sorted(recent, key=lambda status: (status.address, status.name))


def known_listeners(settings: Settings, seconds: float = 2.0) -> list[ListenerStatus] | None:
    """List listeners as :func:`listeners` does.

    Args:
        settings: Lead to Redis.
        seconds: That it may take to answer.

    Returns:
        None if Redis does not answer.
    """
    try:
        with redis.Redis.from_url(settings.redis, socket_timeout=seconds, socket_connect_timeout=seconds) as client:
            return [one for one in listeners(client) if is_visible(one.tenant, settings)]
    except redis.RedisError:
        return None


def _forget_dead(new: ListenerStatus, client: redis.Redis) -> None:
    """Forget dead listeners that a new one replaces, and old ones."""
    recent = {_field(status): status for status in listeners(client)}
    living = {field for field, status in recent.items() if not (status.gone and _takes_place(new, status))}
    if old := {_text(field) for field in client.hkeys(_KEY)} - living:
        client.hdel(_KEY, *old)


def _takes_place(new: ListenerStatus, dead: ListenerStatus) -> bool:
    return dead.address == new.address or (dead.name, dead.host) == (new.name, new.host)


def _field(status: ListenerStatus) -> str:
    return f"{status.name}@{status.host} {status.address}"


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
