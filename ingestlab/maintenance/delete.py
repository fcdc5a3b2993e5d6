"""Takes sources out of tables: what `ingestlab delete` runs, safe beside working jobs.

Their rows, rejects and shares of aggregates go from all sinks in one commit, by the protocol of every other. Their
records stay, without content, so that whoever announces them again ingests them again. What was downloaded stays
in the raw zone, where other tables may have it too.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.compute as pc

from ingestlab.analytics.lake import Table as ReadTable
from ingestlab.core.access import scheme_of
from ingestlab.core.archive_uri import container, head_of
from ingestlab.core.errors import TerminalError
from ingestlab.core.models import NAME, PARQUET, REJECTS, DataFile, Manifest, SourceRecord, digest
from ingestlab.core.schemes import traits
from ingestlab.core.signed_uri import bare
from ingestlab.engine.plan import emptied
from ingestlab.engine.replacing import without
from ingestlab.engine.services import Services
from ingestlab.lake import layout
from ingestlab.lake.audit import note
from ingestlab.lake.log import by_sink
from ingestlab.lake.table import Table, tables
from ingestlab.pipeline.catalog import Catalog

_MAGIC = re.compile(r"[*?[]")


@dataclass(frozen=True)
class Deleted:
    """What has gone from a table.

    Attributes:
        table: Its name.
        sources: The URIs; of an archive those of its members, and its own.
        rows: How many published rows.
        rejects: How many rejects.
        others: What other sinks had of them in the lake, by sink, e.g. ``{"milvus": 3}``.
    """

    table: str
    sources: tuple[str, ...]
    rows: int = 0
    rejects: int = 0
    others: Mapping[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        others = (f"{count:,} in {name}" for name, count in self.others.items())
        gone = ", ".join([f"{self.rows:,} rows, {self.rejects:,} rejects", *others])
        return f"{self.table}: {gone} of {len(self.sources):,} source{'s'[: len(self.sources) != 1]} deleted"


def delete(
    uris: str | Iterable[str], services: Services, *, table: str | None = None, tenant: str | None = None
) -> list[Deleted]:
    """Take sources out of one table, or out of all.

    Args:
        uris: URIs as they were announced, or local paths. The URI of an archive means all its members. In a
            pattern ``*``, ``?`` and ``[…]`` stand for characters other than ``/``, of what is published.
        services: The connections to use.
        table: Its name; None for all tables of the tenant.
        tenant: The tenant of the tables.

    Returns:
        One for each table that has, or had, some of them; what was deleted before is deleted.

    Raises:
        TerminalError: There is no such table; or something of `uris` is in none, and then nothing was deleted.
        TransientError: Another job has a source or replaces parts, or a server is away.
    """
    tenant = tenant or services.settings.tenant
    services = services.of(tenant)
    sets = _chosen(uris, tenant, table, services)
    return [take_out(gone, services.table(tenant, name), services) for name, gone in sets.items() if gone]


def preview(
    uris: str | Iterable[str], services: Services, *, table: str | None = None, tenant: str | None = None
) -> list[Deleted]:
    """Count what :func:`delete` would take, and take nothing.

    Args:
        uris: As in :func:`delete`, as the others.
        services: The connections to use.
        table: Its name.
        tenant: The tenant of the tables.

    Returns:
        One for each table with some of the sources, without what other sinks have of them.

    Raises:
        TerminalError: As in :func:`delete`.
    """
    tenant = tenant or services.settings.tenant
    services = services.of(tenant)
    sets = _chosen(uris, tenant, table, services)
    return [_would_go(gone, tenant, name, services) for name, gone in sets.items() if gone]


def _would_go(uris: Sequence[str], tenant: str, name: str, services: Services) -> Deleted:
    there = _last(services.table(tenant, name).log.snapshot().manifests())
    gone = tuple(uri for uri in uris if there[uri].sha256)
    rows, rejects = (
        ReadTable(services.store, tenant, table)
        .dataset()
        .count_rows(filter=pc.field(column).isin(pa.array(gone, pa.string())))
        for table, column in ((name, "_source"), (layout.rejects(name), "source"))
    )
    return Deleted(name, gone, rows, rejects)


def _chosen(uris: str | Iterable[str], tenant: str, table: str | None, services: Services) -> dict[str, list[str]]:
    """Find the sources that are meant in each table."""
    given = [uris] if isinstance(uris, str) else list(uris)
    wanted = [bare(uri, services.settings.secret_parameters) for uri in given]
    chosen = {t.name: _matching(wanted, _last(t.log.snapshot().manifests())) for t in _tables(tenant, table, services)}
    for pattern in wanted:
        if not any(by_pattern[pattern] for by_pattern in chosen.values()):
            where = f"table {table}" if table else f"a table of tenant {tenant}"
            raise TerminalError(
                f"There are no sources of {where} that match {pattern}",
                fix="Give URIs as `_source` has them.",
                code="no_matches",
            )
    return {name: sorted(set().union(*by_pattern.values())) for name, by_pattern in chosen.items()}


def _tables(tenant: str, name: str | None, services: Services) -> list[Table]:
    """List the tables to look at."""
    chosen = [table for table in tables(services.lake) if table.tenant == tenant and name in (None, table.name)]
    if name is not None and (not chosen or not re.fullmatch(NAME, name)):
        raise TerminalError(
            f"There is no table '{name}' of tenant {tenant}", fix="`ingestlab tables` lists them.", code="table_unknown"
        )
    return chosen


def _last(history: Iterable[Manifest]) -> dict[str, SourceRecord]:
    """Return the records of a table's sources, its archives among them."""
    return {record.uri: record for manifest in history for record in manifest.sources}


def _matching(patterns: Iterable[str], there: Iterable[str]) -> dict[str, set[str]]:
    """Find the sources of each pattern; with an archive, its members."""
    plain = {uri: _plain(uri) for uri in there}
    inside: dict[str, set[str]] = {}
    for uri in there:
        inside.setdefault(_plain(container(uri)), set()).add(uri)
    matches = {}
    for pattern in patterns:
        wanted = _plain(pattern)
        exact = {uri for uri, name in plain.items() if name == wanted} | inside.get(wanted, set())
        if not exact and _MAGIC.search(wanted):
            exact = {uri for uri, name in plain.items() if _passes(name, wanted)}
            exact |= {uri for home, uris in inside.items() if _passes(home, wanted) for uri in uris}
        matches[pattern] = exact
    return matches


def _plain(uri: str) -> str:
    """Return a URI as patterns see it. A local file is its path."""
    if "://" in uri and traits(scheme_of(uri)).local:
        return unquote("/" + uri.split("://", 1)[1].partition("/")[2])
    return bare(uri) if "://" in uri else os.path.abspath(os.path.expanduser(uri))  # noqa: PTH100, PTH111 - as submit does


def _passes(name: str, pattern: str) -> bool:
    """Tell whether a name matches, step by step: no `*` reaches over a slash."""
    steps, wanted = name.split("/"), pattern.split("/")
    return len(steps) == len(wanted) and all(map(fnmatchcase, steps, wanted))


def take_out(
    uris: Sequence[str], table: Table, services: Services, *, unless_since: Mapping[str, str] | None = None
) -> Deleted:
    """Take sources out of one table, as one commit.

    Args:
        uris: They have, or had, rows in it; of an archive each member, and itself.
        table: Where they are.
        services: The connections to use.
        unless_since: By URI, the batch whose rows are meant: a source that was committed anew since then stays.

    Raises:
        TransientError: Another job has a source or replaces data files, or a server is away.
    """
    meant = unless_since or {}
    with table.transaction("delete", uris) as transaction:
        history = table.history()
        there = _last(history)
        gone = [u for u in uris if there[u].sha256 and meant.get(u, there[u].batch) == there[u].batch]
        if not gone:
            return Deleted(table.name, ())
        note("delete", table.tenant, gone, services.settings, services.store, table=table.name, run=transaction.run)
        batch = digest({"delete": table.where, "sources": [[u, there[u].sha256, there[u].batch] for u in gone]})[:24]
        with transaction.batch(batch):
            code = Catalog.read(services.settings).loadable(history[-1].pipeline)  # else readers compute aggregates
            left = without(gone, batch, table, code, history, services)
            sources = (*(emptied(uri, transaction.run, batch) for uri in gone), *_bereft(gone, history))
            transaction.commit(left.change(history, sources=sources, superseded=tuple(gone)))
    before = {name: parts for name, parts in by_sink(left.old, history).items() if parts}
    counts = {name: _rows(old) - _rows(left.sinks[name].files) for name, old in before.items()}
    rows, rejects = counts.pop(PARQUET, 0), counts.pop(REJECTS, 0)
    return Deleted(table.name, tuple(gone), rows, rejects, counts)


def _bereft(gone: Sequence[str], history: Sequence[Manifest]) -> Iterator[SourceRecord]:
    """Yield records of archives that lose members: they are opened when they come again."""
    there = _last(history)
    for home in sorted({container(uri) for uri in gone} & there.keys() - set(gone)):
        heads = {head_of(uri) for uri in gone if container(uri) == home}
        record = there[home]
        yield record.model_copy(update={"members": tuple(m for m in record.members if m not in heads), "whole": False})


def _rows(parts: Iterable[DataFile]) -> int:
    return sum(part.rows for part in parts)
