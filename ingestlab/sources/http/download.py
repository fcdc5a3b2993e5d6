"""One file on its way over HTTP: what came so far, and which version of the file that belongs to."""

from __future__ import annotations

import re
from http import HTTPStatus

import aiohttp

from ingestlab.core.models import FetchedFile, Source, SourceRecord
from ingestlab.core.validators import conditions, header_version, strong_etag
from ingestlab.interfaces import RawFile, Unchanged
from ingestlab.sources.http.codings import codings, decoded
from ingestlab.sources.http.response import check_page, facts_of, page_name

_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")


class AnotherVersionError(Exception):
    """The rest that came is that of another version."""


class Download:
    """One file on its way.

    Args:
        source: What is downloaded.
        known: What the lake has of it.
        raw: Where its bytes go, as they are sent.
        pages: Whether it may be a web page.
    """

    def __init__(self, source: Source, known: SourceRecord | None, raw: RawFile, *, pages: bool) -> None:
        self.uri, self.known, self.raw = source.uri, known, raw
        self.asked = [source.address]  # all addresses on the way, with their secrets
        self.conditional = known is not None
        self._pages = pages or page_name(source.uri)
        self._version: str | None = None
        self._modified: str | None = None
        self._total: int | None = None
        self._codings: tuple[str, ...] = ()
        self._facts: dict[str, str] = {}
        self._resumable = False

    def headers(self) -> dict[str, str]:
        """Ask for the rest, or for the file if it changed."""
        tag = strong_etag(self._version)
        if self.raw.size and self._resumable and tag:
            return {"Range": f"bytes={self.raw.size}-", "If-Range": tag}
        self.raw.restart()
        return conditions(self.known.version) if self.known and self.conditional else {}

    def distrust(self) -> None:
        """Make the next request one for the whole file."""
        self._resumable = False

    def begin(self, response: aiohttp.ClientResponse) -> int | None:
        """Take note of an answer.

        Returns:
            Bytes of all that is sent, if the server tells them.

        Raises:
            AnotherVersionError: It is the rest of something else.
            TerminalError: It is wrapped in a way that nobody here knows.
        """
        headers = response.headers
        wrapped = codings(",".join(headers.getall("Content-Encoding", [])), self.uri)
        if response.status == HTTPStatus.PARTIAL_CONTENT:
            if not self._goes_on(response, wrapped):
                raise AnotherVersionError
            return self._total
        self.raw.restart()
        self._version, self._modified = header_version(headers), headers.get("Last-Modified")
        self._total, self._codings = response.content_length, wrapped
        self._resumable = headers.get("Accept-Ranges", "").lower() == "bytes"
        encoding = {"content_encoding": ", ".join(wrapped)} if wrapped else {}
        self._facts = {**facts_of(response), **encoding}
        return self._total

    def settle(self) -> FetchedFile | Unchanged:
        """Give the file its place in the lake, without its Content-Encoding.

        Raises:
            TerminalError: It is a web page, and was announced as something else; or not wrapped as was said.
            TransientError: What it was wrapped in is damaged.
            LakeFaultError: The lake cannot be written.
        """
        if not self._codings or not self.raw.size:
            return self._keep(self.raw)
        self.distrust()  # if this fails, what came is of no use
        with self.raw.another() as plain, self.raw.reread() as stream:
            for chunk in decoded(stream, self._codings, self.uri):
                if plain.feed(chunk):
                    plain.spill()
            return self._keep(plain)

    @property
    def quick(self) -> bool:
        """Tell whether `settle` is short enough for an event loop."""
        return self.raw.quick and not self._codings

    def _keep(self, raw: RawFile) -> FetchedFile | Unchanged:
        if not self._pages:
            check_page(raw.head, self._facts, self.uri)
        return raw.settle(self._version, self.known, self._facts)

    def _goes_on(self, response: aiohttp.ClientResponse, wrapped: tuple[str, ...]) -> bool:
        """Tell whether a part is the rest of what has come.

        Place, size and validators must agree.

        A server that does not know If-Range sends the rest of whatever it has now, so that its own word counts:
        an ETag that is not repeated vouches for nothing.
        """
        match = _RANGE.fullmatch(response.headers.get("Content-Range", "").strip())
        if not match or int(match[1]) != self.raw.size or wrapped != self._codings:
            return False
        total = self._total if match[3] == "*" else int(match[3])
        length = int(match[2]) - int(match[1]) + 1
        fits = self._total in (None, total) and response.content_length in (None, length)
        dated = self._modified is None or response.headers.get("Last-Modified", self._modified) == self._modified
        if fits and dated and header_version(response.headers) == self._version:
            self._total = total
            return True
        return False
