"""A lake with a table that is merged by key, and the same story told to a dict."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from ingestlab.core.models import Again, IngestRequest, IngestResult, Source
from ingestlab.engine.services import Services
from ingestlab.lake import layout
from ingestlab.lake.data_files import open_part
from ingestlab.lake.keys import KeyIndex
from ingestlab.lake.log import live_files, manifests
from ingestlab.maintenance.delete import delete
from ingestlab.maintenance.reconcile import reconcile
from ingestlab.maintenance.replay.replay import replay
from ingestlab.sinks.milvus.memory import MemoryVectors
from ingestlab.sinks.milvus.vector_values import Where
from support.embedding_world import FragileDb
from support.lake import FaultInjector, World

PIPELINE = """
from ingestlab import Aggregate, Csv, Embedding, Pipeline
import numpy as np
import pandera.pandas as pa

def model(texts):
    return np.array([[len(text), 1 + sum(map(ord, text)) % 97] for text in texts], dtype="float32")

PIPELINE = Pipeline(
    reader=Csv(columns={"id": "int64", "at": "int64", "gone": "bool", "n": "int64", "day": "string"}),
    contract=pa.DataFrameSchema({"n": pa.Column(checks=pa.Check.lt(LIMIT), nullable=True)}),
    max_reject_ratio=1,
    write_disposition="merge",
    key=["id"],
    MORE
)
"""
VECTORS = 'embedding=Embedding(source="day", model=model, collection="words", payload=["id"]),'
LATEST = 'latest_by="at", delete_if="gone",'


class Row(NamedTuple):
    """A row of a source file."""

    id: int | None
    at: int | None = 0
    gone: bool = False
    n: int = 0
    day: str = "mon"


class MergeWorld(World):
    """A lake whose table `small` is merged by `id`, with what must be in it by id."""

    def __init__(self, folder: Path, redis_url: str, more: str = LATEST, limit: int = 100, **settings: Any) -> None:
        super().__init__(folder, redis_url, **settings)
        self.more, self.table = more, {}
        self.limited(limit)
        self.contents: dict[str, tuple[Row, ...]] = {}  # that are committed, by URI
        self.rejected: dict[str, list[tuple[int, Row]]] = {}

    def limited(self, limit: int) -> None:
        """Let the contract reject what is not below a number."""
        self.limit = limit
        text = PIPELINE.replace("LIMIT", str(limit)).replace("MORE", self.more)
        (self.folder / "pipelines/small.py").write_text(text)

    def merge(
        self, name: str, rows: Sequence[Row], faults: FaultInjector | None = None, *, run: str, force: bool = False
    ) -> IngestResult:
        """Ingest a file, and tell the dict once it is done."""
        uri = self.put_rows(name, rows)
        result = self.ingest([uri], faults, run=run, force=force)
        self.tell(uri, tuple(rows), force=force)
        return result

    def put_rows(self, name: str, rows: Sequence[Row]) -> str:
        """Write a source file."""
        path = self.folder / "sources" / name
        path.parent.mkdir(exist_ok=True)
        lines = [",".join("" if v is None else str(v) for v in row) for row in rows]
        path.write_text("\n".join(["id,at,gone,n,day", *lines, ""]))
        return path.as_uri()

    def tell(self, uri: str, rows: tuple[Row, ...], *, force: bool = False) -> None:
        """Tell the dict of a file."""
        if force:
            self.forget(uri)
        elif self.contents.get(uri) == rows:
            return
        self.contents[uri] = rows
        bad = [(i, row) for i, row in enumerate(rows) if row.id is None or row.n >= self.limit]
        self.rejected[uri] = [*bad]
        self.apply(uri, [pair for pair in enumerate(rows) if pair not in bad])

    def apply(self, uri: str, rows: Sequence[tuple[int, Row]]) -> None:
        """Merge rows into the dict, one after the other: the latest of each key of a commit first."""
        ordered = self.more.startswith("latest_by")
        last: dict[Any, tuple[int, Row]] = {}
        for i, row in rows:
            if row.id not in last or not ordered or _age(row) >= _age(last[row.id][1]):
                last[row.id] = (i, row)
        for key, (i, row) in last.items():
            if key in self.table and ordered and _age(row) < _age(self.table[key][2]):
                continue
            self.table.pop(key, None)
            if not (row.gone and "delete_if" in self.more):
                self.table[key] = (uri, i, row)

    def forget(self, uri: str) -> None:
        """Take a source out of the dict."""
        self.table = {key: held for key, held in self.table.items() if held[0] != uri}
        self.contents.pop(uri, None)
        self.rejected.pop(uri, None)

    def replay(self, uri: str, run: str, faults: FaultInjector | None = None) -> IngestResult:
        """Replay the rejects of a source."""
        request = IngestRequest(run=run, table="small", sources=(Source(uri=uri),), replay=Again())
        result = replay(request, self.context(faults), lambda _progress: None)
        passing = [(i, row) for i, row in self.rejected[uri] if row.id is not None and row.n < self.limit]
        self.rejected[uri] = [pair for pair in self.rejected[uri] if pair not in passing]
        self.apply(uri, passing)
        return result

    def read(self, table: str = "small") -> pa.Table:
        """All rows, as a reader that knows nothing of ingestlab finds them."""
        return pq.read_table(f"{self.store.url}/{layout.table('default', table)}")

    def tell_and_check(self) -> None:
        """Rows are superseded, deleted and come back, and a source goes; all is right after each step."""
        self.merge("a.csv", [Row(i) for i in range(10)], run="r1")
        self.merge("b.csv", [Row(3, at=1), Row(3, at=2), Row(4, at=1, gone=True), Row(5, at=None)], run="r2")
        self.check_merged()
        self.merge("a.csv", [Row(i, at=1) for i in range(8)], run="r3")
        self.check_merged()
        delete((self.folder / "sources/b.csv").as_uri(), self.context())
        self.forget((self.folder / "sources/b.csv").as_uri())
        self.check_merged()

    def check_merged(self) -> None:
        """The table is what the dict is, every file is in the log, and no index tells anything wrong."""
        history = manifests(self.store, "default", "small")
        live = list(live_files(history, "parquet"))
        on_disk = {path for path in self.store.walk(layout.table("default", "small")) if path.endswith(".parquet")}
        assert on_disk == {part.target for part in live}
        assert list(self.store.walk(layout.stagings())) == []
        found = {}
        if live:
            rows = self.read().to_pylist()
            keys = [row["id"] for row in rows]
            assert len(keys) == len(set(keys)), f"doubled keys: {sorted(keys)}"
            found = {
                row["id"]: (row["_source"], row["_row"], Row(row["id"], row["at"], row["gone"], row["n"], row["day"]))
                for row in rows
            }
        assert found == self.table
        for part in live:
            assert part.rows == pq.read_metadata(self.store.full(part.target)).num_rows
            sources = set(pq.ParquetFile(self.store.full(part.target)).read(["_source"])["_source"].to_pylist())
            assert set(part.sources) == sources or not part.target.rpartition("-")[2].startswith("k")
            path = layout.key_index("default", "small", part.target, ["id"])
            if kept := KeyIndex.read(self.store, path):
                built = KeyIndex.build(open_part(part, self.store), part.target.split("/", 3)[3], ["id"])
                assert kept.hashes.tolist() == built.hashes.tolist()
                assert kept.places.tolist() == built.places.tolist()


class MergedVectors(MergeWorld):
    """A lake whose merged table has vectors, in a store that can die as well."""

    def __init__(self, folder: Path, redis_url: str, more: str = LATEST, **options: Any) -> None:
        super().__init__(folder, redis_url, f"{more} {VECTORS}", milvus_uri="memory://", **options)
        self.db, self.faults = MemoryVectors(), None

    def context(self, faults: FaultInjector | None = None) -> Services:
        self.faults = faults
        return super().context(faults)

    def connected(self, _settings: Any) -> Any:
        return FragileDb(self.db, self.faults) if self.faults else self.db

    def check_merged(self) -> None:
        """As before, and: one vector for each row, in the lake and in the store alike."""
        super().check_merged()
        wanted = {(key, uri, row) for key, (uri, row, _) in self.table.items()}
        there = self.db.fetch("words", Where(), ["id", "source", "row"]).to_pylist()
        assert {(r["id"], r["source"], r["row"]) for r in there} == wanted
        kept = self.read("small__vectors").to_pylist() if wanted else []
        assert {(r["id"], r["source"], r["row"]) for r in kept} == wanted
        assert len(there) == len(kept) == len(wanted)
        assert reconcile(self.context().lake).clean


def _age(row: Row) -> tuple[bool, int]:
    return (row.at is not None, row.at or 0)
