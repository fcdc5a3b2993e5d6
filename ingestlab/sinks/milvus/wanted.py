"""The collection that a pipeline wants, as far as that can be said before any row is read."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from ingestlab.analytics.embedders.endpoint import reach
from ingestlab.analytics.embedders.registry import made_by
from ingestlab.core.settings import Settings
from ingestlab.interfaces import Executor
from ingestlab.pipeline.catalog import PipelineSource, load
from ingestlab.sinks.milvus.embedding import collection_of
from ingestlab.sinks.milvus.vector_values import Collection, Column

KINDS = {"decimal": "float"} | {kind: kind for kind in ("int", "float", "bool")}  # of profiles, as collections have
KEPT = 64  # pipelines whose models are known

_known: dict[tuple[str, str], dict[str, Any]] = {}
_knowing = threading.Lock()


def wanted_by(
    code: PipelineSource, cluster: Executor, settings: Settings, kinds: Mapping[str, str] | None = None
) -> Collection:
    """Say which collection a pipeline wants, as far as known without rows.

    Its model is asked on a Dask worker, once for each text of a pipeline in this process.

    Args:
        code: The pipeline's text.
        cluster: Where to ask.
        settings: For a model that a server runs.
        kinds: Of the table's columns, as profiles have them; then the answer is not kept.

    Raises:
        TerminalError: The model does not load, or is not installed on the worker.
    """
    key = (code.name, code.sha256)
    if kinds is None and key in _known:
        return Collection.from_dict(_known[key])
    pipeline = load(code)
    call = (code.to_dict(), dict(kinds or {}), settings.outside() if pipeline.asks_servers else {})
    name = f"model-{code.name}-{code.sha256[:12]}" + ("-typed" if kinds else "")
    ((_, collection),) = cluster.map(declared, [call], [name], pipeline.resources)
    if kinds is None:
        with _knowing:
            _known[key] = collection
            while len(_known) > KEPT:
                del _known[next(iter(_known))]
    return Collection.from_dict(collection)


def declared(pipeline: dict[str, Any], kinds: Mapping[str, str], outside: Mapping[str, Any]) -> dict[str, Any]:
    """Describe a pipeline's collection without rows, as a Dask task.

    Args:
        pipeline: A :class:`PipelineSource` as a plain dict.
        kinds: Of the columns, as profiles have them, where they are known.
        outside: Settings for a model that a server runs.

    Raises:
        TerminalError: The model does not load, or is not installed.
    """
    embedding = load(PipelineSource.from_dict(pipeline)).embedding
    assert embedding is not None
    with reach(outside):
        made = made_by(embedding.model, embedding.kind, normalise=embedding.normalise)
    payload = [Column.from_dict({"name": n, "kind": KINDS.get(kinds.get(n, ""), "text")}) for n in embedding.payload]
    return collection_of(embedding, made, payload).to_dict()
