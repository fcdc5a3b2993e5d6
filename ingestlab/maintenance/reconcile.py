"""Brings a lake in order after any crash: what `ingestlab reconcile` runs, safe beside working jobs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import get_args

from ingestlab.core.errors import BusySourceError
from ingestlab.core.models import AGGREGATES
from ingestlab.interfaces import Live
from ingestlab.lake import layout
from ingestlab.lake.commit import resolve_dead
from ingestlab.lake.kept_files import expire as expire_kept
from ingestlab.lake.lake import Lake
from ingestlab.lake.locks import batch_lock, shared_lock, source_lock
from ingestlab.lake.log import everything, tables_of
from ingestlab.lake.run_records import RunRecords
from ingestlab.pipeline.catalogues import CatalogueName
from ingestlab.sinks.catalogues.lag import Lag, clear_lag, lags
from ingestlab.sources.pulls.expiry import expire_pulls

Watch = Callable[[str, int, int], None]
STALE = 86400.0  # seconds after which a temporary file is nobody's


@dataclass(frozen=True)
class Report:
    """What was found; all but `busy`, `missing` and `unregistered` has been repaired.

    Attributes:
        settled: Commits that had died: ``"finished <batch>"`` or ``"rolled back <batch>"``.
        busy: Commits of running jobs.
        orphans: Files in tables that no manifest names; deleted.
        abandoned: Staging folders of batches that nobody works on; deleted.
        missing: Parts that a manifest names and that are gone; only a backup brings them back. Partial
            aggregates are none: they are computed from the parts when they are read.
        restored: Sources of which a sink did not have what the lake has, and has now; of a catalogue its name and
            the table's, ``delta:orders``.
        unregistered: Tables that could not be registered in a catalogue, and why.
    """

    settled: tuple[str, ...]
    busy: tuple[str, ...]
    orphans: tuple[str, ...]
    abandoned: tuple[str, ...]
    missing: tuple[str, ...]
    restored: tuple[str, ...] = ()
    unregistered: tuple[str, ...] = ()

    @property
    def clean(self) -> bool:
        """Tell whether there was nothing to repair."""
        return not (
            self.settled or self.orphans or self.abandoned or self.missing or self.restored or self.unregistered
        )


def reconcile(lake: Lake, watch: Watch = lambda _what, _done, _total: None) -> Report:
    """Recover dead commits, then compare files and sinks with the log.

    Args:
        lake: With its locks and sinks.
        watch: Is told what is being looked at, how many tables are done, and of how many.
    """
    store = lake.store
    settled, busy = resolve_dead(lake)
    # Files first, then intents, then manifests: a part that is seen here was named by an intent before, and
    # where that intent is gone by now, its manifest is there.
    files = [p for p in store.walk("tables") if p.endswith(".parquet") and "/_delta_log/" not in p]
    open_targets = {p.target for i in lake.intents() for p in everything(i)}
    tables = tables_of(store)
    live, partials = _named(tables, lake, watch)
    orphans = [f for f in files if f not in live and f not in partials and f not in open_targets]
    abandoned = sorted({*_abandoned(lake, layout.stagings()), *_abandoned(lake, layout.costly())})
    store.delete_files(orphans)
    for batch in abandoned:
        store.delete(layout.staging(batch))
        store.delete(layout.costly(batch))
    for where in tables:
        lake.index(*where).forget()
    store.tidy(STALE)
    RunRecords(store).expire(lake.run_days)
    expire_pulls(store)
    missing = sorted(part for part in live - set(files) if not store.exists(part))  # some may have just come
    restored: list[str] = []
    for done, where in enumerate(tables):
        watch(f"sinks of {where[1]}", done, len(tables))
        restored += _restore(where, lake)
    behind = {f"{lag.catalogue}:{lag.table}": str(lag) for lag in _behind(tables, lake)}
    return Report(
        settled=tuple(settled),
        busy=tuple(busy),
        orphans=tuple(orphans),
        abandoned=tuple(abandoned),
        missing=tuple(missing),
        restored=tuple(name for name in restored if name not in behind),
        unregistered=tuple(behind.values()),
    )


def _named(tables: Sequence[tuple[str, str]], lake: Lake, watch: Watch) -> tuple[set[str], set[str]]:
    """List live files and partial aggregates, by target. The logs are folded on the way."""
    live: set[str] = set()
    partials: set[str] = set()
    for done, where in enumerate(tables):
        watch(f"{where[0]}/{where[1]}", done, len(tables))
        log = lake.log(*where)
        log.fold(lake.log_days, expire=True, history=lake.history_days)
        expire_kept(lake.store, *where, lake.history_days)
        for item, target in log.snapshot().targets():
            (partials if item == AGGREGATES else live).add(target)
    return live, partials


def _restore(where: tuple[str, str], lake: Lake) -> Iterator[str]:
    """Bring sinks in line with a table of the lake. Sources of running jobs are left alone."""
    live = lake.log(*where).snapshot()
    names = {name for manifest in live.latest() for name in manifest.sinks} | {name for name, _ in live.targets()}
    for name in [name for name in lake.sinks if name in names - _left(live)]:
        sink = lake.sinks[name]
        shared = next((what for manifest in reversed(live.latest()) if (what := sink.shared(manifest))), "")
        if shared and lake.locks.held([shared_lock(shared)])[0]:
            continue
        for uri in sink.verify(*where, live):
            with lake.locks.lease() as lease:
                try:
                    lease.acquire([source_lock(*where, uri), *([shared_lock(shared)] if shared else [])])
                except BusySourceError:
                    continue
                sink.restore(*where, [uri], lake.log(*where).snapshot())
                yield uri


def _left(live: Live) -> set[str]:
    """Name the catalogues that the last ingestion did not fill."""
    last = next((manifest for manifest in reversed(live.latest()) if manifest.kind == "ingest"), None)
    return set(get_args(CatalogueName)).difference(last.sinks) if last else set()


def _behind(tables: Sequence[tuple[str, str]], lake: Lake) -> Iterator[Lag]:
    """Read which catalogues lack commits. Forget those in which a table is not published any more."""
    for where in tables:
        behind = list(lags(lake.store, *where))
        left = _left(lake.log(*where).snapshot()) if behind else set()
        for lag in behind:
            if lag.catalogue in left:
                clear_lag(lake.store, *where, lag.catalogue)
            else:
                yield lag


def _abandoned(lake: Lake, folder: str) -> Iterator[str]:
    batches = sorted({p[len(folder) + 1 :].split("/")[0] for p in lake.store.walk(folder)})
    held = lake.locks.held([batch_lock(b) for b in batches])
    return (b for b, used in zip(batches, held, strict=True) if not used)
