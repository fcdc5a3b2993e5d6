"""Mongo: the documents of a collection as records, from all of it or from where the last commit ended."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from ingestlab.core.errors import TerminalError
from ingestlab.core.mongodb import VARIABLE, Server, server_of
from ingestlab.core.settings import Settings
from ingestlab.formats.json.reader import JsonLines
from ingestlab.interfaces import Page, Pull
from ingestlab.sources.mongodb.reading import ID, Find, Reading

_FIX = "See docs/how-to/mongodb-source.md."


@dataclass(frozen=True, kw_only=True)
class Mongo:
    """The documents of a collection or view of MongoDB, submitted as ``mongo://<pipeline>``.

    They are read in the order of the cursor, or of ``_id``, with read concern ``majority``, and kept as lines of
    canonical extended JSON. ``JsonLines(extended=True)``, which is the reader if the pipeline names none, makes plain
    values of them.

    Attributes:
        database: Its name.
        collection: Name of the collection or view. Each document has an ``_id``.
        query: Which documents, as ``find`` takes it.
        projection: Which fields of them, as ``find`` takes it; ``_id`` and the cursor are among them.
        cursor: A field that grows with each document that is new or changed, and that all of them have, in one type:
            a pull brings what is new in it since the last commit. None brings all documents each time, in place of
            the earlier ones.
        lag: How many seconds behind the server's clock a pull ends, for documents that come to be seen late. Those
            that are younger come with the next pull. The cursor is a time or an ``ObjectId`` then.
        server: Variable of the environment with the server's address; the workers need it, too.

    Examples:
        >>> from ingestlab import Mongo
        >>> Mongo(database="shop", collection="orders", cursor="updated_at").incremental
        True
    """

    scheme: ClassVar[str] = "mongo"
    database: str
    collection: str
    query: Mapping[str, Any] = field(default_factory=dict, hash=False)
    projection: Mapping[str, Any] | Sequence[str] | None = field(default=None, hash=False)
    cursor: str | None = None
    lag: float = 0
    server: str = VARIABLE

    @property
    def incremental(self) -> bool:
        """Tell whether a pull brings what is new since the cursor."""
        return self.cursor is not None

    @property
    def reader(self) -> JsonLines:
        """Return the reader of a pipeline that names none."""
        return JsonLines(extended=True)

    def check(self, name: str) -> None:
        """Refuse what was declared wrongly. Asks nobody.

        Args:
            name: Of the pipeline.

        Raises:
            TerminalError: A name, the query, the projection, the cursor, the lag or the variable cannot be.
        """
        whose = f"of the source of pipeline '{name}'"
        if not re.fullmatch(r'[^/\\. "$*<>:|?\0]{1,63}', self.database):
            raise _invalid(f"The database {whose} cannot be", "a database's name", repr(self.database))
        if not re.fullmatch(r"(?!\$)[^\0]{1,255}", self.collection):
            raise _invalid(f"The collection {whose} cannot be", "a collection's name", repr(self.collection))
        if not isinstance(self.query, Mapping):
            raise _invalid(f"The query {whose} cannot be", "a document as find takes it", repr(self.query))
        if self.cursor is not None and not re.fullmatch(r"(?!\$)[^\0.]+(\.[^\0.]+)*", self.cursor):
            raise _invalid(f"The cursor {whose} cannot be", "a field's name", repr(self.cursor))
        if not re.fullmatch(r"[A-Za-z_]\w*", self.server, re.ASCII):
            raise _invalid(f"The server {whose} is no variable", "a name such as ORDERS_MONGODB_URI", "another text")
        if self.lag < 0 or (self.lag and not self.cursor):
            raise _invalid(f"The lag {whose} cannot be", "seconds, beside a cursor", repr(self.lag))
        for path in {ID, self.cursor or ID}:
            if not self._keeps(path):
                wanted = f"a projection that keeps '{path}', by which a pull goes on"
                raise _invalid(f"The projection {whose} cannot be", wanted, repr(self.projection))

    def _keeps(self, path: str) -> bool:
        """Tell whether the projection keeps a field."""
        given = self.projection
        named = dict(given) if isinstance(given, Mapping) else dict.fromkeys(given or (), 1)
        prefixes = [path[: match.end() - 1] for match in re.finditer(r"[^.]+(?:\.|$)", path + ".")]
        said = [named[prefix] for prefix in prefixes if prefix in named]
        if said:
            return all(isinstance(word, bool | int | float) and bool(word) for word in said)
        positive = any(isinstance(word, bool | int | float) and word for key, word in named.items() if key != ID)
        return path == ID or not positive

    def address(self, settings: Settings) -> Server:
        """Return the server to ask.

        Args:
            settings: Name that of :data:`~ingestlab.core.mongodb.VARIABLE`.
        """
        server = server_of(settings)
        return (
            server
            if self.server == VARIABLE
            else replace(server, uri=os.environ.get(self.server, ""), variable=self.server)
        )

    async def pages(self, pull: Pull) -> AsyncIterator[Page]:
        """Yield the pages that are missing, in order.

        Args:
            pull: What is asked.

        Raises:
            TerminalError: The server refuses; there is no such collection; or the cursor of a document is missing,
                of another type, or no value that grows.
            TransientError: The server is away.
        """
        reading = self._reading(pull)
        try:
            while (page := await asyncio.to_thread(reading.next)) is not None:
                yield page
        finally:
            await asyncio.to_thread(reading.close)

    async def divide(self, pull: Pull, parts: int) -> Sequence[Pull]:
        """Divide a pull into ranges of the field by which documents are sorted.

        Args:
            pull: What is asked.
            parts: How many there should be, at most.

        Returns:
            Pulls in order; the pull itself where it is small.

        Raises:
            TerminalError: As for :meth:`pages`.
            TransientError: The server is away.
        """
        return await asyncio.to_thread(self._reading(pull).ranges, parts)

    def _reading(self, pull: Pull) -> Reading:
        asked = Find(self.database, self.collection, self.query, self.projection, self.cursor, self.lag)
        return Reading(asked, pull, self.address(pull.settings))


def _invalid(problem: str, expected: str, got: str) -> TerminalError:
    return TerminalError(problem, expected=expected, got=got, fix=_FIX, code="pipeline_invalid")
