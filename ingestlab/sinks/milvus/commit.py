"""What a commit does to the vectors: an index of the lake, brought up to date before the manifest says so.

Published vectors lie in the lake, in the table `<table>__vectors`; a collection in Milvus is made of them and can
be made again. A commit writes its rows into the collection, then its manifest, then takes out what it has
superseded. One that dies before its manifest is undone: the rows of its sources go, and those that the lake
has of them come back.

A commit of the kind "reembed" fills a target beside the one in use. When its manifest is there, the name is
switched to that target, and the old one is dropped; undone, the new one is. No other commit may add vectors to
the collection meanwhile: the intents of those that do are its readers' locks, and its own lock is the writer's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ingestlab.core.errors import CollectionError, TransientError
from ingestlab.core.models import DataFile, Manifest, Value
from ingestlab.core.settings import Settings
from ingestlab.interfaces import Executor, Live, Sink, Store
from ingestlab.lake import layout
from ingestlab.lake.kept_files import retire
from ingestlab.lake.log import last_note, live_files
from ingestlab.lake.storage.store import open_store
from ingestlab.sinks.milvus.embedding import BESIDE
from ingestlab.sinks.milvus.vector_rows import shortened
from ingestlab.sinks.milvus.vector_values import NAME, Collection, Where
from ingestlab.sinks.milvus.vectors import VectorStore, open_vectors

_IDENTITY = ("pk", "source", "run")
ROWS = 10_000  # that a task holds at a time
_DOUBLE = "Nothing was published. Name columns in Embedding.key that tell the rows of a file apart."
DELETED = 1_000  # vectors that are deleted at a time
MANY = 2_000  # rows of commits that are worth settling: that takes Milvus Lite about as long as writing them
_TOLD = ("storage_options", "milvus_uri", "milvus_token", "milvus_timeout", "milvus_attempts")  # what tasks must know


class Upload(Value):
    """Work of one task: a file of vectors for a collection."""

    path: str
    collection: str
    settings: dict[str, Any]
    sources: tuple[str, ...] = ()  # only those of these URIs; all if empty
    truncate: tuple[str, ...] = ()  # columns whose texts may be cut


@dataclass(frozen=True)
class VectorCommits(Sink):
    """Bring collections in line with commits. The first use connects."""

    settings: Settings
    store: Store
    cluster: Executor

    def require(self) -> None:
        """Raise TerminalError if no vector store is named, or pymilvus is missing."""
        _ = self._db

    def compare(self, wanted: Collection, history: Callable[[], Sequence[Manifest]]) -> None:
        """Compare a wanted collection with the existing one. Kinds of payload do not count."""
        there = self._db.describe(wanted.name) or latest(history())
        if there is not None:
            names = [column.name for column in wanted.payload]
            same = names == [column.name for column in there.payload]
            there.check(wanted.model_copy(update={"payload": there.payload}) if same else wanted)

    def prepare(self, manifest: Manifest) -> None:
        """Write the vectors of a commit, and publish their files.

        Raises:
            TransientError: The server is away, does not have all of them afterwards, or has got another model's
                since they were made.
            CollectionError: The collection holds other fields, or shorter ones than a value needs; or two vectors
                have one key.
        """
        collection = collection_in(manifest)
        if collection and self._concerns(manifest):
            self._add(manifest, collection)
        for part in manifest.files(NAME):
            self.store.move(part.staged, part.target)

    def _concerns(self, manifest: Manifest) -> bool:
        """Tell whether there is a server, or there has to be: without one, vectors can go from the lake."""
        return bool(self.settings.milvus_uri) or any(_new(manifest))

    def _add(self, manifest: Manifest, collection: Collection) -> None:
        target = self._db.build(collection) if manifest.kind == "reembed" else self._ensured(collection)
        paths = [self._place(part) for part in _new(manifest)]
        keys = [_read(self.store, path, ["pk"])["pk"] for path in paths]
        different = _distinct(keys)
        wanted = len(different)
        if wanted < (total := sum(map(len, keys))):
            got = f"{total - wanted:,} keys that are another vector's"
            raise CollectionError(
                "Two vectors have one key",
                expected=f"a key of its own for every vector in collection '{collection.name}'",
                got=got,
                fix=_DOUBLE,
            )
        self._upload(paths, target, manifest.batch, truncate=collection.truncate)
        where = Where(tenant=manifest.tenant, table=manifest.table, runs=(manifest.run,))
        if manifest.kind != "reembed":
            where = where.model_copy(update={"sources": tuple(_sources(manifest))})
        count = self._db.confirm(target, different.to_pylist(), where) if paths else 0
        if count != wanted:
            got = f"{count:,} in collection '{collection.name}'"
            raise TransientError(
                "Vectors are missing",
                expected=f"{wanted:,} vectors of this batch, as computed",
                got=got,
                fix="It will be tried again.",
                code="vectors_lost",
            )

    def finish(self, manifest: Manifest) -> None:
        """Take out the vectors that a commit has superseded."""
        home = f"{layout.table(manifest.tenant, layout.beside(manifest.table, BESIDE))}/"
        collection = collection_in(manifest)
        if manifest.key and collection and self._concerns(manifest):
            self._delete_merged(manifest, home, collection.name)  # while the old files are there
        retire(manifest, home, self.store, self.settings.history_days)
        if collection is None or not self._concerns(manifest):
            return
        name = collection.name
        if manifest.kind == "reembed":
            self._switch(collection)
        if manifest.superseded:
            uris, mine = manifest.superseded, (manifest.run,)
            self._db.delete(name, Where(tenant=manifest.tenant, table=manifest.table, sources=uris, not_runs=mine))
        if manifest.kind != "reembed" and _are_many(name, sum(part.rows for part in _new(manifest))):
            self._db.settle(name)
        self.store.delete(layout.costly(manifest.batch))

    def _delete_merged(self, manifest: Manifest, home: str, name: str) -> None:
        """Take out the vectors that rewritten files no longer have."""
        old = [t for t in manifest.replaced if t.startswith(home) and self.store.exists(t)]
        before = _distinct(_read(self.store, target, ["pk"])["pk"] for target in old)
        after = _distinct(_read(self.store, part.target, ["pk"])["pk"] for part in manifest.files(NAME))
        gone = before.filter(pc.invert(pc.is_in(before, after))).to_pylist()
        for start in range(0, len(gone), DELETED):
            keys = tuple(gone[start : start + DELETED])
            self._db.delete(name, Where(tenant=manifest.tenant, table=manifest.table, keys=keys))

    def undo(self, intent: Manifest, history: Callable[[], Sequence[Manifest]]) -> None:
        """Take back what a commit without manifest has done; may be repeated.

        Args:
            intent: What it was about to do.
            history: Reads the commits of its table.
        """
        if collection := collection_in(intent):
            self._take_back(intent, collection, history)
        for part in _new(intent):  # they may have been published; what models made is kept for the next try
            if self.store.exists(part.target):
                self.store.move(part.target, part.staged)
        self.store.delete_files(part.target for part in intent.files(NAME))

    def _take_back(self, intent: Manifest, collection: Collection, history: Callable[[], Sequence[Manifest]]) -> None:
        if intent.kind == "reembed":
            self._drop_unused(collection)
            return
        uris = _sources(intent)
        if uris and self._db.resolve(collection.name):
            self._replace(collection.name, intent.tenant, intent.table, uris, history())

    def shared(self, manifest: Manifest) -> str:
        """Name the collection of a commit."""
        collection = collection_in(manifest)
        return collection.name if collection else ""

    def verify(self, tenant: str, table: str, live: Live) -> list[str]:
        """Find the sources of which collection and lake have different rows."""
        collection = latest(live.latest())
        if collection is None or not self.settings.milvus_uri:
            return []
        lake: dict[str, tuple[str, str]] = {}
        for part in live_files(live.manifests(), NAME):
            rows = _read(self.store, part.target, list(_IDENTITY))
            lake |= {pk: (source, run) for pk, source, run in zip(*(c.to_pylist() for c in rows.columns), strict=True)}
        there = self._db.fetch(collection.name, Where(tenant=tenant, table=table), _IDENTITY)
        rows = zip(*(there[name].to_pylist() for name in _IDENTITY), strict=True)
        stored = {pk: (source, run) for pk, source, run in rows}
        return sorted({side[pk][0] for side, pk in _differences(lake, stored)})

    def restore(self, tenant: str, table: str, uris: Sequence[str], live: Live) -> None:
        """Make the collection's rows of some sources what the lake has."""
        collection = latest(live.latest())
        if collection is not None and self.settings.milvus_uri:
            self._db.ensure(collection)
            self._replace(collection.name, tenant, table, uris, live.manifests())

    def target(self, name: str) -> str | None:
        """Give the real collection behind a name, or None."""
        return self._db.resolve(name)

    def count(self, name: str, where: Where) -> int:
        """Count the vectors of a collection."""
        return self._db.count(name, where)

    def leave(self, name: str, tenant: str, table: str) -> None:
        """Take a table's vectors out of a collection. The last table drops it.

        The caller holds the collection's lock, and no other commit is using it.
        """
        self._db.delete(name, Where(tenant=tenant, table=table))
        if not self._db.count(name, Where()):
            self._db.drop(name)

    def _ensured(self, wanted: Collection) -> str:
        """Give the target of a collection that served when the job began."""
        there = self._db.describe(wanted.name)
        if there is not None and not there.fingerprint.same(wanted.fingerprint):
            expected = f"collection '{wanted.name}' to stay of the model {wanted.fingerprint}"
            raise TransientError(
                "The collection has changed",
                expected=expected,
                got=str(there.fingerprint),
                fix="It was made again meanwhile; it will be tried again.",
                code="vectors_lost",
            )
        return self._db.ensure(wanted)

    def _switch(self, collection: Collection) -> None:
        """Put a new target behind its name, and drop the old one."""
        target = self._db.build(collection)
        self._db.settle(target)
        before = self._db.switch(collection.name, target)
        for old in {before, collection.replaces} - {None, "-", target}:
            self._db.drop(str(old))

    def _drop_unused(self, collection: Collection) -> None:
        """Drop a target that never came into use."""
        for name in collection.targets():
            if self._db.describe(name) is None:
                return
            if name != self._db.resolve(collection.name):
                self._db.drop(name)

    def _replace(self, name: str, tenant: str, table: str, uris: Sequence[str], history: Iterable[Manifest]) -> None:
        self._db.delete(name, Where(tenant=tenant, table=table, sources=tuple(uris)))
        parts = [part for part in live_files(history, NAME) if set(part.sources) & set(uris)]
        made = self._db.describe(name)
        every = tuple(column.name for column in made.columns) if made else ()  # as they were let in, so they come back
        self._upload([part.target for part in parts], name, "restore", tuple(uris), truncate=every)

    @property
    def _db(self) -> VectorStore:
        return connected(self.settings)

    def _place(self, part: DataFile) -> str:
        """Find where a file is. A try that died may have moved it already."""
        return part.staged if self.store.exists(part.staged) else part.target

    def _upload(
        self, paths: Sequence[str], collection: str, key: str, uris: tuple[str, ...] = (), *, truncate: tuple[str, ...]
    ) -> None:
        """Write files into a collection, one task each."""
        settings = self.settings.model_dump(mode="json", include=set(_TOLD)) | {"lake": self.settings.lake_url}
        work = [
            Upload(path=p, collection=collection, settings=settings, sources=uris, truncate=truncate) for p in paths
        ]
        names = [f"vectors-{collection}-{key[:8]}-{i}" for i in range(len(work))]
        for _ in self.cluster.map(upload, [(task.to_dict(),) for task in work], names):
            pass


def upload(work: dict[str, Any]) -> int:
    """Write a file of vectors into a collection, as a Dask task. Return the number of rows."""
    spec = Upload.from_dict(work)
    settings = Settings.model_validate(spec.settings)
    store = open_store(settings.lake_url, settings.storage_options)
    db, done = connected(settings), 0
    made = db.describe(spec.collection) if spec.truncate else None
    for rows in _batches(store, spec.path):
        chosen = rows.filter(pc.is_in(rows["source"], pa.array(spec.sources))) if spec.sources else rows
        chosen = shortened(chosen, made, spec.truncate) if made else chosen
        done += db.upsert(spec.collection, chosen) if chosen.num_rows else 0
    return done


_fresh: Counter[str] = Counter()  # rows that this process has committed since a collection was settled, about


def _are_many(name: str, rows: int) -> bool:
    """Count rows of small commits until they are worth settling."""
    _fresh[name] += rows
    if _fresh[name] < MANY:
        return False
    del _fresh[name]
    return True


def latest(history: Iterable[Manifest]) -> Collection | None:
    """Give the collection of a table, as its last commit had it."""
    note = last_note(history, NAME)
    return Collection.from_dict(note) if note else None


def collection_in(manifest: Manifest) -> Collection | None:
    """Give the collection that a commit fills, if it fills one."""
    note = manifest.sinks[NAME].note if NAME in manifest.sinks else None
    return Collection.from_dict(note) if note else None


def _new(manifest: Manifest) -> Iterator[DataFile]:
    """Give the vectors that a commit adds. It may also move what is left of files with superseded ones."""
    folder = layout.costly(manifest.batch)
    return (part for part in manifest.files(NAME) if part.staged.startswith(f"{folder}/"))


def connected(settings: Settings) -> VectorStore:
    """Open the vector store of some settings, once a process."""
    return _connect(settings.model_dump_json(include=set(_TOLD)))


@lru_cache(maxsize=4)
def _connect(settings: str) -> VectorStore:
    return open_vectors(Settings.model_validate_json(settings))


def _batches(store: Store, path: str) -> Iterator[pa.Table]:
    file = pq.ParquetFile(pa.BufferReader(store.read(path)))
    return (pa.Table.from_batches([batch]) for batch in file.iter_batches(ROWS))


def _differences(left: dict[str, tuple[str, str]], right: dict[str, tuple[str, str]]) -> Iterator[tuple[Any, str]]:
    """Yield keys that differ, each with a side that has it."""
    for pk in left.keys() | right.keys():
        if left.get(pk) != right.get(pk):
            yield (left if pk in left else right), pk


def _read(store: Store, path: str, columns: list[str]) -> pa.Table:
    return pq.read_table(pa.BufferReader(store.read(path)), columns=columns)


def _distinct(keys: Iterable[pa.ChunkedArray]) -> pa.Array:
    """Find the different primary keys."""
    return pc.unique(pa.chunked_array([chunk for column in keys for chunk in column.chunks], pa.string()))


def _sources(manifest: Manifest) -> list[str]:
    """List the URIs of which a commit adds vectors."""
    return sorted({uri for part in _new(manifest) for uri in part.sources})
