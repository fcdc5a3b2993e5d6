"""One suite for every sink: what commit, recovery and reconcile rely on."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from contextlib import closing
from dataclasses import replace
from typing import Any, get_args
from uuid import uuid4

import pyarrow.parquet as pq
import pytest
from support.embedding_world import VectorWorld
from support.lake import Crash, FaultInjector, Inline

from ingestlab.core.errors import TerminalError
from ingestlab.core.models import Manifest, Staged
from ingestlab.core.mongodb import connected, server_of
from ingestlab.interfaces import Sink
from ingestlab.lake import layout
from ingestlab.maintenance.reconcile import reconcile
from ingestlab.pipeline.catalog import Catalog
from ingestlab.pipeline.catalogues import CatalogueName
from ingestlab.sinks import BUILT_IN
from ingestlab.sinks.milvus import commit as milvus
from ingestlab.sinks.milvus.vector_values import Where
from ingestlab.sinks.opening import Sinks

PIPELINE = """
from ingestlab import Aggregate, Csv, Documents, Embedding, Pipeline
import numpy as np
import pandera.pandas as pa

def model(texts):
    return np.array([[len(text), 1, 2] for text in texts], dtype="float32")

PIPELINE = Pipeline(
    reader=Csv(columns={"n": "int64", "word": "string"}),
    contract=pa.DataFrameSchema({"n": pa.Column(checks=pa.Check.lt(1000))}),
    max_reject_ratio=1,
    write_disposition="replace",
    aggregates={"by_word": Aggregate(by="word", measures={"rows": "count"})},
    embedding=Embedding(source="word", model=model, collection="words", payload=["n"]),
    documents=Documents(),
)
"""

PLAIN = """
from ingestlab import Csv, Pipeline

PIPELINE = Pipeline(
    reader=Csv(columns={"n": "int64", "word": "string"}), write_disposition="replace", max_reject_ratio=1
)
"""


class AtIntent(FaultInjector):
    """The process dies when it has written its intent: all is staged, and no sink has heard of it."""

    def guard(self, function: Any) -> Any:
        def guarded(*args: Any, **options: Any) -> Any:
            result = function(*args, **options)
            if args and str(args[0]).startswith(layout.intents()):
                raise Crash
            return result

        return guarded


class Twice(Inline):
    """A cluster on which each task runs twice, as where a worker is lost after its work."""

    def map(self, function: Any, calls: Any, keys: Any, resources: Any = None) -> Any:
        return super().map(lambda *call: [function(*call) for _ in range(2)][-1], calls, keys, resources)


class Left(Sinks):
    """The sinks that are there when the package of plug-ins has gone."""

    def __getitem__(self, name: str) -> Sink:
        if name not in BUILT_IN:
            raise TerminalError(f"There is no plug-in '{name}' in ingestlab.sinks")
        return super().__getitem__(name)

    def __iter__(self) -> Any:
        return iter(BUILT_IN)


class SinkWorld(VectorWorld):
    """A table that has something for every sink."""

    def edit(self, **_words: Any) -> None:
        (self.folder / "pipelines/small.py").write_text(PIPELINE)

    def connected(self, _settings: Any) -> Any:
        return self.db

    def staged(self, numbers: list[int], run: str) -> Manifest:
        """What a commit of a file is about to do."""
        with pytest.raises(Crash):
            self.ingest([self.put("a.csv", numbers)], AtIntent(), run=run)
        (intent,) = self.context().lake.intents()
        return intent

    def visible(self) -> tuple[list[str], ...]:
        """What readers find: files, vectors, documents in MongoDB, and those of the plug-in."""
        files = [path for path in self.store.walk("tables") if path.endswith(".parquet")]
        everything = Where(tenant="default", table="small")
        keys = self.db.fetch("words", everything, ["pk"])["pk"].to_pylist() if self.db.resolve("words") else []
        stored = connected(server_of(self.settings))[self.settings.mongodb_database]["small"].distinct("_ingestlab")
        return files, sorted(keys), sorted(map(str, stored)), [key for key, _ in self.documents()]

    def documents(self) -> list[tuple[str, str]]:
        """Keys and texts of the plug-in's documents."""
        with closing(sqlite3.connect(self.settings.home / "documents.db")) as db:
            if not db.execute("SELECT * FROM sqlite_master").fetchall():
                return []
            return sorted(db.execute("SELECT id, body FROM documents"))


@pytest.fixture
def world(tmp_path, redis_url, mongodb, monkeypatch) -> SinkWorld:
    made = SinkWorld(tmp_path, redis_url, "replace", mongodb_uri=mongodb, mongodb_database=f"c{uuid4().hex[:12]}")
    monkeypatch.setattr(milvus, "connected", made.connected)
    return made


HERE = [name for name in BUILT_IN if name not in get_args(CatalogueName)]  # catalogues have a suite of their own


@pytest.fixture(params=[*HERE, "documents"])
def name(request) -> str:
    """Which of the sinks is asked."""
    return request.param


def sink_of(world: SinkWorld, name: str) -> Sink:
    return world.context().lake.sinks[name]


def test_what_is_prepared_twice_is_there_once_and_undone_it_is_gone(world, name):
    intent = world.staged([1, 2, 5000], "r1")
    sink, before = sink_of(world, name), world.visible()
    sink.prepare(intent)
    prepared = world.visible()
    assert prepared != before
    sink.prepare(intent)
    assert world.visible() == prepared
    for _ in range(2):
        sink.undo(intent, list)
        assert world.visible() == before


def test_undoing_what_was_never_prepared_changes_nothing(world, name):
    intent = world.staged([1, 2, 5000], "r1")
    before = world.visible()
    sink_of(world, name).undo(intent, list)
    assert world.visible() == before


def test_what_is_finished_twice_has_only_the_latest(world, name):
    world.ingest([world.put("a.csv", [1, 2, 5000])], run="r1")
    old = world.visible()
    intent = world.staged([3, 6000], "r2")
    sink = sink_of(world, name)
    sink.prepare(intent)
    sink.finish(intent)
    finished = world.visible()
    assert not all(set(now) >= set(then) for now, then in zip(finished, old, strict=True)), "old ones are gone"
    assert not all(set(then) >= set(now) for now, then in zip(finished, old, strict=True)), "new ones are there"
    sink.prepare(intent)
    sink.finish(intent)
    assert world.visible() == finished


def test_a_commit_that_has_nothing_for_a_sink_does_nothing_to_it(world, name):
    intent = world.staged([1, 2, 5000], "r1")
    empty = {"sinks": {name: Staged()}, "superseded": ()}
    bare, sink, before = intent.model_copy(update=empty), sink_of(world, name), world.visible()
    assert sink.shared(bare) == ""
    sink.prepare(bare)
    sink.finish(bare)
    sink.undo(bare, list)
    assert world.visible() == before


def test_what_a_sink_has_of_data_files_written_anew_is_what_its_writer_staged(world, name):
    intent, code = world.staged([1, 2, 5000], "r1"), Catalog.read(world.settings).named("small")
    derived = sink_of(world, name).derive(code, ("default", "small"), "anew", intent.files("parquet"))
    if name != "aggregates":
        assert derived == {}
        return
    (own,) = intent.files("aggregates")
    (part,) = intent.files("parquet")
    assert list(derived) == [part.target]
    (again,) = derived[part.target]
    assert (again.target, again.rows) == (own.target, own.rows)
    assert again.staged != own.staged
    tables = [pq.read_table(world.folder / world.settings.lake_url / file.staged) for file in (again, own)]
    assert tables[0].equals(tables[1])


def test_what_was_committed_verifies(world, name):
    world.ingest([world.put("a.csv", [1, 2, 5000])], run="r1")
    sink, live = sink_of(world, name), world.context().lake.log("default", "small").snapshot()
    assert not sink.verify("default", "small", live)
    before = world.visible()
    sink.restore("default", "small", sorted(world.expected), live)
    assert world.visible() == before


def test_a_commit_names_the_sinks_that_its_table_fills(world):
    world.ingest([world.put("a.csv", [1, 2, 5000])], run="r1")
    (manifest,) = world.context().lake.log("default", "small").history()
    filled = [name for name in BUILT_IN if name not in get_args(CatalogueName)]
    assert list(manifest.sinks) == [*filled, "announcements", "documents"]
    (world.folder / "pipelines/small.py").write_text(PLAIN)
    world.ingest([world.put("b.csv", [1])], run="r2")
    assert list(world.context().lake.log("default", "small").history()[-1].sinks) == [
        "parquet",
        "rejects",
        "announcements",
        "documents",
    ]


def test_rows_that_a_foreign_sink_cannot_take_are_rejects(world):
    (world.folder / "pipelines/small.py").write_text(PLAIN)
    (outcome,) = world.ingest([world.put("a.csv", [1, 2**60, 3])], run="r1").outcomes
    assert (outcome.tally.accepted, outcome.tally.rejected) == (2, 1)
    assert [json.loads(text)["n"] for _, text in world.documents()] == [1, 3]
    (staged,) = world.context().lake.log("default", "small").history()[0].files("rejects")
    assert pq.read_table(world.folder / world.settings.lake_url / staged.target)["rule"].to_pylist() == [
        "documents:too large"
    ]


@pytest.mark.parametrize("after", [False, True])
def test_a_foreign_sink_has_every_row_once_whenever_a_job_dies(world, after, monkeypatch):
    """Each task runs twice, the job dies at each of its changes, and is retried; a file gets new rows each time."""
    monkeypatch.setattr("support.lake.Inline", Twice)
    (world.folder / "pipelines/small.py").write_text(PLAIN)
    other = world.put("other.csv", [7, 8])
    for at in range(1, 200):
        uri = world.put("a.csv", [at, at + 1, at + 2])
        try:
            world.ingest([uri, other], FaultInjector(at, after=after), run=f"r{at}")
            died = False
        except Crash:
            died = True
            world.locks.client.flushdb()
            if at % 2:
                world.reconcile()
            world.ingest([uri, other], run=f"r{at}-again")
        found = Counter(json.loads(text)["n"] for _, text in world.documents())
        assert found == Counter([at, at + 1, at + 2, 7, 8])
        live = world.context().lake.log("default", "small").snapshot()
        assert not sink_of(world, "documents").verify("default", "small", live)
        if not died:
            assert at > 10
            return
    raise AssertionError("the injector never stopped")


def test_a_sink_that_is_not_installed_any_more_stops_what_concerns_it_alone(world):
    world.ingest([world.put("a.csv", [1, 2, 5000])], run="r1")
    lake = world.context().lake
    (manifest,) = lake.log("default", "small").history()
    left = replace(lake, sinks=Left(world.settings, world.store, Inline()))
    assert reconcile(left).clean
    with pytest.raises(TerminalError, match="no plug-in 'documents'"):
        left.sinks_of(manifest)
    nothing = manifest.model_copy(update={"sinks": manifest.sinks | {"documents": Staged()}})
    assert len(left.sinks_of(nothing)) == len(HERE)
