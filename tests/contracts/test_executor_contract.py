"""What every executor does: Dask with a scheduler, Dask in this process, and threads."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import closing

import psutil
import pytest
from support.workers import until

from ingestlab.core.errors import TerminalError
from ingestlab.core.settings import Settings
from ingestlab.executors import dask
from ingestlab.executors.choice import open_executor
from ingestlab.interfaces import Executor
from ingestlab.pipeline.catalog import generic

KINDS = {"dask": {}, "dask scheduler": {}, "threads": {"executor": "threads"}}


@pytest.fixture(params=KINDS)
def executor(request: pytest.FixtureRequest) -> Iterator[Executor]:
    scheduler = request.getfixturevalue("stack").dask_scheduler if request.param == "dask scheduler" else None
    found = open_executor(Settings(_env_file=None, dask_scheduler=scheduler, **KINDS[request.param]))
    yield found
    found.close()


def keys(prefix: str, count: int) -> list[str]:
    return [f"{prefix}-{os.getpid()}-{threading.get_ident()}-{n}" for n in range(count)]


def test_each_call_gives_its_result_once(executor):
    calls = [(n, n + 1) for n in range(40)]
    results = list(executor.map(max, calls, keys("max", 40)))
    assert sorted(results) == [(n, n + 1) for n in range(40)]


def test_results_come_as_they_are_there(executor):
    calls = [({"n": n, "words": ["a", None, 1.5]},) for n in range(3)]
    for place, result in executor.map(dict, calls, keys("dict", 3)):
        assert result == calls[place][0]


def test_no_calls_are_no_results(executor):
    assert list(executor.map(max, [], [])) == []


def test_an_error_of_a_task_is_raised_as_it_is(executor):
    with pytest.raises(ZeroDivisionError):
        list(executor.map(divmod, [(1, 0)], keys("divmod", 1)))
    with pytest.raises(TerminalError) as caught:
        list(executor.map(generic, [("a.unknown", "t")], keys("generic", 1)))
    assert "a.unknown" in str(caught.value)
    assert list(executor.map(max, [(1, 2)], keys("after", 1))) == [(0, 2)]


def test_resources_that_nobody_declares_are_done_without(executor):
    assert list(executor.map(max, [(1, 2)], keys("gpu", 1), {"GPU": 1})) == [(0, 2)]


def test_the_same_keys_may_be_used_again(executor):
    names = keys("again", 1)
    for _ in range(3):  # as a job's next try does
        assert list(executor.map(max, [(3, 1)], names)) == [(0, 3)]


def test_who_leaves_early_leaves_nothing_behind(executor):
    for _ in executor.map(max, [(n, 0) for n in range(50)], keys("early", 50)):
        break
    assert len(list(executor.map(max, [(n, 0) for n in range(50)], keys("early", 50)))) == 50


def test_it_connects_ahead_and_closes_twice(executor):
    executor.connect()
    executor.close()
    executor.close()
    assert list(executor.map(max, [(1, 2)], keys("reopened", 1))) == [(0, 2)]


def test_workers_of_which_one_does_not_answer_are_not_local(stack, monkeypatch):
    monkeypatch.setattr(dask, "PATIENCE", 0.2)
    cluster = dask.Cluster(Settings(_env_file=None, dask_scheduler=stack.dask_scheduler))
    with closing(cluster):
        worker = psutil.Process(next(iter(cluster.client().run(os.getpid).values())))
        worker.suspend()
        try:
            assert not cluster.is_local()
        finally:
            worker.resume()
        until(cluster.is_local, 10, "workers that answer")
