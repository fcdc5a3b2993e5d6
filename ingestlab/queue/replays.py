"""The producer of replays: from a table to a run of queued requests for its rejects."""

from __future__ import annotations

import re
from collections.abc import Iterable

import pyarrow.compute as pc

from ingestlab.core.errors import TerminalError, did_you_mean, no_table
from ingestlab.core.models import NAME, Again, IngestRequest, Manifest, Source, SourceRecord
from ingestlab.core.settings import Settings, load_settings
from ingestlab.engine.task.quality_gate import rule_name
from ingestlab.engine.task.replay import read_rejects
from ingestlab.interfaces import Store
from ingestlab.lake import layout
from ingestlab.lake.log import live_parts, manifests
from ingestlab.lake.storage.store import open_store
from ingestlab.lake.tenants import settings_for
from ingestlab.queue.producer import new_run, start
from ingestlab.queue.results import RunRecord
from ingestlab.queue.run import Run
from ingestlab.sources.expand import pack


def submit_replay(
    table: str,
    *,
    rule: str | None = None,
    run: str | None = None,
    queue: str | None = None,
    tenant: str | None = None,
    settings: Settings | None = None,
) -> Run | None:
    """Queue a table's rejects for its current pipeline. Returns at once.

    Args:
        table: Its name.
        rule: Only rejects of this rule, ``"less_than"`` or ``"value:less_than"``.
        run: Only rejects that this run brought.
        queue: Queue to put the requests on.
        tenant: Whose table it is.
        settings: As found by :func:`ingestlab.load_settings` if not given.

    Returns:
        The run to follow; None if no source of the table has rejects.

    Raises:
        TerminalError: There is no such table, or no reject of this rule in it.
        TransientError: Redis cannot be reached.
    """
    settings = settings or load_settings()
    queue, tenant = queue or settings.queue, tenant or settings.tenant
    settings = settings_for(tenant, settings)
    store = open_store(settings.lake_url, settings.storage_options)
    history = manifests(store, tenant, table) if re.fullmatch(NAME, table) else []
    if not history:
        raise no_table(table, tenant)
    sources = [Source(uri=r.uri, size=r.size) for r in with_rejects(history, run)]
    if not sources:
        return None
    if rule is not None:
        _check_rule(rule, table, _rules_of(history, tenant, table, run, store))
    new, wanted = new_run(), Again(rule=rule, run=run)
    requests = [
        IngestRequest(run=new, tenant=tenant, table=table, sources=tuple(group), replay=wanted)
        for group in pack(sources, settings)
    ]
    record = RunRecord(id=new, queue=queue, tenant=tenant, pipeline=None, files=len(sources), jobs=())
    return start(requests, record, settings)


def _rules_of(history: Iterable[Manifest], tenant: str, table: str, run: str | None, store: Store) -> set[str]:
    """Find the broken rules, each with and without its column."""
    folder = layout.table(tenant, layout.rejects(table)) + "/"
    paths = [part.target for part in live_parts(history) if part.target.startswith(folder)]
    rules: set[str] = set()
    for path in paths:
        rows = read_rejects(store, path, ["run", "column", "rule"])
        pairs = (
            (rows if run is None else rows.filter(pc.field("run") == run)).group_by(["column", "rule"]).aggregate([])
        )
        for row in pairs.to_pylist():
            rules |= {row["rule"], rule_name(row["column"], row["rule"])}
    return rules


def _check_rule(rule: str, table: str, rules: set[str]) -> None:
    if rule in rules:
        return
    bare = sorted(name for name in rules if ":" in name) or sorted(rules)
    fix = did_you_mean(rule, rules, f"Rejects of it broke {', '.join(bare)}.")
    raise TerminalError(f"No reject of table {table} broke the rule '{rule}'", fix=fix, code="argument_invalid")


def with_rejects(history: Iterable[Manifest], run: str | None = None) -> list[SourceRecord]:
    """List the sources with rejects, of one run or of all."""
    last = {record.uri: record for manifest in history for record in manifest.sources}
    return [r for r in last.values() if r.tally.rejected and run in (None, r.run)]
