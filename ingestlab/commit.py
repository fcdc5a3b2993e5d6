"""Publishes a batch exactly once, and cleans up after commits that died.

The order is: intent, vectors, parts, manifest, old parts and vectors, index, intent gone. The manifest is the
moment: with it a batch is finished by whoever finds its intent, without it the batch is rolled back. Every
step may be repeated. On a local lake all steps are renames of synced files; on an object store a rename is a copy.

A job that was thought dead (its locks ran out while it slept) and wakes up in the middle checks its locks
once more right before the manifest, so only a sleep between that check and the write could slip through.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from ingestlab import layout
from ingestlab.errors import BusySourceError, TerminalError
from ingestlab.ledger import Lease, Ledger, batch_lock, collection_lock
from ingestlab.members import container
from ingestlab.models import FetchedFile, Kind, Manifest, Part, Profiled, Receipt, SourceRecord, Tally
from ingestlab.plan import Plan
from ingestlab.process import gate, profiling
from ingestlab.process.vectors import agreed
from ingestlab.storage import Store
from ingestlab.vectors import Vectors, embedded


@dataclass(frozen=True, kw_only=True)
class Batch:
    """A processed batch: what goes in, and what fell out."""

    records: tuple[SourceRecord, ...]
    parts: tuple[Part, ...]
    rejects: tuple[Part, ...]
    rules: Mapping[str, int]
    states: tuple[Part, ...] = ()
    profile: tuple[Profiled, ...] = ()
    replaced: tuple[str, ...] = ()
    errors: Mapping[str, dict[str, str]] = field(default_factory=dict)
    kind: Kind = "ingest"
    vectors: tuple[Part, ...] = ()
    collection: dict[str, Any] | None = None
    superseded: tuple[str, ...] = ()  # URIs whose earlier vectors go


def assemble(plan: Plan, receipts: Sequence[Receipt]) -> Batch:
    """Adds the receipts of a batch up, without the files that failed in any of their pieces.

    Raises:
        TerminalError: The counts do not add up, so rows were lost or doubled on the way.
    """
    names, pipeline = {f.uri: f.name for f in plan.files}, plan.target.pipeline
    errors = gate.judged(receipts, names, pipeline.max_reject_ratio, pipeline.name)
    errors |= {uri: error for receipt in receipts for uri, error in receipt.errors.items()}
    sound = [r for r in receipts if not _all_failed(r, errors)]
    tallies: dict[str, Tally] = {}
    rules: dict[str, int] = {}
    for receipt in sound:
        for uri, tally in receipt.tallies.items():
            tallies[uri] = tallies.get(uri, Tally()) + tally
        for rule, count in receipt.rules.items():
            rules[rule] = rules.get(rule, 0) + count
    batch = Batch(
        records=tuple(_record(f, tallies[f.uri], _facts(f, sound), plan) for f in plan.files if f.uri in tallies),
        parts=tuple(p for r in sound for p in r.parts),
        rejects=tuple(p for r in sound for p in r.rejects),
        states=tuple(p for r in sound for p in r.states),
        profile=profiling.of_receipts(sound),
        vectors=tuple(p for r in sound for p in r.vectors),
        collection=agreed([r.collection for r in sound if r.collection]),
        rules=rules,
        errors=errors,
    )
    _check_counts(batch)
    return batch


def publish(
    plan: Plan, batch: Batch, store: Store, ledger: Ledger, lease: Lease, vectors: Vectors | None = None
) -> Manifest:
    """Makes a batch visible, all of it or nothing; a crash at any point is mended by :func:`recover`."""
    return commit(_manifest(plan, batch, ledger, lease), store, ledger, lease, vectors)


def commit(manifest: Manifest, store: Store, ledger: Ledger, lease: Lease, vectors: Vectors | None = None) -> Manifest:
    """The same for a manifest that is made already; `lease` holds the batch's lock and those of its sources."""
    commit_together([manifest], store, ledger, lease, vectors)
    return manifest


def commit_together(
    group: Sequence[Manifest], store: Store, ledger: Ledger, lease: Lease, vectors: Vectors | None = None
) -> None:
    """The same for several tables: all of them or none.

    Args:
        group: Their manifests. The others are decided by the first one: with it, whoever finds an intent of
            theirs writes its manifest.
        store: The lake.
        ledger: Its index.
        lease: Holds the locks of all.
        vectors: Where their vectors go.

    Raises:
        BusySourceError: The vectors of a collection are being made anew; nothing was done.
    """
    for manifest in group:
        _announce(manifest, store, ledger)
    for manifest in group:
        if manifest.collection is not None:
            _needed(vectors, manifest).add(manifest)
        for part in everything(manifest):
            store.move(part.staged, part.target)
    lease.check()
    for manifest in group:
        store.write(layout.manifest(manifest.tenant, manifest.table, manifest.batch), _body(manifest))
    for manifest in group:
        _finish(manifest, store, ledger, vectors)


def _announce(manifest: Manifest, store: Store, ledger: Ledger) -> None:
    """Writes an intent. The lock is looked at after it: who took the lock before sees the intent, or is seen."""
    path = layout.intent(manifest.tenant, manifest.table, manifest.batch)
    store.write(path, _body(manifest))
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
        raise BusySourceError(wanted, "`ingestlab reembed` or `reconcile` at work on it", "This job waits its turn.")


def _body(manifest: Manifest) -> bytes:
    return manifest.model_dump_json().encode()


def everything(manifest: Manifest) -> tuple[Part, ...]:
    """All files that a commit publishes."""
    return (*manifest.parts, *manifest.rejects, *manifest.states, *manifest.vectors)


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
    except Exception as error:
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
    mine, done = {container(uri) for uri in uris}, []
    for path in store.walk(layout.intents(tenant, table)):
        intent = load_manifest(store, path)
        if intent is None:
            continue
        if mine & {container(s.uri) for s in intent.sources}:
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
    manifest = layout.manifest(intent.tenant, intent.table, intent.batch)
    if intent.decided_by and store.exists(intent.decided_by):
        store.write(manifest, _body(intent))
    if store.exists(manifest):
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


def manifests(store: Store, tenant: str, table: str) -> list[Manifest]:
    """All manifests of a table, oldest first."""
    paths = [path for path in store.walk(layout.manifests(tenant, table)) if path.endswith(".json")]
    texts = zip(paths, store.read_files(paths), strict=True)
    return sorted((_parsed(store, path, text) for path, text in texts if text is not None), key=lambda m: m.sequence)


def live_parts(history: Iterable[Manifest]) -> Iterator[Part]:
    """The parts, rejects and vectors among them, that no later commit has replaced."""
    known = list(history)
    gone = {target for m in known for target in m.replaced}
    return (p for m in known for p in (*m.parts, *m.rejects, *m.vectors) if p.target not in gone)


def sorted_out(parts: Iterable[Part], tenant: str, table: str) -> tuple[list[Part], list[Part], list[Part]]:
    """Parts of a table's rows, of its rejects and of its vectors, each by themselves."""
    names = (table, layout.rejects(table), layout.vectors(table))
    homes = [f"{layout.table(tenant, name)}/" for name in names]
    known = list(parts)
    rows, rejects, vectors = ([p for p in known if p.target.startswith(home)] for home in homes)
    return rows, rejects, vectors


def live_states(history: Iterable[Manifest]) -> Iterator[Part]:
    """The partial aggregates of the parts that no later commit has replaced."""
    known = list(history)
    gone = {target for m in known for target in m.replaced}
    return (s for m in known for s in m.states if s.target not in gone)


def with_states(targets: Iterable[str], history: Iterable[Manifest]) -> tuple[str, ...]:
    """What a commit replaces if it replaces these parts: them and their partial aggregates."""
    parts = tuple(targets)
    ends = {layout.part_key(target) for target in parts}
    return (*parts, *(s.target for s in live_states(history) if layout.state_key(s.target) in ends))


def _manifest(plan: Plan, batch: Batch, ledger: Ledger, lease: Lease) -> Manifest:
    target = plan.target
    return Manifest(
        batch=plan.batch,
        run=target.run,
        tenant=target.tenant,
        table=target.table,
        pipeline=target.source.name,
        code=target.source.sha256,
        sequence=ledger.next_sequence(target.tenant, target.table),
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
        raise TerminalError(wanted, "a caller without one", "This is a fault in ingestlab: please report it.")
    return vectors


def load_manifest(store: Store, path: str) -> Manifest | None:
    """A manifest or intent; None if another job has just ended it, or if it is no file of ours."""
    if not path.endswith(".json"):
        return None
    try:
        text = store.read(path)
    except FileNotFoundError:
        return None
    return _parsed(store, path, text)


def _parsed(store: Store, path: str, text: bytes) -> Manifest:
    try:
        return Manifest.model_validate_json(text)
    except (ValueError, json.JSONDecodeError) as error:
        raise TerminalError.wrap(error, f"a manifest in {store.full(path)}", "Restore it from a backup.") from error


def _all_failed(receipt: Receipt, errors: Mapping[str, dict[str, str]]) -> bool:
    """Whether a task worked only for files that failed, here or in another of their pieces."""
    return not set(receipt.tallies) - set(errors)


def _facts(file: FetchedFile, receipts: Sequence[Receipt]) -> dict[str, str]:
    """What was found out about a file; about its pieces it may differ."""
    found: dict[str, dict[str, None]] = {}
    for receipt in receipts:
        for name, value in receipt.facts.get(file.uri, {}).items():
            found.setdefault(name, {})[value] = None
    return {name: ", ".join(values) for name, values in found.items()}


def _record(file: FetchedFile, tally: Tally, facts: dict[str, str], plan: Plan) -> SourceRecord:
    return SourceRecord(
        uri=file.uri,
        sha256=file.sha256,
        version=file.version,
        size=file.size,
        raw=file.path,
        tally=tally,
        run=plan.target.run,
        batch=plan.batch,
        facts=facts,
    )


def _check_counts(batch: Batch) -> None:
    total = sum((r.tally for r in batch.records), Tally())
    parts, rejects = sum(p.rows for p in batch.parts), sum(p.rows for p in batch.rejects)
    lost = [r.uri for r in batch.records if not r.tally.balanced]
    if lost or parts != total.out or rejects != total.rejected:
        raise TerminalError(
            "every source row published or rejected once",
            f"{total.rows_in} rows in, {total.accepted} accepted, {total.rejected} rejected; "
            f"{parts} rows in parts for {total.out}, {rejects} in rejects; first file: {(lost or ['-'])[0]}",
            "Nothing was published. This is a fault in ingestlab or its storage: please report it.",
        )
