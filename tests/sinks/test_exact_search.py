"""A search finds the nearest rows, whatever is equal: against brute force, in memory, in the lake and on servers."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.embedding_world import maker
from support.selection import examples
from test_vectors_recall import search_all

from ingestlab.analytics.embedders.registry import embed_all, load
from ingestlab.core.errors import TerminalError
from ingestlab.core.settings import Settings
from ingestlab.sinks.milvus import search as module
from ingestlab.sinks.milvus.nearest import Nearest
from ingestlab.sinks.milvus.vectors import open_vectors

WORDS = ("rain", "image not found", "an upload of data", "snow", "the start page", "somebody logs in", "a b", "error")
PIPELINE = """
from ingestlab import Embedding, JsonLines, Pipeline

PIPELINE = Pipeline(
    reader=JsonLines(columns={"id": "int64", "status": "int64", "body": "string", "city": "string"}),
    embedding=Embedding(source="body", collection="texts", payload=["id", "status", "city"]),
)
"""


def scores_of(vectors: np.ndarray, query: np.ndarray, metric: str) -> np.ndarray:
    """What a metric says of each vector, in double precision; the larger the nearer."""
    wide, asked = vectors.astype(np.float64), query.astype(np.float64)
    if metric == "L2":
        return -((wide - asked) ** 2).sum(axis=1)
    products = wide @ asked
    lengths = np.linalg.norm(wide, axis=1) * np.linalg.norm(asked)
    return products / np.maximum(lengths, 1e-12) if metric == "COSINE" else products


@settings(max_examples=examples(40))
@given(
    st.integers(0, 60), st.integers(1, 6), st.integers(1, 70), st.sampled_from(["COSINE", "IP", "L2"]),
    st.booleans(), st.booleans(), st.integers(0, 2**31),
)  # fmt: skip
def test_the_nearest_rows_are_those_of_brute_force(count, different, limit, metric, filtered, grouped, seed):
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(different, 5)).astype(np.float32)[rng.integers(0, different, count)]
    queries = np.concatenate([rng.normal(size=(2, 5)).astype(np.float32), vectors[:1]])
    among = rng.random(count) < 0.5 if filtered else None
    groups = rng.integers(0, 4, count) if grouped else None
    for query, found in zip(queries, Nearest(vectors, metric).search(queries, limit, among, groups), strict=True):
        truth = pd.DataFrame({"score": scores_of(vectors, query, metric), "group": groups if grouped else range(count)})
        truth = truth[among] if filtered else truth
        best = truth.groupby("group")["score"].agg(["max", "size"]).sort_values("max", ascending=False)
        ours = truth.loc[found.rows]
        np.testing.assert_allclose(ours["score"], best["max"][:limit], atol=1e-4)
        np.testing.assert_allclose(-found.scores if metric == "L2" else found.scores, ours["score"], atol=1e-4)
        assert found.counts.tolist() == best.loc[ours["group"], "size"].tolist()
        assert len(set(ours["group"])) == len(ours)


@pytest.fixture(params=["memory", pytest.param("lite", marks=pytest.mark.slow("Milvus Lite"))])
def world(request, tmp_path_factory, redis_url, monkeypatch):
    world = maker(tmp_path_factory, redis_url, monkeypatch)()
    if request.param == "lite":
        world.db = open_vectors(Settings(milvus_uri=request.getfixturevalue("milvus_lite").url))
    monkeypatch.setattr(module, "connected", lambda _settings: world.db)
    (world.folder / "pipelines/small.py").write_text(PIPELINE)
    yield world
    if target := world.db.resolve("texts"):
        world.db.drop(target)


def publish(world, name: str, texts: list[str], start: int = 0) -> pd.DataFrame:
    """Ingests a file of texts; gives its rows."""
    path = world.folder / f"sources/{name}.jsonl"
    path.parent.mkdir(exist_ok=True)
    rows = [
        {"id": start + i, "status": 200 + 100 * (i % 4), "body": text, "city": [None, "Graz", "Wien"][i % 3]}
        for i, text in enumerate(texts)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (outcome,) = world.ingest([path.as_uri()], run=f"{name}{start}").outcomes
    assert outcome.status == "committed", outcome
    return pd.DataFrame(rows)


def brute(rows: pd.DataFrame, query: str, limit: int) -> list[float]:
    """The best scores of rows by numpy."""
    texts = rows["body"].unique()
    vectors = embed_all(load("wordllama"), [query, *texts])
    scores = dict(zip(texts, scores_of(vectors[1:], vectors[0], "COSINE"), strict=True))
    return sorted(map(scores.get, rows["body"]), reverse=True)[:limit]


FILTERS = [
    (None, lambda _rows: True),
    ({"status": 400}, lambda rows: rows["status"] == 400),
    ({"status": [400, 500], "city": None}, lambda rows: (rows["status"] >= 400) & rows["city"].isna()),
    ("status >= 400 and city == 'Graz'", lambda rows: (rows["status"] >= 400) & (rows["city"] == "Graz")),
    ("city like 'W%' or not (id < 300)", lambda rows: (rows["city"] == "Wien") | (rows["id"] >= 300)),
]


@pytest.mark.parametrize("away", [False, True], ids=["lake", "server"])
def test_many_equal_texts_hide_no_better_ones(world, away, monkeypatch):
    texts = [WORDS[i % len(WORDS)] if i % 5 else f"note {i} of {WORDS[i % 7]}" for i in range(800)]
    rows = publish(world, "a", texts)
    world.db.settle("texts")
    if away:  # the lake cannot be asked
        monkeypatch.setattr("ingestlab.sinks.milvus.exact.MOST_BYTES", 0)
    for query in (*WORDS[:3], "weather in winter"):
        for only, passes in FILTERS:
            if away and isinstance(only, str) and world.db.about() == "vectors in memory":
                continue
            chosen = rows[passes(rows)] if only is not None else rows
            hits = module.search("texts", query, world.settings, only=only, limit=20)
            assert hits["score"].tolist() == pytest.approx(brute(chosen, query, 20), abs=1e-5), (query, only)
            assert hits["id"].is_unique
            assert set(hits["id"]) <= set(chosen["id"])
    once = module.search("texts", "rain", world.settings, limit=6, distinct="text", only={"city": "Graz"})
    graz = rows[rows["city"] == "Graz"]
    assert once["text"][0] == "rain"
    assert once["text"].is_unique
    assert once["rows"].tolist() == graz["body"].value_counts().loc[once["text"]].tolist()
    assert once["score"].tolist() == pytest.approx(brute(graz.drop_duplicates("body"), "rain", 6), abs=1e-5)
    by_city = module.search("texts", "rain", world.settings, limit=9, distinct="city")
    assert by_city["city"].isna().sum() == 1
    assert by_city["rows"].tolist() == rows["city"].value_counts(dropna=False).loc[by_city["city"].tolist()].tolist()


def test_a_search_sees_every_commit_at_once(world):
    publish(world, "a", ["snow"] * 3)
    assert module.search("texts", "rain", world.settings)["text"].tolist() == ["snow"] * 3
    publish(world, "b", ["rain"] * 2, start=10)
    assert module.search("texts", "rain", world.settings)["text"].tolist() == ["rain"] * 2 + ["snow"] * 3
    publish(world, "b", ["rain"], start=20)  # its new content takes the place of the old one, or stands beside it
    ids = module.search("texts", "rain", world.settings)["id"].tolist()
    assert sorted(ids) == sorted(world.db.fetch("texts", search_all(), ["id"])["id"].to_pylist())
    assert 20 in ids


def test_what_hits_do_not_have_cannot_be_distinct(world):
    publish(world, "a", ["snow"])
    with pytest.raises(TerminalError, match=r"one of the columns id, status, city, text, .* as distinct; got 'colour'"):
        module.search("texts", "rain", world.settings, distinct="colour")
