"""Makes all vectors of a collection again: what `ingestlab reembed` runs when a pipeline wants another model.

The rows come from the lake, and the new vectors go into a target beside the one in use, so that searches go on
with the old ones. All tables that share the collection, of whatever tenant, are done together, in one commit:
when it stands, the name is switched, and the old target and the old files go.

Meanwhile nobody else adds vectors to the collection. Its lock is taken first; then the commits that were running
are waited for, which their intents tell of, while later ones wait their turn. So no source is lost.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import stamina

from ingestlab.core.errors import BusySourceError, CollectionError, TerminalError, TransientError
from ingestlab.core.models import Change, DataFile, Manifest, Staged
from ingestlab.lake.commit import resolve_dead
from ingestlab.lake.lake import Lake
from ingestlab.lake.locks import Lease, rewrite_lock, shared_lock
from ingestlab.lake.table import Table, Transaction, tables
from ingestlab.pipeline.catalog import load
from ingestlab.sinks.milvus.commit import VectorCommits, collection_in, latest
from ingestlab.sinks.milvus.embedding import agreed
from ingestlab.sinks.milvus.reembed.apart import told_apart
from ingestlab.sinks.milvus.reembed.survey import Survey, survey
from ingestlab.sinks.milvus.reembed.task import Work
from ingestlab.sinks.milvus.reembed.task import reembed as make_vectors
from ingestlab.sinks.milvus.vector_values import NAME, Collection, Where
from ingestlab.sinks.milvus.wanted import wanted_by


@dataclass(frozen=True)
class Reembedded:
    """What has been made again.

    Attributes:
        collection: Its name.
        tables: The tables whose vectors are in it, as ``tenant/table``.
        vectors: How many there are now.
        before: The model that made the old ones; empty if there were none.
        after: The model that made the new ones.
    """

    collection: str
    tables: tuple[str, ...]
    vectors: int
    before: str
    after: str

    def __str__(self) -> str:
        before = f"{self.before} → " if self.before else ""
        return f"{self.collection}: {before}{self.after}, {self.vectors:,} vectors of {', '.join(self.tables)}"


def reembed(table: str, sink: VectorCommits, lake: Lake, tenant: str, patience: float) -> Reembedded:
    """Make the vectors of a table and its collection again. All tables that share the collection are done.

    It may be killed at any time: then the old vectors are searched until it is run again, or `reconcile` is.

    Args:
        table: Its name.
        sink: What commits do to vectors, with the settings and the cluster to use.
        lake: Where the table is.
        tenant: Whose table it is.
        patience: Seconds to wait for other jobs that write the table.

    Raises:
        TerminalError: There is no such table; no pipeline of it wants vectors; tables that share the collection
            want different models; the collection holds rows of other lakes; or a model fails.
        TransientError: Other jobs use the table for too long, or a server is away.
    """
    sink.require()
    first = survey(Table(lake, tenant, table), sink.settings)
    name, before = first.embedding.collection, latest(first.history)
    names = {name, before.name if before else name}
    with lake.locks.lease() as lease:
        _take(lease, (shared_lock(collection) for collection in names), patience)
        _wait_for_commits(names, lake, patience)
        members = [first.table, *(table for table in _sharing(name, lake) if table.where != first.table.where)]
        _take(lease, (rewrite_lock(*table.where) for table in members), patience)
        surveys = [survey(table, sink.settings) for table in members]
        made = _commit(surveys, _agreed_wish(surveys, sink), sink, lease)
        for former in names - {name}:
            sink.leave(former, tenant, table)
    return Reembedded(
        collection=name,
        tables=tuple("/".join(table.where) for table in members),
        vectors=sum(part.rows for manifest in made for part in manifest.files(NAME)),
        before=str(before.fingerprint) if before else "",
        after=str(Collection.from_dict(made[0].sinks[NAME].note).fingerprint),
    )


def _take(lease: Lease, locks: Iterable[str], patience: float) -> None:
    """Take locks, all or none, as soon as they are free."""
    wanted = list(locks)
    try:
        for attempt in stamina.retry_context(BusySourceError, attempts=None, timeout=patience, wait_max=1.0):
            with attempt:
                lease.acquire(wanted)
    except BusySourceError as error:
        raise TransientError(error.problem, fix="Try again when it has ended.", code="busy_source") from error


def _wait_for_commits(names: Iterable[str], lake: Lake, patience: float) -> None:
    """Wait until no commit adds to the collections. Those that died are resolved."""
    mine = set(names)

    def adds(intent: Manifest) -> bool:
        collection = collection_in(intent)
        return collection is not None and collection.name in mine

    for attempt in stamina.retry_context(TransientError, attempts=None, timeout=patience, wait_max=1.0):
        with attempt:
            _, busy = resolve_dead(lake, adds)
            if busy:
                problem = f"{len(busy)} other jobs commit into collection {', '.join(sorted(mine))}"
                raise TransientError(problem, fix="Try again when they have ended.", code="busy_source")


def _sharing(name: str, lake: Lake) -> list[Table]:
    """List the tables that have vectors in a collection."""
    latest_by_table = ((table, latest(table.log.snapshot().manifests())) for table in tables(lake))
    return [table for table, collection in latest_by_table if collection is not None and collection.name == name]


def _agreed_wish(surveys: Sequence[Survey], sink: VectorCommits) -> Collection:
    """Find the one collection that all pipelines of all tables want.

    Raises:
        TerminalError: They want different things, or the collection in use holds what is not of these tables.
    """
    wishes = [wanted_by(code, sink.cluster, sink.settings, s.kinds) for s in surveys for code in s.codes]
    first = wishes[0]
    for wish in wishes[1:]:
        same = [c.name for c in wish.payload] == [c.name for c in first.payload]
        try:
            first.check(wish.model_copy(update={"payload": first.payload}) if same else wish)
        except CollectionError as error:
            fix = "Give the pipelines of the tables that share it one embedding, or collections of their own."
            problem = f"There is not one wish for collection '{first.name}': {error.reason}"
            raise TerminalError(problem, fix=fix, code="embedding_invalid") from error
    target = sink.target(first.name)
    if target is not None:
        own_rows = sum(sink.count(target, Where(tenant=s.table.tenant, table=s.table.name)) for s in surveys)
        other_rows = sink.count(target, Where()) - own_rows
        if other_rows > 0:
            tables = ", ".join("/".join(s.table.where) for s in surveys)
            fix = "Give the pipelines of this lake a collection of their own."
            raise TerminalError(
                f"Collection '{first.name}' holds vectors of other tables, too",
                expected=f"those of {tables}",
                got=f"{other_rows:,} others",
                fix=fix,
                code="collection_conflict",
            )
    return first.model_copy(update={"replaces": target or "-"})


def _commit(surveys: Sequence[Survey], wish: Collection, sink: VectorCommits, lease: Lease) -> list[Manifest]:
    """Make the vectors of all tables, and commit them together."""
    run = f"reembed-{surveys[0].batch}"  # another try is the same run, and takes the vectors that are there
    with ExitStack() as stack:
        changes = []
        for s in surveys:
            transaction = stack.enter_context(s.table.transaction("reembed", run=run, lease=lease))
            stack.enter_context(transaction.batch(s.batch))
            changes.append(transaction)
        done = [_embed(s, run, sink, wish) for s in surveys]
        notes = [staged.note for some in done for staged in some if staged.note]
        note = (agreed(notes) if notes else wish.to_dict()) | {"replaces": wish.replaces}
        files = [told_apart([file for staged in some for file in staged.files], sink.store) for some in done]
        commits = zip(changes, surveys, files, strict=True)
        return Transaction.commit_all([(transaction, _change(s, new, note)) for transaction, s, new in commits])


def _embed(s: Survey, run: str, sink: VectorCommits, wish: Collection) -> list[Staged]:
    """Stage a table's vectors, a task for each part and pipeline.

    Those that the same weights have made are taken over. Of a model without a version nobody knows whether it is the
    same: whoever asks for its vectors again means it.
    """
    old = s.old if wish.fingerprint.version else ()
    settings, (tenant, table) = sink.settings, s.table.where
    done: dict[int, Staged] = {}
    for code in s.codes:
        work = [
            Work(
                number=number,
                part=task.part,
                tenant=tenant,
                table=table,
                run=run,
                batch=s.batch,
                pipeline=code,
                pieces=dict(task.pieces),
                kinds=dict(s.kinds),
                previous={NAME: tuple(file for file in old if not task.pieces.keys().isdisjoint(file.sources))},
                outside=settings.outside() if load(code).asks_servers else {},
            )
            for number, task in enumerate(s.tasks)
            if task.code == code
        ]
        calls = [(w.to_dict(), settings.lake_url, settings.storage_options) for w in work]
        keys = [f"reembed-{table}-{s.batch[:8]}-{w.number}" for w in work]
        for place, answer in sink.cluster.map(make_vectors, calls, keys, load(code).resources):
            done[work[place].number] = Staged.from_dict(answer)
    return [done[number] for number in sorted(done)]


def _change(s: Survey, new: Sequence[DataFile], note: dict[str, Any]) -> Change:
    return Change(
        pipeline=s.codes[0].name,
        code=s.codes[0].sha256,
        sinks={NAME: Staged(files=tuple(new), note=note)},
        replaced=tuple(part.target for part in s.old),
    )
