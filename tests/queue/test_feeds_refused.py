"""Queues that cannot be listened to, and messages that are too much: each is told, and nothing is lost."""

from __future__ import annotations

import json
import secrets
from typing import Any

import botocore.session
import fsspec
import pytest
from support.feeds import Listening, queued
from support.lake import World
from support.sqs import KEYS, REFUSALS, refusing
from support.workers import PATIENCE, until

from ingestlab.core.errors import TerminalError, TransientError
from ingestlab.core.settings import Settings
from ingestlab.queue.arrival import listening
from ingestlab.queue.arrival.opening import feed_of
from ingestlab.queue.arrival.status import listeners
from ingestlab.stack.valkey import free_port


@pytest.fixture
def world(tmp_path, redis_url, monkeypatch) -> World:
    monkeypatch.setattr(listening, "WAIT", 1.0)
    return World(tmp_path, redis_url, "replace", executor="threads", beat=0.2)


def opened(address: str, **options: Any) -> None:
    with feed_of(address, Settings(storage_options={"sqs": {**KEYS, **options}})):
        pass


# A queue


@REFUSALS
@pytest.mark.parametrize("address", ["sqs://files", "{}/1/files"])
def test_what_sqs_refuses_is_told_in_our_words(address, status, code, ours, fix):
    with refusing(status, code) as url, pytest.raises(TerminalError) as caught:
        opened(address.format(url), endpoint_url=url)
    assert (caught.value.code, "sqs://files" in caught.value.problem) == (ours, True)
    assert fix in caught.value.fix
    assert "hidden" not in str(caught.value)


def test_a_permission_that_is_taken_away_is_waited_for(world, monkeypatch):
    monkeypatch.setattr(listening, "PAUSE", 0.05)
    name, empty = "ReceiveMessage", {"Messages": []}
    answers = {
        "GetQueueUrl": {"QueueUrl": "http://127.0.0.1/1/q"},
        "GetQueueAttributes": {"Attributes": {}},
        name: empty,
    }
    with refusing(403, "AccessDeniedException", answers) as url:
        world.settings = world.settings.model_copy(update={"storage_options": {"sqs": {**KEYS, "endpoint_url": url}}})
        status = lambda: next(iter(listeners(world.redis)), None)  # noqa: E731
        with Listening("sqs://files", world) as listener:
            began = until(status, PATIENCE, "a listener").answer
            until(lambda: status().answer > began, PATIENCE, "an answer")
            del answers[name]
            until(lambda: "Not allowed" in status().trouble, PATIENCE, "its trouble")
            since = status().error_at
            until(lambda: status().beat > since + 1, PATIENCE, "tries that are refused")
            assert (status().gone, status().error_at, status().said()[:13]) == (False, since, "trouble since")
            answers[name] = empty
            until(lambda: not status().trouble, PATIENCE, "its recovery")
        assert listener.heard.refused == 0


def test_a_region_is_asked_for(monkeypatch, tmp_path):
    for name in ("AWS_DEFAULT_REGION", "AWS_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with pytest.raises(TerminalError, match="AWS_DEFAULT_REGION") as caught:
        opened("sqs://files", region_name=None)
    assert caught.value.code == "setting_missing"


def test_a_server_that_is_away_may_come_back(monkeypatch):
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(TransientError, match="No answer from sqs://files"):
        opened("sqs://files", endpoint_url=url)


def test_without_keys_it_says_which_are_missing(monkeypatch, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    options = {"endpoint_url": "http://127.0.0.1:1", "region_name": "us-east-1"}
    feed = feed_of("sqs://files", Settings(storage_options={"sqs": options}))
    with pytest.raises(TerminalError, match="AWS_ACCESS_KEY_ID") as caught:
        feed.__enter__()
    assert caught.value.code == "credentials_invalid"


@pytest.mark.parametrize(
    "address",
    ["sqs://me:hidden@files", "https://me:hidden@sqs.eu-west-1.amazonaws.com/1/files", "pubsub://me:hidden@p/s"],
)
def test_credentials_in_an_address_are_refused_and_not_repeated(address):
    with pytest.raises(TerminalError) as caught:
        feed_of(address, Settings())
    assert caught.value.code == "credentials_invalid"
    assert "hidden" not in str(caught.value)
    assert "INGESTLAB_STORAGE_OPTIONS" in caught.value.fix


def test_an_address_that_nothing_serves_says_what_there_is():
    with pytest.raises(TerminalError, match="pubsub") as caught:
        feed_of("kafka://host/topic", Settings())
    assert caught.value.code == "argument_invalid"


# Messages


@pytest.fixture
def cloud(tmp_path, redis_url, s3, monkeypatch) -> tuple[World, Any, str]:
    """A world, a client of SQS, and the URL of a queue without dead letters."""
    monkeypatch.setattr(listening, "WAIT", 1.0)
    options = {**KEYS, "endpoint_url": s3["client_kwargs"]["endpoint_url"]}
    world = World(tmp_path, redis_url, "replace", executor="threads", storage_options={"s3": s3, "sqs": options})
    client = botocore.session.Session().create_client("sqs", **options)
    return world, client, client.create_queue(QueueName=f"q-{secrets.token_hex(4)}")["QueueUrl"]


def event(bucket: str, *keys: str) -> str:
    records = [
        {"eventName": "ObjectCreated:Put", "s3": {"bucket": {"name": bucket}, "object": {"key": key}}} for key in keys
    ]
    return json.dumps({"Records": records})


def waiting(client: Any, url: str) -> int:
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    got = client.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
    return sum(int(got[name]) for name in names)


def hidden(client: Any, url: str) -> int:
    name = "ApproximateNumberOfMessagesNotVisible"
    return int(client.get_queue_attributes(QueueUrl=url, AttributeNames=[name])["Attributes"][name])


def test_a_message_of_256_kilobytes_announces_all_its_objects(cloud, s3, bucket):
    world, client, url = cloud
    keys = [f"{n}.csv" for n in range(20)]
    told = json.loads(event(bucket, *keys))
    body = json.dumps({**told, "more": "x" * 258_000})
    assert 258_000 < len(body) <= 262_144
    fsspec.filesystem("s3", **s3).pipe({f"{bucket}/{key}": b"n,word\n1,w\n" for key in keys})
    client.send_message(QueueUrl=url, MessageBody=body)
    with Listening(url, world) as found:
        until(lambda: waiting(client, url) == 0, PATIENCE, "an empty queue")
    assert found.heard.submitted == 20
    assert len(queued(world)) == 20


def test_without_dead_letters_nonsense_is_hidden_and_the_listener_lives_on(cloud, s3, bucket):
    world, client, url = cloud
    for nonsense in ("hello", "{}", "\u2603" * 80_000, '{"Records": [1]}'):
        client.send_message(QueueUrl=url, MessageBody=nonsense)
    fsspec.filesystem("s3", **s3).pipe(f"{bucket}/a.csv", b"n,word\n1,w\n")
    with Listening(url, world) as found:
        until(lambda: waiting(client, url) == 4, PATIENCE, "all looked at")
        client.send_message(QueueUrl=url, MessageBody=event(bucket, "a.csv"))
        until(lambda: queued(world) == [f"s3://{bucket}/a.csv"], PATIENCE, "an announced object")
        until(lambda: waiting(client, url) == 4, PATIENCE, "the nonsense alone")
    assert found.heard.submitted == 1


def test_a_bucket_that_is_not_there_or_not_allowed_leaves_the_message_where_it_is(cloud, s3, bucket):
    world, client, url = cloud
    client.send_message(QueueUrl=url, MessageBody=event(f"none-{secrets.token_hex(4)}", "a.csv"))
    with Listening(url, world) as found:
        until(lambda: hidden(client, url) == 1, PATIENCE, "a message that was taken")
    assert (found.heard.postponed, waiting(client, url)) == (1, 1)
