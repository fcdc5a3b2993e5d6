"""Collections as tables: whole or by what is new, divided or not, whatever dies in between."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from bson import Int64, ObjectId
from distributed import Client, LocalCluster
from support.lake import Crash, FaultInjector, World
from support.workers import until

from ingestlab.core.models import IngestRequest, IngestResult, Source
from ingestlab.core.mongodb import connected, server_of
from ingestlab.engine.ingest import ingest
from ingestlab.executors.dask import Cluster
from ingestlab.lake import layout
from ingestlab.lake.log import manifests
from ingestlab.maintenance.delete import delete
from ingestlab.maintenance.reconcile import reconcile
from ingestlab.maintenance.undo import undo
from ingestlab.sources.mongodb import reading

PIPELINE = """
import pyarrow as pa

from ingestlab import JsonLines, Mongo, Pipeline

PIPELINE = Pipeline(source=Mongo(database={database!r}, collection="orders"{source}), max_reject_ratio=1{more})
"""
DECLARED = """, reader=JsonLines(extended=True, columns={
    "n": "int64", "at": pa.timestamp("ms", "UTC"), "total": "float64", "lines": "json"})"""
NOW = datetime(2026, 11, 29, 12, 0, tzinfo=UTC)


class Orders(World):
    """A lake with one pipeline, `orders`, of a collection of its own; `divided` as if there were a cluster."""

    def __init__(
        self, folder: Any, redis_url: str, url: str, source: str = "", more: str = "", **settings: Any
    ) -> None:
        settings = {"mongodb_uri": url, "mongodb_timeout": 20, **settings}
        super().__init__(folder, redis_url, **settings)
        self.database = f"o{uuid4().hex[:12]}"
        self.stored = connected(server_of(self.settings))[self.database]["orders"]
        text = PIPELINE.format(database=self.database, source=source, more=more)
        (folder / "pipelines" / "orders.py").write_text(text)
        self.put_in: Counter[int] = Counter()

    def fill(self, numbers: Any, **more: Any) -> None:
        rows = [{"_id": n, "n": n, "at": NOW + timedelta(seconds=n // 3), **more} for n in numbers]
        self.stored.insert_many(random.sample(rows, len(rows)))

    def pull(self, run: str = "r1", faults: FaultInjector | None = None, *, force: bool = False) -> IngestResult:
        request = IngestRequest(run=run, sources=(Source(uri="mongo://orders"),), force=force)
        return ingest(request, self.context(faults), lambda _progress: None)

    def rows(self, table: str = "orders") -> list[dict[str, Any]]:
        paths = [p for p in self.store.walk(f"tables/default/{table}") if p.endswith(".parquet")]
        return [r for p in paths for r in pq.ParquetFile(pa.BufferReader(self.store.read(p))).read().to_pylist()]

    def numbers(self) -> list[int]:
        return sorted(row["n"] for row in self.rows())

    def cursor(self) -> dict[str, Any] | None:
        records = [
            r for m in manifests(self.store, "default", "orders") for r in m.sources if r.uri == "mongo://orders"
        ]
        return json.loads(records[-1].version) if records and records[-1].version else None


@pytest.fixture
def make(tmp_path_factory, redis_url, mongodb):
    def make(source: str = "", more: str = "", **settings: Any) -> Orders:
        return Orders(tmp_path_factory.mktemp("orders"), redis_url, mongodb, source, more, **settings)

    return make


@pytest.fixture
def small_parts(monkeypatch):
    for name, value in {"PART": 10, "_SAMPLED": 2, "PAGE_BYTES": 500, "_BATCH": 5}.items():
        monkeypatch.setattr(reading, name, value)


CLUSTER = {"dask_scheduler": "tcp://inline:1"}
WAYS = pytest.mark.parametrize("cluster", [{}, CLUSTER], ids=["alone", "divided"])


@WAYS
def test_all_documents_take_the_place_of_the_earlier_ones(make, small_parts, cluster):
    world = make(more=DECLARED, **cluster)
    world.fill(range(100), total=1.5, lines=[{"sku": "a", "left": Int64(3)}])
    (outcome,) = world.pull().outcomes
    assert (outcome.status, outcome.tally.rows_in, outcome.tally.rejected) == ("committed", 100, 0)
    row = next(row for row in world.rows() if row["n"] == 7)
    assert (row["at"], row["total"]) == (NOW + timedelta(seconds=2), 1.5)
    assert json.loads(row["lines"]) == [{"sku": "a", "left": 3}]
    assert world.pull("r2").outcomes[0].status == "unchanged"
    world.stored.delete_many({"n": {"$gte": 90}})
    world.stored.update_one({"n": 5}, {"$set": {"n": 500}})
    assert world.pull("r3").outcomes[0].status == "committed"
    assert world.numbers() == sorted({*range(90), 500} - {5})
    world.stored.delete_many({})
    assert world.pull("r4").outcomes[0].error["code"] == "no_rows"
    assert len(world.numbers()) == 90


@WAYS
def test_what_is_new_comes_with_its_cursor_in_one_commit(make, small_parts, cluster):
    world = make(source=', cursor="at"', more=DECLARED, **cluster)
    world.fill(range(100))
    world.pull()
    assert world.pull("r2").outcomes[0].status == "unchanged"
    world.fill(range(100, 200))
    assert world.pull("r3").outcomes[0].tally.rows_in == 100
    assert world.numbers() == [*range(200)]
    undo("r3", world.context())
    assert world.numbers() == [*range(100)]
    world.pull("r4")
    assert world.numbers() == [*range(200)]
    world.stored.insert_one({"_id": "no time", "n": 5})
    before = world.cursor()
    (outcome,) = world.pull("r5").outcomes
    assert outcome.error["code"] == "cursor_invalid"
    assert '"no time"' in str(outcome.error)
    assert (world.numbers(), world.cursor()) == ([*range(200)], before)
    delete("mongo://orders", world.context())
    world.stored.delete_one({"_id": "no time"})
    world.pull("r6")
    assert world.numbers() == [*range(200)]
    assert reconcile(world.context().lake).clean


def test_without_a_reader_types_are_inferred_and_wrong_ones_rejected(make):
    world = make()
    world.stored.insert_many([{"_id": ObjectId(), "n": n, "at": NOW, "x": n / 2} for n in range(5)])
    world.pull()
    assert {type(row["_id"]) for row in world.rows()} == {str}
    assert {str(row["at"]) for row in world.rows()} == {"2026-11-29 12:00:00+00:00"}
    declared = make(more=DECLARED)
    declared.stored.insert_many([{"_id": ObjectId(), "n": n, "total": t} for n, t in enumerate([1, 2.5, "3", None])])
    (outcome,) = declared.pull().outcomes
    assert (outcome.tally.rows_in, outcome.tally.rejected) == (4, 1)
    (reject,) = declared.rows("orders__rejects")
    assert (reject["rule"], reject["column"]) == ("type", "total")


def test_merged_by_key_the_changed_document_replaces_the_earlier_one(make):
    world = make(source=', cursor="at"', more=', write_disposition="merge", key="_id"')
    world.stored.insert_many([{"_id": f"k{n}", "n": n, "at": NOW} for n in range(10)])
    world.pull()
    world.stored.update_one({"_id": "k3"}, {"$set": {"n": 33, "at": NOW + timedelta(seconds=1)}})
    world.pull("r2")
    assert world.numbers() == sorted({*range(10), 33} - {3})


@WAYS
@pytest.mark.parametrize("source", ["", ', cursor="at"'], ids=["whole", "incremental"])
def test_a_pull_that_dies_on_any_page_goes_on_behind_it(make, small_parts, monkeypatch, cluster, source):
    world = make(source=source, more=DECLARED, **cluster)
    world.fill(range(100))
    real, asked = reading.Reading.next, Counter[str]()

    def dying(self: Any) -> Any:
        page = real(self)
        if page is not None:
            asked[page.lines.decode()] += 1
            if len(asked) % 4 == 0 and asked[page.lines.decode()] == 1:
                raise Crash
        return page

    monkeypatch.setattr(reading.Reading, "next", dying)
    crashes = 0
    while True:
        try:
            world.pull()
            break
        except Crash:
            crashes += 1
        assert crashes < 100
    assert crashes > 3
    assert world.numbers() == [*range(100)]
    assert max(asked.values()) == 2, "only the page in flight comes again"
    assert list(world.store.walk(layout.pulls("default", "orders"))) == []


@pytest.mark.slow("crashes at every step")
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("source", ["", ', cursor="at"'], ids=["whole", "incremental"])
def test_a_crash_at_any_step_of_a_divided_pull_leaves_rows_and_cursor_together(make, small_parts, source, after):
    crashes = 0
    for at in range(1, 80):
        world = make(source=source, more=DECLARED, **CLUSTER)
        world.fill(range(50))
        world.pull("r0")
        world.fill(range(50, 100))
        try:
            world.pull("r1", FaultInjector(at, after=after))
        except Crash:
            crashes += 1
        else:
            break
        reconcile(world.context().lake)
        assert world.numbers() in ([*range(50)], [*range(100)])
        world.pull("r1")
        assert world.numbers() == [*range(100)]
        assert reconcile(world.context().lake).clean
    assert crashes > 8


MEASURED = """
import asyncio, resource, sys
from ingestlab import Mongo, Settings
from ingestlab.interfaces import Pull

async def drain():
    rows = 0
    source = Mongo(database=sys.argv[2], collection="orders")
    async for page in source.pages(Pull(name="orders", run="r", settings=Settings(mongodb_uri=sys.argv[1]))):
        rows += page.rows
        if rows == page.rows:
            first = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(rows, first, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)

asyncio.run(drain())
"""


@pytest.mark.slow("long work")
def test_a_hundred_thousand_documents_take_the_memory_of_some(make, mongodb):
    world = make()
    for start in range(0, 100_000, 5_000):
        world.stored.insert_many([{"_id": n, "text": "x" * 1_000} for n in range(start, start + 5_000)])
    command = [sys.executable, "-c", MEASURED, mongodb, world.database]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    rows, first, most = map(int, done.stdout.split())
    assert rows == 100_000
    assert most - first < 60_000, "kilobytes beyond those of the first page, of 100 MB"


@pytest.mark.slow("processes killed")
def test_a_worker_that_is_killed_while_it_pulls_costs_no_document(make):
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster, Client(cluster) as client:
        world = make(more=DECLARED, dask_scheduler=cluster.scheduler_address, mongodb_timeout=120)
        numbers = range(40_000)
        for start in numbers[::10_000]:
            world.fill(range(start, start + 10_000))
        services = replace(world.context(), cluster=Cluster(world.settings))
        request = IngestRequest(run="r1", sources=(Source(uri="mongo://orders"),))
        with ThreadPoolExecutor(1) as pool:
            done = pool.submit(ingest, request, services, lambda _progress: None)
            until(lambda: done.done() or any(client.processing().values()), 120, "parts that are pulled")
            assert not done.done(), done.result().outcomes
            victim = next(name for name, tasks in client.processing().items() if tasks)
            os.kill(client.run(os.getpid, workers=[victim])[victim], signal.SIGKILL)
            (outcome,) = done.result(timeout=300).outcomes
        services.cluster.close()
    assert (outcome.status, outcome.tally.rows_in) == ("committed", len(numbers))
    assert world.numbers() == [*numbers]
    assert reconcile(world.context().lake).clean
