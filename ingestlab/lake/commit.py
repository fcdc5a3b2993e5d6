"""The protocol of a commit, and the recovery of commits that died.

The order is: intent, sinks prepare, log entry, sinks finish, index, intent gone. The entry is the
moment: with it a batch is finished by whoever finds its intent, without it the batch is rolled back. Every
step may be repeated. On a local lake all steps are renames of synced files; on an object store a rename is a copy.

A job that was thought dead (its locks ran out while it slept) and wakes up in the middle checks its locks
once more right before the log entry. Sleeps it after that check, the log refuses it: its entry would have a number
that is taken, and what has come in between is compared with it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial

from ingestlab.core.errors import BusySourceError
from ingestlab.core.models import Manifest
from ingestlab.lake import layout
from ingestlab.lake.agreement import Seen, agreeing
from ingestlab.lake.kept_files import expire
from ingestlab.lake.lake import Lake
from ingestlab.lake.locks import Lease, batch_lock, shared_lock, source_lock
from ingestlab.lake.log import log_named, manifests
from ingestlab.lake.run_records import RunRecords


def commit_together(group: Sequence[Manifest], lake: Lake, lease: Lease, seen: Seen | None = None) -> None:
    """Commit to several tables: to all of them or to none.

    Args:
        group: Their manifests. The others are decided by the first one: with it, whoever finds an intent of
            theirs writes its log entry.
        lake: Where.
        lease: Holds the locks of all.
        seen: Of rows of sources, which have to agree with those that there are.

    Raises:
        BusySourceError: What it shares with other tables is being rebuilt, and nothing was done; or others have
            changed a table's columns since the job began, and the caller takes back what was published.
    """
    for manifest in group:
        _announce(manifest, lake)
    for manifest in group:
        for sink in lake.sinks_of(manifest):
            sink.prepare(manifest)
    with agreeing(group, lake, seen) as append:
        lease.check()
        append()
    for manifest in group:
        _finish(manifest, lake)
        _fold(manifest, lake)


def check_free(shared: str, lake: Lake) -> None:
    """Check that nobody rebuilds what tables share in a sink. Nothing is shared under an empty name.

    Args:
        shared: As :meth:`ingestlab.interfaces.Sink.shared` names it.
        lake: Has the locks.

    Raises:
        BusySourceError: Somebody is.
    """
    if shared and lake.locks.held([shared_lock(shared)])[0]:
        problem = f"'{shared}' is locked by `ingestlab reembed` or `reconcile`"
        raise BusySourceError(problem, fix="This job waits its turn.")


def resolve(intent: Manifest, lake: Lake) -> str:
    """End a commit that died: finish it if the log has it, else roll it back. The caller holds the batch's lock.

    Returns:
        ``"finished <batch>"`` or ``"rolled back <batch>"``.
    """
    store = lake.store
    if _is_committed(intent, lake):
        _finish(intent, lake)
        return f"finished {intent.batch}"
    for sink in lake.sinks_of(intent):
        sink.undo(intent, partial(manifests, store, intent.tenant, intent.table))
    store.delete(layout.staging(intent.batch))
    store.delete(layout.intent(intent.tenant, intent.table, intent.batch))
    return f"rolled back {intent.batch}"


def resolve_dead(lake: Lake, wanted: Callable[[Manifest], bool] = lambda _: True) -> tuple[list[str], list[str]]:
    """Finish or roll back the commits that died.

    Args:
        lake: With its locks and sinks.
        wanted: Which intents to look at.

    Returns:
        What was done, and the batches of running commits.
    """
    done, busy = [], []
    for intent in filter(wanted, lake.intents()):
        with lake.locks.lease() as lease:
            try:
                lease.acquire(source_lock(intent.tenant, intent.table, s.uri) for s in intent.sources)
                lease.acquire([batch_lock(intent.batch)])
            except BusySourceError:
                busy.append(intent.batch)
                continue
            done.append(resolve(intent, lake))
    return done, busy


def _announce(manifest: Manifest, lake: Lake) -> None:
    """Write an intent. The lock is looked at after it: who took the lock before sees the intent, or is seen."""
    path = layout.intent(manifest.tenant, manifest.table, manifest.batch)
    tip = lake.log(manifest.tenant, manifest.table).tip()
    lake.store.write(path, manifest.model_copy(update={"sequence": tip}).model_dump_json().encode())
    if manifest.kind == "reembed":
        return
    try:
        for sink in lake.sinks_of(manifest):
            check_free(sink.shared(manifest), lake)
    except BusySourceError:
        lake.store.delete(path)
        raise


def _fold(manifest: Manifest, lake: Lake) -> None:
    """Write a checkpoint where one is due. The commit stands without it, and the next one tries again."""
    try:
        if lake.log(manifest.tenant, manifest.table).fold(lake.log_days, history=lake.history_days):
            RunRecords(lake.store).expire(lake.run_days)
        if manifest.replaced:
            expire(lake.store, manifest.tenant, manifest.table, lake.history_days)
    except Exception as error:  # noqa: BLE001 - whatever it is, it does not undo the commit
        logging.getLogger("ingestlab").warning("no checkpoint of table %s: %s", manifest.table, error)


def _is_committed(intent: Manifest, lake: Lake) -> bool:
    """Tell whether the log has a commit. Where another table's log has decided it, it gets its entry here."""
    log = lake.log(intent.tenant, intent.table)
    if log.find(intent.batch, after=intent.sequence) is not None:
        return True
    if not intent.decided_by:
        return False
    leader, batch = log_named(lake.store, intent.decided_by)
    if leader.find(batch, after=0) is None:
        return False
    if log.find(intent.batch, after=0) is None:
        log.append(intent, log.tip(), decided=True)
    return True


def _finish(manifest: Manifest, lake: Lake) -> None:
    """Do the steps after the log entry. All of them may be repeated."""
    live = lake.log(manifest.tenant, manifest.table).snapshot() if manifest.kind == "undo" else None
    for sink in lake.sinks_of(manifest):
        sink.finish(manifest)
        if live:  # what came back was published in other runs
            sink.restore(manifest.tenant, manifest.table, manifest.superseded, live)
    lake.index(manifest.tenant, manifest.table).record(manifest.sources)
    lake.store.delete(layout.staging(manifest.batch))
    lake.store.delete(layout.intent(manifest.tenant, manifest.table, manifest.batch))
