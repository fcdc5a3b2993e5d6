"""Tasks that are submitted while earlier ones run: what both executors do with calls that come one by one."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from queue import SimpleQueue
from typing import Any


class Feeder:
    """Submit calls from a thread, and yield the futures as they complete.

    Args:
        submit: Takes the arguments of a call and its key, and gives a future.
    """

    def __init__(self, submit: Callable[[tuple[Any, ...], str], Any]) -> None:
        self._submit = submit
        self._news: SimpleQueue[tuple[int, Any] | BaseException | int] = SimpleQueue()
        self._left = False
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
                with self._lock:
                    if self._left:
                        return
                    future = self._submit(call, key)
                future.add_done_callback(lambda future, place=place: self._news.put((place, future)))
                count += 1
        except BaseException as error:  # noqa: BLE001 - it is raised where the results are wanted
            self._news.put(error)
        else:
            self._news.put(count)
