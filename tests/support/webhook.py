"""The webhook, served in a thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from aiohttp import web

from ingestlab.core.settings import Settings
from ingestlab.queue.arrival import webhook
from ingestlab.stack.valkey import free_port
from support.workers import PATIENCE


@contextmanager
def serving(settings: Settings) -> Iterator[str]:
    """The service on a free port; gives its address."""
    loop, port = asyncio.new_event_loop(), free_port()
    runner = web.AppRunner(webhook.application(settings))

    async def start() -> None:
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()

    loop.run_until_complete(start())
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(PATIENCE)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(PATIENCE)
        loop.close()
