"""The connection to a MongoDB server: made when it is needed, its failures told in our words."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from ingestlab.core.error_codes import Code
from ingestlab.core.errors import CollectionError, IngestError, TerminalError, TransientError, words_of
from ingestlab.core.extras import needed
from ingestlab.core.settings import Settings
from ingestlab.lake.log import TransactionLog, last_note
from ingestlab.lake.storage.store import open_store
from ingestlab.lake.tenants import settings_for

if TYPE_CHECKING:
    from pymongo import MongoClient
    from pymongo.collection import Collection

NAME = "mongodb"  # of the sink
CONNECT_MS = 10_000
DATABASE = "ingestlab"
REFUSED = frozenset({13, 18, 8000})  # unauthorised, not authenticated, and Atlas's own for both
INVALID = 121  # a document that a validator of the collection refuses
# Codes of a server that is changing: not primary, shutting down, interrupted, out of time, at odds with another write.
PASSING = frozenset({6, 7, 50, 64, 89, 91, 112, 189, 262, 9001, 10107, 11000, 11600, 11602, 13388, 13435, 13436, 16500})


def connected(settings: Settings) -> MongoClient[dict[str, Any]]:
    """Connect to the MongoDB that the settings name, once a process. Nothing is asked yet.

    Raises:
        TerminalError: None is named, its address is none, or pymongo is missing.
        TransientError: The name server is away.
    """
    if not settings.mongodb_uri:
        raise TerminalError(
            "No MongoDB server is named",
            expected="the address of a MongoDB in INGESTLAB_MONGODB_URI",
            got="none",
            fix="Set it, e.g. to mongodb://localhost:27017, or to the address that Atlas shows under Connect.",
            code="setting_missing",
        )
    with translated(settings, "connect", ValueError):
        return _shared(settings.mongodb_uri, settings.mongodb_timeout, os.getpid())


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


def about(settings: Settings) -> str:
    """Ask the server for its version.

    Raises:
        TransientError: It is away.
        TerminalError: It refuses, or there is none.
    """
    with (
        translated(settings, "ping", ValueError),
        _client(settings.mongodb_uri or "", settings.mongodb_timeout) as client,
    ):
        return str(client.server_info()["version"])


def database_name(settings: Settings, client: MongoClient[Any], declared: str = "") -> str:
    """Choose the database: declared, else of the settings, else of the server's address.

    Args:
        settings: May name one.
        client: Has one if its address ends in one.
        declared: By a pipeline.
    """
    return declared or settings.mongodb_database or str(client.get_default_database(DATABASE).name)


def collection_of(note: Mapping[str, Any], tenant: str, settings: Settings) -> Collection[Any]:
    """Give the collection of a tenant. What is written there is acknowledged by most servers of its set.

    Args:
        note: Of a commit, where its documents go.
        tenant: Whose it is.
        settings: Name the server.
    """
    from pymongo import WriteConcern  # noqa: PLC0415 - an optional package

    client = connected(settings)
    name = note["collection"] if tenant == "default" else f"{tenant}.{note['collection']}"
    database = client[database_name(settings, client, note["database"])]
    return database.get_collection(name, write_concern=WriteConcern("majority"))


def open_documents(table: str, settings: Settings, tenant: str) -> Collection[Any]:
    """Open the collection of a table, for readers.

    Args:
        table: Its name.
        settings: Name lake and server.
        tenant: Whose it is.

    Raises:
        TerminalError: The table has no documents, no server is named, or pymongo is missing.
    """
    settings = settings_for(tenant, settings)
    store = open_store(settings.lake_url, settings.storage_options)
    note = last_note(TransactionLog(store, tenant, table).snapshot().latest(), NAME)
    if note is None:
        fix = "Declare them with Pipeline(documents=Documents()), and ingest its files."
        raise TerminalError(f"Table {table} of tenant {tenant} has no documents", fix=fix, code="collection_unknown")
    with translated(settings, "connect"):
        return collection_of(note, tenant, settings)


@contextmanager
def translated(settings: Settings, what: str, *more: type[Exception]) -> Iterator[None]:
    """Translate what the block raises of the client's errors.

    Args:
        settings: Name the server.
        what: Was to be done, in a word.
        *more: Other errors that are the client's.
    """
    known = needed("pymongo.errors", "mongodb", "MongoDB")
    try:
        yield
    except (known.PyMongoError, *more) as error:
        raise _translated(error, settings, what) from None  # its text may have the password


def _translated(error: Exception, settings: Settings, what: str) -> IngestError:
    kind, fix = _kind(error)
    text = re.split(", full error|, Topology Description", _text_of(error))[0]
    text = re.sub(r"//[^/@\s]*@", "//", text.replace(settings.mongodb_uri or "\0", "(its address)"))
    problem = (
        f"{'No answer' if kind is TransientError else 'A refusal'} of MongoDB at {settings.mongodb_shown} to {what}"
    )
    code: Code = "collection_conflict" if kind is CollectionError else "mongodb_unavailable"
    return kind(problem, got=f"{type(error).__name__}: {text}"[:1000], fix=fix, code=code)


def _text_of(error: Exception) -> str:
    """Write an error as text: of a write of many documents the first that was refused."""
    refused = getattr(error, "details", None) or {}
    return str(refused["writeErrors"][0]["errmsg"]) if refused.get("writeErrors") else words_of(error)


def _kind(error: Exception) -> tuple[type[IngestError], str]:
    """Classify an error. What client and server do not know may pass."""
    from pymongo import errors as known  # noqa: PLC0415 - an optional package

    if isinstance(error, known.BulkWriteError):
        codes = {int(each["code"]) for each in error.details["writeErrors"]} or PASSING
        if INVALID in codes:
            return CollectionError, "The collection has a validator that refuses rows: drop it, or change clean."
        return (TransientError, "It will be tried again.") if codes <= PASSING else (TerminalError, "")
    code = error.code if isinstance(error, known.OperationFailure) else None
    if code in REFUSED:
        return TerminalError, "Correct user, password and rights in INGESTLAB_MONGODB_URI."
    if code in PASSING or (isinstance(error, known.PyMongoError) and error.has_error_label("RetryableWriteError")):
        return TransientError, "It will be tried again."
    away = isinstance(error, known.ConnectionFailure | known.ExecutionTimeout | known.WTimeoutError)
    if away or (isinstance(error, known.ConfigurationError) and "resolution" in str(error)):  # of the name at Atlas
        return TransientError, "Start it, or correct INGESTLAB_MONGODB_URI."
    return TerminalError, "" if code else "Look at INGESTLAB_MONGODB_URI."
