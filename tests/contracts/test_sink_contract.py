"""One suite for every sink: what commit, recovery and reconcile rely on."""

from __future__ import annotations

from typing import Any

import pytest
from support.embedding_world import VectorWorld
from support.lake import Crash, FaultInjector

from ingestlab.core.models import Manifest
from ingestlab.core.plugins import plugins
from ingestlab.interfaces import Sink
from ingestlab.lake import layout
from ingestlab.sinks.milvus import commit as milvus
from ingestlab.sinks.milvus.vectors import Where

PIPELINE = """
from ingestlab import Aggregate, Csv, Embedding, Pipeline
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

    def visible(self) -> tuple[list[str], list[str]]:
        """What readers find, in files and in the collection."""
        files = [path for path in self.store.walk("tables") if path.endswith(".parquet")]
        everything = Where(tenant="default", table="small")
        keys = self.db.fetch("words", everything, ["pk"])["pk"].to_pylist() if self.db.resolve("words") else []
        return files, sorted(keys)


@pytest.fixture
def world(tmp_path, redis_url, monkeypatch) -> SinkWorld:
    made = SinkWorld(tmp_path, redis_url, "replace")
    monkeypatch.setattr(milvus, "connected", made.connected)
    return made


@pytest.fixture(params=sorted(plugins("sinks")))
def number(request) -> int:
    """Which of the sinks is asked."""
    return list(plugins("sinks")).index(request.param)


def sink_of(world: SinkWorld, number: int) -> Sink:
    return world.context().lake.sinks[number]


def test_what_is_prepared_twice_is_there_once_and_undone_it_is_gone(world, number):
    intent = world.staged([1, 2, 5000], "r1")
    sink, before = sink_of(world, number), world.visible()
    sink.prepare(intent)
    prepared = world.visible()
    assert prepared != before
    sink.prepare(intent)
    assert world.visible() == prepared
    for _ in range(2):
        sink.undo(intent, list)
        assert world.visible() == before


def test_undoing_what_was_never_prepared_changes_nothing(world, number):
    intent = world.staged([1, 2, 5000], "r1")
    before = world.visible()
    sink_of(world, number).undo(intent, list)
    assert world.visible() == before


def test_what_is_finished_twice_has_only_the_latest(world, number):
    world.ingest([world.put("a.csv", [1, 2, 5000])], run="r1")
    old = world.visible()
    intent = world.staged([3, 6000], "r2")
    sink = sink_of(world, number)
    sink.prepare(intent)
    sink.finish(intent)
    finished = world.visible()
    assert not all(set(now) >= set(then) for now, then in zip(finished, old, strict=True)), "old ones are gone"
    assert not all(set(then) >= set(now) for now, then in zip(finished, old, strict=True)), "new ones are there"
    sink.prepare(intent)
    sink.finish(intent)
    assert world.visible() == finished


def test_a_commit_that_has_nothing_for_a_sink_does_nothing_to_it(world, number):
    intent = world.staged([1, 2, 5000], "r1")
    empty = {"parts": (), "rejects": (), "states": (), "vectors": (), "collection": None, "superseded": ()}
    bare, sink, before = intent.model_copy(update=empty), sink_of(world, number), world.visible()
    assert sink.shared(bare) == ""
    sink.prepare(bare)
    sink.finish(bare)
    sink.undo(bare, list)
    assert world.visible() == before


def test_what_was_committed_verifies(world, number):
    world.ingest([world.put("a.csv", [1, 2, 5000])], run="r1")
    sink, live = sink_of(world, number), world.context().lake.log("default", "small").snapshot()
    assert not sink.verify("default", "small", live)
    before = world.visible()
    sink.restore("default", "small", sorted(world.expected), live)
    assert world.visible() == before
