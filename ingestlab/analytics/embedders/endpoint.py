"""A server that runs a model: where it may be, how often it is asked, and when once more."""

from __future__ import annotations

import http.client
import os
import random
import re
import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

import stamina

from ingestlab.analytics.embedders.base import ModelError
from ingestlab.core import access
from ingestlab.core.errors import IngestError, TerminalError, TransientError
from ingestlab.core.settings import Settings, load_settings
from ingestlab.core.waiting import LONGEST_WAIT, WaitError, again, retry_after
from ingestlab.lake.rate_limits import open_limiter

ATTEMPTS = 10  # at one request
PATIENCE = 300.0  # seconds for it, with all waits; a task's step may take three times as long
MOST_BYTES = 1 << 28  # of an answer
SAID = 300  # characters of a server's words that an error repeats
_BLOCK = 1 << 20  # bytes that are read at a time
_KEY_NAME = r"[A-Z][A-Z0-9_]{0,99}"
_INPUT_AT_FAULT = (HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.UNPROCESSABLE_ENTITY)
_PASSING = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.CONFLICT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS)
_LOGINS = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)

_outside: ContextVar[Settings | None] = ContextVar("outside", default=None)


class RefusedError(TerminalError):
    """Raised where a server refuses inputs. One of them is at fault, perhaps."""


@contextmanager
def reach(outside: Mapping[str, Any]) -> Iterator[None]:
    """Let models inside ask servers as some settings allow.

    Args:
        outside: As :meth:`Settings.outside` gives them; without any, this process's own settings count.
    """
    token = _outside.set(Settings.model_validate(dict(outside)) if outside else None)
    try:
        yield
    finally:
        _outside.reset(token)


@dataclass(frozen=True)
class Endpoint:
    """A server that is asked by POST.

    Attributes:
        url: Its address.
        key: Name of the environment variable with its key; empty for none. The key itself is kept nowhere.
        rates: How much of what may be asked a minute, all workers together, e.g. ``{"tokens": 1e6}``; 0 is no limit.
    """

    url: str
    key: str
    rates: Mapping[str, float]

    def __post_init__(self) -> None:
        if self.key and not re.fullmatch(_KEY_NAME, self.key):
            raise TerminalError(
                "The key is not named by a variable",
                expected="the name of an environment variable, in capitals, as option 'key'",
                fix="Put the key into the environment of all workers, e.g. as OPENAI_API_KEY: then key=OPENAI_API_KEY.",
                code="argument_invalid",
            )

    def ask(self, body: bytes, amounts: Mapping[str, float]) -> bytes:
        """Send a request, in several attempts if need be.

        Args:
            body: JSON.
            amounts: How much this asks of what `rates` limits.

        Raises:
            RefusedError: The server refuses the inputs.
            ModelError: It refuses us, or is no such server.
            TransientError: It is away, or overloaded for too long.
        """
        settings = _outside.get() or load_settings()
        patience = min(PATIENCE, settings.task_timeout / 3)
        end = time.monotonic() + patience
        for attempt in stamina.retry_context(
            on=again,
            attempts=ATTEMPTS,
            timeout=patience,
            wait_initial=settings.fetch_delay,
            wait_max=LONGEST_WAIT,
            wait_jitter=settings.fetch_delay,
        ):
            with attempt:
                return self._once(body, amounts, settings, end)
        raise AssertionError

    def _once(self, body: bytes, amounts: Mapping[str, float], settings: Settings, end: float) -> bytes:
        """Wait for a turn, and send the request."""
        limiter, left = open_limiter(settings), max(0.0, end - time.monotonic())
        waits = [limiter.reserve(self._bucket(""), 0, 0, left)]
        waits += [limiter.reserve(self._bucket(w), amounts[w], rate / 60, left) for w, rate in self.rates.items()]
        if (wait := max(waits)) > 0:
            time.sleep(wait + random.uniform(0, min(1.0, wait / 10)))  # noqa: S311 - those who waited come one by one
        status, headers, answer = _post(self.url, body, self._headers(), settings, end)
        if status == HTTPStatus.OK:
            return answer
        error = self._refusal(status, headers, answer)
        if isinstance(error, WaitError):
            for what in ("", *self.rates):  # the others need not find out
                limiter.pause(self._bucket(what), min(error.wait, LONGEST_WAIT))
        raise error

    def _bucket(self, what: str) -> str:
        """Name a bucket. Two keys have two."""
        return f"{self.url} {self.key} {what}"

    def _headers(self) -> dict[str, str]:
        headers = {"Content-Type": "application/json", "Accept": "application/json", "User-Agent": "ingestlab"}
        if not self.key:
            return headers
        value = os.environ.get(self.key, "").strip()
        if not value or not value.isascii() or not value.isprintable():
            raise ModelError(
                "The key of the model's server is missing",
                expected=f"a key of plain characters in the environment variable {self.key}",
                got="another value" if value else "nothing",
                fix="Set it where Dask workers and searches run.",
                code="setting_missing",
            )
        return {**headers, "Authorization": f"Bearer {value}"}

    def _refusal(self, status: int, headers: Mapping[str, str], answer: bytes) -> IngestError:
        """Make the error for a status that is not success."""
        problem = f"Server answers status {status} for {self.url}"
        if status in _LOGINS:  # whose words may repeat a part of the key
            fix = f"Check the key in {self.key}." if self.key else "Name its key: ?key=NAME_OF_A_VARIABLE."
            return ModelError(problem, fix=fix, code="access_denied")
        said = "".join(c if c.isprintable() else " " for c in answer[:4096].decode(errors="replace"))[:SAID]
        said = said.replace(os.environ.get(self.key, "").strip() or "\0", "…")
        if status in _INPUT_AT_FAULT:
            return RefusedError(problem, got=said, fix="See what it says of the input.", code="http_error")
        if (status < HTTPStatus.INTERNAL_SERVER_ERROR and status not in _PASSING) or "insufficient_quota" in said:
            fix = "Check the base URL, the model's name and its quota."
            return ModelError(problem, got=said, fix=fix, code="http_error")
        wait = retry_after({name.lower(): value for name, value in headers.items()}.get("retry-after", ""))
        if wait is None:
            return TransientError(problem, got=said, fix="It is overloaded: try later.", code="http_unavailable")
        error = WaitError(problem, got=f"to be asked again in {wait:.0f} s", fix="Try later.", code="http_unavailable")
        error.wait = wait
        return error


class _Guarded(http.client.HTTPConnection):
    """A connection to an address that the settings allow."""

    settings: Settings

    def connect(self) -> None:
        self.sock = self._open()

    def _open(self) -> socket.socket:
        """Resolve the host once, and connect to what was checked."""
        problem: OSError = OSError(f"no address for {self.host}")
        for *_, place in socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM):
            access.check_address(str(place[0]), self.settings)
            try:
                opened = socket.create_connection((str(place[0]), int(place[1])), self.settings.connect_timeout)
            except OSError as error:
                problem = error
                continue
            opened.settimeout(self.settings.read_timeout)
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return opened
        raise problem


class _GuardedTls(_Guarded):
    """The same under TLS."""

    default_port = http.client.HTTPS_PORT

    def connect(self) -> None:
        self.sock = ssl.create_default_context().wrap_socket(self._open(), server_hostname=self.host)


def _post(
    url: str, body: bytes, headers: Mapping[str, str], settings: Settings, end: float
) -> tuple[int, Mapping[str, str], bytes]:
    """Send one request. A redirect might lead the key elsewhere, and is not followed."""
    access.check(url, settings)
    parts = urlsplit(url)
    connection = (_GuardedTls if parts.scheme == "https" else _Guarded)(str(parts.hostname), parts.port)
    connection.settings = settings
    try:
        connection.request("POST", parts.path, body, dict(headers))
        response = connection.getresponse()
        return response.status, dict(response.headers), _read(response, url, end)
    except ssl.SSLCertVerificationError as error:
        problem, fix = f"TLS fails for {url}", "Check the server's certificate."
        raise ModelError.wrap(error, problem, fix, code="tls_failed") from error
    except (OSError, http.client.HTTPException) as error:
        fix = "Check the base URL and that the server is up."
        raise TransientError.wrap(error, f"No answer from {url}", fix, code="http_unavailable") from error
    finally:
        connection.close()


def _read(response: http.client.HTTPResponse, url: str, end: float) -> bytes:
    """Read an answer that comes in time and is not too long."""
    blocks: list[bytes] = []
    size = 0
    while block := response.read1(_BLOCK):
        size += len(block)
        blocks.append(block)
        if size > MOST_BYTES:
            raise ModelError(f"The answer of {url} is too long", fix="Lower batch_tokens.", code="http_error")
        if time.monotonic() > end:
            problem = f"The answer of {url} takes too long"
            raise TransientError(problem, fix="Try when it is less busy.", code="source_slow")
    return b"".join(blocks)
