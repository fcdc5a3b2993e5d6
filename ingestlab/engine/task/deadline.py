"""Ends a process whose task takes too long, also where its code never gives Python back to us.

The end comes from a thread of C, which needs no lock of the interpreter's: a regular expression that searches for
ever holds that lock, and nothing written in Python would run beside it. Only processes that are started again
are ended so: Dask workers under a nanny, and our own children.

Setting that thread takes as long as a small step, so it is set late enough that the next steps need not set it again.
"""

from __future__ import annotations

import faulthandler
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

_lock = threading.Lock()
_ends: dict[int, tuple[float, float]] = {}  # by thread: when its task has to have ended, and its seconds
_expendable = False
_fires = 0.0  # when the thread of C ends this process; 0: never
SLACK = 0.02  # of a step's seconds, which it may take longer


def expendable() -> None:
    """Declare that this process may be ended in any case."""
    global _expendable  # noqa: PLW0603 - a process is one thing or the other
    _expendable = True


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Give a block so much time, restarted by :func:`alive`. Then the process ends."""
    if not (_expendable or _under_nanny()):
        yield
        return
    me = threading.get_ident()
    _set(me, seconds)
    try:
        yield
    finally:
        with _lock:
            _ends.pop(me, None)
            _arm()


def alive(more: float = 0.0) -> None:
    """Restart a task's clock at its next step. Waits get `more` seconds."""
    me = threading.get_ident()
    if me in _ends:
        _set(me, _ends[me][1], more)


def _set(me: int, seconds: float, more: float = 0.0) -> None:
    with _lock:
        _ends[me] = (time.monotonic() + seconds + more, seconds)
        _arm()


def _arm() -> None:
    """Set this process's one thread to the earliest deadline, or later."""
    global _fires  # noqa: PLW0603 - there is one such thread
    if not _ends:
        faulthandler.cancel_dump_traceback_later()
        _fires = 0.0
        return
    end, seconds = min(_ends.values())
    latest = end + SLACK * seconds
    if not end <= _fires <= latest:
        faulthandler.dump_traceback_later(max(0.01, latest - time.monotonic()), exit=True)
        _fires = latest


def _under_nanny() -> bool:
    """Tell whether this is a Dask task under a nanny."""
    if "distributed" not in sys.modules:
        return False
    from distributed import get_worker  # noqa: PLC0415 - slow, and `check` has no need of it

    try:
        return get_worker().nanny is not None
    except ValueError:
        return False
