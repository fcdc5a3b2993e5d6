"""The collection of a table: where its documents are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ingestlab.core.errors import TerminalError
from ingestlab.core.mongodb import connected, database_name, server_of, translated
from ingestlab.core.settings import Settings
from ingestlab.lake.log import TransactionLog, last_note
from ingestlab.lake.storage.store import open_store
from ingestlab.lake.tenants import settings_for

if TYPE_CHECKING:
    from pymongo.collection import Collection

NAME = "mongodb"  # of the sink


def collection_of(note: Mapping[str, Any], tenant: str, settings: Settings) -> Collection[Any]:
    """Give the collection of a tenant. What is written there is acknowledged by most servers of its set.

    Args:
        note: Of a commit, where its documents go.
        tenant: Whose it is.
        settings: Name the server.
    """
    from pymongo import WriteConcern  # noqa: PLC0415 - an optional package

    client = connected(server_of(settings))
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
    with translated(server_of(settings), "connect"):
        return collection_of(note, tenant, settings)
