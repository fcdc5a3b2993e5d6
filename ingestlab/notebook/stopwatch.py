"""The seconds of a slow call, shown in the notebook while it runs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import copy_context

from ingestlab.notebook import page

_GLANCE = 2.0  # seconds that nobody minds


@contextmanager
def stopwatch(label: str, after: float = _GLANCE) -> Iterator[Callable[[str], None]]:
    """Show how long a slow call has run. Nothing is shown outside a notebook.

    Args:
        label: What runs, e.g. ``"lab.check()"``.
        after: Seconds before it counts as slow.

    Yields:
        A function that adds a word: what has been done so far.
    """
    words: list[str] = []
    if page.shell() is None:
        yield words.append
        return
    done = threading.Event()
    # a display belongs to the cell that the context names
    thread = threading.Thread(target=copy_context().run, args=(_tick, label, after, words, done), daemon=True)
    thread.start()
    try:
        yield words.append
    finally:
        done.set()
        thread.join()


def _tick(label: str, after: float, words: list[str], done: threading.Event) -> None:
    began = time.monotonic()
    if done.wait(after):
        return
    handle = page.show(*_line(f"{label} runs …", words))
    while not done.wait(1):
        handle.update(page.bundle(*_line(f"{label} runs … {_since(began)}", words)), raw=True)
    handle.update(page.bundle(*_line(f"{label} took {_since(began)}", words)), raw=True)


def _since(began: float) -> str:
    return page.duration(time.monotonic() - began)


def _line(text: str, words: list[str]) -> tuple[str, str]:
    """Give a line as HTML and as text."""
    line = f"{text}: {', '.join(words)}" if words else text
    return f"<span style='opacity:.6'>{line}</span>", line
