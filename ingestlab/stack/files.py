"""An HTTP file server for sample data: ``python -m ingestlab.stack.files --root DIR``.

aiohttp's file responses do what a good server of files does (strong ETag, Last-Modified, conditional requests,
ranges); this adds folder listings and serves nothing from outside its root, on loopback only. With ``--samples`` it
also serves a small API below ``/api/``.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import math
import os
import stat
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from email.utils import formatdate
from pathlib import Path
from typing import Any
from urllib.parse import quote

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.web_fileresponse import CONTENT_TYPES, FALLBACK_CONTENT_TYPE

from ingestlab.core.errors import IngestError
from ingestlab.core.templates import render
from ingestlab.stack import sample_api
from ingestlab.stack.samples import ensure_samples

HOST = "127.0.0.1"
SMALL = 1 << 20  # bytes of a file that is answered from memory
CONDITIONS = ("Range", "If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since")
BACKLOG = 4096  # a benchmark opens its connections all at once
UNASKED = 5.0  # seconds after which samples are made though nobody asks: at first the rest of a stack wants the cores


class FileHandler:
    """Answer GET and HEAD for the files and folders below `root`.

    Args:
        root: The folder to serve, made if missing; names that begin with a dot are not served.
        prepare: Makes what is to be served, in a thread, on the first request or soon; requests wait for it.
    """

    def __init__(self, root: Path, prepare: Callable[[], object] | None = None) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self._root = root.resolve()
        self._prepare = functools.cache(lambda: asyncio.ensure_future(asyncio.to_thread(prepare))) if prepare else None
        if self._prepare:
            asyncio.get_running_loop().call_later(UNASKED, self._prepare)

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer with the file, the folder's listing, or an HTTP error."""
        if request.method not in ("GET", "HEAD"):
            raise web.HTTPMethodNotAllowed(request.method, ("GET", "HEAD"))
        if request.path.startswith(sample_api.PREFIX) and self._prepare:
            await self._prepared()
            return await asyncio.to_thread(sample_api.answer, request, self._root)
        path = self._inside(request.path)
        if small := _small(request, path):
            return small
        if self._prepare and not path.is_file():
            await self._prepared()
        if path.is_dir():
            return _folder(request, path)
        if not path.exists():
            raise web.HTTPNotFound(text=f"No {request.path} here; its folder lists what there is.\n")
        return _File(path)

    async def _prepared(self) -> None:
        """Wait until there is something to serve."""
        try:
            if self._prepare:
                await asyncio.shield(self._prepare())  # a client that goes away must not stop it
        except (IngestError, OSError) as error:
            raise web.HTTPServiceUnavailable(text=f"The samples could not be made: {error}\n") from error

    def _inside(self, name: str) -> Path:
        """Give the path of a name. Links are followed, but not out of the root."""
        if "\0" in name or not (path := Path(os.path.realpath(f"{self._root}/{name}"))).is_relative_to(self._root):
            raise web.HTTPForbidden(text="Only what lies below the root of this server can be had.\n")
        if "/." in name:
            raise web.HTTPNotFound(text="Names that begin with a dot are not served.\n")
        return path


def _small(request: web.BaseRequest, path: Path) -> web.Response | None:
    """Answer a plain GET of a small file from memory; else None."""
    if request.method != "GET" or any(name in request.headers for name in CONDITIONS):
        return None
    try:
        info = path.stat()
        if not stat.S_ISREG(info.st_mode) or info.st_size > SMALL:
            return None
        with path.open("rb") as file:
            info = os.fstat(file.fileno())
            body = file.read(info.st_size)
    except OSError:  # what it is, is for the other way to say
        return None
    headers = {
        "Accept-Ranges": "bytes",
        "Content-Type": CONTENT_TYPES.guess_type(path.name)[0] or FALLBACK_CONTENT_TYPE,
        "ETag": _tag(info),
        "Last-Modified": formatdate(math.ceil(info.st_mtime), usegmt=True),
    }
    return web.Response(body=body, headers=headers)


class _File(web.FileResponse):
    """A file response that understands tags in If-Range, too: aiohttp looks at dates there alone."""

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Start the response. A range of another version than this is answered with the whole file."""
        unwanted = {"accept-encoding"}  # else a packed file of the name and .gz is taken for it
        tag = request.headers.get("If-Range", "")
        if tag.startswith(('"', "W/")) and tag != _tag(self._path.stat()):
            unwanted.add("range")
        headers = {name: value for name, value in request.headers.items() if name.lower() not in unwanted}
        return await super().prepare(request.clone(headers=headers))


def _tag(info: os.stat_result) -> str:
    return f'"{info.st_mtime_ns:x}-{info.st_size:x}"'  # as aiohttp tags its file responses


def _folder(request: web.BaseRequest, folder: Path) -> web.Response:
    """Tell what is in a folder: a page with links, or with ``?format=json`` a list of dicts."""
    if not request.path.endswith("/"):
        raise web.HTTPMovedPermanently(quote(request.path) + "/")  # else relative links go astray
    with os.scandir(folder) as scan:
        entries = sorted((_entry(entry) for entry in scan if not entry.name.startswith(".")), key=lambda e: e["name"])
    if request.query.get("format") == "json":
        return web.json_response(entries)
    page = render("stack/templates/folder.html", path=request.path, entries=entries)
    return web.Response(text=page, content_type="text/html")


def _entry(entry: os.DirEntry[str]) -> dict[str, Any]:
    info = entry.stat()
    if entry.is_dir():
        return {"name": entry.name, "kind": "folder", "modified": info.st_mtime}
    return {"name": entry.name, "kind": "file", "modified": info.st_mtime, "size": info.st_size, "etag": _tag(info)}


@asynccontextmanager
async def serve(root: Path, port: int = 0, prepare: Callable[[], object] | None = None) -> AsyncIterator[str]:
    """Serve a folder and give its base URL, ``http://127.0.0.1:<port>/``.

    Args:
        root: The folder to serve; made if missing.
        port: Where to listen; 0 takes a free one.
        prepare: Makes what is to be served, in a thread, on the first request or soon.

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
    """Run the server until SIGTERM or Ctrl-C."""
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
