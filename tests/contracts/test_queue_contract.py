"""What every queue does, on a real Valkey, RabbitMQ and SQS server: RQ, Celery, SQS, and another package's."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
import redis
from support.backends import BACKENDS, settings_for
from support.workers import environment, until

from ingestlab.core.errors import TerminalError, UndecodableJobError
from ingestlab.core.jobs import ENDED, Job
from ingestlab.core.messages import NotebookRequest
from ingestlab.core.models import IngestRequest, Source
from ingestlab.core.plugins import plugins
from ingestlab.core.settings import Settings
from ingestlab.interfaces import Queue
from ingestlab.queue import submit
from ingestlab.queue.broker import broker
from ingestlab.queue.listeners import queue_summary, queues
from ingestlab.stack.services import environment as environment_of

CONSUMER = """
import os, sys, time
from pathlib import Path
from ingestlab.core.errors import TerminalError, UndecodableJobError, TransientError
from ingestlab.core.jobs import Done, Failed, RetryLater
from ingestlab.core.models import IngestResult, Outcome
from ingestlab.core.settings import load_settings
from ingestlab.queue.broker import broker

folder = Path(sys.argv[1])

def handler(message, delivery):
    uri, tries = message["sources"][0]["uri"], len(list(folder.glob(f"{delivery.id}-*")))
    name = Path(uri).stem
    (folder / f"{delivery.id}-{tries}").write_text(f"{name} {os.getpid()} {delivery.queue} {delivery.retry_after}")
    delivery.note({"progress": {"state": "processing", "files": 1, "note": f"{name}, try {tries + 1}"}})
    while name == "held" and not (folder / "open").exists():
        if (why := delivery.stopped()) is not None:
            return Failed(TerminalError(f"Job was cancelled {why}", code="job_stopped"))
        time.sleep(0.02)
    if name == "waits" and tries < 2:
        return RetryLater(TransientError("Server is busy", code="busy_source"), 1, counts=False)
    if name == "passing" and delivery.retry_after is not None:
        return RetryLater(TransientError("Server is away", code="http_unavailable"), delivery.retry_after)
    if name in ("passing", "bad"):
        return Failed(TerminalError("File is bad", code="http_error"))
    return Done(IngestResult(run="r1", job=delivery.id, outcomes=(Outcome(uri=uri, status="committed"),)))

settings = load_settings()
raise SystemExit(broker(settings).consume([settings.queue], handler))
"""


@pytest.fixture(params=[*BACKENDS, pytest.param("audited", marks=pytest.mark.slow("another package's queue"))])
def settings(request: pytest.FixtureRequest, tmp_path: Path, redis_url: str) -> Settings:
    return Settings(
        **settings_for(request.param, request, "contract", "other", "notebooks"),
        _env_file=None,
        home=tmp_path / "home",
        redis_url=redis_url,
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
def process(settings: Settings, plugin: Path, *command: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process that consumes the queue of the settings."""
    env = {**environment_of(settings), "PYTHONPATH": f"{plugin}:{environment()['PYTHONPATH']}"}
    started = subprocess.Popen([sys.executable, *command], env=env)
    try:
        yield started
    finally:
        started.terminate()
        started.wait(timeout=40)


@dataclass(frozen=True)
class Consumer:
    """Starts consumers with a handler of the suite's own, and reads what that has seen."""

    settings: Settings
    plugin: Path
    folder: Path

    def __call__(self) -> AbstractContextManager[subprocess.Popen[bytes]]:
        return process(self.settings, self.plugin, "-c", CONSUMER, str(self.folder))

    def tries(self, job: str) -> list[str]:
        """What the handler was given in each try: name, process, queue and delay of a retry."""
        return [path.read_text() for path in sorted(self.folder.glob(f"{job}-*"))]

    def began(self, job: str) -> int:
        """The process that has the job's last try."""
        return int(until(lambda: self.tries(job), 60, "a try")[-1].split()[1])


@pytest.fixture
def consumer(settings: Settings, plugin: Path, tmp_path: Path) -> Consumer:
    (tmp_path / "tries").mkdir()
    return Consumer(settings, plugin, tmp_path / "tries")


def status(queue: Queue, job: str) -> str:
    return queue.jobs([job])[job].status


def ended(queue: Queue, job: str) -> Job:
    """The job, when it has ended."""
    until(lambda: status(queue, job) in ENDED, 60, "an end")
    return queue.jobs([job])[job]


def asked(name: str = "a.csv", **more: str) -> IngestRequest:
    return IngestRequest(run="r1", table="t", sources=(Source(uri=f"file:///in/{name}", size=3),), **more)


def test_they_are_found_by_name(settings):
    assert {"rq", "celery", "sqs", "audited"} <= set(plugins("queues"))
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
    assert (found.id, found.queue, found.status, found.worker) == (job, "contract", "queued", "")
    assert (dict(queue.ending(job).result), queue.ending(job).traceback) == ({}, "")
    assert queue.request(job) == asked(tenant="physics")
    assert {"run": "r1", "tenant": "physics", "files": 1}.items() <= dict(found.notes).items()
    assert "a.csv" in found.description
    assert found.queued is not None
    assert abs((found.queued - before).total_seconds()) < 60
    assert found.began is found.ended is None


def test_a_job_may_come_with_notes_of_what_was_done_before(queue):
    before = {"run": "r1", "job": "j", "outcomes": []}
    job, _ = queue.publish("contract", asked(), {"result": before})
    assert queue.jobs([job])[job].notes["result"] == before


def test_a_notebook_is_a_job_as_well(queue):
    request = NotebookRequest(run="r1", notebook="n.ipynb", parameters={"n": 1})
    job, _ = queue.publish("notebooks", request)
    assert queue.request(job) == request


def test_what_is_not_known_is_left_out(queue):
    job, _ = queue.publish("contract", asked())
    assert dict(queue.jobs(["ingest-nobody"])) == {}
    assert dict(queue.jobs([])) == {}
    assert list(queue.jobs(["ingest-nobody", job])) == [job]
    assert dict(queue.ending("ingest-nobody").result) == {}
    with pytest.raises(UndecodableJobError):
        queue.request("ingest-nobody")


def test_a_job_that_waits_can_be_cancelled_and_asked_anew(queue):
    job, _ = queue.publish("contract", asked())
    assert queue.cancel(job, "by ann")
    assert queue.jobs([job])[job].status == "canceled"
    assert queue.jobs([job])[job].notes["cancelled"] == "by ann"
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
    assert monitor.tenants([state]) == {"contract": {"default": 1}}


def test_jobs_are_consumed_and_tell_how_they_ended(queue, settings, tmp_path, plugin):
    (tmp_path / "a.csv").write_text("n\n1\n2\n")
    good, bad = submit(str(tmp_path / "a.csv"), settings=settings), submit(str(tmp_path / "no.csv"), settings=settings)
    with process(settings, plugin, "-m", "ingestlab.queue.worker") as worker:
        until(lambda: [one.pid for one in queue.listeners("contract")] == [worker.pid], 60, "a worker that listens")
        assert good.wait(60).count("committed") == 1
        assert bad.wait(60).count("failed") == 1
        (job,), (failed,) = (queue.jobs([run.record.jobs[0].id]).values() for run in (good, bad))
        assert (job.status, failed.status) == ("finished", "failed")
        assert {job.status, failed.status} <= set(ENDED)
        assert [outcome["status"] for outcome in queue.ending(job.id).result["outcomes"]] == ["committed"]
        assert job.began is not None
        assert job.ended is not None
        assert job.worker
        assert queue.ending(failed.id).traceback
        assert set(queue.wait([job.id, failed.id], {}, 5)) == {job.id, failed.id}
        (tmp_path / "no.csv").write_text("n\n3\n")
        queue.again(failed.id)
        assert bad.wait(60).count("committed") == 1
        assert submit(str(tmp_path / "a.csv"), settings=settings).wait(60).count("unchanged") == 1
    until(lambda: queue.listeners("contract") == [], 20, "no worker that listens")


def test_a_handler_gets_what_was_asked_in_order(queue, consumer):
    names = ["a", "b", "bad", "c"]
    jobs = [queue.publish("contract", asked(f"{name}.csv"))[0] for name in names]
    with consumer() as process:
        found = [ended(queue, job) for job in jobs]
    assert [job.status for job in found] == ["finished", "finished", "failed", "finished"]
    assert [consumer.tries(job) for job in jobs] == [[f"{name} {process.pid} contract None"] for name in names]
    assert [queue.ending(job).result.get("job") for job in jobs] == [jobs[0], jobs[1], None, jobs[3]]
    began = [job.began for job in found]
    assert began == sorted(began)
    assert "File is bad" in queue.ending(jobs[2]).traceback
    assert queue.publish("contract", asked("a.csv")) == (jobs[0], True), "it has ended"


@pytest.mark.slow("long work")
def test_a_handler_has_a_job_tried_again_after_its_delay(queue, settings, consumer):
    waits, _ = queue.publish("contract", asked("waits.csv"))
    patient = broker(settings.model_copy(update={"retry_delays": (1, 2)}))
    passing, _ = patient.publish("contract", asked("passing.csv"))
    with consumer():
        until(lambda: status(queue, passing) == "retrying", 60, "a retry")
        assert queue.is_needed("contract"), "a worker would find something to do later"
        assert queue.publish("contract", asked("passing.csv")) == (passing, False)
        assert ended(queue, waits).status == "finished"
        assert ended(queue, passing).status == "failed"
    assert [line.split()[-1] for line in consumer.tries(waits)] == ["None"] * 3, "it has no retries, and needs none"
    assert [line.split()[-1] for line in consumer.tries(passing)] == ["1.0", "2.0", "None"]
    times = [path.stat().st_mtime for path in sorted(consumer.folder.glob(f"{passing}-*"))]
    assert times[2] - times[1] > 1, "two seconds, of which a broker that counts in whole ones may take off one"


@pytest.mark.slow("processes killed")
def test_the_job_of_a_consumer_that_is_killed_is_taken_over(queue, consumer):
    job, _ = queue.publish("contract", asked("held.csv"))
    with consumer() as first:
        assert consumer.began(job) == first.pid
        first.kill()
        with consumer() as second:
            until(lambda: len(consumer.tries(job)) == 2, 30, "another consumer")
            assert consumer.began(job) == second.pid
            (consumer.folder / "open").touch()
            assert ended(queue, job).status == "finished"
    assert len(consumer.tries(job)) == 2
    assert queue.jobs([job])[job].notes["deaths"] == 1


def test_a_job_that_runs_is_seen_elsewhere_and_can_be_stopped(queue, settings, consumer):
    job, _ = queue.publish("contract", asked("held.csv"))
    later, _ = queue.publish("contract", asked("later.csv"))
    with consumer():
        consumer.began(job)
        until(lambda: "progress" in queue.jobs([job])[job].notes, 10, "progress")
        assert queue.jobs([job])[job].notes["progress"]["note"] == "held, try 1"
        (seen,) = broker(settings).jobs([job]).values()
        assert (seen.status, seen.progress["note"]) == ("running", "held, try 1")
        assert queue.publish("contract", asked("held.csv")) == (job, False)
        assert queue.cancel(later)
        assert queue.cancel(job, "by ann: wrong folder")
        assert ended(queue, job).status == "failed"
        assert "Job was cancelled by ann: wrong folder" in queue.ending(job).traceback
        assert not queue.cancel(job), "it has ended"
        assert status(queue, later) == "canceled"
        (consumer.folder / "open").touch()
        queue.again(job)
        assert ended(queue, job).status == "finished", "the wish was good for one try"
    assert consumer.tries(later) == []
    assert not queue.cancel("ingest-nobody")
    queue.again("ingest-nobody")


def test_a_plug_in_adds_what_it_is_for(tmp_path, redis_url, settings, queue):
    if settings.broker != "audited":
        return
    queue.publish("contract", asked())
    queue.publish("contract", asked())
    with redis.Redis.from_url(redis_url) as client:
        ((_, entry),) = client.xrange("example:published")
    assert entry[b"job"].decode() == asked().job_id
