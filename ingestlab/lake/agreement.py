"""Tell whether what a commit publishes agrees with the columns of its table: compared at its very moment.

What the log says of a table's columns is kept in Redis as well, so that no job has to read it all. Only
who holds the table's schema lock changes it there, and a commit drops it before it writes an entry that says
something new: so it is either what the log says, or not there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from ingestlab.core.errors import BusySourceError
from ingestlab.core.models import Manifest
from ingestlab.lake.arrow_schema import same_but_for_case
from ingestlab.lake.lake import Lake
from ingestlab.lake.locks import schema_lock
from ingestlab.lake.table_schema import Schema, clash, of_manifest, schema_of

PATIENCE = 60.0  # seconds that a commit waits for others of its table, which need a moment each


@dataclass(frozen=True)
class Seen:
    """What a job that publishes rows knew: whether its columns may widen those of the table, or those of objects."""

    loose: bool
    nested: bool = False


@dataclass(frozen=True)
class _After:
    schema: Schema | None  # None: to be looked up in the log
    changed: bool


@contextmanager
def agreeing(group: Sequence[Manifest], lake: Lake, seen: Seen | None = None) -> Iterator[Callable[[], None]]:
    """Hold the columns of some tables while agreeing entries are written. What it gives writes them.

    Args:
        group: What is about to be written.
        lake: Where.
        seen: Of a job that publishes rows of sources; without it nothing is compared.

    Raises:
        BusySourceError: Others have changed a table's columns since the job began: it has to begin again.
    """
    with_rows = [m for m in group if m.parts or m.replaced]
    with lake.locks.lease() as gate:
        gate.wait_for((schema_lock(m.tenant, m.table) for m in with_rows), PATIENCE)
        tips = [lake.log(m.tenant, m.table).tip() for m in group]  # before the columns are looked up
        changes = [(lake.index(m.tenant, m.table), _after(m, seen, lake), (m.tenant, m.table)) for m in with_rows]
        for index, after, _ in changes:
            if after.changed:
                index.forget_schema()
        gate.check()
        alone: set[tuple[str, str]] = set()  # tables into which nobody else has committed meanwhile

        def append() -> None:
            for i, (manifest, tip) in enumerate(zip(group, tips, strict=True)):
                log = lake.log(manifest.tenant, manifest.table)
                entry = log.append(manifest, tip, partial(_agree, manifest, seen), decided=i > 0)
                alone.update({(log.tenant, log.table)} if entry.sequence == tip + 1 else ())

        yield append
        for index, after, where in changes:
            if after.schema is not None and where in alone:
                index.keep_schema(after.schema.to_json())


def kept_schema(tenant: str, name: str, lake: Lake) -> Schema:
    """Read the columns of a table, from Redis or the log."""
    if kept := lake.index(tenant, name).schema():
        return Schema.from_json(kept)
    return schema_of(lake.store, (tenant, name), lake.log(tenant, name).snapshot().outline())


def _after(manifest: Manifest, seen: Seen | None, lake: Lake) -> _After:
    """Compute a table's columns after a commit; raises BusySourceError on conflict."""
    where, own = (manifest.tenant, manifest.table), of_manifest(manifest)
    if not manifest.replaced:
        known = kept_schema(*where, lake)
        _check(manifest, own, known, seen)
        both = known.joined(own)
        return _After(both, changed=both != known)
    if seen is not None:
        outline = lake.log(*where).snapshot().outline(manifest.replaced)
        left = schema_of(lake.store, where, outline, manifest.replaced)
        _check(manifest, own, left, seen)
    return _After(None, changed=True)


def _agree(manifest: Manifest, seen: Seen | None, rival: Manifest) -> None:
    """Compare a commit's columns with those of one in between. Its writer did not wait for ours."""
    if rival.parts:
        _check(manifest, of_manifest(manifest), of_manifest(rival), seen)


def _check(manifest: Manifest, own: Schema, known: Schema, seen: Seen | None) -> None:
    if seen is None or not manifest.parts:
        return
    now, folders = known.wanted, {*known.folder_columns, *own.folder_columns}
    retyped = [
        n
        for n, kinds in own.types.items()
        if (n in now and set(kinds) != {now[n]}) or (n not in folders and len({*kinds, *known.types.get(n, ())}) > 1)
    ]
    alike = same_but_for_case(own.types, known.types)
    apart = (seen.loose or seen.nested) and clash(own.types, now)
    if retyped or apart or alike or (known.folders and set(own.folders) - set(known.folders)):
        changed = ", ".join(retyped or alike or ("its folders",))
        problem = f"Columns of table {manifest.table} have changed since the job began: {changed}"
        raise BusySourceError(problem, fix="The job begins again.")
