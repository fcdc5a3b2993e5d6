"""What is Celery's alone: its own command line, foreign messages, and RabbitMQ when it is away or forgets."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil
import pytest
import redis
from support.rabbitmq import PROGRAM, count, forget, serve
from support.servers import Server
from support.workers import CONTENT, ONCE, PATIENCE, Yard, environment, open_yard, until

from ingestlab.core.errors import TerminalError, TransientError
from ingestlab.core.models import IngestRequest, Source
from ingestlab.core.settings import Settings
from ingestlab.interfaces import Examined
from ingestlab.queue.broker import broker
from ingestlab.queue.celery.application import TASK
from ingestlab.queue.celery.carrier import CeleryCarrier
from ingestlab.queue.jobs.store import JobStore
from ingestlab.queue.jobs.sweep import LOST, Sweeper
from ingestlab.stack.doctor import examine
from ingestlab.stack.services import environment as environment_of
from ingestlab.stack.valkey import free_port

QUEUE = "stock"
REFUSED = f"{QUEUE}.dead"
slow = pytest.mark.slow("RabbitMQ")


def asked(name: str) -> IngestRequest:
    return IngestRequest(run="r1", table="t", sources=(Source(uri=f"file:///in/{name}.csv", size=3),))


# What the settings say


@pytest.mark.parametrize(
    ("url", "says"), [(None, "No RabbitMQ server is named"), ("redis://h", "a URL of redis"), ("amqp://", "amqp")]
)
def test_a_broker_has_to_be_named(redis_url, url, says):
    settings = Settings(_env_file=None, redis_url=redis_url, broker="celery", broker_url=url)
    with pytest.raises(TerminalError, match=says) as caught:
        broker(settings).publish(QUEUE, asked("a"))
    assert "INGESTLAB_BROKER_URL" in str(caught.value)
    assert not broker(settings).is_needed(QUEUE)


@pytest.mark.parametrize("name", ["INGESTLAB_QUEUE_BACKEND", "INGESTLAB_BROKER"])
@pytest.mark.parametrize("url", ["INGESTLAB_BROKER_URL", "CELERY_BROKER_URL"])
def test_the_environment_chooses_the_backend(monkeypatch, name, url):
    monkeypatch.setenv(name, "celery")
    monkeypatch.setenv(url, "amqp://h/")
    settings = Settings(_env_file=None)
    assert (settings.broker, settings.broker_url) == ("celery", "amqp://h/")


def test_a_broker_that_is_away_is_named_without_its_password(redis_url):
    url = f"amqp://ann:secret@127.0.0.1:{free_port()}//"
    settings = Settings(_env_file=None, redis_url=redis_url, broker="celery", broker_url=url)
    with pytest.raises(TransientError, match=r"No answer from RabbitMQ at amqp://127\.0\.0\.1") as caught:
        broker(settings).publish(QUEUE, asked("a"))
    assert "secret" not in str(caught.value)
    assert not broker(settings).is_needed(QUEUE), "nothing was queued"
    (finding,) = [f for f in examine(settings) if f.check == "broker"]
    assert (finding.level, "RabbitMQ" in finding.text) == ("error", True)
    assert "ann:" not in repr(settings)


# Celery's own worker


@pytest.fixture(scope="module")
def yard(rabbitmq: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yard]:
    forget(rabbitmq, QUEUE)
    folder = tmp_path_factory.mktemp("celery")
    with open_yard(folder, None, broker="celery", broker_url=rabbitmq, queue=QUEUE) as opened:
        yield opened


@contextmanager
def stock(yard: Yard, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """A worker as Celery's command line starts it."""
    command = [sys.executable, "-m", "celery", "-A", "ingestlab.queue.celery", "worker", "-Q", QUEUE, "-l", "INFO"]
    env = {**environment(), **environment_of(yard.settings)}
    with yard.workers.log.open("ab") as log:
        process = subprocess.Popen([*command, *options], env=env, stdout=log, stderr=log, cwd=yard.folder)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(timeout=60)


def listening(yard: Yard, number: int) -> set[int]:
    pids = lambda: {listener.pid for listener in broker(yard.settings).listeners(QUEUE)}  # noqa: E731
    until(lambda: len(pids()) == number, 60, f"{number} workers that listen")
    return pids()


@slow
def test_a_pool_child_that_is_killed_is_replaced_and_its_job_taken_over(yard):
    with stock(yard, "--concurrency", "2") as parent, Server({"oom.csv": CONTENT}) as held:
        children = {child.pid for child in psutil.Process(parent.pid).children()}
        assert listening(yard, 2) <= children | {c.pid for c in psutil.Process(parent.pid).children()}
        run = yard.submit(held.url("/held/oom.csv"))
        until(lambda: held.log, 30, "a download")
        inspected = ask(yard, "inspect", "active")
        assert run.record.jobs[0].id in inspected, inspected
        yard.workers.at_work_on(run.record.jobs[0].id).kill()
        until(lambda: len(held.log) == 2, 30, "another process that downloads")
        held.release()
        result = run.wait(PATIENCE)
        assert [attempt.state for attempt in result.attempts] == ["lost", "finished"]
        assert yard.rows(run.record.first) == ONCE
        listening(yard, 2)
    until(lambda: broker(yard.settings).listeners(QUEUE) == [], 30, "no worker")


@slow
def test_the_whole_worker_killed_leaves_no_child_at_work(yard):
    with Server({"all.csv": CONTENT}) as held:
        with stock(yard, "--concurrency", "1") as parent:
            (child,) = listening(yard, 1)
            run = yard.submit(held.url("/held/all.csv"))
            until(lambda: held.log, 30, "a download")
            parent.kill()
            until(lambda: not psutil.pid_exists(child), 30, "the child to end")
        with stock(yard, "--concurrency", "1"):
            until(lambda: len(held.log) == 2, 30, "another worker that downloads")
            held.release()
            assert run.wait(PATIENCE).count("committed") == 1
    assert yard.rows(run.record.first) == ONCE


@slow
def test_a_job_that_waits_is_cancelled_by_celerys_own_revoke(yard):
    with stock(yard, "--concurrency", "1"), Server({"before.csv": CONTENT}) as held:
        listening(yard, 1)
        before = yard.submit(held.url("/held/before.csv"))
        until(lambda: held.log, 30, "a download")
        waiting = yard.submit(yard.file("plain-revoked.csv"))
        assert "OK" in ask(yard, "control", "revoke", waiting.record.jobs[0].id)
        held.release()
        assert before.wait(PATIENCE).count("committed") == 1
        result = waiting.wait(PATIENCE)
        assert result.state == "cancelled"
        assert "celery revoke" in result.outcomes[0].error["problem"]


def ask(yard: Yard, *words: str) -> str:
    command = [sys.executable, "-m", "celery", "-A", "ingestlab.queue.celery", *words, "--timeout", "10"]
    env = {**environment(), **environment_of(yard.settings)}
    return subprocess.run(command, env=env, capture_output=True, text=True, cwd=yard.folder, check=False).stdout


@slow
def test_a_pool_that_cannot_stop_jobs_is_refused(yard):
    with stock(yard, "--pool", "threads") as process:
        assert process.wait(timeout=60)
    assert "prefork or solo" in yard.workers.log.read_text()


# Messages of others


@slow
def test_requests_of_foreign_producers_are_done_and_what_is_none_is_put_aside(yard, rabbitmq):
    from kombu import Connection

    uri = yard.file("plain-foreign.csv")
    request = IngestRequest(run="r-foreign", pipeline="plain", sources=(Source(uri=uri, size=len(CONTENT)),))
    queue = broker(yard.settings)
    queue.publish(QUEUE, asked("declares"))
    queue.cancel(asked("declares").job_id)
    with Connection(rabbitmq) as connection:

        def send(body: object, task: str = TASK, **options: str) -> None:
            headers = {"id": "x", "task": task, "lang": "js", "argsrepr": "", "kwargsrepr": ""}
            producer = connection.Producer()
            producer.publish(body, routing_key=QUEUE, headers=headers, correlation_id="x", **options)

        end = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
        send([[request.to_dict()], {}, end], serializer="json")
        send([[{"files": 3}], {}, end], serializer="json")
        send([[], {"what": 1}, end], serializer="json")
        send([[1], {}, end], "os.system", serializer="json")
        send(b"\x80\x04K\x01.", content_type="application/x-python-serialize", content_encoding="binary")
        with stock(yard, "--concurrency", "1"):
            until(lambda: count(rabbitmq, REFUSED) == 2, 60, "two refused messages")
            until(lambda: request.job_id in queue.jobs([request.job_id]), 30, "a job")
            until(lambda: queue.jobs([request.job_id])[request.job_id].status == "finished", 60, "its end")
            until(lambda: JobStore(yard.client).count(QUEUE, "failed") == 2, 30, "two failed jobs")
    assert yard.rows(uri) == ONCE
    for job in JobStore(yard.client).members(QUEUE, "failed"):
        assert queue.jobs([job])[job].notes["error"]["code"] == "job_invalid"
    findings = [f.text for f in examine(yard.settings) if f.check == "broker"]
    assert any("2 messages" in text for text in findings), findings
    forget(rabbitmq, QUEUE)


# RabbitMQ's own troubles


class Later(JobStore):
    """The store as a sweep long after sees it."""

    def now(self) -> float:
        return super().now() + 2 * LOST


@slow
def test_a_message_that_was_purged_is_sent_again(redis_url, rabbitmq):
    forget(rabbitmq, "purged")
    settings = Settings(_env_file=None, redis_url=redis_url, broker="celery", broker_url=rabbitmq)
    broker(settings).publish("purged", asked("a"))
    assert count(rabbitmq, "purged") == 1
    with redis.Redis.from_url(redis_url) as client:
        sweeper = Sweeper(Later(client), CeleryCarrier(settings), 10, "w")
        sweeper.sweep("purged")
        assert count(rabbitmq, "purged") == 1, "it is there"
        client.delete("ingestlab:sweep:purged")
        forget(rabbitmq, "purged")
        sweeper.sweep("purged")
    assert count(rabbitmq, "purged") == 1
    forget(rabbitmq, "purged")


@slow
def test_a_queue_of_another_kind_is_refused(redis_url, rabbitmq):
    from kombu import Connection

    with Connection(rabbitmq) as connection:
        connection.default_channel.queue_declare("classic", durable=True, auto_delete=False)
    settings = Settings(_env_file=None, redis_url=redis_url, broker="celery", broker_url=rabbitmq)
    with pytest.raises(TerminalError, match="no quorum queue"):
        broker(settings).publish("classic", asked("a"))
    forget(rabbitmq, "classic")


@slow
def test_a_wrong_password_is_said(redis_url, rabbitmq):
    url = rabbitmq.replace("guest:guest", "guest:wrong")
    settings = Settings(_env_file=None, redis_url=redis_url, broker="celery", broker_url=url)
    with pytest.raises(TerminalError, match="does not let us in"):
        broker(settings).publish(QUEUE, asked("a"))


@slow
def test_the_doctor_tells_of_consumer_timeout(redis_url, rabbitmq):
    settings = Settings(_env_file=None, redis_url=redis_url, broker="celery", broker_url=rabbitmq)
    assert isinstance(broker(settings), Examined)
    answers, timeout = broker(settings).examine()
    assert (answers.level, "RabbitMQ 3" in answers.text or "RabbitMQ 4" in answers.text) == ("ok", True)
    assert (timeout.level, "consumer_timeout = 4200000" in timeout.fix) == ("warning", True)
    short = settings.model_copy(update={"job_timeout": 60})
    assert [finding.level for finding in broker(short).examine()] == ["ok"]


@slow
@pytest.mark.skipif(not PROGRAM.exists(), reason="RabbitMQ is not installed: apt-get install rabbitmq-server")
def test_a_job_longer_than_consumer_timeout_counts_once(tmp_path: Path):
    (tmp_path / "broker").mkdir()
    with (
        serve(tmp_path / "broker", consumer_timeout=2) as url,
        open_yard(tmp_path, None, broker="celery", broker_url=url, queue=QUEUE) as yard,
    ):
        yard.workers.have(2)
        with Server({"long.csv": CONTENT}) as held:
            run = yard.submit(held.url("/held/long.csv"))
            log = tmp_path / "broker/logs"
            broken = lambda: any("timed out waiting for delivery" in f.read_text() for f in log.glob("*.log"))  # noqa: E731
            until(broken, 60, "a connection that RabbitMQ breaks")
            held.release()
            assert run.wait(PATIENCE).count("committed") == 1
            assert len(held.log) == 1
        assert yard.submit(yard.file("plain-after.csv")).wait(PATIENCE).count("committed") == 1
        assert json.loads(yard.client.hget("ingestlab:job:" + run.record.jobs[0].id, "result"))["outcomes"]


@slow
@pytest.mark.skipif(not PROGRAM.exists(), reason="RabbitMQ is not installed: apt-get install rabbitmq-server")
def test_jobs_outlive_a_rabbitmq_that_goes_and_comes_back(tmp_path: Path):
    folder, port = tmp_path / "broker", free_port()
    folder.mkdir()
    with ExitStack() as first, Server({"held.csv": CONTENT}) as held:
        url = first.enter_context(serve(folder, port=port))
        with open_yard(tmp_path, None, broker="celery", broker_url=url, queue=QUEUE) as yard:
            yard.workers.have(1)
            running = yard.submit(held.url("/held/held.csv"))
            until(lambda: held.log, 30, "a download")
            waiting = yard.submit(yard.file("plain-waits.csv"))
            first.close()
            with pytest.raises(TransientError, match="No answer from RabbitMQ"):
                yard.submit(yard.file("plain-refused.csv"))
            held.release()
            assert running.wait(PATIENCE).count("committed") == 1, "it needs no broker to end"
            with serve(folder, port=port):
                assert waiting.wait(PATIENCE).count("committed") == 1
                assert yard.submit(yard.file("plain-refused.csv")).wait(PATIENCE).count("committed") == 1
            assert len(held.log) == 1
