"""Recall@10 against brute force, by score: many equal vectors, with and without filters, in large collections."""

from __future__ import annotations

import os
import uuid

import numpy as np
import pyarrow as pa
import pytest
from support.embedding_world import maker
from support.vector_world import ALL, FULL, model
from support.vector_world import rows as rows_of
from support.workers import until

from ingestlab.analytics.embedders.registry import embed_all, load
from ingestlab.core.settings import Settings
from ingestlab.pipeline.catalog import Catalog
from ingestlab.pipeline.catalog import load as load_pipeline
from ingestlab.sinks.milvus import search as module
from ingestlab.sinks.milvus.vector_values import Collection, Column
from ingestlab.sinks.milvus.vectors import open_vectors

DIM = 32
SHARES = {"all differ": 1.0, "a tenth differ": 0.1, "141 differ": 0.0}
ONLY = [None, {"year": 7}, {"year": list(range(50))}]  # none, one in a hundred, half of them


def recall(scores: list[float], truth: np.ndarray, limit: int = 10) -> float:
    """Share of hits that are as near as the nearest; equal scores are equally good."""
    best = np.sort(truth)[::-1][:limit]
    return sum(score >= best[-1] - 1e-4 for score in scores[:limit]) / len(best)


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def clustered(rng: np.random.Generator, count: int) -> np.ndarray:
    """Vectors as models make them of texts: some subjects, each with its neighbours."""
    centres = rng.normal(size=(max(2, count // 50), DIM))
    return unit(centres[rng.integers(0, len(centres), count)] + 0.5 * rng.normal(size=(count, DIM)))


@pytest.mark.milvus
@pytest.mark.timeout(600)
@pytest.mark.parametrize("share", [1.0, 0.1], ids=["all differ", "a tenth differ"])
def test_a_full_milvus_finds_nearly_all(share):
    if FULL not in os.environ:
        pytest.skip(f"no full Milvus in {FULL}: run `make test-milvus`")
    store = open_vectors(Settings(milvus_uri=os.environ[FULL], milvus_token=os.environ.get(f"{FULL}_TOKEN")))
    rng, count = np.random.default_rng(5), 20_000
    different = clustered(rng, max(141, int(share * count)))
    vectors = different[rng.integers(0, len(different), count)] if share < 1 else different
    years = rng.integers(0, 100, count)
    made = Collection(
        name=f"recall_{uuid.uuid4().hex[:8]}",
        fingerprint=model(dim=DIM, canary=()),
        payload=(Column(name="year", kind="int"),),
    )
    table = rows_of(range(count), year=pa.array(years))
    table = table.set_column(
        table.column_names.index("vector"),
        "vector",
        pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), DIM),
    )
    store.ensure(made)
    try:
        store.upsert(made.name, table)
        store.settle(made.name)
        questions = unit(np.concatenate([different[:20], different[20:40] + 0.2 * rng.normal(size=(20, DIM))]))
        for only in ONLY:
            among = np.isin(years, np.atleast_1d(only["year"])) if only else np.ones(count, bool)
            truths = [(vectors @ question)[among] for question in questions]

            def mean(only=only, truths=truths) -> float:
                hits = store.search(made.name, questions, 10, ALL, only)
                return np.mean([recall([h.score for h in h10], t) for t, h10 in zip(truths, hits, strict=True)])

            until(lambda mean=mean: mean() >= 0.99, 90, f"an index that finds all, with {only}")
    finally:
        store.drop(made.name)
        store.close()


PIPELINE = """
import zlib
import numpy as np
from ingestlab import Csv, Embedding, Pipeline

def model(texts):
    seeds = [zlib.crc32(text.encode()) for text in texts]
    return np.stack([np.random.default_rng(seed).normal(size=DIM) for seed in seeds])

PIPELINE = Pipeline(
    reader=Csv(columns={"n": "int64", "word": "string"}),
    embedding=Embedding(source="word", model=model, collection="words", payload=["n"]),
)
"""


@pytest.mark.slow("a large collection")
@pytest.mark.parametrize("share", SHARES.values(), ids=SHARES)
def test_a_large_collection_beside_milvus_lite_is_searched_whole(share, tmp_path_factory, redis_url, monkeypatch):
    """Its server is not asked: a search compares the question with what the lake has."""
    world = maker(tmp_path_factory, redis_url, monkeypatch)()
    monkeypatch.setattr(module, "connected", lambda _settings: world.db)
    (world.folder / "pipelines/small.py").write_text(PIPELINE.replace("DIM", str(DIM)))
    rng, count = np.random.default_rng(5), 50_000
    different = max(141, int(share * count))
    numbers = rng.integers(0, different, count) if share < 1 else np.arange(count)
    (outcome,) = world.ingest([world.put("a.csv", numbers.tolist())]).outcomes
    assert outcome.status == "committed"
    texts = [f"w{n}" for n in range(different)]
    embedder = load(load_pipeline(Catalog.read(world.settings).named("small")).embedding.model)
    vectors = embed_all(embedder, texts)
    for question in ("w7", "w100", "rain"):
        scores = (vectors @ embed_all(embedder, [question])[0])[numbers]
        filters = [
            (None, numbers >= 0),
            ({"n": list(range(100))}, numbers < 100),
            (f"n >= {different // 2}", numbers >= different // 2),
        ]
        for only, among in filters:
            hits = module.search("words", question, world.settings, only=only, limit=10)
            assert recall(hits["score"].tolist(), scores[among]) == 1.0, (question, only)
