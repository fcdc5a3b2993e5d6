"""How the stack begins: each part imports what it needs, and nothing is done yet that can wait until all serve."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from distributed import Scheduler, Status, Worker
from support.workers import environment, until

from ingestlab import stack
from ingestlab.stack import files
from ingestlab.stack import preload as warm

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import begin


@pytest.mark.parametrize("module", ["milvus", "files", "preload"])
def test_a_part_of_the_stack_imports_no_more_than_it_needs(module):
    code = f"import sys, ingestlab.stack.{module}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True)
    assert {"pydantic", "redis", "pandas", "distributed"} & set(done.stdout.split()) == set()


def test_the_names_of_the_stack_are_there_when_they_are_used():
    assert all(callable(getattr(stack, name)) for name in stack.__all__)
    with pytest.raises(AttributeError, match=r"module 'ingestlab\.stack' has no attribute 'begin'"):
        _ = stack.begin


def test_a_dask_worker_imports_ahead_when_it_is_at_work(monkeypatch):
    seen: list[Status] = []

    async def look() -> None:
        async with Scheduler(host="127.0.0.1", port=0, dashboard=False) as scheduler:
            worker = Worker(scheduler.address, preload=["ingestlab.stack.preload"], dashboard=False)
            monkeypatch.setattr(warm, "import_all", lambda _: seen.append(worker.status))
            async with worker:
                await asyncio.to_thread(until, lambda: seen, 20, "imports ahead")

    asyncio.run(look())
    assert seen == [Status.running]


@pytest.mark.parametrize("asked", [True, False], ids=["asked", "unasked"])
def test_samples_are_made_once_when_somebody_asks_or_soon(tmp_path, monkeypatch, asked):
    monkeypatch.setattr(files, "UNASKED", 0.3 if not asked else 1.0)
    made: list[str] = []

    async def look() -> None:
        async with files.serve(tmp_path, prepare=lambda: made.append("samples")) as url:
            assert made == [], "not while the rest of the stack begins"
            if asked:
                assert await asyncio.to_thread(_status, url + "none.csv") == 404
                assert made == ["samples"], "who asks waits for them"
                await asyncio.sleep(1.2)  # that nothing happens can only be waited for
            await asyncio.to_thread(until, lambda: made, 20, "samples")

    asyncio.run(look())
    assert made == ["samples"]


def _status(url: str) -> int:
    import http.client
    from urllib.parse import urlsplit

    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
    connection.request("GET", urlsplit(url).path)
    return connection.getresponse().status


@pytest.mark.slow("a stack of its own")
def test_the_benchmark_tells_how_long_lab_takes_and_which_part_works_for_it(tmp_path):
    found = begin._lab([begin._fresh(tmp_path / "home")])
    (told,) = found.details["rounds"]
    assert found.value == told["lab"] > 0
    assert (found.target, found.bound, found.unit) == (6.0, "most", "s")
    assert {"supervisor", "redis", "dask", "samples", "worker"} <= set(told["cpu"])
    assert ("milvus" in told["cpu"]) == (find_spec("milvus_lite") is not None)
    assert found.details["cpu_s"] > told["cpu"]["dask"] > 0.1
    assert stack.running(tmp_path / "home") is None, "it leaves nothing running"
