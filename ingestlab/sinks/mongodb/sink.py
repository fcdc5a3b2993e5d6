"""What a commit does to documents: a collection of MongoDB is brought up to date before the manifest says so.

Published documents lie in the lake as well, as the bytes that were sent, in the table `<table>__mongodb`; the
collection can be made of them again. A commit writes its documents, then its manifest, then deletes what it has
superseded. One that dies before its manifest is undone: its documents go, or become again what the lake has.

Where a key makes the `_id`, rows of several sources, and of jobs that run at once, may mean one document: that of the
last commit. Who writes over another's document names the batch that it has seen there, and leaves alone what is of
no commit yet: the job that is writing it looks for itself once it has its manifest.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from ingestlab.core.errors import CollectionError, TransientError
from ingestlab.core.models import DataFile, Manifest
from ingestlab.core.mongodb import connected, database_name, server_of, translated
from ingestlab.core.settings import Settings
from ingestlab.interfaces import Executor, Live, Sink, Store
from ingestlab.lake import layout
from ingestlab.lake.data_files import open_part
from ingestlab.lake.kept_files import retire
from ingestlab.lake.log import TransactionLog, last_note, live_files, manifests
from ingestlab.pipeline.catalog import PipelineSource, load
from ingestlab.sinks.mongodb.link import NAME, collection_of
from ingestlab.sinks.mongodb.values import ABOUT
from ingestlab.sinks.mongodb.writer import DocumentsWriter, note_of

if TYPE_CHECKING:
    from pymongo.collection import Collection as Stored

T = TypeVar("T")
AT_ONCE, BYTES_AT_ONCE = 1_000, 8 << 20  # documents of one write, and about how large they are together
CONFLICTS = frozenset({112, 11000})  # codes of writes at the same moment
_READ = 256  # rows of a file at a time
_SOURCE, _BATCH, _TABLE = f"{ABOUT}.source", f"{ABOUT}.batch", f"{ABOUT}.table"


class Held(NamedTuple):
    """What there is under an `_id`: the source and batch of a document."""

    source: str
    batch: str


class Winner(NamedTuple):
    """The row of the lake that a document is to be of."""

    rank: tuple[int, int]
    held: Held
    part: DataFile
    at: int  # its place in the file


@dataclass(frozen=True)
class MongoDocuments(Sink):
    """Keep the rows of tables as documents. The first use connects."""

    settings: Settings
    store: Store
    cluster: Executor

    writer = DocumentsWriter
    by_row = True

    @classmethod
    def takes(cls, pipeline: Any) -> bool:
        """Tell whether a pipeline declares documents."""
        return pipeline.documents is not None

    def check(self, code: PipelineSource, history: Callable[[], Sequence[Manifest]]) -> None:
        """Check that the server answers, and keys are those of before.

        Args:
            code: The pipeline's text.
            history: Gives the manifests of the table.

        Raises:
            TransientError: The server is away.
            CollectionError: The documents of the collection have other keys.
            TerminalError: No server is named, it refuses, or pymongo is missing.
        """
        documents = load(code).documents
        assert documents is not None
        with self._translated("ping"):
            client = connected(server_of(self.settings))
            client[database_name(self.settings, client, documents.database)].command("ping")
        wanted, there = note_of(documents), last_note(history(), NAME)
        if there and there["key"] != wanted["key"] and _place(there) == _place(wanted):
            raise CollectionError(
                "The documents have another key",
                expected=f"key={there['key'] or '()'}, by which collection '{there['collection']}' was made",
                got=str(wanted["key"] or "()"),
                fix="Name another collection in Documents, and ingest the files again with --force.",
            )

    def prepare(self, manifest: Manifest) -> None:
        """Write the documents of a commit, and publish their files.

        Raises:
            TransientError: The server is away.
            CollectionError: The collection has documents that are not of this table, or refuses some.
        """
        note, new = _note(manifest), _new(manifest)
        if note and new:
            with self._translated("write"):
                collection = collection_of(note, manifest.tenant, self.settings)
                _claim(collection, manifest.table)
                for documents in self._documents([self._placed(part) for part in new]):
                    _write(collection, documents)
        for part in manifest.files(NAME):
            self.store.move(part.staged, part.target)

    def finish(self, manifest: Manifest) -> None:
        """Delete the documents and files that a commit has superseded."""
        note = _note(manifest)
        if note and self.settings.mongodb_uri:
            with self._translated("delete"):
                collection = collection_of(note, manifest.tenant, self.settings)
                if manifest.key:
                    self._remove_merged(collection, manifest)
                if note["key"]:
                    self._settle_commit(collection, manifest)
                else:
                    for uris in _groups(manifest.superseded):
                        collection.delete_many(_of(manifest.table, uris) | {_BATCH: {"$ne": manifest.batch}})
        retire(manifest, _home(manifest), self.store, self.settings.history_days)
        if manifest.key:  # a merge has left files there
            self.store.delete(layout.costly(manifest.batch))

    def undo(self, intent: Manifest, history: Callable[[], Sequence[Manifest]]) -> None:
        """Take back what a commit without manifest has written; may be repeated.

        Args:
            intent: What it was about to do.
            history: Reads the commits of its table.
        """
        note, uris = _note(intent), {uri for part in _new(intent) for uri in part.sources}
        if note and uris and self.settings.mongodb_uri:
            with self._translated("delete"):
                collection = collection_of(note, intent.tenant, self.settings)
                chosen = (_of(intent.table, some) | {_BATCH: intent.batch} for some in _groups(sorted(uris)))
                there = _held(collection, chosen)
                if there:
                    self._settle(collection, there, there, uris, history(), keyed=bool(note["key"]))
        self.store.delete_files(path for part in intent.files(NAME) for path in (part.target, part.staged))

    def verify(self, tenant: str, table: str, live: Live) -> list[str]:
        """Find the sources of which collection and lake have different documents."""
        note = last_note(live.latest(), NAME)
        if note is None or not self.settings.mongodb_uri:
            return []
        with self._translated("find"):
            lake = {key: winner.held for key, winner in self._winners(live.manifests()).items()}
            there = _held(collection_of(note, tenant, self.settings), [{_TABLE: table}])
        odd = {key for key in lake.keys() | there.keys() if lake.get(key) != there.get(key)}
        return sorted({held.source for side in (lake, there) for key, held in side.items() if key in odd})

    def restore(self, tenant: str, table: str, uris: Sequence[str], live: Live) -> None:
        """Make the documents of some sources what the lake has."""
        history = live.manifests()
        if (note := last_note(history, NAME)) and self.settings.mongodb_uri:
            with self._translated("write"):
                collection, mine = collection_of(note, tenant, self.settings), set(uris)
                _claim(collection, table)
                there = _held(collection, (_of(table, some) for some in _groups(sorted(mine))))
                rows = self._scan(_with_rows_of(mine, history))
                wanted = {key for _, _, batch in rows for key, held in _identities(batch) if held.source in mine}
                more = _held(collection, _by_key(wanted - there.keys()))
                self._settle(collection, wanted | there.keys(), there | more, mine, history, keyed=bool(note["key"]))

    def _remove_merged(self, collection: Stored[Any], manifest: Manifest) -> None:
        """Delete the documents that rewritten files no longer have."""
        old = [t for t in manifest.replaced if t.startswith(_home(manifest)) and self.store.exists(t)]
        parts = [DataFile(target=target, staged="", rows=0, size=0) for target in old]
        before = {key: held for _, _, rows in self._scan(parts) for key, held in _identities(rows)}
        after = {pair for _, _, rows in self._scan(manifest.files(NAME)) for pair in _identities(rows)}
        _remove(collection, [key for key, held in before.items() if (key, held) not in after], before)

    def _settle_commit(self, collection: Stored[Any], manifest: Manifest) -> None:
        """Have documents be of the last commit with their keys."""
        history = manifests(self.store, manifest.tenant, manifest.table)
        chosen = (
            _of(manifest.table, some) | {_BATCH: {"$ne": manifest.batch}} for some in _groups(manifest.superseded)
        )
        stale = _held(collection, chosen)
        rows = self._scan([self._placed(part) for part in _new(manifest)])
        mine = {key for _, _, batch in rows for key, _ in _identities(batch)}
        others = {key: held for key, held in _held(collection, _by_key(mine)).items() if held.batch != manifest.batch}
        if both := stale | others:
            self._settle(collection, both, both, set(manifest.superseded), history, keyed=True)

    def _settle(
        self,
        collection: Stored[Any],
        keys: Collection[bytes],
        there: Mapping[bytes, Held],
        uris: Collection[str],
        history: Sequence[Manifest],
        *,
        keyed: bool,
    ) -> None:
        """Make the documents under some keys what the lake has. The sources' locks are held."""
        winners = self._winners(history, keys, None if keyed else uris)
        known = {manifest.batch for manifest in history}
        free = {key for key in keys if key not in there or there[key].source in uris or there[key].batch in known}
        gone = [key for key in free if key in there and key not in winners]
        wrong = {key: winners[key] for key in free & winners.keys() if there.get(key) != winners[key].held}
        _remove(collection, gone, there)
        for documents in self._chosen(wrong):
            _rewrite(collection, documents, there)

    def _winners(
        self, history: Sequence[Manifest], keys: Collection[bytes] | None = None, uris: Collection[str] | None = None
    ) -> dict[bytes, Winner]:
        """Find the last row of the lake for each key: by commit, then by place."""
        order = {manifest.batch: manifest.sequence for manifest in history}
        asked = None if keys is None else pa.array(sorted(keys), pa.binary())
        winners: dict[bytes, Winner] = {}
        parts = list(live_files(history, NAME)) if uris is None else _with_rows_of(uris, history)
        for count, (part, start, rows) in enumerate(self._scan(parts)):
            places = range(len(rows)) if asked is None else pc.indices_nonzero(pc.is_in(rows["_id"], asked)).to_pylist()
            chosen = rows if asked is None else rows.take(pa.array(places, pa.int64()))
            for at, (key, held) in zip(places, _identities(chosen), strict=True):
                if held.batch not in order:  # an undo has brought back its rows
                    order = dict.fromkeys([held.batch], 0) | self._order(history) | order
                rank = (order[held.batch], count)
                if key not in winners or winners[key].rank <= rank:
                    winners[key] = Winner(rank, held, part, start + at)
        return winners

    def _order(self, history: Sequence[Manifest]) -> dict[str, int]:
        """Give the number of each commit that the log remembers, by batch."""
        last = history[-1]
        return {m.batch: m.sequence for m in TransactionLog(self.store, last.tenant, last.table).history()}

    def _scan(self, parts: Iterable[DataFile]) -> Iterator[tuple[DataFile, int, pa.Table]]:
        """Yield the identities in files, with the number of rows before."""
        for part in parts:
            start = 0
            for batch in open_part(part, self.store).iter_batches(columns=["source", "_batch", "_id"]):
                yield part, start, pa.Table.from_batches([batch])
                start += len(batch)

    def _chosen(self, winners: Mapping[bytes, Winner]) -> Iterator[dict[bytes, bytes]]:
        """Read the documents of some rows."""
        places: dict[str, tuple[DataFile, set[int]]] = {}
        for winner in winners.values():
            places.setdefault(winner.part.target, (winner.part, set()))[1].add(winner.at)
        for part, at in places.values():
            yield from self._documents([part], at)

    def _documents(self, parts: Iterable[DataFile], at: Collection[int] | None = None) -> Iterator[dict[bytes, bytes]]:
        """Read documents by key, as many as one write takes. The last one of a key counts."""
        held: dict[bytes, bytes] = {}
        size = 0
        for part in parts:
            start = 0
            for batch in open_part(part, self.store).iter_batches(_READ, columns=["_id", "_document"]):
                pairs = zip(batch["_id"].to_pylist(), batch["_document"].to_pylist(), strict=True)
                for place, (key, document) in enumerate(pairs, start):
                    if at is None or place in at:
                        held[key] = document
                        size += len(document)
                    if len(held) == AT_ONCE or size > BYTES_AT_ONCE:
                        yield held
                        held, size = {}, 0
                start += len(batch)
        if held:
            yield held

    def _placed(self, part: DataFile) -> DataFile:
        """Name the file as what it is now. A try that died may have moved it already."""
        return part.model_copy(update={"target": part.staged}) if self.store.exists(part.staged) else part

    def _translated(self, what: str) -> AbstractContextManager[None]:
        return translated(server_of(self.settings), what)


def _groups(items: Iterable[T]) -> Iterator[list[T]]:
    """Cut into as many as one request names."""
    several = list(items)
    return (several[start : start + AT_ONCE] for start in range(0, len(several), AT_ONCE))


def _home(manifest: Manifest) -> str:
    """Give what the paths of a table's files with documents begin with."""
    return f"{layout.table(manifest.tenant, layout.beside(manifest.table, NAME))}/"


def _note(manifest: Manifest) -> dict[str, Any] | None:
    """Give where the documents of a commit go, if it has any."""
    return manifest.sinks[NAME].note if NAME in manifest.sinks else None


def _place(note: Mapping[str, Any]) -> tuple[str, str]:
    return note["database"], note["collection"]


def _new(manifest: Manifest) -> list[DataFile]:
    """List the files with documents that a commit adds.

    What is left of rewritten files is of other sources; what an undo brings back has batches of its own, and is
    restored once the log entry is there.
    """
    if manifest.kind == "undo":
        return []
    uris = {record.uri for record in manifest.sources}
    return [part for part in manifest.files(NAME) if not uris.isdisjoint(part.sources)]


def _with_rows_of(uris: Collection[str], history: Iterable[Manifest]) -> list[DataFile]:
    mine = set(uris)
    return [part for part in live_files(history, NAME) if not mine.isdisjoint(part.sources)]


def _of(table: str, uris: Iterable[str]) -> dict[str, Any]:
    return {_TABLE: table, _SOURCE: {"$in": list(uris)}}


def _by_key(keys: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    """Ask for documents by their keys."""
    from bson import decode  # noqa: PLC0415 - an optional package

    return ({"_id": {"$in": [decode(key)["_id"] for key in some]}} for some in _groups(keys))


def _identities(rows: pa.Table) -> Iterator[tuple[bytes, Held]]:
    sources, batches = rows["source"].to_pylist(), rows["_batch"].to_pylist()
    return zip(rows["_id"].to_pylist(), map(Held, sources, batches), strict=True)


def _held(collection: Stored[Any], filters: Iterable[dict[str, Any]]) -> dict[bytes, Held]:
    """Ask which documents there are, by key."""
    from bson import encode  # noqa: PLC0415 - an optional package

    there = {}
    for chosen in filters:
        for document in collection.find(chosen, {_SOURCE: 1, _BATCH: 1}):
            about = document[ABOUT]
            there[encode({"_id": document["_id"]})] = Held(about["source"], about["batch"])
    return there


def _claim(collection: Stored[Any], table: str) -> None:
    """Check that a collection has no documents of others. Give it its index."""
    other = collection.find_one({_TABLE: {"$ne": table}}, {_TABLE: 1})
    if other is not None:
        owner = other.get(ABOUT, {}).get("table")
        raise CollectionError(
            f"Collection '{collection.full_name}' has other documents",
            expected=f"none, or those of table {table} alone",
            got=f"one of table {owner}" if owner else f"one that ingestlab has not written, _id {other['_id']!r:.80}",
            fix="Name another collection in Documents. Nothing was changed.",
        )
    collection.create_index([(_TABLE, 1), (_SOURCE, 1)], name="ingestlab")


def _write(collection: Stored[Any], documents: Mapping[bytes, bytes]) -> None:
    """Write documents, over those with their keys as well."""
    from bson.raw_bson import RawBSONDocument as Raw  # noqa: PLC0415 - an optional package
    from pymongo import ReplaceOne  # noqa: PLC0415 - likewise
    from pymongo.errors import BulkWriteError  # noqa: PLC0415 - likewise

    writes: list[Any] = [ReplaceOne(Raw(key), Raw(document), upsert=True) for key, document in documents.items()]
    try:
        done = collection.bulk_write(writes, ordered=False)
    except BulkWriteError as error:
        if {refused["code"] for refused in error.details["writeErrors"]} - CONFLICTS:
            raise
        done = collection.bulk_write(writes, ordered=False)  # another job has made the same documents just now
    if (count := done.matched_count + done.upserted_count) != len(writes):
        raise TransientError(
            "Documents are missing",
            expected=f"{len(writes):,} documents written to {collection.full_name}",
            got=f"{count:,}",
            fix="It will be tried again.",
            code="mongodb_unavailable",
        )


def _rewrite(collection: Stored[Any], documents: Mapping[bytes, bytes], there: Mapping[bytes, Held]) -> None:
    """Write documents over those that were seen, or where none was. What others wrote since is left alone."""
    from bson.raw_bson import RawBSONDocument as Raw  # noqa: PLC0415 - an optional package
    from pymongo import InsertOne, ReplaceOne  # noqa: PLC0415 - likewise

    collection.bulk_write(
        [
            ReplaceOne(_seen(key, there), Raw(document)) if key in there else InsertOne(Raw(document))
            for key, document in documents.items()
        ],
        ordered=False,
    )


def _remove(collection: Stored[Any], keys: Iterable[bytes], there: Mapping[bytes, Held]) -> None:
    """Delete documents as they were seen."""
    from pymongo import DeleteOne  # noqa: PLC0415 - an optional package

    for some in _groups(keys):
        collection.bulk_write([DeleteOne(_seen(key, there)) for key in some], ordered=False)


def _seen(key: bytes, there: Mapping[bytes, Held]) -> dict[str, Any]:
    from bson import decode  # noqa: PLC0415 - an optional package

    return {**decode(key), _BATCH: there[key].batch}
