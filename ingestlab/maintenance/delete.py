"""Takes sources out of tables: what `ingestlab delete` runs, safe beside working jobs.

Their rows, rejects, vectors and shares of aggregates go in one commit, by the protocol of every other. Their
records stay, without content, so that whoever announces them again ingests them anew. What was downloaded stays
in the raw zone, where other tables may have it too.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from urllib.parse import unquote

from ingestlab.core.access import check_tenant, scheme_of
from ingestlab.core.archive_uri import container, head_of
from ingestlab.core.errors import BusySourceError, TerminalError, attempt
from ingestlab.core.models import NAME, Manifest, Part, SourceRecord, digest
from ingestlab.core.schemes import traits
from ingestlab.core.signed_uri import bare
from ingestlab.engine.commit import all_or_nothing, commit, recover
from ingestlab.engine.drop_sources import Left, without
from ingestlab.engine.ingest import Context
from ingestlab.engine.plan import emptied
from ingestlab.lake.ledger import Lease, batch_lock, rewrite_lock, source_lock
from ingestlab.lake.log import TransactionLog, manifests, sorted_out, tables_of
from ingestlab.pipeline.catalog import Catalog, PipelineSource, load
from ingestlab.sinks.milvus.commit import latest

_MAGIC = re.compile(r"[*?[]")


@dataclass(frozen=True)
class Deleted:
    """What has gone from a table.

    Attributes:
        table: Its name.
        sources: The URIs; of an archive those of its members, and its own.
        rows: How many published rows.
        rejects: How many rejects.
        vectors: How many vectors the lake had of them.
    """

    table: str
    sources: tuple[str, ...]
    rows: int
    rejects: int
    vectors: int

    def __str__(self) -> str:
        gone = f"{self.rows:,} rows, {self.rejects:,} rejects, {self.vectors:,} vectors"
        return f"{self.table}: {gone} of {len(self.sources):,} source{'s'[: len(self.sources) != 1]} deleted"


def delete(
    uris: str | Iterable[str], context: Context, *, table: str | None = None, tenant: str | None = None
) -> list[Deleted]:
    """Takes sources out of one table, or out of all tables that have them.

    Args:
        uris: URIs as they were announced, or local paths. The URI of an archive means all its members. In a
            pattern ``*``, ``?`` and ``[…]`` stand for characters other than ``/``, of what is published.
        context: The connections to use.
        table: Its name; None for all tables of the tenant.
        tenant: Whose tables.

    Returns:
        One for each table that has, or had, some of them; what was deleted before is deleted.

    Raises:
        TerminalError: There is no such table; or something of `uris` is in none, and then nothing was deleted.
        TransientError: Another job is at work on a source or replaces parts, or a server is away.
    """
    tenant = tenant or context.settings.tenant
    check_tenant(tenant, context.settings)
    given = [uris] if isinstance(uris, str) else list(uris)
    wanted = [bare(uri, context.settings.secret_parameters) for uri in given]
    chosen = {name: _matching(wanted, _last(history)) for name, history in _tables(tenant, table, context)}
    for pattern in wanted:
        if not any(found[pattern] for found in chosen.values()):
            where = f"table {table}" if table else f"a table of tenant {tenant}"
            raise TerminalError(
                f"There are no sources of {where} that match {pattern}",
                fix="Give URIs as `_source` has them.",
                code="no_matches",
            )
    sets = {
        name: sorted({uri for found in by_pattern.values() for uri in found}) for name, by_pattern in chosen.items()
    }
    return [_delete(found, (tenant, name), context) for name, found in sets.items() if found]


def _tables(tenant: str, table: str | None, context: Context) -> Iterator[tuple[str, list[Manifest]]]:
    """The tables to look at, with their manifests."""
    store = context.store
    names = [name for owner, name in tables_of(store) if owner == tenant and table in (None, name)]
    if table is not None and (not names or not re.fullmatch(NAME, table)):
        raise TerminalError(
            f"There is no table '{table}' of tenant {tenant}",
            fix="`ingestlab tables` lists them.",
            code="table_unknown",
        )
    return ((name, manifests(store, tenant, name)) for name in names)


def _last(history: Iterable[Manifest]) -> dict[str, SourceRecord]:
    """The records of a table's sources, its archives among them."""
    return {record.uri: record for manifest in history for record in manifest.sources}


def _matching(patterns: Iterable[str], there: Iterable[str]) -> dict[str, set[str]]:
    """The sources that each pattern means; with an archive, its members."""
    plain = {uri: _plain(uri) for uri in there}
    inside: dict[str, set[str]] = {}
    for uri in there:
        inside.setdefault(_plain(container(uri)), set()).add(uri)
    found = {}
    for pattern in patterns:
        wanted = _plain(pattern)
        exact = {uri for uri, name in plain.items() if name == wanted} | inside.get(wanted, set())
        if not exact and _MAGIC.search(wanted):
            exact = {uri for uri, name in plain.items() if _passes(name, wanted)}
            exact |= {uri for home, uris in inside.items() if _passes(home, wanted) for uri in uris}
        found[pattern] = exact
    return found


def _plain(uri: str) -> str:
    """A URI as patterns are compared with it; of a local file its path."""
    if "://" in uri and traits(scheme_of(uri)).local:
        return unquote("/" + uri.split("://", 1)[1].partition("/")[2])
    return bare(uri) if "://" in uri else os.path.abspath(os.path.expanduser(uri))  # noqa: PTH100, PTH111 - as submit does


def _passes(name: str, pattern: str) -> bool:
    """Whether a name matches, step by step: no `*` reaches over a slash."""
    steps, wanted = name.split("/"), pattern.split("/")
    return len(steps) == len(wanted) and all(map(fnmatchcase, steps, wanted))


def _delete(uris: Sequence[str], where: tuple[str, str], context: Context) -> Deleted:
    """The same for one table, whose sources are known."""
    store, ledger, vectors = context.store, context.ledger, context.vectors
    with ledger.lease() as lease:
        _lock(uris, where, context, lease)
        history = manifests(store, *where)
        there = _last(history)
        gone = [uri for uri in uris if there[uri].sha256]
        if not gone:
            return Deleted(where[1], (), 0, 0, 0)
        batch = digest({"delete": where, "sources": [[u, there[u].sha256, there[u].batch] for u in gone]})[:24]
        lease.acquire([batch_lock(batch)])
        with all_or_nothing(*where, batch, store, ledger, lease, vectors):
            code = _code(history[-1].pipeline, context)
            left = without(gone, batch, where, code, history, context.cluster, context.settings)
            commit(_manifest(gone, batch, where, left, history, lease), store, ledger, lease, vectors)
    counts = [_rows(old) - _rows(new) for old, new in zip(sorted_out(left.old, *where), _new(left), strict=True)]
    return Deleted(where[1], tuple(gone), *counts)


def _lock(uris: Sequence[str], where: tuple[str, str], context: Context, lease: Lease) -> None:
    """Keeps others from the sources and from rewriting parts, and mends what dead jobs have left of these."""
    store, ledger = context.store, context.ledger
    try:
        lease.acquire([*(source_lock(*where, uri) for uri in uris), rewrite_lock(*where)])
    except BusySourceError as error:
        raise error.replace(fix="Try again when it has ended.") from error
    recover(*where, uris, store, ledger, lease, context.vectors)
    ledger.ensure_index(*where, TransactionLog(store, *where).records)


def _code(name: str, context: Context) -> PipelineSource | None:
    """The pipeline whose aggregates the table has, if it is here and loads; else who reads them computes them."""
    code = Catalog.read(context.settings).sources.get(name)
    return None if code is None or isinstance(attempt(load, code), TerminalError) else code


def _manifest(
    gone: Sequence[str],
    batch: str,
    where: tuple[str, str],
    left: Left,
    history: Sequence[Manifest],
    lease: Lease,
) -> Manifest:
    now = datetime.now(UTC)
    run = f"delete-{now:%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"
    last, collection = history[-1], latest(history)
    return Manifest(
        batch=batch,
        run=run,
        tenant=where[0],
        table=where[1],
        pipeline=last.pipeline,
        code=last.code,
        committed_at=now.isoformat(timespec="milliseconds"),
        sources=(*(emptied(uri, run, batch) for uri in gone), *_bereft(gone, history)),
        parts=left.rows,
        rejects=left.rejects,
        states=left.states,
        profile=left.profile,
        replaced=left.replaced,
        kind="delete",
        owner=lease.token,
        vectors=left.vectors,
        collection=collection.to_dict() if collection else None,
        superseded=tuple(gone) if collection else (),
        types=left.types if left.rows else {},
    )


def _bereft(gone: Sequence[str], history: Sequence[Manifest]) -> Iterator[SourceRecord]:
    """The records of archives that stay without some of their members: they are opened when they come again."""
    there = _last(history)
    for home in sorted({container(uri) for uri in gone} & there.keys() - set(gone)):
        heads = {head_of(uri) for uri in gone if container(uri) == home}
        record = there[home]
        yield record.model_copy(update={"members": tuple(m for m in record.members if m not in heads), "whole": False})


def _new(left: Left) -> tuple[Sequence[Part], Sequence[Part], Sequence[Part]]:
    return left.rows, left.rejects, left.vectors


def _rows(parts: Iterable[Part]) -> int:
    return sum(part.rows for part in parts)
