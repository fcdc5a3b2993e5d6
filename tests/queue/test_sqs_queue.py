"""What is SQS's alone as the queue of jobs: large requests, foreign messages, and queues that are not there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import botocore.session
import pytest
from support.backends import settings_for
from support.sqs import KEYS, REFUSALS, refusing
from support.workers import CONTENT, ONCE, PATIENCE, Yard, open_yard, until

from ingestlab.core.errors import TerminalError, TransientError
from ingestlab.core.models import IngestRequest, Source
from ingestlab.core.settings import Settings
from ingestlab.queue.broker import broker
from ingestlab.queue.jobs.store import JobStore
from ingestlab.stack.valkey import free_port

QUEUE = "sqs-alone"


@pytest.fixture(scope="module")
def yard(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yard]:
    options = settings_for("sqs", request, QUEUE)
    with open_yard(tmp_path_factory.mktemp("sqs"), None, queue=QUEUE, **options) as opened:
        opened.workers.have(1)
        yield opened


@pytest.fixture
def client(yard: Yard) -> Any:
    return botocore.session.Session().create_client("sqs", **yard.settings.storage_options["sqs"])


def url(client: Any) -> str:
    return client.get_queue_url(QueueName=QUEUE)["QueueUrl"]


def asked(*names: str) -> IngestRequest:
    sources = tuple(Source(uri=f"file:///in/{name}", size=3) for name in names)
    return IngestRequest(run="r1", table="t", sources=sources)


def test_a_request_that_is_too_large_for_a_message_stays_in_redis(yard):
    names = [f"{'x' * 200}-{i}.csv" for i in range(2000)]
    queue = broker(yard.settings)
    job, _ = queue.publish(QUEUE, asked(*names))
    until(lambda: queue.jobs([job])[job].status == "failed", PATIENCE, "the end of a job")
    assert queue.jobs([job])[job].notes["error"]["code"] == "not_found", "a worker has read what is asked"


def test_requests_of_foreign_producers_are_done_and_what_is_none_fails(yard, client):
    uri = yard.file("plain-foreign.csv")
    request = IngestRequest(run="r-foreign", pipeline="plain", sources=(Source(uri=uri, size=len(CONTENT)),))
    failed = JobStore(yard.client).count(QUEUE, "failed")
    for body in (json.dumps(request.to_dict()), "hello", "[1]"):
        client.send_message(QueueUrl=url(client), MessageBody=body)
    queue = broker(yard.settings)
    until(lambda: queue.jobs([request.job_id]), PATIENCE, "a job")
    until(lambda: queue.jobs([request.job_id])[request.job_id].status == "finished", PATIENCE, "its end")
    until(lambda: JobStore(yard.client).count(QUEUE, "failed") == failed + 2, PATIENCE, "two failed jobs")
    assert yard.rows(uri) == ONCE
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    counts = lambda: client.get_queue_attributes(QueueUrl=url(client), AttributeNames=names)["Attributes"]  # noqa: E731
    until(lambda: {int(n) for n in counts().values()} == {0}, PATIENCE, "an empty queue")


def test_a_queue_that_is_not_there_is_said_to_be_none(yard):
    queue = broker(yard.settings)
    with pytest.raises(TerminalError, match="no SQS queue nowhere"):
        queue.publish("nowhere", asked("a.csv"))
    assert not queue.is_needed("nowhere")
    with pytest.raises(TerminalError, match="create-queue"):
        queue.consume(["nowhere"], lambda *_: None)


def at(url: str, redis_url: str) -> Settings:
    options = {**KEYS, "endpoint_url": url}
    return Settings(_env_file=None, redis_url=redis_url, queue=QUEUE, broker="sqs", storage_options={"sqs": options})


@REFUSALS
def test_what_sqs_refuses_is_not_tried_again(redis_url, status, code, ours, fix):
    with refusing(status, code) as url, pytest.raises(TerminalError) as caught:
        broker(at(url, redis_url)).publish(QUEUE, asked("a.csv"))
    assert caught.value.code == ours
    if ours != "not_found":
        assert (f"sqs://{QUEUE}" in caught.value.problem, fix in caught.value.fix) == (True, True)
    assert not broker(at(url, redis_url)).is_needed(QUEUE), "nothing was queued"


def test_a_token_that_expires_ends_a_worker(redis_url):
    there = {"GetQueueUrl": {"QueueUrl": "http://127.0.0.1/1/q"}, "GetQueueAttributes": {"Attributes": {}}}
    with (
        refusing(403, "ExpiredTokenException", there) as url,
        pytest.raises(TerminalError, match="AWS_SESSION_TOKEN"),
    ):
        broker(at(url, redis_url)).consume([QUEUE], lambda *_: None)


def test_an_sqs_that_is_away_is_said_to_be(redis_url, monkeypatch):
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    settings = at(f"http://127.0.0.1:{free_port()}", redis_url)
    with pytest.raises(TransientError, match=f"No answer from sqs://{QUEUE}"):
        broker(settings).publish(QUEUE, asked("a.csv"))
    (finding,) = broker(settings).examine()
    assert finding.level == "error"


def test_the_doctor_counts_what_is_in_the_queue(yard):
    (finding,) = broker(yard.settings).examine()
    assert (finding.level, QUEUE in finding.text) == ("ok", True)
