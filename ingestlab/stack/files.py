"""A small, fast HTTP file server for sample data: ``python -m ingestlab.stack.files --root DIR``.

It does what a good server of files does (strong ETag, Last-Modified, conditional requests, ranges, folder
listings), on loopback only, and serves nothing from outside its root.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import html
import math
import os
import stat
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from email.utils import formatdate
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.web_fileresponse import CONTENT_TYPES

from ingestlab.core.errors import IngestError
from ingestlab.stack.samples import ensure_samples

HOST = "127.0.0.1"
BACKLOG = 4096  # a benchmark opens its connections all at once
SMALL = 1 << 18  # bytes: up to here a file is served from memory
CACHE = 1 << 27  # bytes of small files that are kept there
UNASKED = 5.0  # seconds after which samples are made though nobody asks: at first the rest of a stack wants the cores


class _Small(NamedTuple):
    """A file in memory; an earlier reading is good while the tag is the same."""

    tag: str
    body: bytes
    headers: dict[str, str]


class FileHandler:
    """Answers GET and HEAD for the files and folders below `root`.

    Args:
        root: The folder to serve, made if missing; names that begin with a dot are not served.
        prepare: Makes what is to be served, in a thread, when somebody asks or soon; who asks waits for it.
    """

    def __init__(self, root: Path, prepare: Callable[[], object] | None = None) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self._root = os.path.realpath(root)
        self._cache: dict[str, _Small] = {}
        self._room = CACHE
        self._prepare = functools.cache(lambda: asyncio.ensure_future(asyncio.to_thread(prepare))) if prepare else None
        if self._prepare:
            asyncio.get_running_loop().call_later(UNASKED, self._prepare)

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        """The file, the listing of the folder, or an HTTP error that says what is wrong."""
        if request.method not in ("GET", "HEAD"):
            raise web.HTTPMethodNotAllowed(request.method, ("GET", "HEAD"))
        path = self._inside(request.path)
        info = _look(path)
        if self._prepare and (info is None or stat.S_ISDIR(info.st_mode)):
            await self._prepared(self._prepare())
            info = _look(path)
        if info is None:
            raise web.HTTPNotFound(text=f"No {request.path} here; its folder lists what there is.\n")
        if stat.S_ISDIR(info.st_mode):
            return _folder(request, path)
        if _stale(request, info):
            return _WholeFile(path)
        if info.st_size > SMALL or _special(request):
            return web.FileResponse(path)
        return _answer(request, self._small(path, info))

    def _inside(self, name: str) -> str:
        """The path of a name; links are followed, but not out of the root."""
        path = os.path.realpath(self._root + name) if "\0" not in name else ""
        if path != self._root and not path.startswith(self._root.rstrip("/") + "/"):
            raise web.HTTPForbidden(text="Only what lies below the root of this server can be had.\n")
        if "/." in name:
            raise web.HTTPNotFound(text="Names that begin with a dot are not served.\n")
        return path

    async def _prepared(self, preparing: asyncio.Future[object]) -> None:
        try:
            await asyncio.shield(preparing)  # a client that goes away must not stop it
        except (IngestError, OSError) as error:
            raise web.HTTPServiceUnavailable(text=f"The samples could not be made: {error}\n") from error

    def _small(self, path: str, info: os.stat_result) -> _Small:
        tag = _tag(info)
        known = self._cache.get(path)
        if known and known.tag == tag:
            return known
        if known:
            self._room += len(known.body)
            del self._cache[path]
        body = Path(path).read_bytes()
        headers = {
            "Content-Type": CONTENT_TYPES.guess_type(path)[0] or "application/octet-stream",
            "Last-Modified": formatdate(math.ceil(info.st_mtime), usegmt=True),  # never before the change
            "Accept-Ranges": "bytes",
            "ETag": tag,
        }
        small = _Small(tag, body, headers)
        if len(body) <= self._room:
            self._cache[path] = small
            self._room -= len(body)
        return small


class _WholeFile(web.FileResponse):
    """A file whole, though a range was asked for."""

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Starts the response as to a request without Range."""
        headers = request.headers.copy()
        headers.popall("Range")
        return await super().prepare(request.clone(headers=headers))


def _look(path: str) -> os.stat_result | None:
    try:
        return Path(path).stat()
    except (FileNotFoundError, NotADirectoryError):
        return None


def _tag(info: os.stat_result) -> str:
    return f'"{info.st_mtime_ns:x}-{info.st_size:x}"'  # as aiohttp tags its file responses


def _stale(request: web.BaseRequest, info: os.stat_result) -> bool:
    """Whether a range is asked for of another version than this; aiohttp looks at dates in If-Range alone."""
    wanted = request.headers.get("If-Range", "")
    return "Range" in request.headers and wanted.startswith(('"', "W/")) and wanted != _tag(info)


def _special(request: web.BaseRequest) -> bool:
    """Whether a request asks for more than the fast way knows; aiohttp's own file response knows it all."""
    headers = request.headers
    if "If-Modified-Since" in headers and "If-None-Match" not in headers:
        return True
    return any(name in headers for name in ("Range", "If-Match", "If-Unmodified-Since"))


def _answer(request: web.BaseRequest, file: _Small) -> web.Response:
    known = [tag.strip().removeprefix("W/") for tag in request.headers.get("If-None-Match", "").split(",")]
    if file.tag in known or "*" in known:
        return web.Response(status=304, headers={"ETag": file.tag, "Last-Modified": file.headers["Last-Modified"]})
    return web.Response(body=file.body, headers=file.headers)


def _folder(request: web.BaseRequest, path: str) -> web.Response:
    """What is in a folder: a page with links, or with ``?format=json`` a list of dicts."""
    if not request.path.endswith("/"):
        raise web.HTTPMovedPermanently(quote(request.path) + "/")  # else relative links go astray
    with os.scandir(path) as found:
        entries = sorted((e for e in found if not e.name.startswith(".")), key=lambda e: e.name)
    if request.query.get("format") == "json":
        return web.json_response([_entry(entry) for entry in entries])
    title = html.escape(f"Index of {request.path}")
    names = [entry.name + "/" * entry.is_dir() for entry in entries]
    items = "\n".join(f'<li><a href="{quote(name)}">{html.escape(name)}</a></li>' for name in names)
    page = f"<!doctype html>\n<title>{title}</title>\n<h1>{title}</h1>\n<ul>\n{items}\n</ul>\n"
    return web.Response(text=page, content_type="text/html")


def _entry(entry: os.DirEntry[str]) -> dict[str, str | int | float]:
    info = entry.stat()
    if entry.is_dir():
        return {"name": entry.name, "kind": "folder", "modified": info.st_mtime}
    return {"name": entry.name, "kind": "file", "modified": info.st_mtime, "size": info.st_size, "etag": _tag(info)}


@asynccontextmanager
async def serve(root: Path, port: int = 0, prepare: Callable[[], object] | None = None) -> AsyncIterator[str]:
    """Serves a folder and gives its base URL, ``http://127.0.0.1:<port>/``.

    Args:
        root: The folder to serve; made if missing.
        port: Where to listen; 0 takes a free one.
        prepare: Makes what is to be served, in a thread, when somebody asks or soon.

    Raises:
        OSError: The port is taken.
    """
    runner = web.ServerRunner(web.Server(FileHandler(root, prepare), access_log=None), shutdown_timeout=1)
    await runner.setup()
    try:
        await web.TCPSite(runner, HOST, port, backlog=BACKLOG).start()
        yield f"http://{HOST}:{runner.addresses[0][1]}/"
    finally:
        await runner.cleanup()


async def _run(arguments: argparse.Namespace) -> None:
    root: Path = arguments.root
    prepare = (lambda: ensure_samples(root)) if arguments.samples else None
    async with serve(root, arguments.port, prepare) as url:
        sys.stdout.write(f"serving {root} at {url}\n")
        sys.stdout.flush()
        if arguments.ready:
            temporary = arguments.ready.with_name(f".{arguments.ready.name}.{os.getpid()}")
            temporary.write_text(url)
            temporary.replace(arguments.ready)
        await asyncio.Event().wait()  # until a signal: nothing here needs tidying up


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the server until SIGTERM or Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m ingestlab.stack.files", description="Serve a folder over HTTP.")
    parser.add_argument("--root", type=Path, required=True, help="folder to serve")
    parser.add_argument("--port", type=int, default=0, help="port to listen on; 0 takes a free one")
    parser.add_argument("--ready", type=Path, help="file to write the base URL to once the server listens")
    parser.add_argument("--samples", action="store_true", help="make the sample data below the root if missing")
    with suppress(KeyboardInterrupt):
        asyncio.run(_run(parser.parse_args(argv)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
