"""Whether the vectors of a pipeline may go into its collection: asked before any model has run over rows."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from ingestlab.engine.commit import check_free
from ingestlab.engine.plan import Target
from ingestlab.engine.task.reembed import declared
from ingestlab.interfaces import Executor, Store
from ingestlab.lake.ledger import Ledger
from ingestlab.lake.log import manifests
from ingestlab.pipeline.catalog import PipelineSource
from ingestlab.pipeline.pipeline import Pipeline
from ingestlab.sinks.milvus.commit import Vectors
from ingestlab.sinks.milvus.vectors import Collection

KEPT = 64  # pipelines whose models are known

_known: dict[tuple[str, str], dict[str, Any]] = {}
_knowing = threading.Lock()


def check_collection(target: Target, store: Store, ledger: Ledger, cluster: Executor, vectors: Vectors) -> None:
    """Check that the vectors of a pipeline may go into its collection.

    Raises:
        BusySourceError: The collection is being made anew.
        TransientError: The vector store or the cluster is away.
        TerminalError: The collection holds others, or there is none to be had.
    """
    if target.pipeline.embedding is None:
        return
    check_free(target.pipeline.embedding.collection, ledger)
    vectors.require()
    wanted = wanted_by(target.source, target.pipeline, cluster)
    vectors.check(wanted, lambda: manifests(store, target.tenant, target.table))


def wanted_by(
    code: PipelineSource, pipeline: Pipeline, cluster: Executor, kinds: Mapping[str, str] | None = None
) -> Collection:
    """The collection that a pipeline wants, as far as that can be said without rows.

    Its model is asked on a Dask worker, once for each text of a pipeline in this process.

    Args:
        code: The pipeline's text.
        pipeline: What it declares.
        cluster: Where to ask.
        kinds: Of the table's columns, as profiles have them; then the answer is not kept.

    Raises:
        TerminalError: The model does not load, or is not installed on the worker.
    """
    key = (code.name, code.sha256)
    if kinds is None and key in _known:
        return Collection.from_dict(_known[key])
    call = (code.to_dict(), dict(kinds or {}))
    name = f"model-{code.name}-{code.sha256[:12]}" + ("-typed" if kinds else "")
    ((_, found),) = cluster.map(declared, [call], [name], pipeline.resources)
    if kinds is None:
        with _knowing:
            _known[key] = found
            while len(_known) > KEPT:
                del _known[next(iter(_known))]
    return Collection.from_dict(found)
