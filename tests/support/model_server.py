"""A server that speaks OpenAI's API for embeddings, on a free loopback port, as well or as badly as a test wants."""

from __future__ import annotations

import asyncio
import base64
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from aiohttp import web

DIM = 4


def vector(text: str, dim: int = DIM) -> np.ndarray:
    """What this server's model makes of a text."""
    codes = np.frombuffer(text.encode(), np.uint8).astype(np.float32)
    return np.array([len(codes), codes.sum() % 97, codes[0], codes[-1]] * (dim // 4), np.float32) + 1


@dataclass(frozen=True)
class Asked:
    """One request."""

    texts: Sequence[str]
    body: dict[str, Any]
    headers: dict[str, str]
    at: float
    request: web.Request


@dataclass
class ModelServer:
    """Answers ``/v1/embeddings``.

    Attributes:
        answer: Is asked first, with the number of the request and what it says; None lets the model answer.
        change: What becomes of the items of an answer.
        log: All requests.
    """

    answer: Callable[[int, Asked], Any] = lambda _number, _asked: None
    change: Callable[[list[dict[str, Any]]], Any] = lambda items: items
    log: list[Asked] = field(default_factory=list)
    dim: int = DIM
    port: int = 0

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def texts(self) -> list[str]:
        return [text for asked in self.log for text in asked.texts]

    def __enter__(self) -> Self:
        self._ready: Future[int] = Future()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self._thread.start()
        self.port = self._ready.result(60)
        return self

    def __exit__(self, *_error: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        app = web.Application(client_max_size=1 << 28)
        app.router.add_post("/v1/embeddings", self._embed)
        app.router.add_route("*", "/elsewhere", self._embed)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self._ready.set_result(site._server.sockets[0].getsockname()[1])
        await self._stop.wait()
        await runner.cleanup()

    async def _embed(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        asked = Asked(body["input"], body, dict(request.headers), time.monotonic(), request)
        self.log.append(asked)
        special = self.answer(len(self.log), asked)
        if asyncio.iscoroutine(special):
            special = await special
        if special is not None:
            return special
        dim = body.get("dimensions", self.dim)
        items = [{"index": i, "embedding": vector(text, dim)} for i, text in enumerate(asked.texts)]
        for item in items:
            numbers = item["embedding"]
            as_text = body["encoding_format"] == "base64"
            item["embedding"] = base64.b64encode(numbers.tobytes()).decode() if as_text else numbers.tolist()
        return web.json_response({"object": "list", "data": self.change(items), "model": body["model"]})


def status(code: int, text: str = "", **headers: str) -> web.Response:
    """An answer that is no success."""
    return web.Response(status=code, text=text, headers={name.replace("_", "-"): v for name, v in headers.items()})
