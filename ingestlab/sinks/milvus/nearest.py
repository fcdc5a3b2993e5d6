"""Which vectors are nearest to a question, by comparing all with all."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from ingestlab.sinks.milvus.vector_values import Metric

BLOCK = 1 << 24  # scores at a time
TINY = 1e-12


class Found(NamedTuple):
    """The rows nearest to one question, best first.

    Attributes:
        rows: Their numbers.
        scores: Their scores, by the metric.
        counts: How many rows each stands for.
    """

    rows: np.ndarray
    scores: np.ndarray
    counts: np.ndarray


class Nearest:
    """Vectors to compare questions with. Equal ones are compared once, and have one score.

    Args:
        vectors: Float32 of shape (n, dim).
        metric: How they are compared.
    """

    def __init__(self, vectors: np.ndarray, metric: Metric) -> None:
        count, dim = vectors.shape
        data = pa.py_buffer(np.ascontiguousarray(vectors, np.float32))
        coded = pa.FixedSizeBinaryArray.from_buffers(pa.binary(4 * dim), count, [None, data]).dictionary_encode()
        self.metric = metric
        self._codes = coded.indices.to_numpy()
        self._vectors = np.frombuffer(coded.dictionary.buffers()[1], np.float32)[: len(coded.dictionary) * dim]
        self._vectors = self._vectors.reshape(-1, dim)
        self._rows = np.argsort(self._codes, kind="stable")  # by vector: those of the first one, of the second …
        self._starts = np.searchsorted(self._codes[self._rows], np.arange(len(self._vectors) + 1))
        self._lengths = np.maximum(np.linalg.norm(self._vectors, axis=1), TINY) if metric == "COSINE" else None

    @property
    def nbytes(self) -> int:
        """Return the bytes of memory that it takes."""
        return sum(array.nbytes for array in (self._vectors, self._codes, self._rows, self._starts))

    def search(
        self, queries: np.ndarray, limit: int, among: np.ndarray | None = None, groups: np.ndarray | None = None
    ) -> list[Found]:
        """Find the best rows for each question.

        Args:
            queries: Float32 of shape (q, dim).
            limit: How many for each.
            among: Booleans of shape (n,): which rows count; None for all.
            groups: Whole numbers of shape (n,), from 0: of rows with one number only the best is found, for all.
        """
        among = np.ones(len(self._codes), bool) if among is None else among
        alive = np.flatnonzero(np.bincount(self._codes[among], minlength=len(self._vectors)))
        totals = None if groups is None else np.bincount(groups[among], minlength=1)
        if not alive.size:
            return [Found(*np.empty((3, 0), np.int64)) for _ in queries]
        results = []
        for scores in self._scores(np.asarray(queries, np.float32)):
            keys = (scores if self.metric == "L2" else -scores)[alive]
            rows = self._best(keys, alive, limit, among, groups)
            counts = np.ones(len(rows), np.int64) if totals is None or groups is None else totals[groups[rows]]
            results.append(Found(rows, scores[self._codes[rows]], counts))
        return results

    def _best(
        self, keys: np.ndarray, alive: np.ndarray, limit: int, among: np.ndarray, groups: np.ndarray | None
    ) -> np.ndarray:
        """Find the rows of the smallest keys. With groups, more vectors are looked at until there are enough."""
        most = limit
        while True:
            most = min(most, len(keys))
            chosen = np.argpartition(keys, most - 1)[:most]
            chosen = alive[chosen[np.lexsort((chosen, keys[chosen]))]]
            rows: np.ndarray = np.concatenate(
                [self._rows[self._starts[code] : self._starts[code + 1]] for code in chosen]
            )
            rows = rows[among[rows]]
            if groups is not None:
                rows = rows[np.sort(np.unique(groups[rows], return_index=True)[1])]
            if len(rows) >= limit or most == len(keys):
                return rows[:limit]
            most *= 8

    def _scores(self, queries: np.ndarray) -> Iterator[np.ndarray]:
        """Yield for each question its score with each vector."""
        if self.metric == "L2":
            yield from map(self._squares, queries)
            return
        if self._lengths is not None:
            queries = queries / np.maximum(np.linalg.norm(queries, axis=1, keepdims=True), TINY)
        step = max(1, BLOCK // len(self._vectors))
        for start in range(0, len(queries), step):
            products = queries[start : start + step] @ self._vectors.T
            yield from products if self._lengths is None else products / self._lengths

    def _squares(self, query: np.ndarray) -> np.ndarray:
        """Sum the squares of differences.

        That is exact where vectors are near each other.
        """
        step = max(1, (1 << 18) // self._vectors.shape[1])  # what fits a processor's cache
        squares = np.empty(len(self._vectors), np.float32)
        for start in range(0, len(squares), step):
            away = self._vectors[start : start + step] - query
            np.einsum("ij,ij->i", away, away, out=squares[start : start + step])
        return squares
