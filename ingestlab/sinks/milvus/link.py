"""The connection to a Milvus server: made when it is needed, its failures told in our words."""

from __future__ import annotations

import logging
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import grpc
import stamina

from ingestlab.core.errors import IngestError, TerminalError, TransientError
from ingestlab.core.settings import Settings

CONNECT_SECONDS = 10.0
GRPC = {"grpc.keepalive_time_ms": 300_000}  # a plain gRPC server hangs up on who asks more often, as pymilvus would
LAST_ATTEMPT = 4.0  # seconds before it, at most; a server that takes longer is left to the retries of the job
NOT_FOUND, NOT_LOADED = 100, 101
# Codes that say the request itself is wrong: arguments, databases, parameters, permissions.
HOPELESS = frozenset({6, 35, *range(800, 900), *range(1100, 1200), *range(1400, 1500)})
REFUSED = frozenset({grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED})
UNUSABLE = frozenset({grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.INVALID_ARGUMENT})


class AbsentError(TransientError):
    """The collection is not there, or not any more: who makes it again may try again."""


class UnloadedError(TransientError):
    """The server has the collection on disk only, as after a restart."""


class SlowError(TransientError):
    """The server did not answer in time. Asking again at once would not help it."""


class Link:
    """Calls of a Milvus client, repeated while the server is briefly away. Safe for threads."""

    def __init__(self, settings: Settings) -> None:
        self._uri, self._token = settings.milvus_uri or "", settings.milvus_token or ""
        self._timeout, self._attempts = settings.milvus_timeout, settings.milvus_attempts
        self._shown = settings.milvus_shown
        self._lock = threading.Lock()
        self._opened: Any = None

    def call(self, method: str, *args: Any, timeout: float | None = None, **named: Any) -> Any:
        """Call a method of the client.

        Args:
            method: Its name.
            *args: Its arguments.
            timeout: Seconds for one attempt, if not those of the settings.
            **named: Its named arguments.

        Raises:
            TransientError: The server is away, slow or overloaded, also after some attempts.
            TerminalError: It refuses.
        """
        for attempt in stamina.retry_context(
            on=_again, attempts=self._attempts, timeout=None, wait_initial=0.3, wait_max=LAST_ATTEMPT, wait_jitter=0.2
        ):
            with attempt, self.told(method):
                return getattr(self._client(), method)(*args, timeout=timeout or self._timeout, **named)
        raise AssertionError  # the last attempt raises

    @cached_property
    def version(self) -> str:
        """Give the version that the server tells."""
        return str(self.call("get_server_version"))

    @property
    def is_lite(self) -> bool:
        """Tell whether it is Milvus Lite."""
        return "lite-" in self.version

    @property
    def upserts_right(self) -> bool:
        """Tell whether an upsert finds the partition. Milvus 2.3 takes that of another field."""
        return self.is_lite or _number(self.version) >= (2, 4)

    @property
    def takes_null(self) -> bool:
        """Tell whether fields may be null."""
        return self.is_lite or _number(self.version) >= (2, 5)

    def close(self) -> None:
        """Close the connection. The next call makes a new one."""
        with self._lock:
            client, self._opened = self._opened, None
        if client is not None:
            client.close()

    def _client(self) -> Any:
        with self._lock:
            if self._opened is None:
                connect = min(CONNECT_SECONDS, self._timeout)
                self._opened = _pymilvus().MilvusClient(
                    self._uri, token=self._token, timeout=connect, dedicated=True, grpc_options=GRPC
                )
            return self._opened

    @contextmanager
    def told(self, method: str) -> Iterator[None]:
        """Translate what the block raises of the client's and the connection's errors."""
        from pymilvus.exceptions import MilvusException  # noqa: PLC0415 - an optional package

        try:
            yield
        except (grpc.RpcError, MilvusException, ValueError) as error:
            raise self._translated(error, method) from error

    def _translated(self, error: Exception, method: str) -> IngestError:
        status, kind, fix = _status(error), _kind(error), ""
        if status in REFUSED or "auth check failure" in str(error):  # the latter without a code, before 2.4
            kind, fix = TerminalError, "Correct MILVUS_TOKEN."
        elif status in UNUSABLE:
            kind, fix = TerminalError, "Look whether MILVUS_URI names a Milvus server."
        elif status is grpc.StatusCode.DEADLINE_EXCEEDED:
            kind, fix = SlowError, f"It has {self._timeout:g} s: INGESTLAB_MILVUS_TIMEOUT gives it more."
        elif status is not None:
            kind, fix = TransientError, "Start it, in a notebook with Lab(), or correct MILVUS_URI."
        return kind.wrap(error, f"No answer of Milvus at {self._shown} to {method}", fix, code="milvus_unavailable")


def _again(error: Exception) -> bool:
    return isinstance(error, TransientError) and not isinstance(error, AbsentError | UnloadedError | SlowError)


def _status(error: BaseException | None) -> grpc.StatusCode | None:
    """Find the gRPC status behind an error, which pymilvus wraps."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:  # it also chains errors to themselves
        seen.add(id(error))
        code = getattr(error, "code", None)
        code = code() if callable(code) else code
        if isinstance(code, grpc.StatusCode):
            return code
        error = error.__cause__ or error.__context__
    return None


def _kind(error: Exception) -> type[IngestError]:
    """Classify an error. What client and server do not know may pass."""
    from pymilvus import exceptions as known  # noqa: PLC0415 - an optional package

    blames = (ValueError, known.ParamError, known.DataNotMatchException, known.ConnectionConfigException)
    code = getattr(error, "code", None)
    if code == NOT_FOUND:
        return AbsentError
    if code == NOT_LOADED:
        return UnloadedError
    if isinstance(error, blames) or getattr(error, "is_input_error", False) or code in HOPELESS:
        return TerminalError
    return TransientError


def _number(version: str) -> tuple[int, int]:
    match = re.search(r"(\d+)\.(\d+)", version)
    return (int(match[1]), int(match[2])) if match else (99, 0)


def _pymilvus() -> Any:
    """Import the package without its side effects: reading `.env`, and logging what it raises."""
    before = os.environ.get("PYTHON_DOTENV_DISABLED")
    os.environ["PYTHON_DOTENV_DISABLED"] = "1"
    try:
        import pymilvus  # noqa: PLC0415 - an optional package, slow to import
    finally:
        if before is None:
            del os.environ["PYTHON_DOTENV_DISABLED"]
        else:
            os.environ["PYTHON_DOTENV_DISABLED"] = before
    for name in ("pymilvus", "pymilvus.milvus_client"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    return pymilvus
