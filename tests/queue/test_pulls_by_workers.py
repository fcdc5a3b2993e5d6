"""Pulls of an API by workers: cancelled, out of time, killed, and many windows at once."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from support.api import SHOP, ApiServer
from support.workers import PATIENCE, Yard, open_yard, until

from ingestlab.lake.log import manifests
from ingestlab.lake.storage.store import open_store
from ingestlab.queue.run import Run
from ingestlab.sources.records import windows

NUMBERS = count()
READER = 'reader=JsonLines(columns={"id": "int64", "at": "string"}),'


class Shop:
    """An API of 200 records, and a pipeline of its own for the workers of a yard."""

    def __init__(self, yard: Yard, api: ApiServer) -> None:
        text = SHOP.replace("URL", api.url).replace("AHEAD", "1").replace("MORE", READER)
        self.yard, self.api, self.name = yard, api, f"orders{next(NUMBERS)}"
        yard.pipeline(self.name, text)
        yard.workers.have(2)

    def submit(self, *uris: str, **settings: Any) -> Run:
        return self.yard.submit(*(uris or [f"rest://{self.name}"]), pipeline=None, **settings)

    def ids(self) -> list[int]:
        lake = self.yard.settings.lake_url
        files = [f for f in open_store(lake, {}).walk(f"tables/default/{self.name}") if f.endswith(".parquet")]
        return sorted(n for file in files for n in pq.ParquetFile(Path(lake) / file).read()["id"].to_pylist())

    def cursors(self) -> list[str | None]:
        entries = manifests(open_store(self.yard.settings.lake_url, {}), "default", self.name)
        return [r.version for m in entries for r in m.sources if r.uri.startswith("rest://")]


@pytest.fixture(scope="module")
def yard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yard]:
    with open_yard(tmp_path_factory.mktemp("pulls"), None, executor="threads") as opened:
        yield opened


@pytest.fixture
def shop(yard: Yard) -> Iterator[Shop]:
    with ApiServer([{"id": n, "at": f"2026-01-{1 + n // 10:02d}T00:00:{n % 10:02d}Z"} for n in range(200)]) as api:
        api.delay = 0.2
        yield Shop(yard, api)


def test_a_pull_is_cancelled_at_once_and_a_retry_goes_on_at_its_page(shop: Shop) -> None:
    run = shop.submit()
    until(lambda: len(shop.api.asked) >= 3, 30, "some pages")
    assert run.cancel() == 1
    assert run.wait(PATIENCE).state == "cancelled"
    there = len(shop.api.asked)
    assert there < 20
    assert (shop.ids(), shop.cursors()) == ([], [])
    shop.api.delay = 0
    assert run.retry() == 1
    assert run.wait(PATIENCE).count("committed") == 1
    assert shop.ids() == list(range(200))
    assert max(shop.api.asked.values()) <= 2
    assert sum(shop.api.asked.values()) <= 20 + 1, "but the one in flight"
    assert len(shop.cursors()) == 1


@pytest.mark.slow("long work")
def test_a_pull_that_is_out_of_time_leaves_its_pages_to_the_next_try(shop: Shop) -> None:
    run = shop.submit(job_timeout=3)
    error = run.wait(PATIENCE).failed[0].exception()
    assert error.code == "job_timeout"
    assert 0 < len(shop.api.asked) < 20
    assert (shop.ids(), shop.cursors()) == ([], [])
    shop.api.delay = 0
    assert run.retry() == 1
    assert run.wait(PATIENCE).count("committed") == 1
    assert shop.ids() == list(range(200))
    assert sum(shop.api.asked.values()) <= 20 + 1


@pytest.mark.slow("long work")
def test_a_worker_killed_in_a_pull_asks_for_the_page_in_flight_alone(shop: Shop) -> None:
    run = shop.submit()
    worker = shop.yard.workers.at_work_on(run.record.jobs[0].id)
    until(lambda: len(shop.api.asked) >= 4, 30, "some pages")
    for process in (*worker.children(recursive=True), worker):
        os.kill(process.pid, signal.SIGKILL)
    shop.yard.workers.have(2)
    assert run.wait(PATIENCE).count("committed") == 1
    assert shop.ids() == list(range(200))
    assert sum(shop.api.asked.values()) <= 20 + 1
    assert len(shop.cursors()) == 1


def test_windows_are_pulled_by_several_workers(shop: Shop) -> None:
    days = windows(f"rest://{shop.name}", "2026-01-01", "2026-01-21", "2d")
    assert len(days) == 10
    run = shop.submit(*days)
    assert run.wait(PATIENCE).count("committed") == 10
    assert shop.ids() == list(range(200))
    assert len({attempt.worker for attempt in run.result().attempts}) == 2
    assert shop.submit(*days).wait(PATIENCE).count("unchanged") == 10
