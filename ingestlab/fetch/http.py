"""Sources behind http and https: one request each, more only where something goes wrong."""

from __future__ import annotations

import asyncio
import re
import socket
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, Self

import aiohttp
from aiohttp.abc import ResolveResult
from yarl import URL

from ingestlab import guard
from ingestlab.errors import TerminalError, TransientError
from ingestlab.fetch import answers
from ingestlab.fetch.landing import Landing, Site
from ingestlab.fetch.outcome import Unchanged
from ingestlab.fetch.retry import Pace, attempts, too_long
from ingestlab.models import FetchedFile, Source, SourceRecord
from ingestlab.settings import Settings
from ingestlab.versions import conditions, header_version, strong_etag

REDIRECTS = 5
_MOVED = (301, 302, 303, 307, 308)
_BUFFER = 1 << 17  # bytes; a connection reads ahead twice as many and, at the end, one read of asyncio's, 256 kB
_HEADERS = {"Accept": "*/*", "Accept-Encoding": "identity", "User-Agent": "ingestlab"}


class Download:
    """One file on its way: what came so far, and which version of the file that belongs to."""

    def __init__(self, source: Source, known: SourceRecord | None, landing: Landing) -> None:
        self.uri, self.known, self.landing = source.uri, known, landing
        self.version: str | None = None
        self.resumable = False

    def headers(self) -> dict[str, str]:
        """Asks for the rest of what has come in part, else for the file if it changed."""
        tag = strong_etag(self.version)
        if self.landing.size and self.resumable and tag:
            return {"Range": f"bytes={self.landing.size}-", "If-Range": tag}
        self.landing.restart()
        return conditions(self.known.version) if self.known else {}

    def begin(self, response: aiohttp.ClientResponse) -> int | None:
        """Takes note of an answer; gives the size that the whole file must have, if it is told."""
        length = response.content_length
        if response.status == HTTPStatus.PARTIAL_CONTENT:
            return self._go_on(response.headers.get("Content-Range", ""))
        self.landing.restart()
        self.version = header_version(response.headers)
        self.resumable = response.headers.get("Accept-Ranges", "").lower() == "bytes"
        return length

    def _go_on(self, content_range: str) -> int | None:
        found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", content_range)
        if not found or int(found[1]) != self.landing.size:
            expected, got = f"the rest of {self.uri}, from byte {self.landing.size:,}", f"'{content_range}'"
            self.resumable = False
            raise TransientError(expected, got, "The server's ranges are wrong; the next attempt asks for all of it.")
        return None if found[2] == "*" else int(found[2])


class HttpSources:
    """Downloads over one pool of connections; use as an async context manager.

    Args:
        site: Where the files go.
        settings: Limits and addresses.
        moved: Called with the size of each chunk that arrives.
    """

    def __init__(self, site: Site, settings: Settings, moved: Callable[[int], None]) -> None:
        self._site, self._settings, self._moved = site, settings, moved

    async def __aenter__(self) -> Self:
        settings = self._settings
        timeout = aiohttp.ClientTimeout(
            total=None,
            connect=settings.connect_timeout,
            sock_connect=settings.connect_timeout,
            sock_read=settings.read_timeout,
        )
        connector = aiohttp.TCPConnector(limit=settings.connections, resolver=_GuardedResolver(settings))
        self._session = aiohttp.ClientSession(
            connector=connector,
            timeout=timeout,
            headers=_HEADERS,
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            read_bufsize=_BUFFER,
        )
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self._session.close()

    async def get(self, source: Source, known: SourceRecord | None) -> FetchedFile | Unchanged:
        """Downloads one file, in several attempts if need be.

        Raises:
            TerminalError: The source is refused, or refuses.
            TransientError: The source could not be had in the attempts and the time that the settings give.
            LakeFaultError: The lake cannot be written.
        """
        limit = self._settings.fetch_timeout
        with Landing(self._site, source.uri) as landing:
            download = Download(source, known, landing)
            try:
                async with asyncio.timeout(limit):
                    return await self._try(download)
            except TimeoutError:
                raise too_long(source.uri, limit, landing.size) from None

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
        sent = download.headers()
        size: int | None = None
        try:
            response = await self._open(download.uri, sent)
            async with response:
                if response.status == HTTPStatus.NOT_MODIFIED and download.known and "Range" not in sent:
                    return Unchanged(download.uri, download.known.version)
                if response.status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                    download.resumable = False
                wanted = (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT) if "Range" in sent else (HTTPStatus.OK,)
                if response.status not in wanted:
                    raise answers.refused(response, download.uri)
                size = download.begin(response)
                download.landing.expect(size)
                await self._receive(response, download)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise answers.broken(error, download.uri, download.landing.size, size, self._settings) from error
        if size is not None and download.landing.size != size:
            download.resumable = False
            raise answers.short(download.uri, download.landing.size, size)
        return await self._settle(download)

    async def _receive(self, response: aiohttp.ClientResponse, download: Download) -> None:
        landing, pace, content = download.landing, Pace(self._settings, download.uri), response.content
        while True:
            asked = time.monotonic()
            chunk = await content.readany()
            if not chunk:
                return
            pace.add(time.monotonic() - asked, len(chunk))
            self._moved(len(chunk))
            if landing.feed(chunk):
                await asyncio.to_thread(landing.spill)

    async def _settle(self, download: Download) -> FetchedFile | Unchanged:
        landing = download.landing
        if landing.quick:
            return landing.settle(download.version, download.known)
        return await asyncio.to_thread(landing.settle, download.version, download.known)

    async def _open(self, uri: str, headers: Mapping[str, str]) -> aiohttp.ClientResponse:
        """The first answer that is not a redirect; every address on the way is checked."""
        url = self._allowed(uri)
        for _hop in range(REDIRECTS + 1):
            response = await self._session.get(url, headers=headers, allow_redirects=False)
            if response.status not in _MOVED:
                return response
            async with response:
                target = response.headers.get("Location", "")
            try:
                url = self._allowed(str(url.join(URL(target))) if target else "")
            except (TerminalError, ValueError) as error:
                raise answers.bad_redirect(uri, target, error) from None
        raise TerminalError(f"at most {REDIRECTS} redirects from {uri}", "one more", "Use the address it leads to.")

    def _allowed(self, uri: str) -> URL:
        guard.check(uri, self._settings)
        try:
            url = URL(uri)
        except ValueError as error:
            raise TerminalError.wrap(error, "a URL", "Check its spelling.") from None
        if url.scheme not in ("http", "https") or not url.host:
            raise TerminalError("an http or https URL with a host", guard.shown(uri), "Use the address of the file.")
        guard.check_host(url.host, self._settings)  # as the client reads it, which is what counts
        return url


class _GuardedResolver(aiohttp.ThreadedResolver):
    """Resolves names, and refuses those that lead to a network that may not be called."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self._settings = settings

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found: list[Any] = await super().resolve(host, port, family)
        for address in found:
            try:
                guard.check_address(address["host"], self._settings)
            except TerminalError as error:
                raise TerminalError(error.expected, f"{error.got}, which is {host}", error.fix) from None
        return found
