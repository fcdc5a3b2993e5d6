"""Lab and the embedded stack beneath it: scaled while it runs, stopped beneath a notebook, started again."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from support.servers import Server
from support.workers import CONTENT, PATIENCE, PLAIN, until

from ingestlab import stack as embedded
from ingestlab.core.errors import StackError, TerminalError, TransientError
from ingestlab.core.settings import Settings
from ingestlab.notebook import Lab
from ingestlab.queue.listeners import queues
from ingestlab.stack.state import running
from ingestlab.teaching import check

pytestmark = pytest.mark.slow("a stack of its own")


@pytest.fixture(scope="module")
def lab(tmp_path_factory) -> Iterator[Lab]:
    """A Lab on a small stack of its own."""
    folder = tmp_path_factory.mktemp("scaled")
    (folder / "pipelines").mkdir()
    (folder / "pipelines/plain.py").write_text(PLAIN)
    settings = Settings(home=folder / "home", pipelines=(str(folder / "pipelines"),))
    try:
        embedded.start(settings, workers=1, dask_workers=1, milvus=False)
        yield Lab(home=folder / "home", pipelines=settings.pipelines)
    finally:
        embedded.stop(folder / "home")


def listening(lab: Lab) -> int:
    found = queues(lab.settings)
    assert found is not None
    return found[0].workers


def dask_workers(lab: Lab) -> int:
    host = urlsplit(lab.settings.dask_dashboard).netloc
    with urllib.request.urlopen(f"http://{host}/json/counts.json", timeout=60) as answer:
        return json.load(answer)["workers"]


def test_workers_of_both_kinds_come_and_go(lab: Lab, script):
    assert lab.scale(workers=3, dask_workers=2) is lab
    assert (listening(lab), dask_workers(lab)) == (3, 2)
    assert "3 workers" in repr(lab)
    lab.scale(workers=1)
    until(lambda: listening(lab) == 1, 15, "workers to go")
    state = running(lab.settings.home)
    assert state is not None
    until(lambda: {"worker-2", "worker-3"}.isdisjoint(running(lab.settings.home).pids), 15, "the state to say so")
    assert dask_workers(lab) == 2, "what is not named stays"
    done = script("scale", "--dask-workers", "1", "--home", lab.settings.home)
    assert done.stdout == "1 RQ worker, 1 Dask worker.\n"
    until(lambda: dask_workers(lab) == 1, 15, "a Dask worker to go")


def test_a_part_that_dies_is_started_again_in_its_new_size(lab: Lab):
    lab.scale(dask_workers=2)
    state = running(lab.settings.home)
    assert state is not None
    state.pids["dask"].find().kill()
    until(lambda: running(lab.settings.home).pids["dask"] != state.pids["dask"], 20, "another cluster")
    until(lambda: _or_zero(lab) == 2, 30, "two Dask workers")
    lab.scale(dask_workers=1)


def _or_zero(lab: Lab) -> int:
    try:
        return dask_workers(lab)
    except OSError:
        return 0


def test_a_worker_that_has_to_go_finishes_its_job(lab: Lab):
    with Server({"plain-last.csv": CONTENT}) as slow:
        run = lab.submit(slow.url("/held/plain-last.csv"), pipeline="plain")
        until(lambda: run.progress().state == "fetching", 20, "a job that has begun")
        lab.scale(workers=0)
        assert run.progress().state == "fetching"
        slow.release()
        assert run.wait(PATIENCE).count("committed") == 1
    assert len(run.history()) == 3, "queued, begun once, finished"
    until(lambda: listening(lab) == 0, 20, "the worker to go")
    waiting = lab.submit(slow.url("/held/plain-last.csv"), pipeline="plain", force=True)
    assert "No worker listens" in lab._repr_html_()
    assert "lab.scale(workers=2)" in repr(lab)
    assert waiting.cancel() == 1
    lab.scale(workers=1)
    assert listening(lab) == 1


@pytest.mark.parametrize("size", [{"workers": -1}, {"workers": 10_000}, {"dask_workers": 0}])
def test_a_size_that_is_no_size_changes_nothing(lab: Lab, size):
    before = running(lab.settings.home)
    with pytest.raises(TerminalError, match="They share one machine"):
        lab.scale(**size)
    assert running(lab.settings.home) == before


def test_a_stack_that_is_stopped_beneath_a_notebook_is_started_again_by_lab(lab: Lab, tmp_path: Path, monkeypatch):
    source = tmp_path / "plain-before.csv"
    source.write_bytes(CONTENT)
    run = lab.submit(source.as_uri(), pipeline="plain").watch(30)
    lab.stop()
    assert "lab = Lab()" in repr(lab)
    assert "lab = Lab()" in lab._repr_html_()
    assert "does not answer" in repr(lab)
    assert f"run {run.id}: not known\n  No answer from a Redis server" in repr(run), (
        "a run shows itself without its Redis"
    )
    assert "not known" in run._repr_html_()
    assert lab.table("plain").rows == 200, "what is published can be read"
    with pytest.raises(TransientError, match=r"Lab\(\)"):
        run.watch()
    with pytest.raises(TransientError, match=r"Lab\(\)"):
        lab.compact("plain")
    with pytest.raises(StackError, match="ingestlab up"):
        lab.scale(workers=2)
    monkeypatch.setenv("INGESTLAB_HOME", str(lab.settings.home))
    with pytest.raises(StackError, match=r"lab = Lab\(\) starts it again"):
        check("00.1", 2)
    with pytest.raises(TransientError, match=r"Lab\(\)"):
        check("00.2", run)
    again = Lab(home=lab.settings.home, pipelines=lab.settings.pipelines)
    assert again.run(run.id).watch(30).result().count("committed") == 1
    assert run.progress().state == "finished", "the old run's server is back at its address"
