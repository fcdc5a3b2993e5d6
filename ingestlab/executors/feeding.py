"""Tasks that are submitted while earlier ones run: what both executors do with calls that come one by one."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Any

_LOOK = 0.1  # seconds between two looks whether anybody still wants the results


class _Room:
    """Tasks that the job of this process may have in flight."""

    left: threading.Semaphore | None = None


@contextmanager
def in_flight(most: int) -> Iterator[None]:
    """Bound the tasks in flight of the job that runs inside.

    Args:
        most: Tasks, of all its calls of `map` together.
    """
    _Room.left = threading.Semaphore(most)
    try:
        yield
    finally:
        _Room.left = None


class Feeder:
    """Submit calls from a thread, and yield the futures as they complete.

    Args:
        submit: Takes the arguments of a call and its key, and gives a future.
    """

    def __init__(self, submit: Callable[[tuple[Any, ...], str], Any]) -> None:
        self._submit = submit
        self._news: SimpleQueue[tuple[int, Any] | BaseException | int] = SimpleQueue()
        self._left, self._room = False, _Room.left
        self._lock = threading.Lock()

    def over(self, calls: Iterable[tuple[tuple[Any, ...], str]]) -> Iterator[tuple[int, Any]]:
        """Yield each future with the position of its call.

        An error of `calls` is raised at once, whatever still runs.

        Args:
            calls: Arguments and key of each; they may take their time.
        """
        thread = threading.Thread(target=self._feed, args=(calls,), name="ingestlab-feed", daemon=True)
        thread.start()
        done, count = 0, None
        try:
            while done != count:
                news = self._news.get()
                if isinstance(news, BaseException):
                    raise news
                if isinstance(news, int):
                    count = news
                else:
                    done += 1
                    yield news
        finally:
            with self._lock:  # from here on nothing is submitted that nobody would take back
                self._left = True

    def _feed(self, calls: Iterable[tuple[tuple[Any, ...], str]]) -> None:
        count = 0
        try:
            for place, (call, key) in enumerate(calls):
                if not self._has_room():
                    return None
                with self._lock:
                    if self._left:
                        return self._leave()
                    future = self._submit(call, key)
                future.add_done_callback(lambda future, place=place: self._done(place, future))
                count += 1
        except BaseException as error:  # noqa: BLE001 - it is raised where the results are wanted
            self._news.put(error)
        else:
            self._news.put(count)

    def _has_room(self) -> bool:
        """Wait until another task may be in flight. False if nobody waits for it any more."""
        if self._room is None:
            return True
        while not self._room.acquire(timeout=_LOOK):
            if self._left:
                return False
        return True

    def _leave(self) -> None:
        if self._room is not None:
            self._room.release()

    def _done(self, place: int, future: Any) -> None:
        self._leave()
        self._news.put((place, future))
