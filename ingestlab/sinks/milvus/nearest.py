"""Which vectors are nearest to a question, by comparing all with all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ingestlab.sinks.milvus.vector_values import Collection, Hit, Metric


def nearest(
    queries: np.ndarray, stored: np.ndarray, rows: Sequence[Mapping[str, Any]], limit: int, made: Collection
) -> list[list[Hit]]:
    """Find the best rows for each question, the best first.

    Args:
        queries: Of shape (n, dim).
        stored: Of shape (m, dim).
        rows: The fields of each of the m, with their keys as ``pk``.
        limit: How many for each question.
        made: Whose metric counts.
    """
    if not rows:
        return [[] for _ in queries]
    scores = _scores(np.asarray(queries, np.float32), stored, made.metric)
    best = np.argsort(scores if made.metric == "L2" else -scores, axis=1, kind="stable")[:, :limit]
    return [
        [Hit(str(rows[i]["pk"]), float(scores[n, i]), dict(rows[i])) for i in order] for n, order in enumerate(best)
    ]


def _scores(queries: np.ndarray, stored: np.ndarray, metric: Metric) -> np.ndarray:
    if metric == "L2":
        squares: np.ndarray = ((queries[:, None, :] - stored[None]) ** 2).sum(axis=2)
        return squares
    if metric == "COSINE":
        queries = queries / np.maximum(np.linalg.norm(queries, axis=1, keepdims=True), 1e-12)
        stored = stored / np.maximum(np.linalg.norm(stored, axis=1, keepdims=True), 1e-12)
    products: np.ndarray = queries @ stored.T
    return products
