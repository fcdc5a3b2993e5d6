"""What every feed does: one suite for folders, SQS and Google Pub/Sub."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from support.pubsub import serving_pubsub
from support.workers import PATIENCE, until

from ingestlab.core.errors import TerminalError
from ingestlab.core.settings import Settings
from ingestlab.interfaces import Feed, Message
from ingestlab.queue.arrival.opening import feed_of

KEYS = {"region_name": "us-east-1", "aws_access_key_id": "test", "aws_secret_access_key": "hidden"}


@dataclass
class Place:
    """A feed, and the other end of it."""

    address: str
    settings: Settings
    send: Callable[[str], str]  # announces a file; gives its URI
    nonsense: Callable[[], None] | None = None  # sends what tells of no file
    reasons: Callable[[], list[str]] | None = None  # of what was put aside
    nowhere: str = ""  # an address at which there is nothing

    def open(self) -> Feed:
        return feed_of(self.address, self.settings)


@pytest.fixture(params=["folder", "sqs", "pubsub"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    if request.param == "folder":
        yield folder(tmp_path)
    elif request.param == "sqs":
        yield sqs(request.getfixturevalue("s3")["client_kwargs"]["endpoint_url"])
    else:
        with serving_pubsub() as double:
            yield pubsub(double)


def folder(home: Path) -> Place:
    inbox, outside = home / "inbox", home / "outside"
    inbox.mkdir()
    outside.mkdir()

    def send(name: str) -> str:
        (outside / name).write_text("x")
        os.utime(outside / name, (1, 1))  # it rests
        return (outside / name).rename(inbox / name).as_uri()

    return Place(str(inbox), Settings(rest_seconds=0.1), send, nowhere=str(home / "none"))


def sqs(endpoint: str) -> Place:
    options = {**KEYS, "endpoint_url": endpoint}
    client = botocore.session.Session().create_client("sqs", **options)
    name = f"q-{secrets.token_hex(4)}"
    dead = client.create_queue(QueueName=f"{name}-dead")["QueueUrl"]
    arn = client.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    policy = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": "1000"})
    url = client.create_queue(QueueName=name, Attributes={"RedrivePolicy": policy})["QueueUrl"]

    def send(key: str) -> str:
        record = {"eventName": "ObjectCreated:Put", "s3": {"bucket": {"name": "b"}, "object": {"key": key}}}
        client.send_message(QueueUrl=url, MessageBody=json.dumps({"Records": [record]}))
        return f"s3://b/{key}"

    def reasons() -> list[str]:
        got = client.receive_message(QueueUrl=dead, MessageAttributeNames=["All"], MaxNumberOfMessages=10)
        return [m["MessageAttributes"]["reason"]["StringValue"] for m in got.get("Messages", [])]

    def nonsense() -> None:
        client.send_message(QueueUrl=url, MessageBody="hello")

    return Place(url, Settings(storage_options={"sqs": options}), send, nonsense, reasons, "sqs://none")


def pubsub(double: Any) -> Place:
    dead = double.add("dead")
    double.add("files", dead="dead", most=100)

    def send(name: str) -> str:
        double.send("files", eventType="OBJECT_FINALIZE", bucketId="b", objectId=name, objectGeneration="1")
        return f"gs://b/{name}"

    return Place(
        "pubsub://p/files",
        Settings(storage_options={"pubsub": {"endpoint_url": double.url}}),
        send,
        lambda: double.send("files", b"hello"),
        lambda: [waiting.message.attributes["reason"] for waiting in dead.messages],
        "pubsub://p/none",
    )


def receive(feed: Feed) -> Sequence[Message]:
    return until(lambda: feed.receive(1), PATIENCE, "a message")


def uris(messages: Sequence[Message]) -> set[str]:
    return {notice.uri for message in messages for notice in message.notices}


def test_it_hears_of_all_files_and_of_each_once_it_is_settled(place):
    with place.open() as feed:
        sent, heard = {place.send(f"{n}.csv") for n in range(12)}, set()
        while heard < sent:
            messages = receive(feed)
            assert not uris(messages) & heard, "what is settled does not come again"
            assert all(message.tries == 1 and not message.problem for message in messages)
            heard |= uris(messages)
            feed.keep(messages)
            feed.settle(messages)
        assert heard == sent
        assert feed.receive(1) == []


def test_what_is_postponed_comes_again_and_its_tries_are_counted(place):
    with place.open() as feed:
        uri = place.send("a.csv")
        for tries in (1, 2, 3):
            (message,) = receive(feed)
            assert (uris([message]), message.tries) == ({uri}, tries)
            feed.postpone(message, 0)
        feed.settle(receive(feed))
        assert feed.receive(1) == []


def test_what_is_postponed_for_long_does_not_hold_up_others(place):
    with place.open() as feed:
        place.send("a.csv")
        feed.postpone(receive(feed)[0], 500)
        other = place.send("b.csv")
        messages = receive(feed)
        assert uris(messages) == {other}
        feed.settle(messages)


def test_what_is_refused_is_put_aside_with_the_reason(place):
    with place.open() as feed:
        place.send("a.csv")
        (message,) = receive(feed)
        feed.refuse(message, "nothing can be done")
        assert feed.receive(1) == []
    if place.reasons:
        assert place.reasons() == ["nothing can be done"]


def test_what_makes_no_sense_says_why_and_can_be_refused(place):
    if place.nonsense is None:
        pytest.skip("all that comes from a folder is a file")
    with place.open() as feed:
        place.nonsense()
        (message,) = receive(feed)
        assert message.notices == ()
        assert "tells of no object" in message.problem
        assert "hello" in message.body
        feed.refuse(message, message.problem)
        assert feed.receive(1) == []
    assert place.reasons() == [message.problem]


def test_it_can_be_opened_again_and_what_was_not_settled_is_not_lost(place):
    if place.nonsense is None:
        pytest.skip("a folder has no memory: a sync finds what was not settled")
    with place.open() as feed:
        uri = place.send("a.csv")
        (message,) = receive(feed)
        feed.postpone(message, 0)
    with place.open() as again:
        assert uris(receive(again)) == {uri}


def test_it_counts_what_waits_or_says_that_nothing_tells(place):
    with place.open() as feed:
        assert feed.waiting() in (0, None)


def test_its_name_and_its_errors_tell_no_secret(place):
    assert "hidden" not in place.open().name
    with pytest.raises(TerminalError) as caught:
        feed_of(place.nowhere, place.settings).__enter__()
    assert caught.value.code == "not_found"
    assert caught.value.fix
    assert "hidden" not in str(caught.value)
