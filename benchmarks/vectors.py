"""How fast vectors are written and found: ours against a bare pymilvus loop, in the same run on the same server.

``python benchmarks/vectors.py [URI [TOKEN]]``: without an address, on a Milvus Lite server of its own.
"""

from __future__ import annotations

import logging
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
from measures import Measure, check

from ingestlab.core.settings import Settings
from ingestlab.sinks.milvus.vector_rows import primary_keys
from ingestlab.sinks.milvus.vector_values import Collection, Fingerprint, Where
from ingestlab.sinks.milvus.vectors import open_vectors
from ingestlab.stack import milvus
from ingestlab.stack.valkey import free_port

ROWS, DIM, ROUNDS = 4_000, 384, 3
BATCHES = (250, 500, 1000, 2000)  # of the bare loop, whose best counts
WANTED = Collection(name="bench_vectors", fingerprint=Fingerprint(model="random", dim=DIM))


def main(uri: str | None = None, token: str | None = None) -> None:
    """Prints the rates of both, and their ratio."""
    if uri:
        print(*upserts(uri, token), sep="\n")
        return
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        process = subprocess.Popen(milvus.command(Path(folder), port), stdout=subprocess.DEVNULL)
        try:
            while not milvus.listens(port):
                time.sleep(0.05)
            print(*upserts(milvus.url(port)), sep="\n")
        finally:
            process.terminate()
            process.wait()


def upserts(uri: str, token: str | None = None) -> Iterator[Measure]:
    """Writes the same rows with each in turn, some rounds; the best of each are compared."""
    store, table = open_vectors(Settings(milvus_uri=uri, milvus_token=token)), rows(ROWS, DIM)
    ours: list[float] = []
    bare: dict[int, list[float]] = {size: [] for size in BATCHES}
    for _ in range(ROUNDS):
        for size in random.sample([0, *BATCHES], len(BATCHES) + 1):  # the machine may have better and worse moments
            target = fresh(store)
            if size:
                bare[size].append(loop(uri, token, target, table, size))
            else:
                start = time.perf_counter()
                store.upsert(target, table)
                ours.append(ROWS / (time.perf_counter() - start))
            check(store.count(target, Where()), ROWS)
    store.drop(WANTED.name)
    rates = {size: round(max(laps)) for size, laps in bare.items()}
    details = {"server": store.about(), "rows": ROWS, "dim": DIM, "bare_by_batch": rates, "ours": round(max(ours))}
    yield Measure("upserts", round(max(ours)), "rows/s", details=details)
    yield Measure("  against the best bare loop", round(max(ours) / max(rates.values()), 2), "times", 0.9)


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
