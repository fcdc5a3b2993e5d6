"""Files that announce themselves, in a folder and by a queue of SQS: what is there is submitted, what went goes."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import botocore.session
import fsspec
import pytest
from support.feeds import Listening, queued
from support.lake import World
from support.workers import PATIENCE, until

from ingestlab.core.errors import TerminalError
from ingestlab.interfaces import Message, Notice
from ingestlab.queue import recent_runs
from ingestlab.queue.arrival import folder, listening
from ingestlab.queue.arrival.listening import Heard, Target, listen
from ingestlab.queue.arrival.opening import feed_of
from ingestlab.queue.arrival.s3_events import UnknownShapeError, notices
from ingestlab.queue.arrival.status import listeners
from ingestlab.sources.expand import expand

# The shapes of events


def record(key: str = "a.csv", kind: str = "ObjectCreated:Put", **more: Any) -> dict[str, Any]:
    return {"eventVersion": "2.1", "eventName": kind, "s3": {"bucket": {"name": "b"}, "object": {"key": key, **more}}}


def s3(*records: dict[str, Any]) -> str:
    return json.dumps({"Records": list(records)})


@pytest.mark.parametrize(
    ("key", "name"),
    [("a+b.csv", "a b.csv"), ("a%2Bb.csv", "a+b.csv"), ("d/%C3%BC%5B1%5D.csv", "d/ü[1].csv"), ("a%252F", "a%2F")],
)
def test_keys_of_s3_are_form_data(key, name):
    assert notices(s3(record(key))) == (Notice(f"s3://b/{name}"),)


def test_keys_of_event_bridge_are_as_they_are():
    event = {"source": "aws.s3", "detail-type": "Object Created"}
    event["detail"] = {"bucket": {"name": "b"}, "object": {"key": "a+b%2B.csv", "sequencer": "0A"}}
    (notice,) = notices(json.dumps(event))
    assert (notice.uri, notice.removed) == ("s3://b/a+b%2B.csv", False)
    event["detail-type"] = "Object Deleted"
    assert notices(json.dumps(event))[0].removed


def test_an_envelope_of_sns_is_opened():
    envelope = {"Type": "Notification", "TopicArn": "arn:aws:sns:eu-west-1:1:t", "Message": s3(record())}
    assert notices(json.dumps(envelope)) == notices(s3(record()))


def test_several_records_tell_of_several_objects():
    assert [n.removed for n in notices(s3(record(), record("b.csv", "ObjectRemoved:Delete")))] == [False, True]


@pytest.mark.parametrize("kind", ["ObjectRemoved:DeleteMarkerCreated", "LifecycleExpiration:Delete"])
def test_objects_go_in_several_ways(kind):
    assert notices(s3(record(kind=kind)))[0].removed


@pytest.mark.parametrize(
    "body", [s3(record("folder/", size=0)), s3(record(kind="ObjectTagging:Put")), '{"Event": "s3:TestEvent"}', s3()]
)
def test_some_messages_tell_of_nothing(body):
    assert notices(body) == ()


@pytest.mark.parametrize(
    ("body", "reason"),
    [("hello", "not JSON"), ("[1]", "a JSON list"), ('{"a": 1}', "the fields 'a'"), ('{"Records": [{}]}', "without")],
)
def test_other_shapes_are_said_to_be_none(body, reason):
    with pytest.raises(UnknownShapeError, match=reason):
        notices(body)


def test_sequencers_of_different_length_are_compared_as_s3_says():
    (first,), (second,) = (notices(s3(record(sequencer=text))) for text in ("0055AED6DCD90281E5", "0055AED6DCD9028"))
    assert second.order < first.order


# What becomes of them


class Told:
    """A feed of messages that a test gives it; remembers what became of each."""

    name = "told"

    def __init__(self, *messages: Message) -> None:
        self.left = list(messages)
        self.settled: list[str] = []
        self.later: list[str] = []
        self.refused: dict[str, str] = {}

    def __enter__(self):
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def receive(self, seconds: float):
        return [self.left.pop(0)] if self.left else self.stop()

    def stop(self):
        self.ended.set()
        return []

    def settle(self, messages):
        self.settled += [m.handle for m in messages]

    def postpone(self, message, seconds):
        self.later.append(message.handle)

    def refuse(self, message, reason):
        self.refused[message.handle] = reason

    def keep(self, messages):
        pass

    def waiting(self):
        return None

    def run(self, world: World) -> Heard:
        self.ended = threading.Event()
        return listen(self, world.context(), Target(pipeline="small"), self.ended)


@pytest.fixture
def world(tmp_path, redis_url):
    world = World(tmp_path, redis_url, "replace", executor="threads")
    world.ingest([world.put("a.csv", [1, 2]), world.put("b.csv", [3])])
    return world


def uri(world: World, name: str) -> str:
    return (world.folder / "sources" / name).as_uri()


def test_a_file_that_is_there_is_submitted_whatever_the_event_says(world):
    feed = Told(
        Message("1", (Notice(uri(world, "a.csv")),)), Message("2", (Notice(uri(world, "b.csv"), removed=True),))
    )
    assert (feed.run(world).submitted, feed.settled) == (2, ["1", "2"])
    assert queued(world) == [uri(world, "a.csv"), uri(world, "b.csv")]
    world.check(list(world.expected))


def test_a_file_that_is_gone_is_taken_out(world):
    (world.folder / "sources/b.csv").unlink()
    world.expected[uri(world, "b.csv")] = []
    feed = Told(Message("1", (Notice(uri(world, "b.csv"), removed=True),)))
    assert (feed.run(world).removed, feed.settled) == (1, ["1"])
    world.check(list(world.expected))


def test_a_folder_that_is_gone_takes_its_files_along(world):
    shutil.rmtree(world.folder / "sources")
    world.expected = {name: [] for name in world.expected}
    feed = Told(Message("1", (Notice((world.folder / "sources").as_uri(), removed=True),)))
    assert feed.run(world).removed == 2
    world.check(list(world.expected))


def test_an_announced_file_that_is_not_there_comes_again_and_then_is_put_aside(world):
    notice = Notice(uri(world, "late.csv"))
    feed = Told(Message("1", (notice,)), Message("2", (notice,), tries=listening.TRIES))
    heard = feed.run(world)
    assert (feed.settled, feed.later, list(feed.refused)) == ([], ["1"], ["2"])
    assert "was announced and is not there" in feed.refused["2"]
    assert (heard.postponed, heard.refused) == (1, 1)


def test_an_older_announcement_of_a_file_that_was_removed_since_is_done_with(world):
    (world.folder / "sources/b.csv").unlink()
    there = uri(world, "b.csv")
    feed = Told(
        Message("gone", (Notice(there, removed=True, order="5"),)),
        Message("old", (Notice(there, order="4"),)),
        Message("new", (Notice(there, order="6"),)),
    )
    feed.run(world)
    assert (feed.settled, feed.later) == (["gone", "old"], ["new"])


def test_a_message_is_done_when_all_that_it_tells_of_is(world):
    feed = Told(Message("1", (Notice(uri(world, "a.csv")), Notice(uri(world, "none.csv")))))
    feed.run(world)
    assert (feed.settled, feed.later) == ([], ["1"])


def test_what_is_not_allowed_is_put_aside_with_the_reason(world):
    feed = Told(Message("1", (Notice("gopher://h/a.csv"),)))
    feed.run(world)
    assert "gopher" in feed.refused["1"]


# A folder


@pytest.fixture
def inbox(world, monkeypatch) -> Path:
    monkeypatch.setattr(listening, "WAIT", 0.5)
    inbox = world.folder / "inbox"
    inbox.mkdir()
    world.settings = world.settings.model_copy(update={"rest_seconds": 0.5})
    return inbox


def shows(world: World, *paths: Path) -> None:
    until(lambda: set(queued(world)) >= {p.as_uri() for p in paths}, PATIENCE, f"{[p.name for p in paths]}")


def test_files_in_a_folder_are_submitted_when_they_rest(world, inbox):
    world.settings = world.settings.model_copy(update={"rest_seconds": 2.0})  # no busy machine stops a writer so long
    (inbox / "before.csv").write_text("n,word\n1,w\n")
    with Listening(str(inbox), world, str(inbox)):
        shows(world, inbox / "before.csv")
        with (inbox / "slow.csv").open("w") as file:
            for n in range(8):
                file.write(f"{n},w\n")
                file.flush()
                assert (inbox / "slow.csv").as_uri() not in queued(world), "it is being written"
                time.sleep(0.2)
        shows(world, inbox / "slow.csv")
        (inbox / "deep/er").mkdir(parents=True)
        (inbox / "deep/er/c.csv").write_text("n,word\n1,w\n")
        shows(world, inbox / "deep/er/c.csv")


def test_what_is_moved_into_a_folder_is_taken_at_once_a_folder_with_all_its_files(world, inbox):
    world.settings = world.settings.model_copy(update={"rest_seconds": 3600.0})
    outside = world.folder / "outside"
    outside.mkdir()
    for name in ("x.csv", "y.csv"):
        (outside / name).write_text("n,word\n1,w\n")
        os.utime(outside / name, (1, 1))
    with Listening(str(inbox), world, str(inbox)):
        (outside / "x.csv").rename(inbox / "x.csv")
        shows(world, inbox / "x.csv")
        outside.rename(inbox / "outside")
        shows(world, inbox / "outside/y.csv")


def no_rows(world: World, uri: str) -> bool:
    try:
        return not world.rows("small")[uri]
    except FileNotFoundError:  # a data file left while it was read
        return False


def test_what_leaves_a_folder_leaves_its_table(world, inbox):
    path = inbox / "x.csv"
    path.write_text("n,word\n1,w\n")
    world.expected[path.as_uri()] = [1]
    world.ingest([path.as_uri()])
    with Listening(str(inbox), world):
        (inbox / "y.csv").write_text("n,word\n1,w\n")
        shows(world, inbox / "y.csv")
        path.unlink()
        until(lambda: no_rows(world, path.as_uri()), PATIENCE, "rows to go")
    world.expected[path.as_uri()] = []
    world.check(list(world.expected))


def test_what_nobody_settles_comes_again_as_it_was(world, inbox, monkeypatch):
    monkeypatch.setattr(folder, "_AGAIN", 0.1)
    path = inbox / "x.csv"
    path.write_text("n\n")
    with feed_of(str(inbox), world.settings) as feed:
        (there,) = until(lambda: feed.receive(0.1), PATIENCE, "the file")
        path.unlink()
        feed.settle([there])
        (gone,) = until(lambda: feed.receive(0.1), PATIENCE, "its removal")
        assert gone.notices[0].removed
        (again,) = until(lambda: feed.receive(0.1), PATIENCE, "the removal again, that met with an error")
        assert (again.notices, again.tries) == (gone.notices, 2)
        feed.postpone(again, 0.1)
        (third,) = until(lambda: feed.receive(0.1), PATIENCE, "the removal again, that was postponed")
        assert (third.notices, third.tries) == (gone.notices, 3)
        feed.settle([third])
        assert feed.waiting() == 0


def test_a_folder_that_is_not_there_cannot_be_listened_to(world):
    with pytest.raises(TerminalError, match="no folder"), feed_of(str(world.folder / "nowhere"), world.settings):
        pass


def test_a_folder_that_goes_and_comes_back_is_listened_to_again(world, inbox, monkeypatch):
    monkeypatch.setattr(listening, "PAUSE", 0.1)
    status = lambda: next(iter(listeners(world.redis)), None)  # noqa: E731
    world.settings = world.settings.model_copy(update={"beat": 0.2})
    with Listening(str(inbox), world):
        (inbox / "before.csv").write_text("n,word\n1,w\n")
        shows(world, inbox / "before.csv")
        inbox.rename(inbox.with_name("aside"))
        until(lambda: "There is no folder" in status().trouble, PATIENCE, "its trouble")
        inbox.mkdir()
        until(lambda: not status().trouble, PATIENCE, "its recovery")
        (inbox / "after.csv").write_text("n,word\n2,w\n")
        shows(world, inbox / "after.csv")
    assert recent_runs(world.settings)[0].record.via == "listener"


# A queue of SQS


class Queue:
    """A queue on the S3 server, with a dead-letter queue."""

    def __init__(self, options: dict[str, Any]) -> None:
        endpoint = options["client_kwargs"]["endpoint_url"]
        self.options = {
            "endpoint_url": endpoint,
            "region_name": "us-east-1",
            "aws_access_key_id": "test",
            "aws_secret_access_key": "test",
        }
        self.client = botocore.session.Session().create_client("sqs", **self.options)
        name = f"q-{secrets.token_hex(4)}"
        self.dead = self.client.create_queue(QueueName=f"{name}-dead")["QueueUrl"]
        arn = self.arn(self.dead)
        policy = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": "1000"})
        self.url = self.client.create_queue(QueueName=name, Attributes={"RedrivePolicy": policy})["QueueUrl"]

    def arn(self, url: str) -> str:
        got = self.client.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
        return got["Attributes"]["QueueArn"]

    def send(self, body: str) -> None:
        self.client.send_message(QueueUrl=self.url, MessageBody=body)

    def count(self, url: str = "") -> int:
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        got = self.client.get_queue_attributes(QueueUrl=url or self.url, AttributeNames=names)["Attributes"]
        return sum(int(got[name]) for name in names)


@pytest.fixture
def sqs(s3_server: dict[str, Any]) -> Queue:
    return Queue(s3_server)


@pytest.fixture
def s3_server(request: pytest.FixtureRequest) -> dict[str, Any]:
    return request.getfixturevalue("s3")


@pytest.fixture
def cloud(world, sqs, s3_server, bucket, monkeypatch) -> tuple[World, Queue, str, Callable[..., str]]:
    """A world that may read a bucket, which sends its events to a queue."""
    monkeypatch.setattr(listening, "WAIT", 1.0)
    world.settings = world.settings.model_copy(update={"storage_options": {"s3": s3_server, "sqs": sqs.options}})
    client = botocore.session.Session().create_client("s3", **sqs.options)
    told = {"QueueArn": sqs.arn(sqs.url), "Events": ["s3:ObjectCreated:*", "s3:ObjectRemoved:*"]}
    client.put_bucket_notification_configuration(
        Bucket=bucket, NotificationConfiguration={"QueueConfigurations": [told]}
    )
    fs = fsspec.filesystem("s3", **s3_server)

    def put(name: str, text: str = "n,word\n1,w\n") -> str:
        fs.pipe(f"{bucket}/{name}", text.encode())
        return f"s3://{bucket}/{name}"

    return world, sqs, bucket, put


def test_a_bucket_announces_its_objects_by_a_queue(cloud):
    world, queue, _, put = cloud
    uris = {put(name) for name in ("a.csv", "d/a b+c[1]%.csv", "ü.csv")}
    with Listening(queue.url, world) as listening_:
        until(lambda: set(queued(world)) >= uris, PATIENCE, "announced objects")
        until(lambda: queue.count() == 0, PATIENCE, "an empty queue")
    assert listening_.heard.submitted == 3


def test_an_object_that_is_removed_leaves_its_table(cloud):
    world, queue, bucket, put = cloud
    there = put("a.csv")
    world.expected[there] = [1]
    world.ingest([there])
    fsspec.filesystem("s3", **world.settings.storage_options["s3"]).rm(f"{bucket}/a.csv")
    with Listening(queue.url, world):
        until(lambda: queue.count() == 0, PATIENCE, "an empty queue")
    world.expected[there] = []
    world.check(list(world.expected))


def test_what_tells_of_no_object_goes_to_the_dead_letters_with_the_reason(cloud):
    world, queue, *_ = cloud
    queue.send("hello")
    with Listening(queue.url, world):
        until(lambda: queue.count(queue.dead) == 1 and queue.count() == 0, PATIENCE, "a dead letter")
    (dead,) = queue.client.receive_message(QueueUrl=queue.dead, MessageAttributeNames=["All"])["Messages"]
    assert dead["Body"] == "hello"
    assert "not JSON" in dead["MessageAttributes"]["reason"]["StringValue"]


def test_an_object_that_is_not_there_goes_to_the_dead_letters_in_the_end(cloud, monkeypatch):
    world, queue, bucket, _ = cloud
    monkeypatch.setattr(listening, "TRIES", 1)
    queue.send(s3({**record("none.csv"), "s3": {"bucket": {"name": bucket}, "object": {"key": "none.csv"}}}))
    with Listening(queue.url, world):
        until(lambda: queue.count(queue.dead) == 1 and queue.count() == 0, PATIENCE, "a dead letter")


def test_a_queue_that_is_not_there_is_said_to_be_none(world, sqs):
    world.settings = world.settings.model_copy(update={"storage_options": {"sqs": sqs.options}})
    with pytest.raises(TerminalError, match="no queue"), feed_of("sqs://nowhere", world.settings):
        pass


def test_the_command_says_what_is_missing(cli, world, sqs):
    env = {"REDIS_URL": world.settings.redis, "INGESTLAB_STORAGE_OPTIONS": json.dumps({"sqs": sqs.options})}
    done = cli("listen", "sqs://nowhere", **env)
    assert done.returncode == 1
    assert "Nothing is synced behind sqs://nowhere" in done.stdout
    assert "There is no queue" in done.stdout + done.stderr
    unknown = cli("listen", str(world.folder), "--pipeline", "none", "--home", world.folder, **env)
    assert "none" in unknown.stderr


def test_a_listing_agrees_with_the_uris_of_events(cloud):
    world, _, bucket, put = cloud
    there = put("a b.csv")
    assert [s.uri for s in expand([f"s3://{bucket}/*.csv"], world.settings)] == [there]
