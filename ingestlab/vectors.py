"""What a commit does to the vectors: an index of the lake, brought up to date before the manifest says so.

Published vectors lie in the lake, in the table `<table>__vectors`; a collection in Milvus is made of them and can
be made again. A commit writes its rows into the collection, then its manifest, then takes out what it has
superseded. One that dies before its manifest is undone: the rows of its sources go, and those that the lake
has of them come back.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ingestlab import layout
from ingestlab.cluster import Cluster
from ingestlab.errors import TransientError
from ingestlab.models import Manifest, Part, Value
from ingestlab.settings import Settings
from ingestlab.sinks.vectors import Collection, VectorStore, Where, open_vectors
from ingestlab.storage import Store, open_store

_IDENTITY = ("pk", "source", "run")
ROWS = 10_000  # that a task holds at a time
_TOLD = ("storage_options", "milvus_uri", "milvus_token", "milvus_timeout", "milvus_attempts")  # what tasks must know


class Upload(Value):
    """What one task needs, to bring a file of vectors into a collection."""

    path: str
    collection: str
    settings: dict[str, Any]
    sources: tuple[str, ...] = ()  # only those of these URIs; all if empty


@dataclass(frozen=True)
class Vectors:
    """Brings collections in line with commits; connects when the first commit has vectors."""

    settings: Settings
    store: Store
    cluster: Cluster

    def add(self, manifest: Manifest) -> None:
        """Writes the vectors of a commit that has its intent, and no manifest yet.

        Raises:
            TransientError: The server is away, or does not have all of them afterwards.
            TerminalError: The collection holds another model's vectors, or other fields.
        """
        if manifest.collection is None:
            return
        collection = Collection.from_dict(manifest.collection)
        self._db.ensure(collection)
        paths = [self._place(part) for part in embedded(manifest)]
        self._upload(paths, collection.name, manifest.batch)
        wanted, where = self._distinct(paths), _of(manifest, runs=(manifest.run,))
        found = self._db.count(collection.name, where) if where.sources else 0
        if found != wanted:
            got = f"{found:,} in collection '{collection.name}'"
            raise TransientError(f"{wanted:,} vectors of this batch, as computed", got, "It will be tried again.")

    def finish(self, manifest: Manifest) -> None:
        """Takes out the vectors that a commit has superseded; may be repeated."""
        if manifest.collection is None or not manifest.superseded:
            return
        name = Collection.from_dict(manifest.collection).name
        where = Where(
            tenant=manifest.tenant, table=manifest.table, sources=manifest.superseded, not_runs=(manifest.run,)
        )
        self._db.delete(name, where)

    def undo(self, intent: Manifest, history: Iterable[Manifest]) -> None:
        """Takes back what a commit without manifest has done; may be repeated.

        Args:
            intent: What it was about to do.
            history: The manifests of its table.
        """
        if intent.collection is None:
            return
        name = Collection.from_dict(intent.collection).name
        uris = sorted({uri for part in embedded(intent) for uri in part.sources})
        if uris and self._db.resolve(name):
            self._replace(name, intent.tenant, intent.table, uris, history)

    def strays(self, tenant: str, table: str, history: Sequence[Manifest]) -> list[str]:
        """The sources whose rows in the table's collection are not those that the lake has of them."""
        collection = latest(history)
        if collection is None:
            return []
        lake: dict[str, tuple[str, str]] = {}
        for part in live_vectors(history):
            rows = _read(self.store, part.target, list(_IDENTITY))
            lake |= {pk: (source, run) for pk, source, run in zip(*(c.to_pylist() for c in rows.columns), strict=True)}
        there = self._db.fetch(collection.name, Where(tenant=tenant, table=table), _IDENTITY)
        rows = zip(*(there[name].to_pylist() for name in _IDENTITY), strict=True)
        found = {pk: (source, run) for pk, source, run in rows}
        return sorted({side[pk][0] for side, pk in _differences(lake, found)})

    def restore(self, tenant: str, table: str, uris: Sequence[str], history: Sequence[Manifest]) -> None:
        """Makes the rows of some sources in the table's collection what the lake has of them."""
        collection = latest(history)
        if collection is not None:
            self._db.ensure(collection)
            self._replace(collection.name, tenant, table, uris, history)

    def _replace(self, name: str, tenant: str, table: str, uris: Sequence[str], history: Iterable[Manifest]) -> None:
        self._db.delete(name, Where(tenant=tenant, table=table, sources=tuple(uris)))
        parts = [part for part in live_vectors(history) if set(part.sources) & set(uris)]
        self._upload([part.target for part in parts], name, "restore", tuple(uris))

    @property
    def _db(self) -> VectorStore:
        return connected(self.settings)

    def _place(self, part: Part) -> str:
        """Where a file is: a try that died may have moved it already."""
        return part.staged if self.store.exists(part.staged) else part.target

    def _upload(self, paths: Sequence[str], collection: str, key: str, uris: tuple[str, ...] = ()) -> None:
        told = self.settings.model_dump(mode="json", include=set(_TOLD)) | {"lake": self.settings.lake_url}
        calls = [(Upload(path=p, collection=collection, settings=told, sources=uris).to_dict(),) for p in paths]
        for _ in self.cluster.map(upload, calls, [f"vectors-{collection}-{key[:8]}-{i}" for i in range(len(calls))]):
            pass

    def _distinct(self, paths: Sequence[str]) -> int:
        """How many primary keys there are; a declared key may come twice."""
        keys = [_read(self.store, path, ["pk"])["pk"] for path in paths]
        return len(pc.unique(pa.chunked_array([chunk for key in keys for chunk in key.chunks], pa.string())))


def upload(work: dict[str, Any]) -> int:
    """A Dask task: writes a file of vectors into a collection; how many rows it wrote."""
    spec = Upload.from_dict(work)
    settings = Settings.model_validate(spec.settings)
    store = open_store(settings.lake_url, settings.storage_options)
    db, done = connected(settings), 0
    for rows in _batches(store, spec.path):
        chosen = rows.filter(pc.is_in(rows["source"], pa.array(spec.sources))) if spec.sources else rows
        done += db.upsert(spec.collection, chosen) if chosen.num_rows else 0
    return done


def embedded(manifest: Manifest) -> Iterator[Part]:
    """The vectors that a commit adds; it may also move what is left of files with superseded ones."""
    folder = layout.embedded(manifest.batch)
    return (part for part in manifest.vectors if part.staged.startswith(f"{folder}/"))


def latest(history: Iterable[Manifest]) -> Collection | None:
    """The collection of a table, as its last commit with vectors wanted it."""
    made = [m.collection for m in history if m.collection is not None]
    return Collection.from_dict(made[-1]) if made else None


def live_vectors(history: Iterable[Manifest]) -> Iterator[Part]:
    """The files of vectors that no later commit has replaced."""
    known = list(history)
    gone = {target for m in known for target in m.replaced}
    return (v for m in known for v in m.vectors if v.target not in gone)


def connected(settings: Settings) -> VectorStore:
    """The vector store of some settings, one for each process."""
    return _connect(settings.model_dump_json(include=set(_TOLD)))


@lru_cache(maxsize=4)
def _connect(settings: str) -> VectorStore:
    return open_vectors(Settings.model_validate_json(settings))


def _batches(store: Store, path: str) -> Iterator[pa.Table]:
    file = pq.ParquetFile(pa.BufferReader(store.read(path)))
    return (pa.Table.from_batches([batch]) for batch in file.iter_batches(ROWS))


def _differences(one: dict[str, tuple[str, str]], other: dict[str, tuple[str, str]]) -> Iterator[tuple[Any, str]]:
    """The keys that one side lacks or has from another run, each with a side that has it."""
    for pk in one.keys() | other.keys():
        if one.get(pk) != other.get(pk):
            yield (one if pk in one else other), pk


def _read(store: Store, path: str, columns: list[str]) -> pa.Table:
    return pq.read_table(pa.BufferReader(store.read(path)), columns=columns)


def _of(manifest: Manifest, **more: Any) -> Where:
    uris = sorted({uri for part in embedded(manifest) for uri in part.sources})
    return Where(tenant=manifest.tenant, table=manifest.table, sources=tuple(uris), **more)
