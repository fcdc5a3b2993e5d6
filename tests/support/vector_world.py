"""Collections and rows that the tests of vector stores share."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from ingestlab.sinks.milvus.vector_rows import primary_keys
from ingestlab.sinks.milvus.vector_values import Column, Fingerprint, Where

FULL = "INGESTLAB_TEST_MILVUS"  # the address of a full server, which tests/support/with_milvus.py sets
DIM = 8
PAYLOAD = (
    Column(name="title", length=12),
    Column(name="year", kind="int"),
    Column(name="mark", kind="float"),
    Column(name="new", kind="bool"),
)


def model(name: str = "tiny", **changes) -> Fingerprint:
    return Fingerprint(**{"model": name, "version": "1", "dim": DIM, "canary": (0.5,) * DIM, **changes})


def rows(keys, source="http://a/1.csv", sha="s1", tenant="default", table="t", seed=0, **columns) -> pa.Table:
    keys = list(keys)
    n = len(keys)
    sources = [source] * n if isinstance(source, str | None) else source
    vectors = np.random.default_rng(seed).normal(size=(n, DIM)).astype(np.float32)
    base = {
        "pk": primary_keys(tenant, table, [s or "" for s in sources], keys, [0] * n),
        "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), DIM),
        "tenant": [tenant] * n,
        "table": [table] * n,
        "source": sources,
        "run": ["r1"] * n,
        "sha256": [sha] * n,
        "row": pa.array(range(n), pa.int64()),
        "chunk": pa.array([0] * n, pa.int32()),
        "text": [f"text {k}" for k in keys],
        "title": [f"title {k}" for k in keys],
        "year": pa.array([2000 + i for i in range(n)], pa.int32()),
        "mark": pa.array([i / 2 for i in range(n)], pa.float32()),
        "new": [i % 2 == 0 for i in range(n)],
    }
    return pa.table({**base, **columns})


def vectors_of(table: pa.Table) -> np.ndarray:
    return table["vector"].combine_chunks().flatten().to_numpy().reshape(-1, DIM)


ALL = Where(tenant="default")
