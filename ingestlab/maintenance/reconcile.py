"""Brings a lake in order after any crash: what `ingestlab reconcile` runs, safe beside working jobs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from ingestlab.core.errors import BusySourceError
from ingestlab.core.models import Manifest
from ingestlab.interfaces import Sink
from ingestlab.lake import layout
from ingestlab.lake.commit import resolve
from ingestlab.lake.lake import Lake
from ingestlab.lake.locks import batch_lock, collection_lock, source_lock
from ingestlab.lake.log import everything, live_parts, live_states, manifests, tables_of

STALE = 86400.0  # seconds after which a temporary file is nobody's


@dataclass(frozen=True)
class Report:
    """What was found; everything but `busy` and `missing` has been mended.

    Attributes:
        settled: Commits that had died: ``"finished <batch>"`` or ``"rolled back <batch>"``.
        busy: Commits of jobs that are at work.
        orphans: Files in tables that no manifest names; deleted.
        abandoned: Staging folders of batches that nobody works on; deleted.
        missing: Parts that a manifest names and that are gone; only a backup brings them back. Partial
            aggregates are none: they are computed from the parts when they are read.
        vectors: Sources of which a sink did not have what the lake has, and has now.
    """

    settled: tuple[str, ...]
    busy: tuple[str, ...]
    orphans: tuple[str, ...]
    abandoned: tuple[str, ...]
    missing: tuple[str, ...]
    vectors: tuple[str, ...] = ()

    @property
    def clean(self) -> bool:
        """Whether there was nothing to mend."""
        return not (self.settled or self.orphans or self.abandoned or self.missing or self.vectors)


def reconcile(lake: Lake) -> Report:
    """Settles dead commits, then compares all files of the lake, and all sinks, with its manifests.

    Args:
        lake: With its locks and sinks.
    """
    store = lake.store
    settled, busy = settle_dead(lake)
    # Files first, then intents, then manifests: a part that is seen here was named by an intent before, and
    # where that intent is gone by now, its manifest is there.
    files = [p for p in store.walk("tables") if p.endswith(".parquet")]
    open_targets = {p.target for i in lake.intents() for p in everything(i)}
    tables = tables_of(store)
    histories = [manifests(store, *where) for where in tables]
    live = {p.target for history in histories for p in live_parts(history)}
    states = {p.target for history in histories for p in live_states(history)}
    orphans = [f for f in files if f not in live and f not in states and f not in open_targets]
    abandoned = sorted({*_abandoned(lake, layout.stagings()), *_abandoned(lake, layout.embedded())})
    store.delete_files(orphans)
    for batch in abandoned:
        store.delete(layout.staging(batch))
        store.delete(layout.embedded(batch))
    for where in tables:
        lake.index(*where).forget()
    store.tidy(STALE)
    missing = sorted(part for part in live - set(files) if not store.exists(part))  # some may have just come
    mended = [
        uri
        for where, history in zip(tables, histories, strict=True)
        for sink in lake.sinks
        for uri in _mend(sink, where, history, lake)
    ]
    return Report(tuple(settled), tuple(busy), tuple(orphans), tuple(abandoned), tuple(missing), tuple(mended))


def _mend(sink: Sink, where: tuple[str, str], history: Sequence[Manifest], lake: Lake) -> Iterator[str]:
    """Make what a sink has of the table's sources what the lake has of them; those at work are left alone."""
    shared = next((name for manifest in reversed(history) if (name := sink.shared(manifest))), "")
    if shared and lake.locks.held([collection_lock(shared)])[0]:
        return
    for uri in sink.verify(*where, history):
        with lake.locks.lease() as lease:
            try:
                lease.acquire([source_lock(*where, uri), *([collection_lock(shared)] if shared else [])])
            except BusySourceError:
                continue
            sink.restore(*where, [uri], lake.log(*where).history())
            yield uri


def settle_dead(lake: Lake, wanted: Callable[[Manifest], bool] = lambda _: True) -> tuple[list[str], list[str]]:
    """Finish or roll back the commits that died.

    Args:
        lake: With its locks and sinks.
        wanted: Which intents to look at.

    Returns:
        What was settled, and the batches of commits that are at work.
    """
    settled, busy = [], []
    for intent in filter(wanted, lake.intents()):
        with lake.locks.lease() as lease:
            try:
                lease.acquire(source_lock(intent.tenant, intent.table, s.uri) for s in intent.sources)
                lease.acquire([batch_lock(intent.batch)])
            except BusySourceError:
                busy.append(intent.batch)
                continue
            settled.append(resolve(intent, lake))
    return settled, busy


def _abandoned(lake: Lake, folder: str) -> Iterator[str]:
    batches = sorted({p[len(folder) + 1 :].split("/")[0] for p in lake.store.walk(folder)})
    held = lake.locks.held([batch_lock(b) for b in batches])
    return (b for b, used in zip(batches, held, strict=True) if not used)
