"""A world whose table has vectors, in a store that can die as well."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from ingestlab.core.models import IngestRequest, Source
from ingestlab.engine.ingest import ingest
from ingestlab.engine.services import Services
from ingestlab.lake.log import live_partials, live_parts, manifests
from ingestlab.maintenance.reconcile import reconcile
from ingestlab.sinks.milvus import commit as module
from ingestlab.sinks.milvus.memory import MemoryVectors
from ingestlab.sinks.milvus.vector_values import Where
from support.lake import Crash, FaultInjector, World

PIPELINE = """
from ingestlab import Csv, Embedding, Pipeline, Split
import numpy as np
import pandera.pandas as pa

def clean(df):
    return df[df["n"] != 13].assign(even=df["n"] // 2 * 2 == df["n"])

def model(texts):
    with open(COUNTER, "a") as file:
        file.write("".join(f"{text}\\n" for text in texts))
    return np.array([[len(text), 1 + sum(map(ord, text)) % 97, VERSION] for text in texts], dtype="float32")

Small = pa.DataFrameSchema({"n": pa.Column(checks=pa.Check.lt(1000))})

PIPELINE = Pipeline(
    reader=Csv(columns={"n": "int64", "word": "string"}),
    clean=clean,
    contract=Small,
    partition_by="even",
    write_disposition="DISPOSITION",
    embedding=Embedding(source="word", model=model, collection="words", payload=["n"]),
)
"""
FIRST, SECOND = [5, 13, 7], [1, 2, 2000, 4]


class VectorWorld(World):
    """A world whose table has vectors, in a store of its own that can die as well."""

    def __init__(self, folder, redis_url, disposition="append", **options):
        super().__init__(folder, redis_url, disposition, **{"milvus_uri": "memory://", **options})
        self.counter = folder / "embedded.txt"
        self.db, self.faults = MemoryVectors(), None
        self.edit(DISPOSITION=disposition)

    def edit(self, **words: Any) -> None:
        text = PIPELINE.replace("COUNTER", repr(str(self.counter)))
        for name, word in ({"VERSION": 1, "DISPOSITION": "append"} | words).items():
            text = text.replace(name, str(word))
        (self.folder / "pipelines/small.py").write_text(text)

    def context(self, faults: FaultInjector | None = None) -> Services:
        self.faults = faults
        return super().context(faults)

    def connected(self, _settings: Any) -> Any:
        return FragileDb(self.db, self.faults) if self.faults else self.db

    def ingest(self, uris, faults=None, *, run="r1", force=False):
        request = IngestRequest(
            run=run, pipeline="small", table="t", sources=tuple(Source(uri=u) for u in uris), force=force
        )
        return ingest(request, self.context(faults), lambda _progress: None)

    def reconcile(self):
        return reconcile(self.context().lake)

    def check(self, uris):
        """The laws of the lake, and: one vector a published row, in the lake and in the store alike."""
        history = manifests(self.store, "default", "small")
        named = {p.target for p in (*live_parts(history), *live_partials(history))}
        assert {p for p in self.store.walk("tables") if p.endswith(".parquet")} == named
        assert list(self.store.walk("_ingestlab/embedded")) == []
        assert list(self.store.walk("_ingestlab/intents")) == []
        published, kept = self.rows("small"), self.rows("small__vectors")
        there = self.there()
        for uri in uris:
            assert kept[uri] == published[uri], f"{uri}: vectors in the lake"
            assert there[uri] == published[uri], f"{uri}: vectors in the store"
        assert self.db.count("words", Where()) == sum(c.total() for c in published.values())

    def there(self) -> dict[str, Counter[int]]:
        found: dict[str, Counter[int]] = {uri: Counter() for uri in self.expected}
        rows = self.db.fetch("words", Where(tenant="default", table="small"), ["source", "row", "n", "text"])
        for row in rows.to_pylist():
            assert row["text"] == f"w{row['n']}"
            found[row["source"]][row["row"]] += 1
        return found

    def embedded(self) -> Counter[str]:
        """How often each text went through the model; its canary is none of them."""
        lines = self.counter.read_text().splitlines() if self.counter.exists() else []
        return Counter(line for line in lines if line[0] == "w" and line[1:].isdigit())


class FragileDb:
    """A store of vectors that dies with the process."""

    CHANGES = frozenset({"ensure", "build", "upsert", "delete", "switch", "drop"})

    def __init__(self, inner, faults):
        self._inner, self._faults = inner, faults

    def __getattr__(self, name):
        value = getattr(self._inner, name)
        return self._faults.guard(value) if name in self.CHANGES else value


def maker(folders: pytest.TempPathFactory, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """What a fixture gives to make worlds with: the last one made is connected."""

    def make(disposition: str = "append", folder: Path | None = None, **options: Any) -> VectorWorld:
        world = VectorWorld(folder or folders.mktemp("v"), redis_url, disposition, **options)
        monkeypatch.setattr(module, "connected", world.connected)
        return world

    return make


def crash_then(world, uris, at, after, **options) -> bool:
    """Ingests with a crash at change `at`; False if there were fewer."""
    try:
        world.ingest(uris, FaultInjector(at, after=after), **options)
    except Crash:
        return True
    return False
