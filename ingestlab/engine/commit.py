"""Publishes a batch exactly once, and cleans up after commits that died.

The order is: intent, vectors, parts, manifest, old parts and vectors, index, intent gone. The manifest is the
moment: with it a batch is finished by whoever finds its intent, without it the batch is rolled back. Every
step may be repeated. On a local lake all steps are renames of synced files; on an object store a rename is a copy.

A job that was thought dead (its locks ran out while it slept) and wakes up in the middle checks its locks
once more right before the log entry. Sleeps it after that check, the log refuses it: its entry would have a number
that is taken, and what has come in between is compared with it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from math import inf

from ingestlab.core.archive_uri import container
from ingestlab.core.errors import BusySourceError, JobStoppedError, TerminalError
from ingestlab.core.models import Manifest
from ingestlab.core.signed_uri import bare
from ingestlab.engine.assemble import Batch
from ingestlab.engine.plan import Plan
from ingestlab.engine.schema_agreement import Seen, agreeing
from ingestlab.engine.task.conform import infers, is_loose
from ingestlab.interfaces import Store
from ingestlab.lake import layout
from ingestlab.lake.ledger import Lease, Ledger, batch_lock, collection_lock
from ingestlab.lake.log import TransactionLog, embedded, everything, load_manifest, log_named, manifests
from ingestlab.sinks.milvus.commit import Vectors

log = logging.getLogger("ingestlab")


def publish(
    plan: Plan, batch: Batch, store: Store, ledger: Ledger, lease: Lease, vectors: Vectors | None = None
) -> Manifest:
    """Makes a batch visible, all of it or nothing; a crash at any point is mended by :func:`recover`."""
    seen = Seen(loose=is_loose(plan.target.pipeline), nested=infers(plan.target.pipeline))
    manifest = _manifest(plan, batch, lease)
    commit_together([manifest], store, ledger, lease, vectors, seen)
    return manifest


def commit(manifest: Manifest, store: Store, ledger: Ledger, lease: Lease, vectors: Vectors | None = None) -> Manifest:
    """The same for a manifest that is made already; `lease` holds the batch's lock and those of its sources."""
    commit_together([manifest], store, ledger, lease, vectors)
    return manifest


def commit_together(
    group: Sequence[Manifest],
    store: Store,
    ledger: Ledger,
    lease: Lease,
    vectors: Vectors | None = None,
    seen: Seen | None = None,
) -> None:
    """The same for several tables: all of them or none.

    Args:
        group: Their manifests. The others are decided by the first one: with it, whoever finds an intent of
            theirs writes its manifest.
        store: The lake.
        ledger: Its index.
        lease: Holds the locks of all.
        vectors: Where their vectors go.
        seen: Of rows of sources, which have to agree with those that there are.

    Raises:
        BusySourceError: The vectors of a collection are being made anew, and nothing was done; or others have
            changed a table's columns since the job began, and the caller takes back what was published.
    """
    for manifest in group:
        _announce(manifest, store, ledger)
    for manifest in group:
        if manifest.collection is not None:
            _needed(vectors, manifest).add(manifest)
        for part in everything(manifest):
            store.move(part.staged, part.target)
    with agreeing(group, store, ledger, seen) as append:
        lease.check()
        append()
    for manifest in group:
        _finish(manifest, store, ledger, vectors)
        _fold(TransactionLog(store, manifest.tenant, manifest.table), vectors)


def _fold(own: TransactionLog, vectors: Vectors | None) -> None:
    """Writes a checkpoint where one is due; the commit stands without it, and the next one tries again."""
    try:
        own.fold(vectors.settings.log_days if vectors else inf)
    except Exception as error:  # noqa: BLE001 - whatever it is, it does not undo the commit
        log.warning("no checkpoint of table %s: %s", own.table, error)


def _announce(manifest: Manifest, store: Store, ledger: Ledger) -> None:
    """Writes an intent. The lock is looked at after it: who took the lock before sees the intent, or is seen."""
    path = layout.intent(manifest.tenant, manifest.table, manifest.batch)
    tip = TransactionLog(store, manifest.tenant, manifest.table).tip()
    store.write(path, manifest.model_copy(update={"sequence": tip}).model_dump_json().encode())
    if manifest.collection is None or manifest.kind == "reembed":
        return
    try:
        check_free(str(manifest.collection["name"]), ledger)
    except BusySourceError:
        store.delete(path)
        raise


def check_free(collection: str, ledger: Ledger) -> None:
    """Raises BusySourceError while all vectors of a collection are being made anew."""
    if ledger.held([collection_lock(collection)])[0]:
        wanted = f"collection '{collection}' to be free"
        raise BusySourceError(
            "The collection is locked",
            expected=wanted,
            got="`ingestlab reembed` or `reconcile` at work on it",
            fix="This job waits its turn.",
        )


def abandon(
    tenant: str,
    table: str,
    batch: str,
    store: Store,
    ledger: Ledger,
    lease: Lease,
    vectors: Vectors | None = None,
) -> None:
    """Takes back what a batch has staged and published, for a job that fails; with its manifest there, finishes it.

    Raises:
        LostLeaseError: The batch may be another job's by now, so nothing was touched.
    """
    lease.check()
    intent = load_manifest(store, layout.intent(tenant, table, batch))
    if intent:
        settle(intent, store, ledger, vectors)
    else:
        store.delete(layout.staging(batch))


@contextmanager
def all_or_nothing(
    tenant: str,
    table: str,
    batch: str,
    store: Store,
    ledger: Ledger,
    lease: Lease,
    vectors: Vectors | None = None,
) -> Iterator[None]:
    """Leaves nothing of a batch that fails, where that can be done; else its next job or `reconcile` does it."""
    try:
        yield
    except (Exception, JobStoppedError) as error:
        try:
            abandon(tenant, table, batch, store, ledger, lease, vectors)
        except Exception as trouble:  # noqa: BLE001 - what went wrong first is what counts
            error.add_note(f"Its leftovers stay for `ingestlab reconcile`: {trouble}")
        raise


def recover(
    tenant: str,
    table: str,
    uris: Iterable[str],
    store: Store,
    ledger: Ledger,
    lease: Lease,
    vectors: Vectors | None = None,
) -> list[str]:
    """Finishes or rolls back the commits that died over any of `uris`, whose locks the caller holds.

    A compaction that died has no sources, nor has a reembedding: whoever comes next mends them, but waits for
    none that is at work.

    Returns:
        One line for each intent found: ``"finished <batch>"`` or ``"rolled back <batch>"``.

    Raises:
        BusySourceError: Another job is mending the same commit.
    """
    mine, done = {bare(container(uri)) for uri in uris}, []
    for path in store.walk(layout.intents(tenant, table)):
        intent = load_manifest(store, path)
        if intent is None:
            continue
        if mine & {bare(container(s.uri)) for s in intent.sources}:
            lease.acquire([batch_lock(intent.batch)])
        elif intent.sources or not _free(intent, lease):
            continue
        done.append(settle(intent, store, ledger, vectors))
    return done


def _free(intent: Manifest, lease: Lease) -> bool:
    """Whether nobody is at work on a batch; then it is ours."""
    try:
        lease.acquire([batch_lock(intent.batch)])
    except BusySourceError:
        return False
    return True


def settle(intent: Manifest, store: Store, ledger: Ledger, vectors: Vectors | None = None) -> str:
    """Ends one commit that died: the manifest is there, so it is finished; else it is rolled back.

    The caller holds the batch's lock.
    """
    path = layout.intent(intent.tenant, intent.table, intent.batch)
    if _committed(intent, store):
        _finish(intent, store, ledger, vectors)
        return f"finished {intent.batch}"
    if intent.collection is not None:
        _needed(vectors, intent).undo(intent, manifests(store, intent.tenant, intent.table))
    for part in embedded(intent):  # they may have been published; what models made is kept for the next try
        if store.exists(part.target):
            store.move(part.target, part.staged)
    store.delete_files(part.target for part in everything(intent))
    store.delete(layout.staging(intent.batch))
    store.delete(path)
    return f"rolled back {intent.batch}"


def _committed(intent: Manifest, store: Store) -> bool:
    """Whether the log has the commit; where another table's log has decided it, it gets its entry here."""
    own = TransactionLog(store, intent.tenant, intent.table)
    if own.find(intent.batch, after=intent.sequence) is not None:
        return True
    if not intent.decided_by:
        return False
    leader, batch = log_named(store, intent.decided_by)
    if leader.find(batch, after=0) is None:
        return False
    if own.find(intent.batch, after=0) is None:
        own.append(intent, own.tip(), decided=True)
    return True


def _manifest(plan: Plan, batch: Batch, lease: Lease) -> Manifest:
    target = plan.target
    return Manifest(
        batch=plan.batch,
        run=target.run,
        tenant=target.tenant,
        table=target.table,
        pipeline=target.source.name,
        code=target.source.sha256,
        committed_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
        sources=batch.records,
        parts=batch.parts,
        rejects=batch.rejects,
        states=batch.states,
        profile=batch.profile,
        references=dict(target.references),
        rules=dict(batch.rules),
        replaced=batch.replaced,
        kind=batch.kind,
        owner=lease.token,
        vectors=batch.vectors,
        collection=batch.collection,
        superseded=batch.superseded,
        types=dict(batch.types),
    )


def _finish(manifest: Manifest, store: Store, ledger: Ledger, vectors: Vectors | None) -> None:
    """What is left to do when the manifest is written; all of it may be repeated."""
    store.delete_files(manifest.replaced)
    if manifest.collection is not None:
        _needed(vectors, manifest).finish(manifest)
        store.delete(layout.embedded(manifest.batch))
    ledger.record(manifest.tenant, manifest.table, manifest.sources)
    store.delete(layout.staging(manifest.batch))
    store.delete(layout.intent(manifest.tenant, manifest.table, manifest.batch))


def _needed(vectors: Vectors | None, manifest: Manifest) -> Vectors:
    if vectors is None:
        wanted = f"the vector store of batch {manifest.batch} of table '{manifest.table}'"
        raise TerminalError(
            "A caller lacks what commit needs",
            expected=wanted,
            got="a caller without one",
            fix="This is a fault in ingestlab: please report it.",
            code="inconsistent",
        )
    return vectors
