"""Exact search: a question is compared with every vector that the lake has of a collection.

Milvus Lite looks at each row of a collection in Python for each search, so that 100,000 rows take half a second, and
its approximate index loses rows where many vectors are equal. The lake has the same vectors in Parquet files that never
change: read once a process, and compared by numpy, they give the right rows in a few milliseconds. The log says which
files are live, so that a search sees every commit.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ingestlab.core.models import DataFile
from ingestlab.interfaces import Store
from ingestlab.lake import layout
from ingestlab.lake.log import TransactionLog
from ingestlab.sinks.milvus.commit import latest
from ingestlab.sinks.milvus.embedding import BESIDE
from ingestlab.sinks.milvus.nearest import Nearest
from ingestlab.sinks.milvus.resident import Resident
from ingestlab.sinks.milvus.vector_rows import TYPES, matrix, prepared, shortened
from ingestlab.sinks.milvus.vector_values import Collection

MOST_BYTES = 3 << 29  # of vectors in memory; a larger collection is left to its server
_TRIES = 3  # to read files before a commit replaces one of them

Live = tuple[Collection | None, tuple[DataFile, ...]]  # what a table's vectors are for, and where they are


class ExactSearch:
    """The collections that this process has searched, as long as they fit.

    Safe for threads.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._live: dict[tuple[str, str, str], tuple[object, Live]] = {}
        self._kept: OrderedDict[tuple[str, str, str], tuple[object, Resident]] = OrderedDict()

    def open(self, store: Store, tenant: str, made: Collection) -> Resident | None:
        """Read a tenant's part of a collection, as it is now.

        Args:
            store: The lake.
            tenant: Whose rows.
            made: The collection.

        Returns:
            None where the lake has no vectors of it, or more than memory should hold.
        """
        with self._lock:
            for attempt in range(_TRIES):
                live = [self._of(TransactionLog(store, tenant, name)) for name in _with_vectors(store, tenant)]
                mine = [parts for of, parts in live if of and of.name == made.name]
                alike = all(of.fingerprint.same(made.fingerprint) for of, _ in live if of and of.name == made.name)
                parts = [part for some in mine for part in some]
                if not mine or not alike or 4 * made.dim * sum(part.rows for part in parts) > MOST_BYTES:
                    return None
                try:
                    return self._read(store, tenant, made, parts)
                except FileNotFoundError:  # a commit has replaced it
                    if attempt == _TRIES - 1:
                        raise
        raise AssertionError

    def _of(self, log: TransactionLog) -> Live:
        """Find the vectors of a table, anew only after a commit."""
        tip, key = log.tip(), (log.store.url, log.tenant, log.table)
        mark = (tip, *log.store.read_files([layout.entry(log.tenant, log.table, tip)]))
        if self._live.get(key, (None, None))[0] != mark:
            snapshot = log.snapshot()
            home = layout.table(log.tenant, layout.beside(log.table, BESIDE))
            self._live[key] = (mark, (latest(snapshot.latest()), snapshot.parts(home)))
        return self._live[key][1]

    def _read(self, store: Store, tenant: str, made: Collection, parts: Sequence[DataFile]) -> Resident:
        """Give what is in memory, or read it. The collections used last stay."""
        key, mark = (store.url, tenant, made.name), (made, [part.target for part in parts])
        if self._kept.get(key, (None, None))[0] != mark:
            self._kept.pop(key, None)
            self._kept[key] = (mark, _loaded(store, made, [part.target for part in parts]))
        self._kept.move_to_end(key)
        while len(self._kept) > 1 and sum(kept.nbytes for _, kept in self._kept.values()) > MOST_BYTES:
            self._kept.popitem(last=False)
        return self._kept[key][1]


EXACT = ExactSearch()  # of this process


def _with_vectors(store: Store, tenant: str) -> list[str]:
    """List a tenant's tables with vectors beside them."""
    ending, home = layout.beside("", BESIDE), layout.table(tenant, "").rstrip("/")
    return sorted(name.removesuffix(ending) for name in store.children(home) if name.endswith(ending))


def _loaded(store: Store, made: Collection, paths: Sequence[str]) -> Resident:
    """Read files of vectors. Their columns become what they are in the collection."""
    names = tuple(column.name for column in made.columns)
    kinds = {"pk": "text"} | {column.name: column.kind for column in made.columns}
    rows = [pa.table({name: pa.array([], TYPES[kind]) for name, kind in kinds.items()})]
    vectors = [np.empty((0, made.dim), np.float32)]
    for path, data in zip(paths, store.read_files(paths), strict=True):
        if data is None:
            raise FileNotFoundError(path)
        table = prepared(shortened(pq.read_table(pa.BufferReader(data)), made, names), made)
        vectors.append(matrix(table, made.dim))
        rows.append(table.drop_columns(["vector"]))
    return Resident(made, pa.concat_tables(rows).combine_chunks(), Nearest(np.concatenate(vectors), made.metric))
