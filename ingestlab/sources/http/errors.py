"""What a server's bad answer means, in our words: tried again, or not, and what to do about it."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus

import aiohttp

from ingestlab.core import access as guard
from ingestlab.core.errors import IngestError, TerminalError, TransientError
from ingestlab.core.settings import Settings
from ingestlab.core.signed_uri import scrubbed
from ingestlab.sources.retry import WaitError

_PASSING = (408, 416, 425, 429)  # and all from 500; 416 comes where a file shrank while it was resumed
_FIX = {
    401: "The server wants a login: use a signed URL.",
    403: "The server forbids it: use a signed URL, or ask its owner for access.",
    404: "Check the address, or ask the producer whether the file is there.",
    407: "A proxy wants a login: ask its owner for access.",
    410: "The file was taken away for good: drop it from the request.",
    429: "The server is asked too often: lower INGESTLAB_CONNECTIONS.",
}
_UP = "Check the address and that the server is up."
_LATER = "The server is at fault: submit the file again later, or tell the server's owner."


def refused(response: aiohttp.ClientResponse, uri: str) -> IngestError:
    """The error for a status that is not success."""
    status = response.status
    expected, got = f"the file {uri} (status 200)", f"status {status} {response.reason or ''}".strip()
    if status < HTTPStatus.INTERNAL_SERVER_ERROR and status not in _PASSING:
        return TerminalError(expected, got, _FIX.get(status, "Check that the address is that of a file."))
    fix = _FIX.get(status, _LATER)
    wait = retry_after(response.headers.get("Retry-After", ""))
    if wait is None:
        return TransientError(expected, got, fix)
    error = WaitError(expected, f"{got}, to be asked again in {wait:.0f} s", fix)
    error.wait = wait
    return error


def retry_after(value: str) -> float | None:
    """Seconds to wait by a Retry-After header: a number or a date; None if it is neither."""
    if value.isdecimal():
        return float(value)
    try:
        then = parsedate_to_datetime(value)
    except ValueError:
        return None
    then = then if then.tzinfo else then.replace(tzinfo=UTC)
    return max(0.0, (then - datetime.now(UTC)).total_seconds())


def broken(error: Exception, uri: str, came: int, size: int | None, settings: Settings) -> IngestError:
    """The error for a connection that was not made, or did not last."""
    if isinstance(error, aiohttp.ClientPayloadError):
        return short(uri, came, size)
    if isinstance(error, TimeoutError):
        return _silence(error, uri, came, settings)
    if isinstance(error, aiohttp.ClientSSLError | ssl.SSLError):
        return TerminalError.wrap(error, f"a trusted TLS connection for {uri}", "Check the server's certificate.")
    if isinstance(error, aiohttp.InvalidURL):
        return TerminalError("a URL", guard.shown(uri), "Check its spelling.")
    if isinstance(error, aiohttp.ClientConnectorError):
        return TransientError.wrap(error, f"a connection for {uri}", _UP)
    return TransientError.wrap(error, f"an HTTP answer from {uri}", _LATER)


def _silence(error: TimeoutError, uri: str, came: int, settings: Settings) -> TransientError:
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return TransientError(f"a connection for {uri}", f"none in {settings.connect_timeout:g} s", _UP)
    got = f"{settings.read_timeout:g} s of silence after {came:,} bytes"
    return TransientError(f"bytes from {uri}", got, "The server hangs: try later, or raise INGESTLAB_READ_TIMEOUT.")


def short(uri: str, came: int, size: int | None) -> TransientError:
    """The error for a body that ended before, or after, it should."""
    expected = f"{size:,} bytes from {uri}, as the server declared" if size is not None else f"all of {uri}"
    fix = "The connection broke or the length is wrong: submit the file again, or tell the server's owner."
    return TransientError(expected, f"{came:,} bytes and then the end", fix)


def without_secrets(error: IngestError, addresses: Sequence[str], settings: Settings) -> IngestError:
    """The same error, where an answer or a library has repeated what must not be shown of an address."""
    secret = settings.secret_parameters
    texts = [scrubbed(text, addresses, secret) for text in (error.expected, error.got, error.fix)]
    return error if texts == [error.expected, error.got, error.fix] else type(error)(*texts)


def bad_redirect(uri: str, target: str, error: Exception) -> TerminalError:
    """The error for a redirect to where we must not go."""
    if not target or not isinstance(error, IngestError):
        return TerminalError(f"a redirect of {uri} to a URL", f"'{target}'", "Use the file's own address.")
    return TerminalError(error.expected, f"{error.got}, where {uri} redirects to", error.fix)
