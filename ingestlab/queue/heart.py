"""Threads that do something again and again; the heart of a worker is one."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable

import redis

from ingestlab.queue.stopping import STOPPER, beat_or_die

log = logging.getLogger("ingestlab.queue.worker")


def keep_doing(name: str, over: threading.Event, seconds: float, do: Callable[[], object]) -> threading.Thread:
    """Do something again and again in a thread, whatever the trouble.

    Args:
        name: Of the thread.
        over: Ends it.
        seconds: Between two times.
        do: What is done. Its errors are logged.

    Returns:
        The thread, not started.
    """

    def run() -> None:
        while not over.wait(seconds):
            try:
                do()
            except redis.RedisError as error:
                log.warning("%s: Redis does not answer (%s); trying on", name, error)
            except Exception:  # the next time may do
                log.exception("%s: trying on", name)

    return threading.Thread(target=run, name=name, daemon=True)


def heart(
    over: threading.Event,
    seconds: float,
    beat: Callable[[], None],
    *,
    busy: Callable[[], bool],
    alone: bool,
    parent: int | None = None,
) -> threading.Thread:
    """Make a worker's heart, which also has jobs stopped.

    It beats each second while the worker is idle, and less often in a job.

    Args:
        over: Stops it.
        seconds: Between two beats in a job.
        beat: Shows that the worker lives.
        busy: Tells whether it has a job.
        alone: Whether the process is nothing but the worker, and ends when its heart cannot beat.
        parent: The process to end with, if any.

    Returns:
        The thread, not started.
    """
    beaten = 0.0

    def tick() -> None:
        nonlocal beaten
        if parent is not None and os.getppid() != parent:
            log.error("the parent of this worker has ended: its job is left to others")
            os._exit(1)
        if alone:
            beat_or_die(seconds)
        STOPPER.heed()
        if busy() and time.monotonic() - beaten < seconds - 0.1:
            return
        beaten = time.monotonic()
        beat()

    return keep_doing("heart", over, min(seconds, 1.0), tick)
