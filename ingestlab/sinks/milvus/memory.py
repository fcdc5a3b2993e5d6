"""Vectors in a dict: for trying a pipeline out, and for tests of what uses a vector store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from ingestlab.core.errors import TerminalError
from ingestlab.sinks.milvus.nearest import Nearest
from ingestlab.sinks.milvus.resident import Resident
from ingestlab.sinks.milvus.vector_filters import Wish, wishes
from ingestlab.sinks.milvus.vector_rows import absent, as_table, matrix, prepared
from ingestlab.sinks.milvus.vector_values import Collection, Filter, Hit, Where


@dataclass
class _Target:
    made: Collection
    rows: dict[str, dict[str, Any]] = field(default_factory=dict)
    vectors: dict[str, np.ndarray] = field(default_factory=dict)


class MemoryVectors:
    """Keeps collections in this process; see :class:`ingestlab.sinks.milvus.vectors.VectorStore`."""

    def __init__(self) -> None:
        self._targets: dict[str, _Target] = {}
        self._names: dict[str, str] = {}

    @property
    def compares_all(self) -> bool:
        return True

    def about(self) -> str:
        return "vectors in memory"

    def ensure(self, wanted: Collection) -> str:
        target = self.resolve(wanted.name)
        if target is None:
            target = self.build(wanted)
            self.switch(wanted.name, target)
        self._targets[target].made.check(wanted)
        return target

    def build(self, wanted: Collection) -> str:
        for name in wanted.targets():
            made = self._targets.setdefault(name, _Target(wanted)).made
            if made.fingerprint.same(wanted.fingerprint):
                return name
        raise AssertionError  # names never end

    def switch(self, name: str, target: str) -> str | None:
        before = self._names.get(name)
        self._names[name] = target
        return before

    def resolve(self, name: str) -> str | None:
        return self._names.get(name) or (name if name in self._targets else None)

    def names(self) -> list[str]:
        return sorted(self._names)

    def describe(self, name: str) -> Collection | None:
        target = self.resolve(name)
        return self._targets[target].made if target else None

    def drop(self, name: str) -> None:
        if target := self.resolve(name):
            del self._targets[target]
            self._names = {alias: to for alias, to in self._names.items() if to != target}

    def upsert(self, name: str, rows: pa.Table) -> int:
        target = self._target(name)
        table = prepared(rows, target.made)
        scalars = table.drop_columns(["vector"]).to_pylist()
        for row, vector in zip(scalars, matrix(table, target.made.dim), strict=True):
            target.rows[row["pk"]], target.vectors[row["pk"]] = row, vector
        return len(scalars)

    def settle(self, name: str) -> None:
        """See VectorStore."""

    def count(self, name: str, where: Where) -> int:
        return len(self._matching(name, where))

    def confirm(self, name: str, keys: Sequence[str], where: Where) -> int:  # noqa: ARG002 - as all stores have it
        return self.count(name, where)

    def delete(self, name: str, where: Where) -> None:
        where.must_choose()
        for pk in self._matching(name, where):
            target = self._target(name)
            del target.rows[pk], target.vectors[pk]

    def fetch(self, name: str, where: Where, columns: Sequence[str]) -> pa.Table:
        keys = sorted(self._matching(name, where))
        rows = [self._target(name).rows[pk] for pk in keys]
        return as_table(rows, columns, self.describe(name))

    def search(
        self,
        name: str,
        vectors: np.ndarray,
        limit: int = 10,
        where: Where | None = None,
        only: Filter | None = None,
        distinct: str = "",
    ) -> list[list[Hit]]:
        """See VectorStore; `only` must be a mapping here."""
        target = self._target(name)
        asked, rows = _asked(only, target.made), target.rows
        keys = self._matching(name, where or Where())
        pks = [pk for pk in keys if all(wish.holds(rows[pk][column]) for column, wish in asked.items())]
        stored = np.array([target.vectors[pk] for pk in pks], np.float32).reshape(len(pks), target.made.dim)
        matches = [rows[pk] for pk in pks]
        kept = Resident(
            target.made,
            as_table(matches, ["pk", *(c.name for c in target.made.columns)], target.made),
            Nearest(stored, target.made.metric),
        )
        return kept.search(vectors, limit, distinct=distinct) or []

    def close(self) -> None:
        """See VectorStore; what was written stays."""

    def _target(self, name: str) -> _Target:
        if target := self.resolve(name):
            return self._targets[target]
        raise absent(name, self.names())

    def _matching(self, name: str, where: Where) -> list[str]:
        target = self.resolve(name)
        rows = self._targets[target].rows if target else {}
        return [pk for pk, row in rows.items() if _is_meant(row, where)]


SHARED = MemoryVectors()  # all that the setting `memory://` opens in this process


def _is_meant(row: dict[str, Any], where: Where) -> bool:
    return (
        where.tenant in {None, row["tenant"]}
        and where.table in {None, row["table"]}
        and (not where.sources or row["source"] in where.sources)
        and (not where.sha256 or row["sha256"] in where.sha256)
        and row["sha256"] not in where.not_sha256
        and (not where.runs or row["run"] in where.runs)
        and row["run"] not in where.not_runs
        and (not where.keys or row["pk"] in where.keys)
    )


def _asked(only: Filter | None, made: Collection) -> dict[str, Wish]:
    if isinstance(only, str):
        raise TerminalError(
            "The filter cannot be used in memory",
            expected="values that columns must have, as a mapping",
            got=repr(only),
            fix="Expressions need a Milvus.",
            code="filter_invalid",
        )
    return wishes(only or {}, made)
