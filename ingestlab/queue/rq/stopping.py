"""Stops a job in the middle: by a signal to the worker's main thread, which raises in whatever that is at.

A lock, a queue, a socket and a sleep are all left so. Code that never gives Python back to us is not: a worker whose
heart cannot beat is ended by a thread of C, started again by whoever keeps it, and its job is given to another.
"""

from __future__ import annotations

import faulthandler
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rq.timeouts import UnixSignalDeathPenalty

from ingestlab.core.errors import JobStoppedError, TerminalError
from ingestlab.core.settings import MISSED_BEATS
from ingestlab.queue.rq.queueing import stopped
from ingestlab.queue.rq.reporting import Reporter

COMMIT_SECONDS = 30.0  # that a commit may take after the wish to stop its job: a half one costs more
AGAIN_SECONDS = 20.0  # after which a job that goes on is told once more
DEAF_SECONDS = 30.0  # at least, that a worker's heart may not beat before the process ends


class TimeLimit(UnixSignalDeathPenalty):
    """A job's time is over: that passes through code which catches all exceptions."""

    def handle_death_penalty(self, *_signal: Any) -> None:
        """Ends the job, in the main thread."""
        fix = "Ask for less at once, or set INGESTLAB_JOB_TIMEOUT where the job is submitted."
        problem = f"Job exceeded its time limit of {self._timeout} s"
        raise JobStoppedError(TerminalError(problem, fix=fix, code="job_timeout"))


class Stopper:
    """Has the job that the main thread is at end when somebody asks for it."""

    def __init__(self) -> None:
        self._report: Reporter | None = None
        self._asked = self._told = 0.0

    def listen(self) -> None:
        """Takes the signal, in the main thread."""
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGUSR2, self._end)

    @contextmanager
    def at(self, report: Reporter) -> Iterator[None]:
        """What is done inside may be stopped."""
        self._asked = self._told = 0.0
        self._report = report
        try:
            yield
        finally:
            self._report = None

    def heed(self) -> None:
        """Looks, in another thread, whether the job is to stop, and tells the main thread so."""
        report, now = self._report, time.monotonic()
        if report is None or not report.stopped():
            return
        self._asked = self._asked or now
        patient = report.committing and now - self._asked < COMMIT_SECONDS
        if not patient and now - self._told >= AGAIN_SECONDS:
            self._told = now
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR2)

    def _end(self, *_signal: Any) -> None:
        if self._report is not None:
            raise JobStoppedError(stopped())


STOPPER = Stopper()


def beat_or_die(beat: float) -> None:
    """Has this process end unless it is called again soon."""
    faulthandler.dump_traceback_later(max(DEAF_SECONDS, 2 * MISSED_BEATS * beat), exit=True)
