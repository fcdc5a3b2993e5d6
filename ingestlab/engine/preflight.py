"""Whether a table can take what a job is about to make: asked before any row is read, or any model run."""

from __future__ import annotations

from collections.abc import Collection as Some
from collections.abc import Sequence
from dataclasses import replace

from ingestlab.core.errors import TerminalError
from ingestlab.engine.lookups import resolve
from ingestlab.engine.plan import Target
from ingestlab.engine.services import Services
from ingestlab.lake.commit import check_free
from ingestlab.lake.log import live_files, live_parts
from ingestlab.lake.table_schema import Schema, schema_of
from ingestlab.sinks.opening import filled_by


def preflight(target: Target, services: Services, uris: Some[str] = ()) -> Target:
    """Give a target its table's column types and its current references.

    Args:
        target: As its pipeline declares it.
        services: The connections to use.
        uris: The sources of the job; parts of which it replaces all rows do not count.

    Raises:
        BusySourceError: What it shares with other tables in a sink is being made again.
        TransientError: A server is away.
        TerminalError: Its parts cannot stand beside those of the table, a sink cannot take what it declares, or a
            reference cannot be had.
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
    _check_sinks(target, services)
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


def _check_sinks(target: Target, services: Services) -> None:
    """Check that the sinks of a pipeline can take it."""
    table = services.table(target.tenant, target.table)
    for name in filled_by(target.pipeline):
        sink = services.lake.sinks[name]
        check_free(sink.shared_by(target.pipeline), services.lake)
        sink.check(target.source, lambda: table.log.snapshot().manifests())


def with_previous(target: Target, uris: Some[str], services: Services) -> Target:
    """Name the published files of sources that come again.

    Sinks reuse what they hold.

    Args:
        target: The table.
        uris: The sources that it has.
        services: The connections to use.
    """
    names = [name for name in filled_by(target.pipeline) if services.lake.sinks[name].reuses]
    if not names or not uris:
        return target
    mine = set(uris)
    history = services.table(target.tenant, target.table).log.snapshot().about(mine.__contains__)
    files = {name: tuple(f for f in live_files(history, name) if not mine.isdisjoint(f.sources)) for name in names}
    return replace(target, previous=files)
