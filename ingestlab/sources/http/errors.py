"""Errors for what servers answer: whether to try again, and what to do about it."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from http import HTTPStatus

import aiohttp

from ingestlab.core import access
from ingestlab.core.error_codes import Code
from ingestlab.core.errors import IngestError, TerminalError, TransientError
from ingestlab.core.settings import Settings
from ingestlab.core.signed_uri import scrubbed
from ingestlab.core.waiting import WaitError, retry_after

_PASSING = (408, 416, 425, 429)  # and all from 500; 416 comes where a file shrank while it was resumed
_FIX = {
    401: "The server wants a login: use a signed URL.",
    403: "The server forbids it: use a signed URL, or ask its owner for access.",
    404: "Check the address, or ask the producer whether the file is there.",
    407: "A proxy wants a login: ask its owner for access.",
    410: "The file was taken away for good: drop it from the request.",
    429: "The server is asked too often: lower INGESTLAB_CONNECTIONS.",
}
_CODES: dict[int, Code] = {401: "access_denied", 403: "access_denied", 404: "not_found", 410: "not_found"}
_UP = "Check the address and that the server is up."
_LATER = "The server is at fault: submit the file again later, or tell the server's owner."


def refused(response: aiohttp.ClientResponse, uri: str) -> IngestError:
    """Make the error for a status that is not success."""
    status = response.status
    problem = f"Server answers status {status} {response.reason or ''}".strip() + f" for {uri}"
    if status < HTTPStatus.INTERNAL_SERVER_ERROR and status not in _PASSING:
        fix = _FIX.get(status, "Check that the address is that of a file.")
        return TerminalError(problem, fix=fix, code=_CODES.get(status, "http_error"))
    fix = _FIX.get(status, _LATER)
    wait = retry_after(response.headers.get("Retry-After", ""))
    if wait is None:
        return TransientError(problem, fix=fix, code="http_unavailable")
    error = WaitError(problem, got=f"to be asked again in {wait:.0f} s", fix=fix, code="http_unavailable")
    error.wait = wait
    return error


def broken(error: Exception, uri: str, came: int, size: int | None, settings: Settings) -> IngestError:
    """Make the error for a connection that failed or broke."""
    if isinstance(error, aiohttp.ClientPayloadError):
        return short(uri, came, size)
    if isinstance(error, TimeoutError):
        return _silence(error, uri, came, settings)
    if isinstance(error, aiohttp.ClientSSLError | ssl.SSLError):
        return TerminalError.wrap(error, f"TLS fails for {uri}", "Check the server's certificate.", code="tls_failed")
    if isinstance(error, aiohttp.InvalidURL):
        return TerminalError(f"Not a URL: {access.shown(uri)}", fix="Check its spelling.", code="uri_invalid")
    if isinstance(error, aiohttp.ClientConnectorError):
        return TransientError.wrap(error, f"No connection for {uri}", _UP, code="source_unavailable")
    return TransientError.wrap(error, f"No HTTP answer from {uri}", _LATER, code="source_unavailable")


def _silence(error: TimeoutError, uri: str, came: int, settings: Settings) -> TransientError:
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        problem = f"No connection for {uri} in {settings.connect_timeout:g} s"
        return TransientError(problem, fix=_UP, code="source_unavailable")
    problem = f"Server hangs: {settings.read_timeout:g} s of silence after {came:,} bytes from {uri}"
    return TransientError(problem, fix="Try later, or raise INGESTLAB_READ_TIMEOUT.", code="source_slow")


def short(uri: str, came: int, size: int | None) -> TransientError:
    """Make the error for a body of another length than told."""
    expected = f"{size:,} bytes, as the server declared" if size is not None else ""
    fix = "The connection broke or the length is wrong: submit the file again, or tell the server's owner."
    got = f"{came:,} bytes and then the end"
    return TransientError(f"{uri} broke off", expected=expected, got=got, fix=fix, code="source_unavailable")


def without_secrets(error: IngestError, addresses: Sequence[str], settings: Settings) -> IngestError:
    """Remove from an error what must not be shown of an address."""
    secret = settings.secret_parameters
    said = {"problem": error.problem, "expected": error.expected, "got": error.got, "fix": error.fix}
    texts = {name: scrubbed(text, addresses, secret) for name, text in said.items()}
    return error if texts == said else error.replace(**texts)


def bad_redirect(uri: str, target: str, error: Exception) -> TerminalError:
    """Make the error for a redirect to where we must not go."""
    if not target or not isinstance(error, IngestError):
        problem = f"{uri} redirects to '{target}', which is no URL"
        return TerminalError(problem, fix="Use the file's own address.", code="uri_invalid")
    return TerminalError(f"{uri} redirects to where we must not go: {error.reason}", fix=error.fix, code=error.code)
