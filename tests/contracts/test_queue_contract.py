"""What every queue does, on a real Valkey: RQ, and another package's."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
import redis
from support.workers import environment, until

from ingestlab.core.errors import TerminalError
from ingestlab.core.jobs import ENDED
from ingestlab.core.messages import NotebookRequest, decode
from ingestlab.core.models import IngestRequest, Source
from ingestlab.core.plugins import plugins
from ingestlab.core.settings import Settings
from ingestlab.interfaces import Queue
from ingestlab.queue import submit
from ingestlab.queue.broker import broker
from ingestlab.queue.listeners import queue_summary, queues
from ingestlab.stack.services import environment as environment_of

WORKER = """
from ingestlab.core.settings import load_settings
from ingestlab.queue.broker import broker
settings = load_settings()
raise SystemExit(broker(settings).consume([settings.queue]))
"""


@pytest.fixture(params=["rq", "audited"])
def settings(request: pytest.FixtureRequest, tmp_path: Path, redis_url: str) -> Settings:
    return Settings(
        _env_file=None,
        home=tmp_path / "home",
        redis_url=redis_url,
        broker=request.param,
        executor="threads",
        pipelines=(str(tmp_path / "pipelines"),),
        queue="contract",
        beat=1,
        retry_delays=(),
    )


@pytest.fixture
def queue(settings: Settings) -> Queue:
    return broker(settings)


@contextmanager
def working(settings: Settings, plugin: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that consumes the queue of the settings."""
    env = {**environment_of(settings), "PYTHONPATH": f"{plugin}:{environment()['PYTHONPATH']}"}
    process = subprocess.Popen([sys.executable, "-c", WORKER], env=env)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(timeout=40)


def asked(name: str = "a.csv", **more: str) -> IngestRequest:
    return IngestRequest(run="r1", table="t", sources=(Source(uri=f"file:///in/{name}", size=3),), **more)


def test_they_are_found_by_name(settings):
    assert {"rq", "audited"} <= set(plugins("queues"))
    with pytest.raises(TerminalError, match="no plug-in 'pigeons'"):
        broker(settings.model_copy(update={"broker": "pigeons"}))


def test_the_same_request_is_one_job_while_it_waits(queue):
    job, new = queue.publish("contract", asked())
    assert (job, new) == (asked().job_id, True)
    assert queue.publish("contract", asked()) == (job, False)
    assert queue.publish("contract", asked("b.csv"))[1]
    assert queue.state("contract").waiting == 2


def test_a_job_tells_what_was_asked(queue):
    before = datetime.now(UTC)
    job, _ = queue.publish("contract", asked(tenant="physics"))
    (found,) = queue.jobs([job, "ingest-nobody"]).values()
    assert (found.id, found.status, found.worker, found.result(), found.traceback()) == (job, "queued", "", None, "")
    assert decode(found.request()) == asked(tenant="physics")
    assert {"run": "r1", "tenant": "physics", "files": 1}.items() <= dict(found.meta).items()
    assert "a.csv" in found.description
    assert found.queued is not None
    assert abs((found.queued.replace(tzinfo=UTC) - before).total_seconds()) < 60
    assert found.began is found.ended is None


def test_a_notebook_is_a_job_as_well(queue):
    request = NotebookRequest(run="r1", notebook="n.ipynb", parameters={"n": 1})
    job, _ = queue.publish("notebooks", request)
    assert decode(queue.jobs([job])[job].request()) == request


def test_what_is_not_known_is_left_out(queue):
    job, _ = queue.publish("contract", asked())
    assert dict(queue.jobs(["ingest-nobody"])) == {}
    assert dict(queue.jobs([])) == {}
    assert queue.any_known(["ingest-nobody", job])
    assert not queue.any_known(["ingest-nobody"])
    assert not queue.any_known([])


def test_a_job_that_waits_can_be_cancelled_and_asked_anew(queue):
    job, _ = queue.publish("contract", asked())
    assert queue.cancel(queue.jobs([job])[job])
    assert queue.jobs([job])[job].status == "canceled"
    assert "canceled" in str(queue.jobs([job])[job].error())
    assert queue.state("contract").waiting == 0
    assert queue.publish("contract", asked()) == (job, True)
    assert queue.jobs([job])[job].status == "queued"


def test_queues_are_counted(queue, settings):
    assert not queue.is_needed("contract")
    queue.publish("contract", asked())
    queue.publish("other", asked("b.csv"))
    assert queue.is_needed("contract")
    assert {"contract", "other"} <= queue.names()
    assert [(q.name, q.waiting, q.running, q.workers) for q in queues(settings) or ()] == [
        ("contract", 1, 0, 0),
        ("other", 1, 0, 0),
    ]
    assert queue_summary(settings) == {"name": "contract", "waiting": 1, "workers": 0}
    assert queue.listeners("contract") == []


def test_waiting_ends_with_its_time(queue):
    job, _ = queue.publish("contract", asked())
    assert queue.wait([job], {}, 0.05) == []


def test_what_the_dashboard_reads(queue):
    job, _ = queue.publish("contract", asked())
    monitor = queue.monitor()
    names, workers = monitor.names()
    assert (names, workers) == (["contract"], [])
    (state,) = monitor.queues(names, 5)
    assert (state.name, state.waiting, state.ahead) == ("contract", 1, (job,))
    assert [found.id for found in monitor.jobs([job, "nobody"])] == [job]
    assert monitor.tenants([state]) == {"contract": {"default": 1}}


def test_jobs_are_consumed_and_tell_how_they_ended(queue, settings, tmp_path, plugin):
    (tmp_path / "a.csv").write_text("n\n1\n2\n")
    good, bad = submit(str(tmp_path / "a.csv"), settings=settings), submit(str(tmp_path / "no.csv"), settings=settings)
    with working(settings, plugin) as process:
        until(lambda: [one.pid for one in queue.listeners("contract")] == [process.pid], 60, "a worker that listens")
        assert good.wait(60).count("committed") == 1
        assert bad.wait(60).count("failed") == 1
        (job,), (failed,) = (queue.jobs([run.record.jobs[0].id]).values() for run in (good, bad))
        assert (job.status, failed.status) == ("finished", "failed")
        assert {job.status, failed.status} <= set(ENDED)
        assert (job.result() or {})["outcomes"][0]["status"] == "committed"
        assert job.began is not None
        assert job.ended is not None
        assert job.worker
        assert failed.traceback()
        assert set(queue.wait([job.id, failed.id], {}, 5)) == {job.id, failed.id}
        (tmp_path / "no.csv").write_text("n\n3\n")
        queue.again(failed)
        assert bad.wait(60).count("committed") == 1
        assert submit(str(tmp_path / "a.csv"), settings=settings).wait(60).count("unchanged") == 1
    until(lambda: queue.listeners("contract") == [], 20, "no worker that listens")


def test_a_plug_in_adds_what_it_is_for(tmp_path, redis_url, settings, queue):
    if settings.broker != "audited":
        return
    queue.publish("contract", asked())
    queue.publish("contract", asked())
    with redis.Redis.from_url(redis_url) as client:
        ((_, entry),) = client.xrange("example:published")
    assert entry[b"job"].decode() == asked().job_id
