"""The sink of vectors: what tasks, commits and maintenance know of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ingestlab.core.errors import TerminalError
from ingestlab.core.models import DataFile, Manifest
from ingestlab.core.tenants import Tenant
from ingestlab.lake.lake import Lake
from ingestlab.lake.tenants import find
from ingestlab.pipeline.catalog import PipelineSource, load
from ingestlab.sinks.milvus.commit import VectorCommits, connected
from ingestlab.sinks.milvus.duplicates import shared_keys
from ingestlab.sinks.milvus.embedding import agreed
from ingestlab.sinks.milvus.reembed.reembed import Reembedded, reembed
from ingestlab.sinks.milvus.vector_values import Where
from ingestlab.sinks.milvus.vectors import VectorStore
from ingestlab.sinks.milvus.wanted import wanted_by
from ingestlab.sinks.milvus.writer import VectorsWriter


def check_room(tenant: Tenant | None, store: VectorStore) -> None:
    """Refuse a tenant more vectors than it may have.

    Args:
        tenant: Whose; None for one without limits.
        store: Has the vectors.

    Raises:
        TerminalError: It has as many. A batch that begins below the limit may end above it.
    """
    if tenant is None or tenant.vectors is None:
        return
    count = sum(store.count(name, Where(tenant=tenant.name)) for name in store.names())
    if count >= tenant.vectors:
        problem, expected = f"Limit of tenant '{tenant.name}' reached: vectors", f"{tenant.vectors:,} at most"
        fix = "Delete some, or ask for more: `ingestlab tenant set`."
        raise TerminalError(problem, expected=expected, got=f"{count:,}", fix=fix, code="limit_exceeded")


class Vectors(VectorCommits):
    """Embed the rows of tables, and keep the vectors in Milvus."""

    writer = VectorsWriter
    reuses = True
    by_row = True

    @classmethod
    def takes(cls, pipeline: Any) -> bool:
        """Tell whether a pipeline embeds its rows."""
        return pipeline.embedding is not None

    @classmethod
    def agree(cls, notes: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Choose the collection for all files of a batch; see :func:`ingestlab.sinks.milvus.embedding.agreed`."""
        return agreed(notes)

    @classmethod
    def shared_by(cls, pipeline: Any) -> str:
        """Name the collection that a pipeline fills."""
        return str(pipeline.embedding.collection)

    def check(self, code: PipelineSource, history: Callable[[], Sequence[Manifest]]) -> None:
        """Check that vectors may go where a pipeline wants them. A worker loads its model.

        Args:
            code: The pipeline's text.
            history: Gives the manifests of the table; asked only if the server has no such collection.

        Raises:
            TransientError: The server is away.
            CollectionError: The collection holds another model's vectors, or other fields.
            TerminalError: There is no server, or the model does not load.
        """
        self.require()
        check_room(find(self.settings.tenant, self.settings), connected(self.settings))
        self.compare(wanted_by(code, self.cluster, self.settings), history)

    def clashes(self, code: PipelineSource, staged: Mapping[str, Sequence[DataFile]]) -> dict[str, TerminalError]:
        """Find files whose pieces have vectors with one key."""
        embedding = load(code).embedding
        return shared_keys(embedding, staged, self.store) if embedding else {}

    def rebuild(self, lake: Lake, tenant: str, table: str, patience: float) -> Reembedded:
        """Make the vectors of a table and its collection again. All tables that share the collection are done."""
        return reembed(table, self, lake, tenant, patience)
