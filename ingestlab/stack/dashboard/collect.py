"""Data for the page: one thread reads it for all readers, once a second at most, and only while somebody looks."""

from __future__ import annotations

import functools
import logging
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from ingestlab.core.errors import IngestError, TerminalError
from ingestlab.core.jobs import Job, Listener, QueueSnapshot
from ingestlab.core.settings import Settings, load_settings
from ingestlab.interfaces import Monitor, Queue
from ingestlab.queue.arrival.refusals import Refused, refused_messages
from ingestlab.queue.arrival.status import ListenerStatus, listeners
from ingestlab.queue.broker import broker, reaching
from ingestlab.queue.rates import MEASURES, History, Rates
from ingestlab.stack.dashboard.failures import Assumption, Endings, Failure

log = logging.getLogger("ingestlab.stack.dashboard")

FIX = "Start it, or check the scheduler's REDIS_URL. This page tries again every second."
EVERY = 1.0  # seconds between two looks
PATIENCE = 1.0  # seconds that Redis has for an answer
LATEST = 64  # ended jobs of a queue to look at; once all of them are new, `BACKLOG`
BACKLOG = 1024
JOBS = 100  # ended ones to be read at a time
SEEN = 50_000
QUEUES = 24  # so many are shown
REFUSED = 8  # messages that are shown
RESULTS = 8  # to be read at a time: they are large


@dataclass(frozen=True)
class Snapshot:
    """The state of queues at one moment. With an error, it is that before."""

    at: float = 0.0
    server: str = ""  # without its password
    home_queue: str = ""  # that of the settings
    error: IngestError | None = None
    queues: tuple[QueueSnapshot, ...] = ()
    jobs: tuple[Job, ...] = ()  # running, or to be tried again
    workers: tuple[Listener, ...] = ()
    history: History = field(default_factory=lambda: Rates().history())
    rules: Mapping[str, int] = field(default_factory=dict)  # rejected rows by rule
    codes: Mapping[str, int] = field(default_factory=dict)  # failed files by the error's code
    failed: int = 0  # files, in the last hour
    failures: tuple[Failure, ...] = ()  # newest first
    assumptions: tuple[Assumption, ...] = ()  # likewise
    listeners: tuple[ListenerStatus, ...] = ()  # that hear of files, and those that died lately
    refused: tuple[Refused, ...] = ()  # messages that they have put aside, newest first
    refusals: int = 0  # how many there are
    tenants: tuple[str, ...] = ()  # that had jobs waiting, in the order in which they were first seen
    samples: str = ""  # where the embedded stack serves sample files
    cost: float = 0.0  # seconds of CPU that it took to find this out

    @property
    def waiting(self) -> int:
        """Jobs that wait, on all queues."""
        return sum(queue.waiting for queue in self.queues)

    def count(self, state: str) -> int:
        """Jobs in a state, on all queues."""
        return sum(queue.counts[state] for queue in self.queues)


class Collector:
    """Read Redis in a thread. The scheduler's event loop never waits.

    Args:
        find: Gives the settings; asked again after each failure, since a stack may have moved.
    """

    def __init__(self, find: Callable[[], Settings] = load_settings) -> None:
        self._find = find
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ingest-page")
        self._pending: Future[None] | None = None
        self._lock = threading.Lock()
        self._snapshot = Snapshot()
        self._looked = 0.0
        self._client: redis.Redis | None = None
        self._settings: Settings | None = None
        self._doors: tuple[Queue, Monitor] | None = None
        self._rates, self._endings = Rates(), Endings()
        self._seen: dict[str, float] = {}  # ended jobs that were read, and what RQ sorted them by
        self._followed: set[str] = set()  # jobs that ran last time
        self._last = BACKLOG

    def latest(self) -> Snapshot:
        """Return the last snapshot at once. If that is old, the thread looks again."""
        with self._lock:
            idle = self._pending is None or self._pending.done()
            if idle and time.monotonic() - self._looked >= EVERY:
                self._looked = time.monotonic()
                self._pending = self._thread.submit(self.look)
        return self._snapshot

    def close(self) -> None:
        """End the thread and the connection; the next look opens both again."""
        with self._lock:
            self._thread.submit(self._forget)  # the connection is the thread's: it may be reading
            self._thread.shutdown(wait=False)
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="ingest-page")

    def look(self) -> None:
        """Read everything once; what goes wrong is part of the snapshot."""
        before = time.thread_time()
        try:
            settings = self._settings = self._settings or self._find()
            with reaching(settings, FIX):
                snapshot = self._read(settings, time.time())
        except IngestError as error:
            self._forget()
            snapshot = replace(self._snapshot, error=error)
        except Exception as error:  # what a foreign producer has written must not stop the page without a word
            log.exception("reading what the page shows")
            self._forget()
            problem = "Queues and jobs are not as RQ writes them"
            failure = TerminalError.wrap(error, problem, "See the log.", code="unforeseen")
            snapshot = replace(self._snapshot, error=failure)
        self._snapshot = replace(snapshot, cost=time.thread_time() - before)

    def _connect(self, settings: Settings) -> tuple[Queue, Monitor]:
        if self._doors is None:
            self._snapshot = replace(
                self._snapshot,
                home_queue=settings.queue,
                server=settings.redis_shown,
                samples=settings.samples or "",
            )
            self._client = impatient_client(settings)
            queue = broker(settings, self._client)
            self._doors = queue, queue.monitor()
        return self._doors

    def _forget(self) -> None:
        client, self._client, self._doors, self._settings = self._client, None, None, None
        if client is not None:
            client.close()

    def _read(self, settings: Settings, now: float) -> Snapshot:
        queue, monitor = self._connect(settings)
        names, worker_keys = monitor.names()
        mine = self._snapshot.home_queue
        names = sorted(names, key=lambda name: name != mine)[:QUEUES]
        queues = monitor.queues(names, self._last)
        jobs = self._follow(queue, queues, now)
        self._explain(queue)
        tenants = monitor.tenants(queues)
        waiting, running = sum(q.waiting for q in queues), sum(q.counts["running"] for q in queues)
        self._rates.advance(now, waiting, running)
        assert self._client is not None
        refusals, refused = refused_messages(settings.tenants, settings.failure_ttl, self._client, REFUSED)
        return replace(
            self._snapshot,
            at=now,
            error=None,
            tenants=tuple(dict.fromkeys((*self._snapshot.tenants, *(t for q in tenants.values() for t in sorted(q))))),
            queues=tuple(replace(q, tenants=dict(tenants[q.name])) for q in queues),
            jobs=tuple(jobs),
            workers=tuple(monitor.workers(worker_keys)),
            history=self._rates.history(),
            rules=self._endings.rules(now),
            codes=self._endings.codes(now),
            failed=self._endings.failed(now),
            failures=self._endings.failures(),
            assumptions=self._endings.assumptions(),
            listeners=tuple(listeners(self._client)),
            refused=tuple(refused),
            refusals=refusals,
        )

    def _follow(self, queue: Queue, queues: list[QueueSnapshot], now: float) -> list[Job]:
        """Count what jobs have done since the last look. Give those that run or wait for a retry."""
        current = {job for q in queues for job in (*q.running, *q.retrying)}
        ended = {job: score for q in queues for job, score in q.ended.items()}
        fresh = self._unread(ended)
        jobs = queue.jobs(sorted({*current, *self._followed, *fresh})).values()
        self._rates.advance(now)
        for job in jobs:
            over = job.id in ended
            if job.began is not None and job.progress:
                at = job.ended.timestamp() if over and job.ended else now
                counts = {"files": job.number("files_done")} | {name: job.number(name) for name in MEASURES[1:]}
                began = job.began.timestamp()
                self._rates.follow(job.id, job.seconds("began") or began, at, counts, began)
            if over:
                self._endings.note(job)
        self._followed = current
        return [job for job in jobs if job.id in current]

    def _unread(self, ended: Mapping[str, float]) -> list[str]:
        """Give the newest of the ended jobs that were not read yet. The others have their turn at the next looks."""
        new = [job for job, score in ended.items() if self._seen.get(job) != score]
        self._last = BACKLOG if len(new) >= LATEST else LATEST
        fresh = sorted(new, key=lambda job: -ended[job])[:JOBS]
        self._seen.update((job, ended[job]) for job in fresh)
        while len(self._seen) > SEEN:
            del self._seen[next(iter(self._seen))]
        return fresh

    def _explain(self, queue: Queue) -> None:
        for job in self._endings.unexplained()[:RESULTS]:
            ending = queue.ending(job)
            self._endings.explain(job, ending.result, ending.error.to_dict())


@functools.cache
def shared() -> Collector:
    """Give the one collector of this process."""
    return Collector()


def impatient_client(settings: Settings) -> redis.Redis:
    """Open a Redis client that waits a second for an answer, once.

    Raises:
        TerminalError: This is no URL of a Redis server.
    """
    try:
        return redis.Redis.from_url(
            settings.redis,
            socket_timeout=PATIENCE,
            socket_connect_timeout=PATIENCE,
            retry=Retry(NoBackoff(), 0),  # the next look is the retry
            client_name="ingestlab-dashboard",
        )
    except ValueError:  # its text may hold the password
        expected = "a Redis URL such as redis://:password@host:6379/0"
        raise TerminalError(
            "The Redis URL cannot be read",
            expected=expected,
            got="something else",
            fix="Check the scheduler's REDIS_URL.",
            code="setting_invalid",
        ) from None
