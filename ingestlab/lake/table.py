"""A table of a lake, and the changes that are made to it."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime

from ingestlab.core.archive_uri import container
from ingestlab.core.errors import BusySourceError, JobStoppedError, TerminalError, TransientError
from ingestlab.core.models import Change, Kind, Manifest
from ingestlab.core.signed_uri import bare
from ingestlab.interfaces import Store
from ingestlab.lake import layout
from ingestlab.lake.agreement import Seen, kept_schema
from ingestlab.lake.commit import commit_together, resolve
from ingestlab.lake.lake import Lake
from ingestlab.lake.locks import Lease, batch_lock, rewrite_lock, source_lock
from ingestlab.lake.log import TransactionLog, load_manifest, tables_of
from ingestlab.lake.source_index import SourceIndex
from ingestlab.lake.table_schema import Schema

JOBS = ("ingest", "replay")  # they wait their turn in a queue; whoever calls the others is told to come back
ADDING = ("ingest", "reembed")  # they replace no parts, or take the lock for it themselves


def new_run(kind: Kind) -> str:
    """Name a run that no queue knows."""
    return f"{kind}-{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"


def tables(lake: Lake) -> list[Table]:
    """List the tables that have a commit, by tenant and name."""
    return [Table(lake, tenant, name) for tenant, name in tables_of(lake.store)]


@dataclass(frozen=True)
class Table:
    """A table of a lake: it changes by transactions.

    Attributes:
        lake: Where it is.
        tenant: The tenant.
        name: What it is called.
    """

    lake: Lake
    tenant: str
    name: str

    @property
    def where(self) -> tuple[str, str]:
        """Tenant and name."""
        return self.tenant, self.name

    @property
    def store(self) -> Store:
        """The files of the lake."""
        return self.lake.store

    @property
    def folder(self) -> str:
        """Where the published parts are."""
        return layout.table(self.tenant, self.name)

    @property
    def log(self) -> TransactionLog:
        """The commits."""
        return self.lake.log(self.tenant, self.name)

    @property
    def index(self) -> SourceIndex:
        """The committed sources. Only a transaction can rely on them."""
        return self.lake.index(self.tenant, self.name)

    @property
    def schema(self) -> Schema:
        """The columns of all live parts."""
        return kept_schema(self.tenant, self.name, self.lake)

    def history(self) -> list[Manifest]:
        """Read the commits of which something is live, oldest first.

        Raises:
            TerminalError: There is no such table.
        """
        if commits := self.log.snapshot().manifests():
            return commits
        raise TerminalError(
            f"There is no table '{self.name}' of tenant {self.tenant}",
            fix="`ingestlab tables` lists them.",
            code="table_unknown",
        )

    @contextmanager
    def transaction(
        self, kind: Kind, uris: Iterable[str] = (), *, run: str = "", lease: Lease | None = None
    ) -> Iterator[Transaction]:
        """Lock sources, and parts if the kind replaces some; recover dead commits.

        Args:
            kind: Of change. The batches of "ingest" and "replay" are jobs that wait their turn.
            uris: The sources that change.
            run: In which run; by default one of its own.
            lease: Locks that are held already, beside which these are taken; they stay held.

        Raises:
            BusySourceError: Another job holds a lock, and this one waits its turn.
            TransientError: Another job holds a lock.
        """
        sources = list(uris)
        with self.lake.locks.lease() if lease is None else nullcontext(lease) as held:
            transaction = Transaction(self, kind, run or new_run(kind), held)
            names = [source_lock(*self.where, uri) for uri in sources]
            try:
                held.acquire([*names, *(() if kind in ADDING else (rewrite_lock(*self.where),))])
            except BusySourceError as error:
                if kind in JOBS:
                    raise
                problem = error.problem if sources else f"Another job replaces data files of {self.name}"
                raise TransientError(problem, fix="Try again when it has ended.", code="busy_source") from error
            transaction.recover(sources)
            self.index.ensure(self.log.records)
            yield transaction


class Transaction:
    """A change of a table under its locks; :meth:`Table.transaction` begins one.

    Attributes:
        table: What changes.
        kind: How.
        run: In which run.
        lease: The locks that it holds.
    """

    def __init__(self, table: Table, kind: Kind, run: str, lease: Lease) -> None:
        self.table, self.kind, self.run, self.lease = table, kind, run, lease
        self._batch = ""
        self._manifest: Manifest | None = None

    def recover(self, uris: Iterable[str]) -> None:
        """Finish or roll back dead commits of `uris`. Their locks are held.

        A compaction that died has no sources, nor has a reembedding: whoever comes next resolves them, but waits
        for none that runs.

        Raises:
            BusySourceError: Another job resolves the same commit.
        """
        mine = {bare(container(uri)) for uri in uris}
        for intent in self.table.lake.intents(*self.table.where):
            if mine & {bare(container(record.uri)) for record in intent.sources}:
                self.lease.acquire([batch_lock(intent.batch)])
            elif intent.sources or not self._takes(intent):
                continue
            resolve(intent, self.table.lake)

    def _takes(self, intent: Manifest) -> bool:
        """Take the lock of a batch, if nobody has it."""
        try:
            self.lease.acquire([batch_lock(intent.batch)])
        except BusySourceError:
            return False
        return True

    def replaces_parts(self, patience: float = 0) -> None:
        """Keep others from replacing parts until the end of the transaction.

        Args:
            patience: Seconds to wait for another job that does.

        Raises:
            BusySourceError: Another job does.
        """
        self.lease.wait_for([rewrite_lock(*self.table.where)], patience)

    @contextmanager
    def batch(self, name: str, committed: Callable[[Manifest], None] = lambda _manifest: None) -> Iterator[None]:
        """Commit what is staged under a name, or leave nothing of it.

        What cannot be taken back now, its next job or `reconcile` takes back.

        Args:
            name: Of the batch.
            committed: Is told of the commit, also where something fails after its moment.

        Raises:
            BusySourceError: Another job is at the same batch.
        """
        self.lease.acquire([batch_lock(name)])
        self._batch, self._manifest = name, None
        try:
            yield
            if self._manifest is None:
                self._drop()
        except (Exception, JobStoppedError) as error:
            try:
                self._drop()
            except Exception as trouble:  # noqa: BLE001 - what went wrong first is what counts
                error.add_note(f"Its leftovers stay for `ingestlab reconcile`: {trouble}")
            if isinstance(error, Exception) and (manifest := self.table.log.find(name)):
                committed(manifest)
            raise
        if self._manifest is not None:
            committed(self._manifest)

    def commit(self, change: Change, seen: Seen | None = None) -> Manifest:
        """Publish the batch, all of it or nothing.

        Args:
            change: What it consists of.
            seen: Of rows of sources, which have to agree with those that there are.

        Raises:
            BusySourceError: Its columns, or what it shares in a sink, have changed since the job began.
            LostLeaseError: Another job may have its sources.
        """
        manifest = self._told(change)
        commit_together([manifest], self.table.lake, self.lease, seen)
        self._manifest = manifest
        return manifest

    def _told(self, change: Change, decided_by: str = "") -> Manifest:
        """Say all of a change that its log entry says."""
        return Manifest(
            **{name: getattr(change, name) for name in Change.model_fields},
            batch=self._batch,
            run=self.run,
            tenant=self.table.tenant,
            table=self.table.name,
            kind=self.kind,
            committed_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
            owner=self.lease.token,
            decided_by=decided_by,
        )

    def _drop(self) -> None:
        """Take back the batch; with a log entry, finish it.

        Raises:
            LostLeaseError: The batch may be another job's by now, so nothing was touched.
        """
        self.lease.check()
        where, store = self.table.where, self.table.store
        if intent := load_manifest(store, layout.intent(*where, self._batch)):
            resolve(intent, self.table.lake)
        else:
            store.delete(layout.staging(self._batch))

    @staticmethod
    def commit_all(changes: Sequence[tuple[Transaction, Change]]) -> list[Manifest]:
        """Commit to several tables under one lease: to all of them or to none."""
        first = changes[0][0]
        leader = layout.manifest(*first.table.where, first._batch)  # noqa: SLF001 - its own class
        group = [tx._told(change, leader if i else "") for i, (tx, change) in enumerate(changes)]  # noqa: SLF001
        commit_together(group, first.table.lake, first.lease)
        for (tx, _), manifest in zip(changes, group, strict=True):
            tx._manifest = manifest  # noqa: SLF001
        return group
