"""Every published row that says something is found by its own text, in every store."""

from __future__ import annotations

import json

import pytest
from support.embedding_world import maker

from ingestlab.core.settings import Settings
from ingestlab.sinks.milvus.search import search
from ingestlab.sinks.milvus.vectors import open_vectors

PIPELINE = """
from ingestlab import Embedding, JsonLines, Pipeline, Split

PIPELINE = Pipeline(
    reader=JsonLines(columns={"id": "int64", "title": "string", "body": "string"}),
    embedding=Embedding(source="body", collection="texts", payload=["id", "title"], OPTIONS),
)
"""
TEXTS = [
    "The cat sleeps on the sofa.",
    "The cat sleeps on the sofa.",
    "a",
    ".",
    " blanks around ",
    "two\nlines\r\nand\ttabs",
    "nul \x00 inside",
    "\x00",
    "\u200b",
    "\ufeffmark of order",
    "\u202eright to left",
    "🐧",
    "日本語の文書です。",
    "e\u0301 and é",
    'say "hi" \\ it\'s {braces} %s',
    "word " * 2000,
    "x" * 5000,
    "é" * 30_000,
    *(f"note number {n} of many" for n in range(40)),
]
SILENT = [None, "", "  \n", "\xa0\u3000"]


@pytest.fixture(params=["memory", pytest.param("lite", marks=pytest.mark.slow("Milvus Lite"))])
def world(request, tmp_path_factory, redis_url, monkeypatch):
    world = maker(tmp_path_factory, redis_url, monkeypatch)()
    if request.param == "lite":
        world.db = open_vectors(Settings(milvus_uri=request.getfixturevalue("milvus_lite").url))
    monkeypatch.setattr("ingestlab.sinks.milvus.search.connected", lambda _settings: world.db)
    yield world
    if target := world.db.resolve("texts"):
        world.db.drop(target)


@pytest.mark.parametrize(
    "options", ["", "split=Split(size=40)", 'split=Split(size=300, overlap=50, prefix="title")', 'key="id"']
)
def test_a_row_is_found_by_its_own_text(world, options):
    (world.folder / "pipelines/small.py").write_text(PIPELINE.replace("OPTIONS", options))
    path = world.folder / "sources/texts.jsonl"
    path.parent.mkdir(exist_ok=True)
    rows = [{"id": i, "title": f"t{i % 3}", "body": text} for i, text in enumerate([*TEXTS, *SILENT])]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (outcome,) = world.ingest([path.as_uri()]).outcomes
    assert (outcome.status, outcome.tally.accepted) == ("committed", len(rows))
    silent = [i for i, text in enumerate([*TEXTS, *SILENT]) if text in SILENT]
    with_prefix = "prefix" in options
    assert outcome.facts.get("no vector") == (None if with_prefix else f"rows {str(silent)[1:-1]} (no text)")
    kept = world.db.fetch("texts", search_all(), ["row", "text"]).to_pylist()
    assert {row["row"] for row in kept} == set(range(len(rows))) - (set() if with_prefix else set(silent))
    some = list({row["text"]: row["row"] for row in kept}.items())[::7]
    hits = search("texts", [text for text, _ in some], world.settings, limit=len(kept))
    for number, (text, row) in enumerate(some):
        mine = hits[hits["query"] == number]
        best = mine[mine["score"] > mine["score"].max() - 1e-4]
        assert row in best["row"].tolist(), text
        assert text in best["text"].tolist()


def search_all():
    from ingestlab.sinks.milvus.vector_values import Where

    return Where(tenant="default")
