"""A web API on a free loopback port: each way of paging, each kind of credentials, and accidents on any page."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, Self

from aiohttp import web

SIZE = 10  # records a page
# A pipeline of `ApiServer`, whose address, words and pages at once are put in.
SHOP = """
from ingestlab import JsonLines, Pipeline, Rest
from ingestlab.sources.rest import Incremental, PageNumber

PIPELINE = Pipeline(
    source=Rest(
        base_url="URL",
        endpoint="since",
        paginator=PageNumber(size=10, total="total"),
        data_selector="data",
        cursor=Incremental(field="at", param="since", until="until"),
        ahead=AHEAD,
    ),
    MORE
)
"""


class ApiServer:
    """Serves `records`. A context manager.

    Attributes:
        records: What there is; they may change meanwhile.
        asked: How often each page was served, by its number from 0.
        faults: By the number of a page, what goes wrong at the next request for it, and how often.
        guard: Tells whether a request may see anything.
    """

    def __init__(self, records: list[dict[str, Any]] | None = None, size: int = SIZE) -> None:
        self.records, self.size = records or [], size
        self.asked: Counter[int] = Counter()
        self.requests: list[str] = []
        self.faults: dict[int, list[str]] = {}
        self.guard: Callable[[web.Request], bool] = lambda _request: True
        self.tokens = 0
        self.token_seconds: float = 3600
        self.delay = 0.0
        self.children: dict[int, list[dict[str, Any]]] = {}
        self.url = ""
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._started.wait(20)
        return self

    def __exit__(self, *_error: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(20)

    def fault(self, page: int, *kinds: str) -> None:
        self.faults[page] = list(kinds)

    def _serve(self) -> None:
        asyncio.run(self._run())

    async def _run(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        app = web.Application(middlewares=[self._guarded])
        add = app.router.add_route
        for name in ("page", "offset", "cursor", "json-link", "header-link", "header-cursor", "single", "since"):
            add("*", f"/{name}", getattr(self, "_" + name.replace("-", "_")))
        add("POST", "/token", self._token)
        add("GET", "/posts/{id}/comments", self._comments)
        add("GET", "/html", self._html)
        add("GET", "/endless", self._endless)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = site._server.sockets[0].getsockname()[:2]  # type: ignore[union-attr]
        self.url = f"http://{host}:{port}"
        self._started.set()
        await self._stop.wait()
        await runner.cleanup()

    @web.middleware
    async def _guarded(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self.requests.append(f"{request.method} {request.path_qs}")
        if request.path != "/token" and not self.guard(request):
            return web.json_response({"error": "who are you?", "got": request.headers.get("Authorization")}, status=401)
        return await handler(request)

    async def _give(
        self, request: web.Request, number: int, body: Any, headers: dict[str, str] | None = None
    ) -> web.StreamResponse:
        if self.delay:
            await asyncio.sleep(self.delay)
        kinds = self.faults.get(number)
        kind = kinds.pop(0) if kinds else ""
        if kind == "500":
            return web.Response(status=500, text="no luck")
        if kind in ("429", "503"):
            return web.Response(status=int(kind), headers={"Retry-After": "0"})
        if kind == "cut":
            response = web.StreamResponse(headers={"Content-Length": "100000"})
            await response.prepare(request)
            await response.write(b'[{"id": ')
            assert request.transport is not None
            request.transport.close()
            return response
        if kind == "hang":
            await asyncio.sleep(3)
        if kind == "html":
            return web.Response(text="<!doctype html><html><body>Please log in</body></html>", content_type="text/html")
        if kind == "shape":
            return web.json_response({"oops": 1})
        self.asked[number] += 1
        return web.Response(body=_text(body), content_type="application/json", headers=headers)

    def _some(self, start: int, size: int) -> list[dict[str, Any]]:
        return self.records[start : start + size]

    async def _params(self, request: web.Request) -> dict[str, Any]:
        return {**request.query, **(await request.json() if request.can_read_body else {})}

    async def _page(self, request: web.Request) -> web.StreamResponse:
        params = await self._params(request)
        page, size = int(params.get("page", 1)), int(params.get("per_page", self.size))
        body = {"data": self._some((page - 1) * size, size), "total": len(self.records)}
        if page > 1 and not body["data"] and "strict" in params:
            return web.Response(status=404)
        return await self._give(request, page - 1, body)

    async def _offset(self, request: web.Request) -> web.StreamResponse:
        params = await self._params(request)
        offset, limit = int(params.get("offset", 0)), int(params.get("limit", self.size))
        body = {"list": {"items": self._some(offset, limit), "more": offset + limit < len(self.records)}}
        return await self._give(request, offset // limit, body)

    async def _cursor(self, request: web.Request) -> web.StreamResponse:
        params = await self._params(request)
        start = int(str(params.get("cursor", "c0"))[1:])
        more = start + self.size < len(self.records)
        body = {"items": self._some(start, self.size), "meta": {"next": f"c{start + self.size}" if more else None}}
        return await self._give(request, start // self.size, body)

    async def _json_link(self, request: web.Request) -> web.StreamResponse:
        page = int(request.query.get("page", 0))
        more = (page + 1) * self.size < len(self.records)
        own = "".join(f"&{k}={v}" for k, v in request.query.items() if k != "page")
        link = f"/json-link?page={page + 1}{own}" if more else None
        return await self._give(request, page, {"results": self._some(page * self.size, self.size), "next": link})

    async def _header_link(self, request: web.Request) -> web.StreamResponse:
        page = int(request.query.get("page", 0))
        more = (page + 1) * self.size < len(self.records)
        link = f'<{self.url}/header-link?page={page + 1}>; rel="next", <{self.url}/header-link?page=0>; rel="first"'
        return await self._give(request, page, self._some(page * self.size, self.size), {"Link": link} if more else {})

    async def _header_cursor(self, request: web.Request) -> web.StreamResponse:
        page = int(request.query.get("after", 0))
        more = (page + 1) * self.size < len(self.records)
        return await self._give(
            request, page, self._some(page * self.size, self.size), {"X-Next": str(page + 1)} if more else {}
        )

    async def _single(self, request: web.Request) -> web.StreamResponse:
        return await self._give(request, 0, self.records)

    async def _since(self, request: web.Request) -> web.StreamResponse:
        since, until = request.query.get("since", ""), request.query.get("until", "~")
        mine = [r for r in self.records if (r["at"] or "~") >= since and (r["at"] or "") <= until]
        page = int(request.query.get("page", 1))
        some = mine[(page - 1) * self.size : page * self.size]
        return await self._give(request, page - 1, {"data": some, "total": len(mine)})

    async def _comments(self, request: web.Request) -> web.StreamResponse:
        number, page = int(request.match_info["id"]), int(request.query.get("page", 1))
        mine = self.children.get(number, [])
        some = mine[(page - 1) * self.size : page * self.size]
        return await self._give(request, 1000 * number + page, {"data": some})

    async def _html(self, request: web.Request) -> web.StreamResponse:
        return web.Response(text="<!doctype html><html><body>Please log in</body></html>", content_type="text/html")

    async def _endless(self, request: web.Request) -> web.StreamResponse:
        page = int(request.query.get("page", 1))
        return web.json_response([{"id": page * 2}, {"id": page * 2 + 1}])

    async def _token(self, request: web.Request) -> web.StreamResponse:
        form = await request.post()
        pair = base64.b64encode(b"client:hush-hush").decode()
        header = request.headers.get("Authorization") == f"Basic {pair}"
        if not header and (form.get("client_id"), form.get("client_secret")) != ("client", "hush-hush"):
            return web.json_response({"error": "invalid_client", "secret": form.get("client_secret")}, status=401)
        self.tokens += 1
        return web.json_response({"access_token": f"token-{self.tokens}", "expires_in": self.token_seconds})


def _text(body: Any) -> bytes:
    """Write JSON; a text that begins with ``#`` is a number as it stands."""
    text = json.dumps(body)
    while (at := text.find('"#')) >= 0:
        end = text.index('"', at + 2)
        text = text[:at] + text[at + 2 : end] + text[end + 1 :]
    return text.encode()


def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)
