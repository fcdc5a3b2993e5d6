"""Tasks that run a model go to the Dask workers that declare what it wants, where there are such; else anywhere."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from distributed import Scheduler, SpecCluster, Worker, get_worker
from support.pictures import PictureWorld, drawn

from ingestlab.core.settings import Settings
from ingestlab.executors.dask import Cluster
from ingestlab.sinks.milvus import commit as module

PIPELINE = """
import numpy as np
from distributed import get_worker
from ingestlab import Embedding, Images, Pipeline

def model(images):
    SEEN.add(get_worker().name)
    return np.array([[len(image), 1] for image in images], dtype="float32")

model.kind, model.resources = "image", WANTED
PIPELINE = Pipeline(reader=Images(), embedding=Embedding(source="file", model=model))
"""
GPU = {"GPU": 1}
ONE, ALL = threading.Lock(), threading.Barrier(4)  # the latter for the threads of both workers


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A Dask cluster of two workers, of which one declares a GPU; on threads, so that a test sees what they do."""
    local = {"host": "127.0.0.1", "dashboard": False, "dashboard_address": "127.0.0.1:0"}
    common = {"nthreads": 2, **local}
    workers = {
        "plain": {"cls": Worker, "options": common},
        "with-gpu": {"cls": Worker, "options": {**common, "resources": GPU}},
    }
    scheduler = {"cls": Scheduler, "options": local}
    with SpecCluster(workers=workers, scheduler=scheduler) as cluster:
        yield cluster.scheduler_address


@pytest.fixture
def cluster(settings: Callable[..., Settings], address: str) -> Iterator[Cluster]:
    found = Cluster(settings(dask_scheduler=address))
    yield found
    found.close()


def where(_number: int) -> str:
    return str(get_worker().name)


def alone(_number: int) -> bool:
    """Whether no other one runs at the same time."""
    if not ONE.acquire(blocking=False):
        return False
    threading.Event().wait(0.02)  # long enough for another to begin
    ONE.release()
    return True


def meet(_number: int) -> str:
    """Waits for three others."""
    ALL.wait(timeout=60)
    return where(0)


def places(cluster: Cluster, resources: Any, tasks: int = 12) -> set[str]:
    calls = [(n,) for n in range(tasks)]
    return {name for _, name in cluster.map(where, calls, [f"where-{resources}-{n}" for (n,) in calls], resources)}


def test_a_task_goes_where_what_it_wants_is_declared(cluster):
    assert places(cluster, GPU) == {"with-gpu"}


def test_no_more_tasks_run_there_than_it_has(cluster):
    keys = [f"alone-{n}" for n in range(6)]
    assert [done for _, done in cluster.map(alone, [(n,) for n in range(6)], keys, GPU)] == [True] * 6


@pytest.mark.parametrize("wanted", [{"TPU": 1}, {"GPU": 2}, {"GPU": 1, "TPU": 1}])
def test_what_no_worker_declares_is_done_without(cluster, wanted):
    assert places(cluster, wanted) <= {"plain", "with-gpu"}


@pytest.mark.parametrize("wanted", [None, {}])
def test_who_wants_nothing_is_served_by_all(cluster, wanted):
    done = cluster.map(meet, [(n,) for n in range(4)], [f"meet-{wanted}-{n}" for n in range(4)], wanted)
    assert {name for _, name in done} == {"plain", "with-gpu"}


def test_threads_of_this_process_declare_nothing(settings):
    cluster = Cluster(settings(dask_scheduler=None))
    try:
        assert len(list(cluster.map(where, [(0,)], ["here"], GPU))) == 1
    finally:
        cluster.close()


@pytest.mark.parametrize(("wanted", "allowed"), [(GPU, {"with-gpu"}), ({"TPU": 1}, {"plain", "with-gpu"})])
def test_a_pipelines_tasks_run_where_its_model_wants(tmp_path, redis_url, monkeypatch, cluster, wanted, allowed):
    seen: set[str] = set()
    monkeypatch.setattr("builtins.SEEN", seen, raising=False)  # the workers are threads of this process
    world = PictureWorld(tmp_path, redis_url, PIPELINE.replace("WANTED", repr(wanted)))
    monkeypatch.setattr(module, "connected", world.connected)
    world.settings = world.settings.model_copy(update={"partition_bytes": 1})  # a task for each picture
    pictures = {f"{n}.png": drawn([("disc", (n, n, n + 50, n + 50))]) for n in range(8)}
    result = world.run(list(world.store_all(pictures).values()), cluster)
    assert [o.status for o in result.outcomes] == ["committed"] * 8
    assert len(world.kept()) == 8
    assert seen
    assert seen <= allowed
