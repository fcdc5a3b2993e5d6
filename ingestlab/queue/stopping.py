"""Stops a job in the middle: by a signal to the worker's main thread, which raises in whatever that runs.

A lock, a queue, a socket and a sleep are all left so. Code that never gives Python back to us is not: a worker that
cannot beat its heart is ended by a thread of C, started again by its supervisor, and its job is given to another.
"""

from __future__ import annotations

import faulthandler
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ingestlab.core.errors import JobStoppedError
from ingestlab.core.settings import MISSED_BEATS
from ingestlab.queue.job_records import Reporter, stop_error

COMMIT_SECONDS = 30.0  # that a commit may take after the wish to stop its job: a half one costs more
AGAIN_SECONDS = 20.0  # after which a job that goes on is told once more
DEAF_SECONDS = 30.0  # at least, that a worker's heart may not beat before the process ends


class Stopper:
    """Ends the main thread's job when somebody asks for it."""

    def __init__(self) -> None:
        self._report: Reporter | None = None
        self._asked = self._signalled = 0.0
        self._why = ""

    def listen(self) -> None:
        """Take the signal, in the main thread."""
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGUSR2, self._end)

    @contextmanager
    def at(self, report: Reporter) -> Iterator[None]:
        """Let what is done inside be stopped."""
        self._asked = self._signalled = 0.0
        self._report = report
        try:
            yield
        finally:
            self._report = None

    def heed(self) -> None:
        """Look, in another thread, whether the job is to stop. If so, the main thread gets a signal."""
        report, now = self._report, time.monotonic()
        if report is None or (why := report.stopped()) is None:
            return
        self._why = why  # the signal must not ask: it may come in the middle of a call to Redis
        self._asked = self._asked or now
        patient = report.committing and now - self._asked < COMMIT_SECONDS
        if not patient and now - self._signalled >= AGAIN_SECONDS:
            self._signalled = now
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR2)

    def _end(self, *_signal: Any) -> None:
        if self._report is not None:
            raise JobStoppedError(stop_error(self._why))


STOPPER = Stopper()


def beat_or_die(beat: float) -> None:
    """End this process unless this is called again soon.

    Args:
        beat: Seconds between two calls.
    """
    seconds = max(DEAF_SECONDS, 2 * MISSED_BEATS * beat)
    faulthandler.dump_traceback_later(
        seconds, exit=True, file=sys.__stderr__ or sys.stderr
    )  # Celery replaces sys.stderr
