"""How fast vectors are written and found: ours against a bare pymilvus loop, in the same run on the same server.

``python benchmarks/vectors.py [URI [TOKEN]]``: without an address, on a Milvus Lite server of its own.
"""

from __future__ import annotations

import logging
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from ingestlab.settings import Settings
from ingestlab.sinks.vector_rows import primary_keys
from ingestlab.sinks.vectors import Collection, Fingerprint, Where, open_vectors
from ingestlab.stack import milvus
from ingestlab.stack.valkey import free_port

ROWS, DIM, ROUNDS = 10_000, 384, 5
BATCHES = (250, 500, 1000, 2000)  # of the bare loop, whose best counts
WANTED = Collection(name="bench_vectors", fingerprint=Fingerprint(model="random", dim=DIM))


def main(uri: str | None = None, token: str | None = None) -> None:
    """Prints the rates of both, and their ratio."""
    if uri:
        measure(uri, token)
        return
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        process = subprocess.Popen(milvus.command(Path(folder), port), stdout=subprocess.DEVNULL)
        try:
            while not milvus.listens(port):
                time.sleep(0.05)
            measure(milvus.url(port), None)
        finally:
            process.terminate()
            process.wait()


def measure(uri: str, token: str | None) -> None:
    """Writes the same rows with each in turn, some rounds; medians are compared."""
    store, table = open_vectors(Settings(milvus_uri=uri, milvus_token=token)), rows(ROWS, DIM)
    print(f"{store.about()}: {ROWS:,} rows of {DIM} numbers")
    ours: list[float] = []
    bare: dict[int, list[float]] = {size: [] for size in BATCHES}
    for _ in range(ROUNDS):
        target = fresh(store)
        start = time.perf_counter()
        store.upsert(target, table)
        ours.append(ROWS / (time.perf_counter() - start))
        assert store.count(target, Where()) == ROWS
        for size in BATCHES:
            target = fresh(store)
            bare[size].append(loop(uri, token, target, table, size))
            assert store.count(target, Where()) == ROWS
    rates = {size: statistics.median(found) for size, found in bare.items()}
    best, mine = max(rates, key=lambda size: rates[size]), statistics.median(ours)
    print("bare loop: " + ", ".join(f"{rate:,.0f}/s by {size}" for size, rate in rates.items()))
    print(f"ours: {mine:,.0f}/s = {mine / rates[best]:.2f} of the best bare loop (by {best})")
    look(store)
    store.drop(WANTED.name)


def loop(uri: str, token: str | None, target: str, table: pa.Table, size: int) -> float:
    """Rows a second of what one would write by hand, its rows made beforehand."""
    from pymilvus import MilvusClient  # noqa: PLC0415 - an optional package

    logging.getLogger("pymilvus").setLevel(logging.CRITICAL)
    made = table.drop_columns(["vector"]).to_pylist()
    for row, vector in zip(made, matrix(table), strict=True):
        row["vector"] = vector
    client = MilvusClient(uri, token=token or "", dedicated=True)
    start = time.perf_counter()
    for at in range(0, len(made), size):
        client.upsert(target, made[at : at + size])
    took = time.perf_counter() - start
    client.close()
    return len(made) / took


def look(store) -> None:
    """Prints how long a search takes, and how many of the true ten it finds."""
    table = rows(ROWS, DIM)
    target = fresh(store)
    store.upsert(target, table)
    store.settle(target)
    vectors = matrix(table)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    queries = np.random.default_rng(1).normal(size=(100, DIM)).astype(np.float32)
    times, found = [], 0
    for query in queries:
        start = time.perf_counter()
        (hits,) = store.search(target, query[None], limit=10, where=Where(tenant="default"))
        times.append(1000 * (time.perf_counter() - start))
        found += len({hit.values["row"] for hit in hits} & set(np.argsort(-(unit @ query))[:10].tolist()))
    cuts = statistics.quantiles(times, n=20)
    print(f"search: p50 {cuts[9]:.1f} ms, p95 {cuts[18]:.1f} ms, recall@10 {found / 1000:.3f}")


def fresh(store) -> str:
    """An empty collection."""
    store.drop(WANTED.name)
    return store.ensure(WANTED)


def rows(n: int, dim: int) -> pa.Table:
    """Rows of random vectors with a text each."""
    vectors = np.random.default_rng(0).normal(size=(n, dim)).astype(np.float32)
    return pa.table(
        {
            "pk": primary_keys("default", "t", ["http://host/file.jsonl"] * n, range(n), [0] * n),
            "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), dim),
            "tenant": ["default"] * n,
            "table": ["t"] * n,
            "source": ["http://host/file.jsonl"] * n,
            "run": ["run"] * n,
            "sha256": ["0" * 64] * n,
            "row": np.arange(n),
            "chunk": np.zeros(n, np.int64),
            "text": [f"some words about the row {i}, as many as a short text has" for i in range(n)],
        }
    )


def matrix(table: pa.Table) -> np.ndarray:
    """The vectors as an array."""
    return table["vector"].combine_chunks().flatten().to_numpy().reshape(-1, DIM)


if __name__ == "__main__":
    main(*sys.argv[1:])
