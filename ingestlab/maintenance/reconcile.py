"""Brings a lake in order after any crash: what `ingestlab reconcile` runs, safe beside working jobs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import inf

from ingestlab.core.errors import BusySourceError
from ingestlab.core.models import Manifest
from ingestlab.engine.commit import settle
from ingestlab.interfaces import Store
from ingestlab.lake import layout
from ingestlab.lake.ledger import Ledger, batch_lock, collection_lock, source_lock
from ingestlab.lake.log import TransactionLog, everything, load_manifest, manifests, tables_of
from ingestlab.sinks.milvus.commit import Vectors, latest

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
        vectors: Sources whose rows in a collection were not those of the lake, and are now.
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


def reconcile(
    store: Store,
    ledger: Ledger,
    vectors: Vectors | None = None,
    *,
    days: float = inf,
    watch: Callable[[str, int, int], None] = lambda _what, _done, _total: None,
) -> Report:
    """Settles dead commits, then compares all files of the lake, and all vectors, with its log.

    Args:
        store: The lake.
        ledger: Its locks and index.
        vectors: Where the vectors of tables are searched; None leaves them as they are.
        days: Commits of which nothing is live are forgotten after so many days.
        watch: Is told what is being looked at, how many tables are done, and of how many.
    """
    settled, busy = settle_dead(store, ledger, vectors)
    # Files first, then intents, then manifests: a part that is seen here was named by an intent before, and
    # where that intent is gone by now, its manifest is there.
    files = [p for p in store.walk("tables") if p.endswith(".parquet")]
    open_targets = {p.target for i in _intents(store) for p in everything(i)}
    tables = tables_of(store)
    live, states = _named(tables, store, days, watch)
    orphans = [f for f in files if f not in live and f not in states and f not in open_targets]
    abandoned = sorted({*_abandoned(store, ledger, layout.stagings()), *_abandoned(store, ledger, layout.embedded())})
    store.delete_files(orphans)
    for batch in abandoned:
        store.delete(layout.staging(batch))
        store.delete(layout.embedded(batch))
    for where in tables:
        ledger.forget_index(*where)
    store.tidy(STALE)
    missing = sorted(part for part in live - set(files) if not store.exists(part))  # some may have just come
    mended: list[str] = []
    for done, where in enumerate(tables if vectors else ()):
        watch(f"vectors of {where[1]}", done, len(tables))
        mended += _mend_vectors(*where, store, ledger, vectors)
    return Report(tuple(settled), tuple(busy), tuple(orphans), tuple(abandoned), tuple(missing), tuple(mended))


def _named(
    tables: Sequence[tuple[str, str]], store: Store, days: float, watch: Callable[[str, int, int], None]
) -> tuple[set[str], set[str]]:
    """The targets of all live files, and those of partial aggregates; folds the logs on the way."""
    live: set[str] = set()
    states: set[str] = set()
    for done, where in enumerate(tables):
        watch(f"{where[0]}/{where[1]}", done, len(tables))
        log = TransactionLog(store, *where)
        log.fold(days, expire=True)
        for item, target in log.snapshot().targets():
            (states if item == "states" else live).add(target)
    return live, states


def _mend_vectors(tenant: str, table: str, store: Store, ledger: Ledger, vectors: Vectors | None) -> Iterator[str]:
    """Makes the vectors of the table's sources what the lake has of them; those at work are left alone."""
    history = manifests(store, tenant, table)
    collection = latest(history)
    if vectors is None or collection is None or ledger.held([collection_lock(collection.name)])[0]:
        return
    for uri in vectors.strays(tenant, table, history):
        with ledger.lease() as lease:
            try:
                lease.acquire([source_lock(tenant, table, uri), collection_lock(collection.name)])
            except BusySourceError:
                continue
            vectors.restore(tenant, table, [uri], manifests(store, tenant, table))
            yield uri


def settle_dead(
    store: Store, ledger: Ledger, vectors: Vectors | None, wanted: Callable[[Manifest], bool] = lambda _: True
) -> tuple[list[str], list[str]]:
    """Settles the commits that died.

    Args:
        store: The lake.
        ledger: Its locks.
        vectors: Where vectors are searched.
        wanted: Which intents to look at.

    Returns:
        What was settled, and the batches of commits that are at work.
    """
    settled, busy = [], []
    for intent in filter(wanted, _intents(store)):
        with ledger.lease() as lease:
            try:
                lease.acquire(source_lock(intent.tenant, intent.table, s.uri) for s in intent.sources)
                lease.acquire([batch_lock(intent.batch)])
            except BusySourceError:
                busy.append(intent.batch)
                continue
            settled.append(settle(intent, store, ledger, vectors))
    return settled, busy


def _abandoned(store: Store, ledger: Ledger, folder: str) -> Iterator[str]:
    batches = sorted({p[len(folder) + 1 :].split("/")[0] for p in store.walk(folder)})
    held = ledger.held([batch_lock(b) for b in batches])
    return (b for b, used in zip(batches, held, strict=True) if not used)


def _intents(store: Store) -> Iterator[Manifest]:
    return _load_all(store, store.walk(layout.intents()))


def _load_all(store: Store, paths: Iterable[str]) -> Iterator[Manifest]:
    return (m for path in list(paths) if (m := load_manifest(store, path)))
