"""Questions to a web API: one answer each, over one pool of connections, at a pace that all workers share."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Self
from urllib.parse import parse_qsl, urlencode, urlsplit

import aiohttp

from ingestlab.core import access
from ingestlab.core.errors import IngestError, TerminalError, TransientError
from ingestlab.core.settings import Settings
from ingestlab.core.waiting import LONGEST_WAIT, WaitError
from ingestlab.interfaces import RateLimiter
from ingestlab.lake.rate_limits import open_limiter
from ingestlab.sources.http import errors as http_errors
from ingestlab.sources.http.client import REDIRECTS, allowed, new_session
from ingestlab.sources.http.urls import resolved

MAX_ANSWER = 256 << 20  # bytes of one answer
_MOVED = (301, 302, 303, 307, 308)
_BUSY = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)
_GLANCE = 0.25  # seconds after which it is asked again whether a server wants a pause
_EXCERPT = 200  # characters of an answer that are shown
_PAUSE = 1.0  # seconds, at first, where a busy server names none


@dataclass(frozen=True, slots=True)
class Call:
    """A question without its secrets.

    Attributes:
        method: Of HTTP.
        url: Without the parameters.
        params: In order.
        headers: More headers.
        body: As it is sent; empty for none.
    """

    method: str
    url: str
    params: tuple[tuple[str, str], ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    def address(self, more: Mapping[str, str] | None = None) -> str:
        """Give the whole address, with further parameters."""
        query = urlencode([*self.params, *(more or {}).items()])
        mark = "&" if "?" in self.url else "?"
        return f"{self.url}{mark}{query}" if query else self.url


@dataclass(frozen=True, slots=True)
class Answer:
    """What came.

    Attributes:
        request: What was asked, without secrets.
        headers: By name, whatever its case.
        body: All of it, unpacked.
        url: The address without secrets, to resolve links against.
    """

    request: str
    headers: Mapping[str, str]
    body: bytes
    url: str


@dataclass(frozen=True, slots=True)
class Signed:
    """What makes a question one of an allowed user.

    Attributes:
        headers: To be sent.
        params: To be sent in the address.
    """

    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    params: Mapping[str, str] = field(default_factory=dict, repr=False)


Sign = Callable[[bool], Awaitable[Signed]]  # is told whether the last signature was refused


async def _unsigned(_again: bool) -> Signed:  # noqa: FBT001
    return Signed()


class Api:
    """Ask one API. An async context manager.

    Args:
        settings: Limits, times, and who may be called.
        rate: Requests a second that all workers together may send to a host; 0 for no limit.
        sign: Gives what a question is signed with.
        renews: Whether a new signature may help where one is refused.
        hidden: Texts that no error may repeat.
        tell: Is told of waits.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        rate: float = 0.0,
        sign: Sign = _unsigned,
        renews: bool = False,
        hidden: Callable[[], Sequence[str]] = tuple,
        tell: Callable[[str], None] = lambda _line: None,
    ) -> None:
        self._settings, self._rate, self._sign, self._renews = settings, rate, sign, renews
        self._hidden, self._tell = hidden, tell
        self._limiter: RateLimiter = open_limiter(settings)
        self._looked: dict[str, float] = {}
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        headers = {"Accept": "application/json, */*;q=0.5", "User-Agent": "ingestlab"}
        self._session = new_session(self._settings, headers=headers)
        return self

    async def __aexit__(self, *_error: object) -> None:
        assert self._session is not None
        await self._session.close()

    async def ask(self, call: Call, *, signed: bool = True, check: Callable[[Answer], None] | None = None) -> Answer:
        """Ask, in several attempts if need be.

        Args:
            call: The question.
            signed: Whether it needs the credentials.
            check: Raises TransientError for an answer that is to be asked for again.

        Raises:
            TerminalError: The server refuses.
            TransientError: It was not to be had in the attempts and the time that the settings give.
        """
        attempt, delay = 1, self._settings.fetch_delay
        while True:
            try:
                async with asyncio.timeout(self._settings.fetch_timeout):
                    answer = await self._once(call, signed=signed)
                if check:
                    check(answer)
            except TimeoutError:
                error: IngestError = _too_long(call, self._settings)
            except IngestError as caught:
                error = self._without_secrets(caught)
            else:
                return answer
            wait = error.wait if isinstance(error, WaitError) else delay + random.uniform(0, delay)  # noqa: S311
            last = attempt >= self._settings.fetch_attempts or wait > LONGEST_WAIT
            if last or not isinstance(error, TransientError):
                raise error from None
            if isinstance(error, WaitError):
                self._tell(f"{urlsplit(call.url).netloc} asks to wait {wait:.0f} s")
            attempt, delay = attempt + 1, delay * 2
            await asyncio.sleep(wait)

    async def _once(self, call: Call, *, signed: bool) -> Answer:
        answer = await self._send(call, await self._sign(False) if signed else Signed())
        if isinstance(answer, Answer):
            return answer
        if signed and self._renews and answer.code == "access_denied":
            answer = await self._send(call, await self._sign(True))
            if isinstance(answer, Answer):
                return answer
        raise answer

    async def _send(self, call: Call, signed: Signed) -> Answer | IngestError:
        """Send one request, and take in its answer; or give the error of its status."""
        assert self._session is not None
        shown = f"{call.method} {access.shown(call.address(), self._settings.secret_parameters)}"
        await self._turn(urlsplit(call.url).netloc)
        came, size = 0, None
        try:
            async with await self._open(call, signed) as response:
                size = response.content_length
                chunks = []
                while chunk := await response.content.readany():
                    chunks.append(chunk)
                    came += len(chunk)
                    if came > MAX_ANSWER:
                        raise _too_big(shown)
                body = b"".join(chunks)
                if response.status not in (HTTPStatus.OK, HTTPStatus.NO_CONTENT, HTTPStatus.PARTIAL_CONTENT):
                    return self._refused(response, shown, body)
                return Answer(shown, response.headers, _utf8(body, response.charset), call.address())
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise http_errors.broken(error, shown, came, size, self._settings) from error

    async def _open(self, call: Call, signed: Signed) -> aiohttp.ClientResponse:
        """Follow redirects of GET on the same host; every address on the way is checked."""
        assert self._session is not None
        at, headers = call.address(signed.params), {**call.headers, **signed.headers}
        for _hop in range(REDIRECTS + 1):
            url = allowed(at, self._settings)
            response = await self._session.request(
                call.method, url, headers=headers, data=call.body or None, allow_redirects=False
            )
            if response.status not in _MOVED:
                return response
            async with response:
                target = resolved(at, response.headers.get("Location", ""))
            same = urlsplit(target)[:2] == urlsplit(at)[:2]
            if call.method != "GET" or not same:
                problem = f"{call.method} {call.url} redirects to {access.shown(target)}"
                fix = "Declare that address: credentials are not sent elsewhere."
                raise TerminalError(problem, fix=fix, code="http_error")
            at = target
        problem = f"{call.url} redirects more than {REDIRECTS} times"
        raise TerminalError(problem, fix="Use the address it leads to.", code="http_error")

    async def _turn(self, host: str) -> None:
        """Wait until a host may be asked."""
        now = time.monotonic()
        if not self._rate and now - self._looked.get(host, -1.0) < _GLANCE:
            return
        self._looked[host] = now
        wait = self._limiter.reserve(f"rest:{host}", 1.0 if self._rate else 0.0, self._rate, LONGEST_WAIT * 5)
        if wait:
            await asyncio.sleep(wait)

    def _refused(self, response: aiohttp.ClientResponse, shown: str, body: bytes) -> IngestError:
        error = http_errors.refused(response, shown)
        if response.status in _BUSY:
            wait = error.wait if isinstance(error, WaitError) else _PAUSE
            host = response.url.raw_authority
            if wait <= LONGEST_WAIT:
                self._limiter.pause(f"rest:{host}", wait)
                self._looked.pop(host, None)
        excerpt = " ".join(body[: 4 * _EXCERPT].decode("utf-8", "replace").split())[:_EXCERPT]
        fix = _FIX.get(response.status, error.fix)
        said = error.replace(got=error.got or excerpt, fix=fix)
        if isinstance(error, WaitError) and isinstance(said, WaitError):
            said.wait = error.wait
        return said

    def _without_secrets(self, error: IngestError) -> IngestError:
        texts = {name: getattr(error, name) for name in ("problem", "expected", "got", "fix")}
        clean = dict(texts)
        for secret in self._hidden():
            clean = {name: text.replace(secret, "…") for name, text in clean.items()} if secret else clean
        if clean == texts:
            return error
        said = error.replace(**clean)
        if isinstance(error, WaitError) and isinstance(said, WaitError):
            said.wait = error.wait
        return said


_FIX = {
    401: "Check the credentials that the source's `auth` names.",
    403: "These credentials may not see it: ask the owner of the API.",
    404: "Check base_url and endpoint.",
    429: "The API is asked too often: declare a lower `rate`.",
}


def _utf8(body: bytes, charset: str | None) -> bytes:
    """Give a JSON text as UTF-8, without a mark at its beginning."""
    if charset and charset.lower().replace("-", "") not in ("utf8", "ascii", "usascii"):
        try:
            return body.decode(charset).encode()
        except (LookupError, UnicodeError):
            return body
    return body.removeprefix(b"\xef\xbb\xbf")


def _too_big(shown: str) -> TerminalError:
    problem, fix = f"The answer to {shown} is too large", "Ask for fewer records a page."
    return TerminalError(problem, expected=f"at most {MAX_ANSWER:,} bytes", got="more", fix=fix, code="limit_exceeded")


def _too_long(call: Call, settings: Settings) -> TransientError:
    problem = f"{call.method} {call.url} was not answered within {settings.fetch_timeout:g} s"
    return TransientError(
        problem, fix="Ask for fewer records a page, or raise INGESTLAB_FETCH_TIMEOUT.", code="source_slow"
    )


def without(url: str, names: Sequence[str], values: Sequence[str]) -> str:
    """Take parameters out of an address that a server gave.

    Args:
        url: Such as a link to the next page.
        names: Of the parameters.
        values: Secrets: a parameter with one goes, too.
    """
    head, mark, query = url.partition("?")
    if not mark:
        return url
    pairs = parse_qsl(query, keep_blank_values=True)
    left = [(name, value) for name, value in pairs if name not in names and value not in values]
    return url if len(left) == len(pairs) else head + ("?" + urlencode(left) if left else "")
