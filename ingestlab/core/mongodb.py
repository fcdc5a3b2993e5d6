"""The connection to a MongoDB server: made when it is needed, its failures told in our words."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from ingestlab.core.error_codes import Code
from ingestlab.core.errors import CollectionError, IngestError, TerminalError, TransientError, words_of
from ingestlab.core.extras import needed
from ingestlab.core.settings import Settings, hosts_of

if TYPE_CHECKING:
    from pymongo import MongoClient

VARIABLE = "INGESTLAB_MONGODB_URI"
CONNECT_MS = 10_000
DATABASE = "ingestlab"
REFUSED = frozenset({13, 18, 8000})  # unauthorised, not authenticated, and Atlas's own for both
INVALID = 121  # a document that a validator of the collection refuses
# Codes of a server that is changing: not primary, shutting down, interrupted, out of time, at odds with another write.
PASSING = frozenset({6, 7, 50, 64, 89, 91, 112, 189, 262, 9001, 10107, 11000, 11600, 11602, 13388, 13435, 13436, 16500})


@dataclass(frozen=True)
class Server:
    """Where a MongoDB is.

    Attributes:
        uri: Its address, which may have a password.
        timeout: Seconds for one call.
        variable: Of the environment, which names the address.
    """

    uri: str = field(repr=False)
    timeout: float
    variable: str = VARIABLE

    @property
    def shown(self) -> str:
        """Return its hosts, without password and options."""
        return hosts_of(self.uri)


def server_of(settings: Settings) -> Server:
    """Return the server that the settings name.

    Args:
        settings: May name one.
    """
    return Server(settings.mongodb_uri or "", settings.mongodb_timeout)


def connected(server: Server) -> MongoClient[dict[str, Any]]:
    """Connect to a MongoDB, once a process. Nothing is asked yet.

    Args:
        server: Its address.

    Raises:
        TerminalError: None is named, its address is none, or pymongo is missing.
        TransientError: The name server is away.
    """
    if not server.uri:
        raise TerminalError(
            "No MongoDB server is named",
            expected=f"the address of a MongoDB in {server.variable}",
            got="none",
            fix="Set it, e.g. to mongodb://localhost:27017, or to the address that Atlas shows under Connect.",
            code="setting_missing",
        )
    with translated(server, "connect", ValueError):
        return _shared(server.uri, server.timeout, os.getpid())


@lru_cache(maxsize=4)
def _shared(uri: str, timeout: float, _process: int) -> MongoClient[dict[str, Any]]:
    """Make a client for a process. Another process must not use it."""
    return _client(uri, timeout)


def _client(uri: str, timeout: float) -> MongoClient[dict[str, Any]]:
    needed("pymongo", "mongodb", "MongoDB")
    from pymongo import MongoClient  # noqa: PLC0415 - an optional package

    ms = int(1000 * timeout)
    connect = min(CONNECT_MS, ms)
    return MongoClient(
        uri, serverSelectionTimeoutMS=connect, connectTimeoutMS=connect, timeoutMS=ms, appname="ingestlab"
    )


def about(server: Server) -> str:
    """Ask the server for its version.

    Args:
        server: Its address.

    Raises:
        TransientError: It is away.
        TerminalError: It refuses, or there is none.
    """
    with translated(server, "ping", ValueError), _client(server.uri, server.timeout) as client:
        return str(client.server_info()["version"])


def database_name(settings: Settings, client: MongoClient[Any], declared: str = "") -> str:
    """Choose the database: declared, else of the settings, else of the server's address.

    Args:
        settings: May name one.
        client: Has one if its address ends in one.
        declared: By a pipeline.
    """
    return declared or settings.mongodb_database or str(client.get_default_database(DATABASE).name)


@contextmanager
def translated(server: Server, what: str, *more: type[Exception]) -> Iterator[None]:
    """Translate what the block raises of the client's errors.

    Args:
        server: What was called.
        what: Was to be done, in a word.
        *more: Other errors that are the client's.
    """
    known = needed("pymongo.errors", "mongodb", "MongoDB")
    try:
        yield
    except (known.PyMongoError, *more) as error:
        raise _translated(error, server, what) from None  # its text may have the password


def _translated(error: Exception, server: Server, what: str) -> IngestError:
    kind, fix = _kind(error, server.variable)
    text = re.split(", full error|, Topology Description", _text_of(error))[0]
    text = re.sub(r"//[^/@\s]*@", "//", text.replace(server.uri or "\0", "(its address)"))
    problem = f"{'No answer' if kind is TransientError else 'A refusal'} of MongoDB at {server.shown} to {what}"
    code: Code = "collection_conflict" if kind is CollectionError else "mongodb_unavailable"
    return kind(problem, got=f"{type(error).__name__}: {text}"[:1000], fix=fix, code=code)


def _text_of(error: Exception) -> str:
    """Write an error as text: of a write of many documents the first that was refused."""
    refused = getattr(error, "details", None) or {}
    return str(refused["writeErrors"][0]["errmsg"]) if refused.get("writeErrors") else words_of(error)


def _kind(error: Exception, variable: str) -> tuple[type[IngestError], str]:
    """Classify an error. What client and server do not know may pass."""
    from pymongo import errors as known  # noqa: PLC0415 - an optional package

    if isinstance(error, known.BulkWriteError):
        codes = {int(each["code"]) for each in error.details["writeErrors"]} or PASSING
        if INVALID in codes:
            return CollectionError, "The collection has a validator that refuses rows: drop it, or change clean."
        return (TransientError, "It will be tried again.") if codes <= PASSING else (TerminalError, "")
    code = error.code if isinstance(error, known.OperationFailure) else None
    if code in REFUSED:
        return TerminalError, f"Correct user, password and rights in {variable}."
    if code in PASSING or (isinstance(error, known.PyMongoError) and error.has_error_label("RetryableWriteError")):
        return TransientError, "It will be tried again."
    away = isinstance(error, known.ConnectionFailure | known.ExecutionTimeout | known.WTimeoutError)
    if away or (isinstance(error, known.ConfigurationError) and "resolution" in str(error)):  # of the name at Atlas
        return TransientError, f"Start it, or correct {variable}."
    return TerminalError, "" if code else f"Look at {variable}."
