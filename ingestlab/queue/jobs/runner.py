"""A worker process: it begins the turns that the broker brings, beats for them, and carries out how they end."""

from __future__ import annotations

import faulthandler
import logging
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Self

import redis
from pydantic import JsonValue

from ingestlab.core.errors import JobStoppedError, TerminalError, UndecodableJobError
from ingestlab.core.jobs import Done, Failed, JobNotes, RetryLater, TryEnd
from ingestlab.core.messages import decode
from ingestlab.core.models import digest
from ingestlab.core.settings import MISSED_BEATS, Settings
from ingestlab.interfaces import Handler
from ingestlab.queue.heart import heart, keep_doing
from ingestlab.queue.job_records import describe, notes_of
from ingestlab.queue.jobs.listeners import Registration
from ingestlab.queue.jobs.queue import Carrier
from ingestlab.queue.jobs.store import JobStore, Taken, Turn
from ingestlab.queue.jobs.sweep import Sweeper, sweep_all
from ingestlab.queue.stopping import STOPPER

log = logging.getLogger("ingestlab.queue.jobs")

PATIENCE = 60.0  # seconds that Redis may be away while a turn begins or ends


class TurnDelivery:
    """See :class:`ingestlab.interfaces.Delivery`."""

    def __init__(self, store: JobStore, taken: Taken) -> None:
        self._store, self.turn, self.notes = store, taken.turn, taken.notes
        self.id, self.queue, self.retry_after = taken.turn.job, taken.turn.queue, taken.retry_after

    def note(self, notes: JobNotes) -> None:
        """Note something of the job, as long as it is ours."""
        self._store.note_of(self.turn, notes)
        self.notes = {**self.notes, **notes}

    def stopped(self) -> str | None:
        """Give who has asked to stop this turn, and why."""
        return self._store.stopped(self.turn)


class Runner:
    """Runs turns in this process, one at a time. Use it as a context manager, in the main thread.

    Args:
        settings: Say how often a worker beats, and more.
        client: Of Redis.
        queues: That the process works on.
        handler: Does the jobs.
        carrier: Carries messages of jobs that are queued again.
        alone: Whether the process is nothing but the worker, and ends when its heart cannot beat.
        parent: The process to end with, if any.
        on_beat: Called at each beat of a turn; raises nothing.
    """

    def __init__(
        self,
        settings: Settings,
        client: redis.Redis,
        queues: Sequence[str],
        handler: Handler,
        carrier: Carrier,
        *,
        alone: bool = True,
        parent: int | None = None,
        on_beat: Callable[[], None] = lambda: None,
    ) -> None:
        self._settings, self._queues, self._handler, self._on_beat = settings, tuple(queues), handler, on_beat
        self._store, self._alone = JobStore(client), alone
        self._entry = Registration(client, settings, self._queues)
        self._sweeper = Sweeper(self._store, carrier, settings.keep_jobs, self._entry.name)
        self._turn: Turn | None = None
        self._over = threading.Event()
        # Two threads: a broker that does not answer must not hold up the heart.
        self._threads = [
            heart(
                self._over, settings.beat, self._beat, busy=lambda: self._turn is not None, alone=alone, parent=parent
            ),
            keep_doing("sweep", self._over, min(settings.beat, 1.0), lambda: sweep_all(self._sweeper, self._queues)),
        ]

    @property
    def name(self) -> str:
        """Return the name under which this process is registered."""
        return self._entry.name

    def __enter__(self) -> Self:
        STOPPER.listen()
        self._entry.beat(busy=False)
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(timeout=10)
        if self._alone:
            faulthandler.cancel_dump_traceback_later()
        try:
            self._entry.close()
        except redis.RedisError as away:
            log.warning("the entry of worker %s stays for a while: %s", self._entry.name, away)

    def __call__(self, queue: str, message: JsonValue, job: str | None, turn: str | None) -> TryEnd | None:
        """Run one turn of a job.

        Args:
            queue: That has brought the message.
            message: What is asked; None where it is in Redis alone.
            job: The job's id; None for a message of a foreign producer.
            turn: As the message names it, likewise.

        Returns:
            How the try ended; None if there was nothing to do.

        Raises:
            redis.RedisError: Redis is away, for a minute. The message should come again.
        """
        taken = _patiently(lambda: self._begin(queue, message, job, turn))
        if taken is None:
            log.info("a message of queue %s for job %s is out of date, or came twice", queue, job)
            return None
        self._turn = taken.turn
        try:
            end = self._handle(taken)
        finally:
            self._turn = None
        if not _patiently(lambda: self._conclude(taken.turn, end)):
            log.warning("job %s was taken over by another worker meanwhile", taken.turn.job)
        if isinstance(end, Done):
            self._entry.count()
        return end

    def _begin(self, queue: str, message: JsonValue, job: str | None, turn: str | None) -> Taken | None:
        silence, name = MISSED_BEATS * self._settings.beat, self._entry.name
        if job and turn:
            known = Turn(job, queue, turn)
            taken = self._store.begin(known, name, silence)
            if taken is not None or message is None or self._store.fields(job, "status") != [""]:
                return taken
        own, notes, description = _identity(message)
        new_turn, new = self._store.create(queue, own, message, self._settings, notes, description)
        if not new:
            return None
        self._store.sent(new_turn)  # it is here
        return self._store.begin(new_turn, name, silence)

    def _handle(self, taken: Taken) -> TryEnd:
        try:
            with _time_limit(taken.timeout):
                return self._handler(taken.message, TurnDelivery(self._store, taken))
        except JobStoppedError as stopped:
            return Failed(stopped.error)

    def _conclude(self, turn: Turn, end: TryEnd) -> bool:
        if isinstance(end, Done):
            return self._store.finish(turn, end.result.to_dict())
        if isinstance(end, RetryLater):
            if end.counts:
                log.warning("job %s is tried again in %g s: %s", turn.job, end.seconds, end.error)
            return self._store.postpone(turn, end.seconds, counts=end.counts)
        log.error("job %s has failed: %s", turn.job, end.error)
        return self._store.fail(turn, "".join(traceback.format_exception(end.error)))

    def _beat(self) -> None:
        turn = self._turn
        self._entry.beat(busy=turn is not None)
        if turn is not None:
            self._store.beat(turn, MISSED_BEATS * self._settings.beat)
            self._on_beat()


def _identity(message: JsonValue) -> tuple[str, JobNotes, str]:
    """Name the job of a message that names none, readable or not."""
    try:
        request = decode(message)
    except UndecodableJobError as error:
        return f"unreadable-{digest(message)[:32]}", {"files": 1}, str(error)[:200]
    return request.job_id, notes_of(request), describe(request)


def _patiently(call: Callable[[], Any]) -> Any:
    """Ask Redis for as long as it may be away."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return call()
        except (redis.ConnectionError, redis.TimeoutError) as error:
            if time.monotonic() > deadline:
                raise
            log.warning("Redis does not answer (%s); trying on", error)
            time.sleep(1)


@contextmanager
def _time_limit(seconds: int) -> Iterator[None]:
    """End what runs inside after its time. The error passes through code that catches all exceptions."""

    def end(*_signal: object) -> None:
        fix = "Ask for less at once, or set INGESTLAB_JOB_TIMEOUT where the job is submitted."
        raise JobStoppedError(TerminalError(f"Job exceeded its time limit of {seconds} s", fix=fix, code="job_timeout"))

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
