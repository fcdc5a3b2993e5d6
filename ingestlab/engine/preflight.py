"""Whether a table can take what a job is about to make: asked before any row is read, or any model run."""

from __future__ import annotations

import threading
from collections.abc import Collection as Some
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ingestlab.core.errors import TerminalError
from ingestlab.engine.lookups import resolve
from ingestlab.engine.plan import Target
from ingestlab.engine.services import Services
from ingestlab.engine.task.reembed import declared
from ingestlab.interfaces import Executor
from ingestlab.lake.commit import check_free
from ingestlab.lake.log import live_parts
from ingestlab.lake.table_schema import Schema, schema_of
from ingestlab.pipeline.catalog import PipelineSource
from ingestlab.pipeline.pipeline import Pipeline
from ingestlab.sinks.milvus.vectors import Collection

KEPT = 64  # pipelines whose models are known

_known: dict[tuple[str, str], dict[str, Any]] = {}
_knowing = threading.Lock()


def preflight(target: Target, services: Services, uris: Some[str] = ()) -> Target:
    """Give a target the types of its table's columns, and its references as they are now.

    Args:
        target: As its pipeline declares it.
        services: The connections to use.
        uris: The sources of the job; parts of which it replaces all rows do not count.

    Raises:
        BusySourceError: The collection of its vectors is being made anew.
        TransientError: A server is away.
        TerminalError: Its parts cannot stand beside those of the table, its vectors cannot go into their
            collection, or a reference cannot be had.
    """
    schema, names = _schema(target, services, uris), target.pipeline.folders
    if any(folders != names for folders in schema.folders):
        other = next(folders for folders in schema.folders if folders != names)
        wanted = f"partition_by {_said(other)}, as the parts of table {target.table} have it"
        fix = f"`ingestlab rewrite {target.table}` brings all parts into the pipeline's folders; or leave it as it was."
        raise TerminalError(
            "The pipeline does not fit the table",
            expected=wanted,
            got=f"{_said(names)} in pipeline '{target.source.name}'",
            fix=fix,
            code="columns_conflict",
        )
    _check_collection(target, services)
    return resolve(replace(target, types=schema.wanted), services)


def _schema(target: Target, services: Services, uris: Some[str]) -> Schema:
    """Give the columns of the parts that stay."""
    table = services.table(target.tenant, target.table)
    if not target.replace:
        return table.schema
    snapshot, going = table.log.snapshot(), set(uris)
    parts = live_parts(snapshot.about(going.__contains__))
    gone = [part.target for part in parts if part.sources and going.issuperset(part.sources)]
    return schema_of(table.store, table.where, snapshot.outline(gone), gone)


def _said(folders: Sequence[str]) -> str:
    return f"[{', '.join(folders)}]" if folders else "nothing (no folders)"


def _check_collection(target: Target, services: Services) -> None:
    """Check that the vectors of a pipeline may go into its collection."""
    if target.pipeline.embedding is None:
        return
    check_free(target.pipeline.embedding.collection, services.lake)
    services.vectors.require()
    wanted = wanted_by(target.source, target.pipeline, services.cluster)
    table = services.table(target.tenant, target.table)
    services.vectors.check(wanted, lambda: table.log.snapshot().manifests())


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
