"""Coroutines beside a thread that signals may stop."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")


def run_apart(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end, on a thread of its own.

    A notebook's thread has a loop already. And an RQ job's time-out is an exception that a signal raises in
    this thread: inside a loop it would hit some callback and be swallowed; here it ends the work.

    Args:
        work: Is cancelled where this thread is told to stop.
    """
    inside: list[tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]]] = []

    async def watched() -> T:
        task = asyncio.current_task()
        assert task is not None
        inside.append((asyncio.get_running_loop(), task))
        return await work

    with ThreadPoolExecutor(1, thread_name_prefix="fetch") as pool:
        done = pool.submit(asyncio.run, watched())
        try:
            return done.result()
        except BaseException:
            if not done.done() and inside:
                loop, task = inside[0]
                loop.call_soon_threadsafe(task.cancel)
            raise
