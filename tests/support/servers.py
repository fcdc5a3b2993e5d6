"""A real HTTP server in a thread, with well-behaved routes and every kind of ill-behaved one."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from email.utils import formatdate, parsedate_to_datetime
from pathlib import Path
from typing import Self

from aiohttp import web

CHUNK = b"0123456789abcdef" * 4096  # 64 KiB


@dataclass(frozen=True)
class Request:
    """One request as the server saw it, the status that it gave, and the client's port."""

    path: str
    status: int
    headers: Mapping[str, str]
    peer: int


@dataclass
class Server:
    """Serves `files`, which may change while it runs, on a free loopback port.

    Routes:
        ``/files/NAME``: with ETag, Last-Modified, Range, If-Range, If-None-Match, If-Modified-Since.
        ``/plain/NAME``: the bytes and nothing to tell versions by. ``/dated/NAME``: Last-Modified alone.
        ``/status/CODE``: that status; ``?after=SECONDS`` adds Retry-After.
        ``/silent``: headers, then nothing. ``/mute``: not even headers. ``/drip``: a byte every 10 ms.
        ``/endless``: bytes without end. ``/huge``: declares a terabyte.
        ``/short/NAME``: declares more bytes than it sends; ``/long/NAME``: fewer. ``/garbage``: not HTTP.
        ``/flaky/NAME?fail=N``: status 503, or ``&status=CODE``, for N requests, then the file.
        ``/cut/NAME``: breaks off half-way at the first request, then as ``/files``; ``?change=1`` puts
        another content in the file's place meanwhile, ``?lie=1`` answers with a wrong Content-Range.
        ``/held/NAME``: half of the file, and the rest when ``release`` is called.
        ``/redirect?to=URL``, ``/loop``: redirects.

    A folder in `files` is served as it is at the time of each request.
    """

    files: dict[str, bytes] | Path = field(default_factory=dict)
    log: list[Request] = field(default_factory=list)
    port: int = 0
    modified: float = 1_700_000_000.0

    def __enter__(self) -> Self:
        self._ready: Future[int] = Future()
        self._seen: Counter[str] = Counter()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self._thread.start()
        self.port = self._ready.result(timeout=60)
        return self

    def __exit__(self, *error: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(timeout=10)

    def url(self, path: str) -> str:
        """The address of a route."""
        return f"http://127.0.0.1:{self.port}/{path.lstrip('/')}"

    def release(self) -> None:
        """Lets the files go that ``/held`` holds back, now and from now on."""
        self._loop.call_soon_threadsafe(self._free.set)

    def requests(self, path: str) -> list[Request]:
        """The requests to one path, in order."""
        return [r for r in self.log if r.path == path]

    async def _serve(self) -> None:
        self._loop, self._stop, self._free = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()
        app = web.Application(middlewares=[self._logged])
        app.router.add_get("/files/{name:.+}", self._file)
        app.router.add_get("/{kind:plain|dated}/{name:.+}", self._plain)
        app.router.add_get("/status/{code}", self._status)
        app.router.add_get("/{kind:silent|mute|drip|endless|huge|garbage}", self._ill)
        app.router.add_get("/short/{name:.+}", self._short)
        app.router.add_get("/long/{name:.+}", self._long)
        app.router.add_get("/flaky/{name:.+}", self._flaky)
        app.router.add_get("/cut/{name:.+}", self._cut)
        app.router.add_get("/held/{name:.+}", self._held)
        app.router.add_get("/redirect", self._redirect)
        app.router.add_get("/loop", self._loop_forever)
        runner = web.AppRunner(app, shutdown_timeout=0.1, access_log=None)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            self._ready.set_result(runner.addresses[0][1])
            await self._stop.wait()
        except OSError as error:
            self._ready.set_exception(error)
        finally:
            await runner.cleanup()

    @web.middleware
    async def _logged(self, request: web.Request, handler) -> web.StreamResponse:
        place, status = len(self.log), 0
        peer = request.transport.get_extra_info("peername")[1]
        self.log.append(Request(request.path, status, dict(request.headers), peer))  # at once: some never end
        try:
            response = await handler(request)
            status = response.status
        except web.HTTPException as error:
            status = error.status
            raise
        finally:
            self.log[place] = Request(request.path, status, dict(request.headers), peer)
        return response

    def _bytes(self, request: web.Request) -> bytes:
        name = request.match_info["name"]
        try:
            return (self.files / name).read_bytes() if isinstance(self.files, Path) else self.files[name]
        except (KeyError, OSError):
            raise web.HTTPNotFound from None

    def _tags(self, data: bytes) -> dict[str, str]:
        etag = f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"'
        return {"ETag": etag, "Last-Modified": formatdate(self.modified, usegmt=True), "Accept-Ranges": "bytes"}

    async def _file(self, request: web.Request) -> web.StreamResponse:
        data = self._bytes(request)
        tags = self._tags(data)
        if request.headers.get("If-None-Match") == tags["ETag"]:
            return web.Response(status=304, headers=tags)
        wanted = request.http_range
        if wanted.start and request.headers.get("If-Range", tags["ETag"]) == tags["ETag"]:
            if wanted.start >= len(data):
                return web.Response(status=416, headers=tags)
            span = f"bytes {wanted.start}-{len(data) - 1}/{len(data)}"
            return web.Response(status=206, body=data[wanted.start :], headers={**tags, "Content-Range": span})
        return web.Response(body=data, headers=tags)

    async def _plain(self, request: web.Request) -> web.StreamResponse:
        data = self._bytes(request)
        if request.match_info["kind"] == "plain":
            return web.Response(body=data)
        since = request.headers.get("If-Modified-Since")
        same = since and parsedate_to_datetime(since).timestamp() >= self.modified
        headers = {"Last-Modified": formatdate(self.modified, usegmt=True)}
        return web.Response(status=304, headers=headers) if same else web.Response(body=data, headers=headers)

    async def _status(self, request: web.Request) -> web.StreamResponse:
        after = request.query.get("after")
        return web.Response(status=int(request.match_info["code"]), headers={"Retry-After": after} if after else {})

    async def _ill(self, request: web.Request) -> web.StreamResponse:
        kind = request.match_info["kind"]
        if kind == "garbage":
            request.transport.write(b"\x00\x01 this is no HTTP\r\n\r\n")
            request.transport.close()
            return web.Response()
        if kind == "mute":
            await self._stop.wait()
        response = web.StreamResponse()
        if kind == "huge":
            response.content_length = 1 << 40
        await response.prepare(request)
        while not self._stop.is_set():
            if kind == "silent":
                await self._stop.wait()
            elif kind == "drip":
                await asyncio.sleep(0.01)
            await response.write(b"." if kind == "drip" else CHUNK)
        return response

    async def _short(self, request: web.Request) -> web.StreamResponse:
        return await self._break_off(request, self._bytes(request), extra=1000)

    async def _long(self, request: web.Request) -> web.StreamResponse:
        data = self._bytes(request)
        request.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(data) // 2, data))
        request.transport.close()
        return web.Response()

    async def _flaky(self, request: web.Request) -> web.StreamResponse:
        self._seen[request.path] += 1
        if self._seen[request.path] <= int(request.query["fail"]):
            return web.Response(status=int(request.query.get("status", "503")))
        return await self._file(request)

    async def _cut(self, request: web.Request) -> web.StreamResponse:
        self._seen[request.path] += 1
        data = self._bytes(request)
        if self._seen[request.path] == 1:
            response = await self._break_off(request, data[: len(data) // 2], extra=len(data) - len(data) // 2, of=data)
            if "change" in request.query:
                self.files[request.match_info["name"]] = data[::-1]
            return response
        if "lie" in request.query and "Range" in request.headers:
            headers = {**self._tags(data), "Content-Range": f"bytes 0-{len(data) - 1}/{len(data)}"}
            return web.Response(status=206, body=data, headers=headers)
        return await self._file(request)

    async def _held(self, request: web.Request) -> web.StreamResponse:
        data = self._bytes(request)
        response = web.StreamResponse(headers=self._tags(data))
        response.content_length = len(data)
        await response.prepare(request)
        await response.write(data[: len(data) // 2])
        await self._free.wait()
        await response.write(data[len(data) // 2 :])
        return response

    async def _break_off(
        self, request: web.Request, data: bytes, extra: int, of: bytes | None = None
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers=self._tags(of or data))
        response.content_length = len(data) + extra
        await response.prepare(request)
        await response.write(data)
        request.transport.close()  # what was written still goes out
        return response

    async def _redirect(self, request: web.Request) -> web.StreamResponse:
        return web.Response(status=302, headers={"Location": request.query["to"]})

    async def _loop_forever(self, _request: web.Request) -> web.StreamResponse:
        return web.Response(status=302, headers={"Location": "/loop"})
