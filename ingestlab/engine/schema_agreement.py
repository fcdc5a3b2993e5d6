"""Whether what a job publishes agrees with its table: asked when it begins, and once more at the moment of commit.

What the manifests say of a table's columns is kept in Redis as well, so that no job has to read them all. Only
who holds the table's schema lock changes it there, and a commit drops it before it writes a manifest that says
something new: so it is either what the manifests say, or not there.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

from pyarrow import DataType
from pyarrow.types import is_nested

from ingestlab.analytics.table_schema import Schema, of_manifest, schema_of
from ingestlab.core.errors import BusySourceError, TerminalError
from ingestlab.core.models import Manifest
from ingestlab.engine.plan import Target
from ingestlab.engine.task.nameless import clash
from ingestlab.interfaces import Store
from ingestlab.lake.arrow_schema import parse_type, readable, same_but_for_case
from ingestlab.lake.ledger import Ledger, schema_lock
from ingestlab.lake.log import TransactionLog, live_parts

PATIENCE = 60.0  # seconds that a commit waits for others of its table, which need a moment each


def with_types(target: Target, store: Store, ledger: Ledger, uris: Collection[str] = ()) -> Target:
    """Give a target the types of its table's columns.

    Args:
        target: Where rows are to go.
        store: The lake.
        ledger: Its index.
        uris: The sources of the job; parts of which it replaces all rows do not count.

    Raises:
        TerminalError: Its parts cannot stand beside those that there are.
    """
    found = _schema(target, store, ledger, uris)
    names = target.pipeline.folders
    if any(folders != names for folders in found.folders):
        other = next(folders for folders in found.folders if folders != names)
        wanted = f"partition_by {_said(other)}, as the parts of table {target.table} have it"
        fix = f"`ingestlab rewrite {target.table}` brings all parts into the pipeline's folders; or leave it as it was."
        raise TerminalError(
            "The pipeline does not fit the table",
            expected=wanted,
            got=f"{_said(names)} in pipeline '{target.source.name}'",
            fix=fix,
            code="columns_conflict",
        )
    return replace(target, types=found.wanted)


@dataclass(frozen=True)
class Seen:
    """What a job that publishes rows knew: whether its columns may be of types of their own, or those of objects."""

    loose: bool
    nested: bool = False


@dataclass(frozen=True)
class _After:
    schema: Schema | None  # None: to be looked up in the manifests
    changed: bool


@contextmanager
def agreeing(
    group: Sequence[Manifest], store: Store, ledger: Ledger, seen: Seen | None = None
) -> Iterator[Callable[[], None]]:
    """Keeps the columns of some tables as they are, while entries are written that agree with them: by what it gives.

    Args:
        group: What is about to be written.
        store: The lake.
        ledger: Its index.
        seen: Of a job that publishes rows of sources; without it nothing is compared.

    Raises:
        BusySourceError: Others have changed a table's columns since the job began: it has to begin again.
    """
    with_rows = [m for m in group if m.parts or m.replaced]
    with ledger.lease() as gate:
        gate.wait_for((schema_lock(m.tenant, m.table) for m in with_rows), PATIENCE)
        tips = [TransactionLog(store, m.tenant, m.table).tip() for m in group]  # before the columns are looked up
        found = [(m.tenant, m.table, _after(m, seen, store, ledger)) for m in with_rows]
        for tenant, table, after in found:
            if after.changed:
                ledger.forget_schema(tenant, table)
        gate.check()
        alone: set[tuple[str, str]] = set()  # tables into which nobody else has committed meanwhile

        def append() -> None:
            for i, (manifest, tip) in enumerate(zip(group, tips, strict=True)):
                log = TransactionLog(store, manifest.tenant, manifest.table)
                entry = log.append(manifest, tip, partial(_agree, manifest, seen), decided=i > 0)
                alone.update({(log.tenant, log.table)} if entry.sequence == tip + 1 else ())

        yield append
        for tenant, table, after in found:
            if after.schema is not None and (tenant, table) in alone:
                ledger.keep_schema(tenant, table, after.schema.to_json())


def _schema(target: Target, store: Store, ledger: Ledger, uris: Collection[str]) -> Schema:
    where = (target.tenant, target.table)
    if not target.replace:
        return _known(where, store, ledger)
    snapshot, going = TransactionLog(store, *where).snapshot(), set(uris)
    parts = live_parts(snapshot.about(going.__contains__))
    gone = [part.target for part in parts if part.sources and going.issuperset(part.sources)]
    return schema_of(store, where, snapshot.outline(gone), gone)


def _known(where: tuple[str, str], store: Store, ledger: Ledger) -> Schema:
    kept = ledger.schema(*where)
    return Schema.from_json(kept) if kept else schema_of(store, where, _outline(store, where))


def _outline(store: Store, where: tuple[str, str], without: Collection[str] = ()) -> list[Manifest]:
    return TransactionLog(store, *where).snapshot().outline(without)


def _after(manifest: Manifest, seen: Seen | None, store: Store, ledger: Ledger) -> _After:
    """What a table's columns are after a commit; raises BusySourceError where it does not agree with them."""
    where, own = (manifest.tenant, manifest.table), of_manifest(manifest)
    if not manifest.replaced:
        known = _known(where, store, ledger)
        _check(manifest, own, known, seen)
        both = known.joined(own)
        return _After(both, changed=both != known)
    if seen is not None:
        left = schema_of(store, where, _outline(store, where, manifest.replaced), manifest.replaced)
        _check(manifest, own, left, seen)
    return _After(None, changed=True)


def _check(manifest: Manifest, own: Schema, known: Schema, seen: Seen | None) -> None:
    if seen is None or not manifest.parts:
        return
    now = known.wanted
    other = [n for n, kinds in own.types.items() if n in now and set(kinds) != {now[n]}]
    other = [n for n in other if not _may_differ([parse_type(kind) for kind in (now[n], *own.types[n])], seen)]
    alike = same_but_for_case(own.types, known.types)
    apart = (seen.loose or seen.nested) and clash(own.types, now)
    if other or apart or alike or (known.folders and set(own.folders) - set(known.folders)):
        wanted = f"the columns of table {manifest.table} as they were when the job began"
        got = f"others in what has been published since: {', '.join(other or alike or ('its folders',))}"
        raise BusySourceError(
            "The table's columns changed meanwhile", expected=wanted, got=got, fix="The job begins again."
        )


def _agree(manifest: Manifest, seen: Seen | None, other: Manifest) -> None:
    """Compare the columns of a commit with those of one that came in between: its writer did not wait for ours."""
    if other.parts:
        _check(manifest, of_manifest(manifest), of_manifest(other), seen)


def _may_differ(kinds: Sequence[DataType], seen: Seen) -> bool:
    return readable(kinds) and (seen.loose or (seen.nested and all(map(is_nested, kinds))))


def _said(folders: Sequence[str]) -> str:
    return f"[{', '.join(folders)}]" if folders else "nothing (no folders)"
