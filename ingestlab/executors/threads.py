"""Tasks on threads of this process: for dry runs and tests, where no scheduler is wanted."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any

from ingestlab.core.settings import Settings


class Threads:
    """Run tasks on as many threads as there are cores; see :class:`ingestlab.interfaces.Executor`."""

    def __init__(self, settings: Settings) -> None:  # noqa: ARG002 - as every executor is made
        self._pool: ThreadPoolExecutor | None = None

    def connect(self) -> None:
        """Start nothing yet: threads are made as tasks come."""

    def map(
        self,
        function: Callable[..., Any],
        calls: Sequence[tuple[Any, ...]],
        keys: Sequence[str],
        resources: Mapping[str, float] | None = None,  # noqa: ARG002 - this process is all there is
    ) -> Iterator[tuple[int, Any]]:
        """Run ``function(*call)`` for every call and yield (position, result) as they finish."""
        self._pool = self._pool or ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="ingestlab-task")
        places = {self._pool.submit(function, *c): i for i, (c, _key) in enumerate(zip(calls, keys, strict=True))}
        try:
            for future in as_completed(places):
                yield places[future], future.result()
        finally:
            for future in places:  # those that have not begun; a thread cannot be stopped
                future.cancel()

    def close(self) -> None:
        """Wait for the tasks that have begun, and end the threads."""
        if self._pool:
            self._pool.shutdown(cancel_futures=True)
        self._pool = None
