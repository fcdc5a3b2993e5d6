"""One file on its way over HTTP: what came so far, and which version of the file that belongs to."""

from __future__ import annotations

import re
from http import HTTPStatus

import aiohttp

from ingestlab.core.models import FetchedFile, Source, SourceRecord
from ingestlab.core.validators import conditions, header_version, strong_etag
from ingestlab.interfaces import RawFile, Unchanged
from ingestlab.sources.http.answered import check_page, facts_of, page_name
from ingestlab.sources.http.codings import codings, decoded

_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")


class AnotherVersionError(Exception):
    """The rest that was asked for is that of another version of the file: it must be asked for as a whole."""


class Download:
    """One file on its way.

    Args:
        source: What is downloaded.
        known: What the lake has of it.
        landing: Where its bytes go, as they are sent.
        pages: Whether it may be a web page.
    """

    def __init__(self, source: Source, known: SourceRecord | None, landing: RawFile, *, pages: bool) -> None:
        self.uri, self.known, self.landing = source.uri, known, landing
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
        """Asks for the rest of what has come in part, else for the file if it changed."""
        tag = strong_etag(self._version)
        if self.landing.size and self._resumable and tag:
            return {"Range": f"bytes={self.landing.size}-", "If-Range": tag}
        self.landing.restart()
        return conditions(self.known.version) if self.known and self.conditional else {}

    def distrust(self) -> None:
        """The next request is for the whole file."""
        self._resumable = False

    def begin(self, response: aiohttp.ClientResponse) -> int | None:
        """Takes note of an answer; gives the size that all that is sent must have, if it is told.

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
        self.landing.restart()
        self._version, self._modified = header_version(headers), headers.get("Last-Modified")
        self._total, self._codings = response.content_length, wrapped
        self._resumable = headers.get("Accept-Ranges", "").lower() == "bytes"
        told = {"content_encoding": ", ".join(wrapped)} if wrapped else {}
        self._facts = {**facts_of(response), **told}
        return self._total

    def settle(self) -> FetchedFile | Unchanged:
        """Gives the file its place in the lake, without what it was wrapped in for the way.

        Raises:
            TerminalError: It is a web page, and was announced as something else; or not wrapped as was said.
            TransientError: What it was wrapped in is damaged.
            LakeFaultError: The lake cannot be written.
        """
        if not self._codings or not self.landing.size:
            return self._keep(self.landing)
        self.distrust()  # if this fails, what came is of no use
        with self.landing.another() as plain, self.landing.reread() as stream:
            for chunk in decoded(stream, self._codings, self.uri):
                if plain.feed(chunk):
                    plain.spill()
            return self._keep(plain)

    @property
    def quick(self) -> bool:
        """Whether `settle` is short enough for an event loop."""
        return self.landing.quick and not self._codings

    def _keep(self, landing: RawFile) -> FetchedFile | Unchanged:
        if not self._pages:
            check_page(landing.head, self._facts, self.uri)
        return landing.settle(self._version, self.known, self._facts)

    def _goes_on(self, response: aiohttp.ClientResponse, wrapped: tuple[str, ...]) -> bool:
        """Whether a part is the rest of what has come: by its place, its size and its validators.

        A server that does not know If-Range sends the rest of whatever it has now, so that its own word counts:
        an ETag that is not repeated vouches for nothing.
        """
        found = _RANGE.fullmatch(response.headers.get("Content-Range", "").strip())
        if not found or int(found[1]) != self.landing.size or wrapped != self._codings:
            return False
        total = self._total if found[3] == "*" else int(found[3])
        length = int(found[2]) - int(found[1]) + 1
        fits = self._total in (None, total) and response.content_length in (None, length)
        dated = self._modified is None or response.headers.get("Last-Modified", self._modified) == self._modified
        if fits and dated and header_version(response.headers) == self._version:
            self._total = total
            return True
        return False
