"""Where vectors go: one Protocol, one file a kind, and the frozen values that they share.

A collection has a name that users see, and a *target*: the real collection behind it, with a name that ends in a
digest of what it was made for. The name is an alias, so that a new target can be filled while readers use
the old one, and then take its place at once. Vectors are an index of the lake, which stays the truth: every
operation may be repeated, and a lost target can be filled again.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Protocol

import numpy as np
import pyarrow as pa

from ingestlab.core.errors import TerminalError
from ingestlab.core.extras import missing_package
from ingestlab.core.settings import Settings
from ingestlab.sinks.milvus.vector_values import Collection, Filter, Hit, Where

MEMORY = "memory://"


class VectorStore(Protocol):
    """What process, commit and search need of a place for vectors. Names and targets are both understood.

    All raise TransientError while the server is away, slow or overloaded, and TerminalError for what another
    attempt cannot help. What is repeated after an error ends as if there had been none.
    """

    @property
    def compares_all(self) -> bool:
        """Tell whether a search compares every row.

        That is sooner done in the lake's own vectors.
        """
        ...

    def about(self) -> str:
        """Tell which server it is; raises if it does not answer."""
        ...

    def ensure(self, wanted: Collection) -> str:
        """Make a collection, or check the existing one. Returns its target.

        Raises:
            TerminalError: It holds another model's vectors or other fields, or is not ours.
        """
        ...

    def build(self, wanted: Collection) -> str:
        """Make a target beside the used one, or continue a half-filled one. The name does not change."""
        ...

    def switch(self, name: str, target: str) -> str | None:
        """Put a target behind a name at once. Returns the one that was there.

        Args:
            name: The collection.
            target: It, as :meth:`ensure` or :meth:`build` gave it.
        """
        ...

    def resolve(self, name: str) -> str | None:
        """Give the target behind a name, or None."""
        ...

    def names(self) -> list[str]:
        """List the collections that there are, sorted; every tenant's."""
        ...

    def describe(self, name: str) -> Collection | None:
        """Give the collection as it was made, or None."""
        ...

    def drop(self, name: str) -> None:
        """Remove a target with all its vectors. Gone already is no error."""
        ...

    def upsert(self, name: str, rows: pa.Table) -> int:
        """Write rows over those with their primary keys. Of several with one key the last counts.

        Args:
            name: The collection.
            rows: `pk`, `vector` (fixed-size list of float32), the columns of the collection, in any order.

        Returns:
            How many were written.
        """
        ...

    def settle(self, name: str) -> None:
        """Let the server prepare fresh rows for fast searches, after a commit."""
        ...

    def count(self, name: str, where: Where) -> int:
        """Count rows, those written just before included. 0 where there is no collection.

        Args:
            name: The collection.
            where: Of which tenant, table, runs and sources they are.
        """
        ...

    def confirm(self, name: str, keys: Sequence[str], where: Where) -> int:
        """Count how many of the rows just written are there.

        Args:
            name: The collection.
            keys: Their primary keys, each once.
            where: Of which tenant, table, runs and sources they are, and no others.
        """
        ...

    def delete(self, name: str, where: Where) -> None:
        """Remove rows. None, or no such collection, is no error.

        Args:
            name: The collection.
            where: Which; one condition at least.
        """
        ...

    def fetch(self, name: str, where: Where, columns: Sequence[str]) -> pa.Table:
        """Read scalar columns of rows, in the order of primary keys. Empty where there is no collection.

        Args:
            name: The collection.
            where: Which rows.
            columns: Their names; `pk` and the payload.
        """
        ...

    def search(
        self,
        name: str,
        vectors: np.ndarray,
        limit: int = 10,
        where: Where | None = None,
        only: Filter | None = None,
        distinct: str = "",
    ) -> list[list[Hit]]:
        """Find the nearest rows of each vector, best first.

        Args:
            name: The collection.
            vectors: Float32 of the shape (n, dim).
            limit: How many of each, at most 16,384.
            where: Which rows may be found; its tenant, above all.
            only: Values that columns must have, ``{"year": [2020, None]}``; on Milvus a boolean expression too.
            distinct: A column of which each value is found once, with how many rows have it.
        """
        ...

    def close(self) -> None:
        """Close the connection."""
        ...


def open_vectors(settings: Settings) -> VectorStore:
    """Open the vector store that the settings name. The first use connects.

    Raises:
        TerminalError: None is named, its address is none, or pymilvus is missing.
    """
    uri = settings.milvus_uri
    if uri == MEMORY:
        from ingestlab.sinks.milvus.memory import SHARED  # noqa: PLC0415 - seldom wanted

        return SHARED
    if not uri:
        if find_spec("pymilvus") is None:
            missing = missing_package("pymilvus", "milvus", "Milvus")
            raise missing.replace(fix=f"{missing.fix}, then start the stack again: ingestlab down && ingestlab up")
        raise TerminalError(
            "No Milvus server is named",
            expected="a Milvus server in MILVUS_URI, or a running embedded stack",
            got=f"neither, with home {settings.home}",
            fix="Start one with `ingestlab up`, or set MILVUS_URI.",
            code="setting_missing",
        )
    if not re.match(r"(https?|tcp)://|unix:", uri):
        raise TerminalError(
            "MILVUS_URI cannot be read",
            expected="a server's address in MILVUS_URI, such as http://host:19530",
            got=repr(uri),
            code="setting_invalid",
        )
    if find_spec("pymilvus") is None:
        raise missing_package("pymilvus", "milvus", "Milvus")
    from ingestlab.sinks.milvus.store import MilvusStore  # noqa: PLC0415 - an optional package

    return MilvusStore(settings)
