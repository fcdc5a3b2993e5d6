"""Vectors in Milvus: on Milvus Lite's server and on full ones, from 2.3 on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ingestlab.core.errors import TerminalError, TransientError
from ingestlab.core.settings import Settings
from ingestlab.sinks.milvus import schema
from ingestlab.sinks.milvus.filters import allowed, both, expression, expressions
from ingestlab.sinks.milvus.link import AbsentError, Link, UnloadedError
from ingestlab.sinks.milvus.vector_filters import NEVER_NULL
from ingestlab.sinks.milvus.vector_rows import absent, as_table, matrix, prepared
from ingestlab.sinks.milvus.vector_values import Collection, Filter, Hit, Where, named_by

LITE_BYTES, FULL_BYTES = 1 << 20, 3 << 20  # of vectors in one upsert: 682 or 2048 rows of 384 numbers go fastest
BATCH_ROWS = 4000
MESSAGE = 32 << 20  # bytes of one upsert, at most, with all texts: a server takes 64 or 256 MB
IN_FLIGHT = 2  # upserts at once: one is packed while the server takes the other
LOAD_SECONDS = 600.0  # an index may have to be built
MOST = 16_384  # rows in one answer of a Milvus
EF = 512  # candidates of a search in a graph, at least
STRONG = "Strong"  # every read sees the writes before it


class _Target(NamedTuple):
    name: str
    made: Collection
    nullable: bool


class MilvusStore:
    """See :class:`ingestlab.sinks.milvus.vectors.VectorStore`; may be shared by threads, not by forked processes."""

    def __init__(self, settings: Settings) -> None:
        self._link = Link(settings)
        self._known: dict[str, _Target] = {}  # by target: those never change, while names may be switched

    @property
    def compares_all(self) -> bool:
        return self._link.is_lite

    def about(self) -> str:
        return f"Milvus {self._link.version.removeprefix('milvus_lite-')}{' (Lite)' if self._link.is_lite else ''}"

    def ensure(self, wanted: Collection) -> str:
        existing = self._find(wanted.name)
        if existing is None:
            target = self.build(wanted)
            self.switch(wanted.name, target)
            return target
        if existing.name == wanted.name:  # a target of ours has another name than its collection
            raise TerminalError(
                "The collection's name is taken",
                expected=f"the name '{wanted.name}' to be free, or one that ingestlab has given",
                got="a collection of that name",
                code="collection_conflict",
            )
        existing.made.check(wanted)
        self._complete(existing.name, existing.made)
        return existing.name

    def build(self, wanted: Collection) -> str:
        for name in wanted.targets():
            target = self._find(name) or self._make(name, wanted)
            if target.made.fingerprint.same(wanted.fingerprint):
                self._complete(name, wanted)
                return name
        raise AssertionError  # there is always another name

    def switch(self, name: str, target: str) -> str | None:
        before = self.resolve(name)
        if before is None:
            self._link.call("create_alias", target, name)
        elif before != target:
            self._link.call("alter_alias", target, name)
        return before

    def resolve(self, name: str) -> str | None:
        described = self._describe(name)
        return str(described["collection_name"]) if described else None

    def names(self) -> list[str]:
        return sorted({named_by(target) for target in self._link.call("list_collections")})

    def describe(self, name: str) -> Collection | None:
        target = self._find(name)
        return target.made if target else None

    def drop(self, name: str) -> None:
        target = self.resolve(name)
        if target is None:
            return
        with suppress(AbsentError):  # another may be as quick
            for alias in self._link.call("list_aliases", target)["aliases"]:
                self._link.call("drop_alias", alias)
            self._link.call("drop_collection", target)
        self._known.pop(target, None)

    def upsert(self, name: str, rows: pa.Table) -> int:
        target = self._target(name)
        table = prepared(rows, target.made)
        room = LITE_BYTES if self._link.is_lite else FULL_BYTES
        size = max(1, min(BATCH_ROWS, room // (4 * target.made.dim)))
        with ThreadPoolExecutor(IN_FLIGHT) as pool:
            for _ in pool.map(lambda batch: self._write(target, batch), _batches(table, size)):
                pass
        return int(table.num_rows)

    def settle(self, name: str) -> None:
        """See VectorStore. Milvus Lite searches fresh rows sixty times slower.

        A full server has a coarse index of them, which misses a third of the hits under a narrow filter.
        """
        if target := self._find(name):
            with nullcontext() if self._link.is_lite else suppress(TransientError):  # it takes one in ten seconds
                self._link.call("flush", target.name, timeout=LOAD_SECONDS)

    def count(self, name: str, where: Where) -> int:
        target = self._find(name)
        if target is None:
            return 0
        counted = (self._ask(target, "query", filter=e, output_fields=["count(*)"]) for e in expressions(where))
        return sum(int(answer[0]["count(*)"]) for answer in counted)

    def confirm(self, name: str, keys: Sequence[str], where: Where) -> int:
        """See VectorStore. To count, Milvus Lite looks at every row of a collection, and by keys at these alone."""
        target = self._find(name)
        if not self._link.is_lite or target is None:
            return self.count(name, where)
        parts = (list(keys[start : start + BATCH_ROWS]) for start in range(0, len(keys), BATCH_ROWS))
        answers = (self._ask(target, "get", ids=part, output_fields=["run"]) for part in parts)
        return sum(row["run"] in where.runs for rows in answers for row in rows)

    def delete(self, name: str, where: Where) -> None:
        where.must_choose()
        if target := self._find(name):
            for chosen in expressions(where):
                self._ask(target, "delete", filter=chosen)

    def fetch(self, name: str, where: Where, columns: Sequence[str]) -> pa.Table:
        target = self._find(name)
        if target is None:
            return as_table([], columns, None)
        rows = [row for chosen in expressions(where) for row in self._pages(target, chosen, columns)]
        return as_table(sorted(rows, key=lambda row: str(row["pk"])), columns, target.made)

    def search(
        self,
        name: str,
        vectors: np.ndarray,
        limit: int = 10,
        where: Where | None = None,
        only: Filter | None = None,
        distinct: str = "",
    ) -> list[list[Hit]]:
        target, asked = self._target(name), list(np.asarray(vectors, np.float32))
        passes = both(expression(where or Where()), allowed(only, target.made, nullable=target.nullable))
        if distinct:
            return [self._distinct(target, vector, limit, passes, distinct) for vector in asked]
        step = (
            1 if self._link.is_lite and target.made.metric == "L2" else max(1, len(asked))
        )  # it holds all differences
        groups = (asked[start : start + step] for start in range(0, len(asked), step))
        return [hits for some in groups for hits in self._nearest(target, some, limit, passes)]

    def close(self) -> None:
        self._link.close()

    def _nearest(self, target: _Target, vectors: list[np.ndarray], limit: int, passes: str) -> list[list[Hit]]:
        ef = {"ef": max(EF, 2 * limit)} if target.made.index == "HNSW" and not self._link.is_lite else {}
        columns = ["pk", *(c.name for c in target.made.columns)]
        asked = {"data": vectors, "limit": limit, "filter": passes, "output_fields": columns}
        answer = self._ask(target, "search", **asked, search_params={"params": ef})
        return [[Hit(h["entity"]["pk"], float(h["distance"]), dict(h["entity"])) for h in hits] for hits in answer]

    def _distinct(self, target: _Target, vector: np.ndarray, limit: int, passes: str, column: str) -> list[Hit]:
        """Find the best row of each value. Values that are found do not hide others from the next search."""
        best_hits: dict[Any, Hit] = {}
        left = passes
        while len(best_hits) < limit:
            (hits,) = self._nearest(target, [vector], min(MOST, 4 * limit), left)
            if not hits:
                break
            for hit in hits:
                best_hits.setdefault(hit.values[column], hit)
            others = f"not ({self._equal(target, column, list(best_hits))})"
            if None not in best_hits and target.nullable and column not in NEVER_NULL:
                others = f"({others} or {column} is null)"
            left = both(passes, others)
        best = sorted(best_hits.items(), key=lambda item: item[1].score, reverse=target.made.metric != "L2")[:limit]
        alike = (both(passes, self._equal(target, column, [value])) for value, _ in best)
        counted = (self._ask(target, "query", filter=e, output_fields=["count(*)"])[0]["count(*)"] for e in alike)
        return [hit._replace(rows=int(rows)) for (_, hit), rows in zip(best, counted, strict=True)]

    def _equal(self, target: _Target, column: str, values: list[Any]) -> str:
        return allowed({column: values}, target.made, nullable=target.nullable)

    def _find(self, name: str) -> _Target | None:
        if name in self._known:
            return self._known[name]
        described = self._describe(name)
        if described is None:
            return None
        target = _Target(str(described["collection_name"]), *schema.read(described))
        self._known[target.name] = target
        return target

    def _target(self, name: str) -> _Target:
        if target := self._find(name):
            return target
        raise absent(name, self.names())

    def _describe(self, name: str) -> dict[str, Any] | None:
        try:
            return dict(self._link.call("describe_collection", name))
        except AbsentError:
            return None

    def _make(self, name: str, wanted: Collection) -> _Target:
        import pymilvus  # noqa: PLC0415 - an optional package

        plan = schema.definition(wanted, pymilvus.MilvusClient, nullable=self._link.takes_null)
        try:
            self._link.call("create_collection", name, **plan)
        except TerminalError:
            if self._find(name) is None:  # else another process was quicker
                raise
        made = self._find(name)
        if made is None:
            raise absent(name, self.names())
        return made

    def _complete(self, name: str, wanted: Collection) -> None:
        """Give a collection its index, and load it. A crash may have come before."""
        import pymilvus  # noqa: PLC0415 - an optional package

        lite, made = self._link.is_lite, self._link.call("list_indexes", name)
        if made and lite and self._link.call("describe_index", name, made[0])["index_type"] != "FLAT":
            self._link.call("release_collection", name)  # made by an earlier version
            self._link.call("drop_index", name, made.pop())
        if not made:
            self._link.call("create_index", name, schema.index(wanted, pymilvus.MilvusClient, lite=lite))
        if self._link.call("get_load_state", name)["state"].name != "Loaded":
            self._link.call("load_collection", name, timeout=LOAD_SECONDS)

    def _ask(self, target: _Target, method: str, **named: Any) -> Any:
        """Call a method on a collection, loaded again after a restart."""
        if method != "delete":
            named["consistency_level"] = STRONG
        try:
            return self._link.call(method, target.name, **named)
        except UnloadedError:
            self._link.call("load_collection", target.name, timeout=LOAD_SECONDS)
            return self._link.call(method, target.name, **named)
        except AbsentError:
            self._known.pop(target.name, None)
            raise

    def _write(self, target: _Target, table: pa.Table) -> None:
        rows = _as_rows(table, target)
        try:
            if self._link.upserts_right:
                self._link.call("upsert", target.name, rows)
            else:
                self._link.call("delete", target.name, ids=[row["pk"] for row in rows])
                self._link.call("insert", target.name, rows)
        except AbsentError:
            self._known.pop(target.name, None)  # dropped since: whoever tries again will find out what serves now
            raise

    def _pages(self, target: _Target, chosen: str, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
        wanted = list(dict.fromkeys(["pk", *columns]))
        if self._link.is_lite:  # which has no limit, and looks at all rows for every page
            yield from self._ask(target, "query", filter=chosen or 'pk != ""', output_fields=wanted)
            return
        pages = self._ask(target, "query_iterator", batch_size=MOST, filter=chosen, output_fields=wanted)
        try:
            with self._link.told("query_iterator"):
                while page := pages.next():
                    yield from page
        finally:
            pages.close()


def _batches(table: pa.Table, size: int) -> Iterator[pa.Table]:
    """Yield some rows at a time, fewer where texts are long."""
    for start in range(0, table.num_rows, size):
        batch = table.slice(start, size)
        if batch.num_rows > 1 and batch.nbytes > MESSAGE:
            yield from _batches(batch, batch.num_rows // 2)
        else:
            yield batch


def _as_rows(table: pa.Table, target: _Target) -> list[dict[str, Any]]:
    """Give rows as the client takes them. Vectors stay arrays, which it packs fastest."""
    scalars = table.drop_columns(["vector"])
    if not target.nullable:
        for column in target.made.columns:
            at = scalars.column_names.index(column.name)
            if scalars[column.name].null_count:
                filled = pc.fill_null(scalars[column.name], schema.stand_in(column))
                scalars = scalars.set_column(at, column.name, filled)
    rows: list[dict[str, Any]] = scalars.to_pylist()
    for row, vector in zip(rows, matrix(table, target.made.dim), strict=True):
        row["vector"] = vector
    return rows
