"""Sources behind http and https: one request each, more only where something goes wrong."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any

import aiohttp
from aiohttp.abc import ResolveResult
from yarl import URL

from ingestlab.core import access
from ingestlab.core.errors import IngestError, TerminalError, TransientError
from ingestlab.core.models import FetchedFile, Source, SourceRecord
from ingestlab.core.schemes import traits
from ingestlab.core.settings import Settings
from ingestlab.interfaces import Fetch, RawFile, Unchanged
from ingestlab.sources.http import errors as http_errors
from ingestlab.sources.http.download import AnotherVersionError, Download
from ingestlab.sources.http.urls import exact, resolved
from ingestlab.sources.retry import Pace, attempts, too_long

REDIRECTS = 5
_MOVED = (301, 302, 303, 307, 308)
_BUFFER = 1 << 17  # bytes; a connection reads ahead twice as many and, at the end, one read of asyncio's, 256 kB
_HEADERS = {"Accept": "*/*", "Accept-Encoding": "identity", "User-Agent": "ingestlab"}


@asynccontextmanager
async def opened(open_raw: Callable[[str], RawFile], settings: Settings, *, pages: bool) -> AsyncIterator[Fetch]:
    """Open a pool of connections that files are downloaded over.

    Args:
        open_raw: Gives the place in the raw zone for the bytes of a source, by its URI.
        settings: Limits and addresses.
        pages: Whether web pages are what is wanted.
    """
    async with new_session(settings, headers=_HEADERS, auto_decompress=False, read_bufsize=_BUFFER) as session:
        yield _Client(session, open_raw, settings, pages=pages).get


def new_session(settings: Settings, **more: Any) -> aiohttp.ClientSession:
    """Make a pool of connections, to allowed addresses alone.

    Args:
        settings: Limits, times and addresses.
        **more: Arguments of aiohttp.
    """
    timeout = aiohttp.ClientTimeout(
        total=None,
        connect=settings.connect_timeout,
        sock_connect=settings.connect_timeout,
        sock_read=settings.read_timeout,
    )
    connector = aiohttp.TCPConnector(limit=settings.connections, resolver=_GuardedResolver(settings))
    return aiohttp.ClientSession(connector=connector, timeout=timeout, cookie_jar=aiohttp.DummyCookieJar(), **more)


def allowed(uri: str, settings: Settings) -> URL:
    """Give the URL of an address that may be asked.

    Args:
        uri: Of http or https.
        settings: Which addresses are allowed.

    Raises:
        TerminalError: It may not, or it is no such address.
    """
    if not traits(access.check(uri, settings)).host:
        got = access.shown(uri, settings.secret_parameters)
        problem = f"Not an http or https URL with a host: {got}"
        raise TerminalError(problem, fix="Use the address of the file.", code="uri_invalid")
    try:
        url = exact(uri)
    except ValueError as error:
        raise TerminalError.wrap(error, "Not a URL", "Check its spelling.", code="uri_invalid") from None
    access.check_host(str(url.host), settings)  # as the client reads it, which is what counts
    return url


class _Client:
    """Download over one pool of connections."""

    def __init__(
        self, session: aiohttp.ClientSession, open_raw: Callable[[str], RawFile], settings: Settings, *, pages: bool
    ) -> None:
        self._session, self._open_raw, self._settings, self._pages = session, open_raw, settings, pages

    async def get(self, source: Source, known: SourceRecord | None) -> FetchedFile | Unchanged:
        """Download one file, in several attempts if need be.

        Raises:
            TerminalError: The source is refused, or refuses.
            TransientError: The source could not be had in the attempts and the time that the settings give.
            LakeFaultError: The lake cannot be written.
        """
        limit = self._settings.fetch_timeout
        with self._open_raw(source.uri) as raw:
            download = Download(source, known, raw, pages=self._pages)
            try:
                async with asyncio.timeout(limit):
                    return await self._try(download)
            except TimeoutError:
                raise too_long(source.uri, limit, raw.size) from None
            except IngestError as error:
                raise http_errors.without_secrets(error, download.asked, self._settings) from None

    async def _try(self, download: Download) -> FetchedFile | Unchanged:
        try:
            return await self._once(download)
        except TransientError as error:
            first = error
        async for attempt in attempts(self._settings):  # made only now: most files need none
            with attempt:
                if attempt.num == 1:
                    raise first
                return await self._once(download)
        raise first

    async def _once(self, download: Download) -> FetchedFile | Unchanged:
        try:
            return await self._ask(download)
        except AnotherVersionError:
            download.distrust()
            return await self._ask(download)

    async def _ask(self, download: Download) -> FetchedFile | Unchanged:
        """Send one request, and take in its answer."""
        sent = download.headers()
        raw = download.raw
        size: int | None = None
        try:
            response = await self._open(download, sent)
            async with response:
                if response.status == HTTPStatus.NOT_MODIFIED and download.known and sent and "Range" not in sent:
                    _shut_if_more(response)
                    return Unchanged(download.uri, download.known.version)
                if response.status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                    download.distrust()
                wanted = (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT) if "Range" in sent else (HTTPStatus.OK,)
                if response.status not in wanted:
                    raise http_errors.refused(response, download.uri)
                size = download.begin(response)
                raw.expect(size)
                await self._receive(response, download)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            # A "304 Not Modified" must have no body; from some servers it has, and no client can read that. So the
            # file is asked for whatever its version: its content tells whether it changed.
            unreadable = isinstance(error, aiohttp.ClientResponseError) and download.conditional and sent
            download.conditional = download.conditional and not unreadable
            if unreadable:
                return await self._ask(download)
            raise http_errors.broken(error, download.uri, raw.size, size, self._settings) from error
        if size is not None and raw.size != size:
            download.distrust()
            raise http_errors.short(download.uri, raw.size, size)
        return download.settle() if download.quick else await asyncio.to_thread(download.settle)

    async def _receive(self, response: aiohttp.ClientResponse, download: Download) -> None:
        raw, pace, content = download.raw, Pace(self._settings, download.uri), response.content
        while True:
            asked = time.monotonic()
            chunk = await content.readany()
            if not chunk:
                return
            pace.add(time.monotonic() - asked, len(chunk))
            if raw.feed(chunk):
                await asyncio.to_thread(raw.spill)

    async def _open(self, download: Download, headers: Mapping[str, str]) -> aiohttp.ClientResponse:
        """Follow redirects to an answer; every address on the way is checked."""
        uri, at = download.uri, download.asked[0]
        url = self._allowed(at)
        for _hop in range(REDIRECTS + 1):
            response = await self._session.get(url, headers=headers, allow_redirects=False)
            if response.status not in _MOVED:
                return response
            async with response:
                target = response.headers.get("Location", "")
            try:
                at = resolved(at, target) if target else ""
                download.asked.append(at)
                if traits(access.scheme_of(at)).host:
                    exact(at)  # raises for what is no URL
                url = self._allowed(at)
            except (TerminalError, ValueError) as error:
                raise http_errors.bad_redirect(
                    uri, access.shown(target, self._settings.secret_parameters), error
                ) from None
        problem = f"{uri} redirects more than {REDIRECTS} times"
        raise TerminalError(problem, fix="Use the address it leads to.", code="http_error")

    def _allowed(self, uri: str) -> URL:
        return allowed(uri, self._settings)


def _shut_if_more(response: aiohttp.ClientResponse) -> None:
    """Close a connection on which a body may follow a 304.

    It would be taken for the next answer.
    """
    if response.headers.get("Content-Length", "0") != "0" or "Transfer-Encoding" in response.headers:
        response.close()


class _GuardedResolver(aiohttp.ThreadedResolver):
    """Resolve names, and refuse those in a network that is not allowed."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self._settings = settings

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        addresses: list[Any] = await super().resolve(host, port, family)
        for address in addresses:
            try:
                access.check_address(address["host"], self._settings)
            except TerminalError as error:
                raise error.within(f"Host {host}") from None
        return addresses
