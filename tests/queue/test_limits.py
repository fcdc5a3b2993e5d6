"""What a tenant may have at once and in a day, on real Redis."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from ingestlab.core.errors import BusySourceError, TerminalError
from ingestlab.core.settings import Settings
from ingestlab.core.tenants import Tenant, parse
from ingestlab.executors.threads import Threads
from ingestlab.lake.tenants import TenantTable
from ingestlab.queue import submit
from ingestlab.queue.limits import slot


@pytest.fixture
def base(settings: Callable[..., Settings], redis_url: str, tmp_path: Path) -> Settings:
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.csv").write_text("n\n" + "1\n" * 50)
    return settings(redis_url=redis_url)


def limited(base: Settings, **limits: int) -> None:
    TenantTable(base).add(parse("acme", limits))


def test_waiting_jobs_are_bounded(base: Settings, tmp_path: Path) -> None:
    limited(base, queued_jobs=2)
    runs = [submit(tmp_path / f"{name}.csv", tenant="acme", settings=base) for name in ("a", "b")]
    assert submit(tmp_path / "a.csv", tenant="acme", settings=base).id == runs[0].id  # is no further job
    with pytest.raises(TerminalError, match="queued jobs") as error:
        submit(tmp_path / "c.csv", tenant="acme", settings=base)
    assert error.value.code == "limit_exceeded"
    submit(tmp_path / "c.csv", settings=base)  # others may
    assert runs[0].cancel() == 1
    submit(tmp_path / "c.csv", tenant="acme", settings=base)  # one has ended


def test_files_and_bytes_of_a_day_are_bounded(base: Settings, tmp_path: Path) -> None:
    limited(base, files_a_day=2, bytes_a_day=150)
    submit(tmp_path / "a.csv", tenant="acme", settings=base)
    submit(tmp_path / "a.csv", tenant="acme", settings=base)  # queued already: counts once
    with pytest.raises(TerminalError, match="bytes a day") as error:
        submit(tmp_path / "b.csv", tenant="acme", settings=base)
    assert "102 today, and 102 more" in str(error.value)
    TenantTable(base).change("acme", bytes_a_day=None)
    submit(tmp_path / "b.csv", tenant="acme", settings=base)
    with pytest.raises(TerminalError, match="files a day"):
        submit(tmp_path / "c.csv", tenant="acme", settings=base)


def test_a_run_is_admitted_as_a_whole_or_not(base: Settings, tmp_path: Path) -> None:
    limited(base, files_a_day=2)
    with pytest.raises(TerminalError):
        submit([tmp_path / f"{name}.csv" for name in ("a", "b", "c")], tenant="acme", settings=base)
    submit([tmp_path / f"{name}.csv" for name in ("a", "b")], tenant="acme", settings=base)


def test_running_jobs_take_places_that_come_free(redis_url: str) -> None:
    tenant, client = Tenant(name="acme", running_jobs=2), redis.Redis.from_url(redis_url)
    with slot("one", tenant, client, 5), slot("two", tenant, client, 5):
        with pytest.raises(BusySourceError, match="runs 2 jobs"), slot("three", tenant, client, 5):
            pass
        with slot("other", Tenant(name="beta", running_jobs=1), client, 5), slot("free", None, client, 5):
            pass
    with slot("three", tenant, client, 5):
        pass
    client.set("ingestlab:slot:acme:0", "dead", px=60_000)
    client.set("ingestlab:slot:acme:1", "other", px=60_000)
    with slot("dead", tenant, client, 5):  # who takes a dead worker's job over has its place
        assert client.get("ingestlab:slot:acme:0") == b"dead"
    assert client.mget("ingestlab:slot:acme:0", "ingestlab:slot:acme:1") == [None, b"other"]


@pytest.mark.parametrize("most", [1, 3])
def test_tasks_in_flight_are_bounded(base: Settings, redis_url: str, most: int) -> None:
    tenant, client = Tenant(name="acme", running_jobs=1, tasks=most), redis.Redis.from_url(redis_url)
    lock, now, peak = threading.Lock(), 0, 0
    gate = threading.Event()

    def task(number: int) -> int:
        nonlocal now, peak
        with lock:
            now += 1
            peak = max(peak, now)
        gate.wait(0.02)
        with lock:
            now -= 1
        return number

    executor = Threads(base)
    try:
        with slot("job", tenant, client, 5):
            results = dict(executor.map(task, ((n,) for n in range(12)), map(str, range(12))))
            with pytest.raises(ZeroDivisionError):  # one that fails makes room, too
                list(executor.map(lambda n: 1 // n, ((n,) for n in range(12)), map(str, range(12))))
            again = dict(executor.map(task, ((n,) for n in range(12)), map(str, range(12))))
    finally:
        executor.close()
    assert results == again == {n: n for n in range(12)}
    assert peak <= most
