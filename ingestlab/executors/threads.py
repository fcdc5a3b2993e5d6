"""Tasks on threads of this process: for dry runs and tests, where no scheduler is wanted."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from ingestlab.core.settings import Settings
from ingestlab.executors.feeding import Feeder


class Threads:
    """Run tasks on as many threads as there are cores; see :class:`ingestlab.interfaces.Executor`."""

    def __init__(self, settings: Settings) -> None:  # noqa: ARG002 - as every executor is made
        self._pool: ThreadPoolExecutor | None = None

    def connect(self) -> None:
        """Start nothing yet: threads are made as tasks come."""

    def is_local(self) -> bool:
        """Tell that all tasks run in this process."""
        return True

    def map(
        self,
        function: Callable[..., Any],
        calls: Iterable[tuple[Any, ...]],
        keys: Iterable[str],
        resources: Mapping[str, float] | None = None,  # noqa: ARG002 - this process is all there is
    ) -> Iterator[tuple[int, Any]]:
        """Run ``function(*call)`` for every call and yield (position, result) as they finish."""
        pool = self._pool = self._pool or ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="ingestlab-task")
        futures: list[Future[Any]] = []

        def submit(call: tuple[Any, ...], _key: str) -> Future[Any]:
            futures.append(pool.submit(function, *call))
            return futures[-1]

        try:
            for place, future in Feeder(submit).over(zip(calls, keys, strict=False)):
                yield place, future.result()
        finally:
            for future in futures:  # those that have not begun; a thread cannot be stopped
                future.cancel()

    def close(self) -> None:
        """Wait for the tasks that have begun, and end the threads."""
        if self._pool:
            self._pool.shutdown(cancel_futures=True)
        self._pool = None
