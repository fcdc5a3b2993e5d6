"""The same behaviour on every queue backend: real brokers, and workers as real processes."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from support.backends import settings_for
from support.servers import Server
from support.workers import CONTENT, ONCE, PATIENCE, Yard, environment, open_gates, open_yard, until

from ingestlab.stack.services import environment as environment_of

pytestmark = pytest.mark.slow("queue backends")

TAKEN_OVER = 30  # seconds, at most


@pytest.fixture(scope="module", params=["rq", "celery", "sqs", "sqs.fifo"])
def backend(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yard]:
    """Two workers of a backend, which process files themselves."""
    queues = ("backends", "backends-tutorial")
    options = settings_for(request.param, request, *queues)
    with open_yard(tmp_path_factory.mktemp("backend"), None, queue=queues[0], **options) as yard:
        yield yard


@pytest.fixture
def ready(backend: Yard) -> Iterator[Yard]:
    backend.workers.have(2)
    yield backend
    open_gates(backend.folder)


@contextmanager
def process(yard: Yard, *command: str, **env: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process with the yard's settings, whose log is that of the workers."""
    with yard.workers.log.open("ab") as log:
        started = subprocess.Popen(
            command, env={**environment(**env), **environment_of(yard.settings)}, stdout=log, stderr=log
        )
    try:
        yield started
    finally:
        started.terminate()
        try:
            started.wait(timeout=60)
        except subprocess.TimeoutExpired:
            started.kill()
            started.wait()
            raise


def test_a_file_is_published_once_however_often_it_is_submitted(ready):
    uri = ready.file("plain-once.csv")
    assert ready.submit(uri).wait(PATIENCE).count("committed") == 1
    assert ready.submit(uri).wait(PATIENCE).count("unchanged") == 1
    assert ready.rows(uri) == ONCE


def test_the_same_submission_while_it_runs_is_the_same_run(ready):
    with Server({"twice.csv": CONTENT}) as slow:
        first = ready.submit(slow.url("/held/twice.csv"))
        until(lambda: slow.log, 20, "a download that has begun")
        assert ready.submit(slow.url("/held/twice.csv")).id == first.id
        slow.release()
        assert first.wait(PATIENCE).count("committed") == 1
    assert len(slow.log) == 1


def test_a_job_is_tried_again_after_its_delay(ready):
    with Server({"late.csv": CONTENT}) as flaky:
        uri = flaky.url("/flaky/late.csv?fail=1")
        run = ready.submit(uri)
        until(lambda: run.progress().state == "retrying", 30, "a retry")
        result = run.wait(PATIENCE)
        assert result.count("committed") == 1
    assert [attempt.state for attempt in result.attempts] == ["retrying", "finished"]
    shortest = 0 if ready.settings.broker == "rq" else 0.9  # RQ's times are whole seconds, cut
    assert result.attempts[1].began - (result.attempts[0].ended or 0) > shortest
    assert ready.rows(uri) == ONCE


def test_what_fails_is_told_and_can_be_retried(ready):
    uri = ready.file("plain-missing.csv")
    (ready.folder / "plain-missing.csv").unlink()
    run = ready.submit(uri)
    assert run.wait(PATIENCE).state == "failed"
    assert [outcome.error["code"] for outcome in run.failures()] == ["not_found"]
    assert any("failed" in line for line in run.history())
    ready.file("plain-missing.csv")
    assert run.retry() == 1
    assert run.wait(PATIENCE).count("committed") == 1
    assert ready.rows(uri) == ONCE


def test_jobs_that_wait_or_run_are_cancelled(ready):
    with Server({f"{name}.csv": CONTENT for name in "abc"}) as slow:
        running = [ready.submit(slow.url(f"/held/{name}.csv")) for name in "ab"]
        until(lambda: len(slow.log) == 2, 30, "two downloads")
        waiting = ready.submit(slow.url("/held/c.csv"))
        assert waiting.progress().state == "queued"
        assert waiting.cancel("wrong folder", by="ann") == 1
        assert waiting.wait(PATIENCE).state == "cancelled"
        assert running[0].cancel() == 1
        assert running[0].wait(PATIENCE).state == "cancelled"
        slow.release()
        assert running[1].wait(PATIENCE).count("committed") == 1
        assert len(slow.log) == 2, "what was cancelled never began"
        assert waiting.retry() == 1
        assert waiting.wait(PATIENCE).count("committed") == 1


def test_the_job_of_a_worker_that_is_killed_is_taken_over(ready):
    with Server({"killed.csv": CONTENT}) as slow:
        uri = slow.url("/held/killed.csv")
        run = ready.submit(uri)
        until(lambda: slow.log, 20, "a download that has begun")
        ready.workers.at_work_on(run.record.jobs[0].id).kill()
        killed = time.monotonic()
        until(lambda: len(slow.log) == 2, TAKEN_OVER, "another worker that downloads")
        assert time.monotonic() - killed < TAKEN_OVER, "with the beat of these tests it is much less"
        slow.release()
        result = run.wait(PATIENCE)
    assert result.count("committed") == 1
    assert [attempt.state for attempt in result.attempts] == ["lost", "finished"]
    assert ready.rows(uri) == ONCE


def test_the_tutorials_producer_and_the_command_line(ready, cli: Callable[..., subprocess.CompletedProcess[str]]):
    good, bad, env = ready.file("plain-cli.csv"), ready.folder / "plain-gone.csv", environment_of(ready.settings)
    queue = f"{ready.settings.queue}-tutorial"
    with process(ready, sys.executable, "-m", "ingestlab", "worker", queue):
        runs = []
        for uri in (good, bad.as_uri()):
            bad.write_bytes(CONTENT)
            said = cli("produce", "--queuename", queue, "--uri", uri, **env)
            assert f"on {queue}" in said.stdout, said.stderr
            runs.append(re.search(r"run (\S+) on", said.stdout)[1])
            if uri != good:
                bad.unlink()
        shown = [cli("show", run, "--wait", **env).stdout for run in runs]
        assert "1 committed" in shown[0]
        assert "plain-gone.csv" in shown[1]
        assert runs[1] in cli("failed", **env).stdout
        bad.write_bytes(CONTENT)
        assert cli("retry", runs[1], **env).returncode == 0
        assert "1 committed" in cli("show", runs[1], "--wait", **env).stdout
    assert ready.rows(good) == ready.rows(bad.as_uri()) == ONCE
