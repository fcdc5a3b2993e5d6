"""A bucket of Google Storage announces its objects by Pub/Sub: acked when they are queued, and not before."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from typing import Any

import fsspec
import pytest
from support.feeds import Listening, queued
from support.lake import World
from support.pubsub import PubSub, serving_pubsub
from support.workers import PATIENCE, until

from ingestlab.core.errors import TerminalError, TransientError
from ingestlab.core.settings import Settings
from ingestlab.interfaces import Notice
from ingestlab.queue.arrival import listening
from ingestlab.queue.arrival.opening import feed_of
from ingestlab.queue.arrival.pubsub import PubSubFeed, notices

ADDRESS = "pubsub://p/files"
NONSENSE = "The message tells of no object: it has no eventType, bucketId, objectId"


def told(kind: str = "OBJECT_FINALIZE", name: str = "a.csv", generation: str = "7", **more: str) -> dict[str, str]:
    return {"eventType": kind, "bucketId": "b", "objectId": name, "objectGeneration": generation, **more}


# What notifications tell


@pytest.mark.parametrize("name", ["a.csv", "d/a b+c%2B[1]?#.csv", "ü"])
def test_names_of_objects_are_as_they_are(name):
    assert notices(told(name=name))[0].uri == f"gs://b/{name}"


@pytest.mark.parametrize("kind", ["OBJECT_DELETE", "OBJECT_ARCHIVE"])
def test_a_generation_is_removed_after_it_came_and_before_the_next(kind):
    (came,), (went,), (next_,) = notices(told()), notices(told(kind)), notices(told(generation="10"))
    assert (came.removed, went.removed) == (False, True)
    assert came.order < went.order < next_.order


@pytest.mark.parametrize("attributes", [told("OBJECT_METADATA_UPDATE"), told(name="folder/"), told("OTHER"), {}])
def test_some_messages_tell_of_nothing(attributes):
    assert notices(attributes) == ()


# The feed


@pytest.fixture
def pubsub() -> Iterator[PubSub]:
    with serving_pubsub() as double:
        double.add("dead")
        double.add("files", dead="dead", most=20)
        yield double


def feed(pubsub: PubSub, address: str = ADDRESS, **options: Any) -> PubSubFeed:
    found = feed_of(address, Settings(storage_options={"pubsub": {"endpoint_url": pubsub.url, **options}}))
    assert isinstance(found, PubSubFeed)
    return found


def dead(pubsub: PubSub) -> list[tuple[bytes, dict[str, str]]]:
    waiting = pubsub.subscriptions["projects/p/subscriptions/dead"].messages
    return [(w.message.data, dict(w.message.attributes)) for w in waiting]


def left(pubsub: PubSub, name: str = "files") -> int:
    return len(pubsub.subscriptions[f"projects/p/subscriptions/{name}"].messages)


@pytest.mark.parametrize("data", [b"", json.dumps({"kind": "storage#object"}).encode(), b"\xff"])
def test_a_message_comes_again_until_it_is_settled(pubsub, data):
    pubsub.send("files", data, **told())
    with feed(pubsub) as found:
        (message,) = found.receive(5)
        assert message.notices == (Notice("gs://b/a.csv", False, "0" * 19 + "70"),)
        assert message.tries == 1
        pubsub.skip(59)
        found.keep([message])
        pubsub.skip(59)
        assert found.receive(0) == []
        pubsub.skip(2)
        (again,) = found.receive(5)
        assert (again.notices, again.tries) == (message.notices, 2)
        found.settle([again])
        pubsub.skip(3600)
        assert found.receive(0) == []
    assert left(pubsub) == 0


def test_a_message_that_is_postponed_comes_later_and_at_most_after_ten_minutes(pubsub):
    pubsub.send("files", **told())
    with feed(pubsub) as found:
        for seconds, delay in ((10.0, 10), (900.0, 600)):
            (message,) = found.receive(5)
            found.postpone(message, seconds)
            found.keep([message])  # a beat that comes late
            pubsub.skip(delay - 2)
            assert found.receive(0) == []
            pubsub.skip(3)
        assert found.receive(5)[0].tries == 3


def test_where_nobody_counts_the_feed_does(pubsub):
    pubsub.add("plain")
    pubsub.send("plain", **told())
    with feed(pubsub, "pubsub://p/plain") as found:
        for tries in (1, 2, 3):
            (message,) = found.receive(5)
            assert message.tries == tries
            found.postpone(message, 0)
        found.settle(found.receive(5))
        pubsub.send("plain", **told())
        assert found.receive(5)[0].tries == 1


def test_what_is_refused_goes_to_the_dead_letters_as_it_was_with_the_reason(pubsub):
    pubsub.send("files", b"hello", colour="red")
    pubsub.send("files", b"data", **told())
    with feed(pubsub) as found:
        for message, reason in zip(found.receive(5), ("", "too late"), strict=True):
            found.refuse(message, message.problem or reason)
    (first, second) = dead(pubsub)
    assert first == (b"hello", {"colour": "red", "reason": NONSENSE})
    assert second == (b"data", {**told(), "reason": "too late"})
    assert left(pubsub) == 0


@pytest.mark.parametrize("trouble", ["none", "denied", "missing"])
def test_without_dead_letters_what_is_refused_stays(pubsub, trouble, caplog):
    if trouble == "none":
        pubsub.add("files")
    elif trouble == "denied":
        pubsub.denied.add("Publish")
    else:
        del pubsub.topics["projects/p/topics/dead"]
    pubsub.send("files", b"hello")
    with feed(pubsub) as found:
        for _ in range(2):
            (message,) = found.receive(5)
            found.refuse(message, message.problem)
            pubsub.skip(590)
            assert found.receive(0) == []
            pubsub.skip(20)
    assert left(pubsub) == 1
    assert caplog.text.count("a message is put aside") == 2


def test_what_changes_no_file_is_acked(pubsub):
    pubsub.send("files", **told("OBJECT_METADATA_UPDATE"))
    pubsub.send("files", **told(name="folder/"))
    with feed(pubsub) as found:
        assert found.receive(5) == []
    assert (left(pubsub), dead(pubsub)) == (0, [])


def test_a_hundred_messages_come_at_once(pubsub):
    for n in range(150):
        pubsub.send("files", b"x" * 256_000, **told(name=f"{n}.csv"))
    with feed(pubsub) as found:
        groups = [found.receive(10), found.receive(10)]
        assert [len(group) for group in groups] == [100, 50]
        for group in groups:
            found.settle(group)
    assert left(pubsub) == 0


# What goes wrong


@pytest.mark.parametrize(
    "address", ["pubsub://p", "pubsub://p/", "pubsub:///s", "pubsub://p/s/t", "pubsub://u:hidden@p/s"]
)
def test_another_address_is_refused_and_not_repeated_where_it_has_a_password(address):
    with pytest.raises(TerminalError) as caught:
        feed_of(address, Settings())
    assert "hidden" not in str(caught.value)


def test_a_subscription_that_is_not_there_is_said_to_be_none(pubsub):
    with pytest.raises(TerminalError, match="There is no subscription pubsub://p/none") as caught:
        feed(pubsub, "pubsub://p/none").__enter__()
    assert caught.value.code == "not_found"


def test_who_may_not_pull_is_told_which_role_is_missing(pubsub):
    pubsub.denied.add("Pull")
    with feed(pubsub) as found, pytest.raises(TerminalError, match=r"roles/pubsub\.subscriber") as caught:
        found.receive(1)
    assert caught.value.code == "access_denied"


def test_who_may_pull_and_not_look_listens_without_dead_letters(pubsub, caplog):
    pubsub.denied.add("GetSubscription")
    pubsub.send("files", **told())
    with feed(pubsub) as found:
        assert len(found.receive(5)) == 1
    assert "cannot be looked at" in caplog.text


def test_without_credentials_it_says_which_are_missing(monkeypatch, tmp_path):
    for name in ("GOOGLE_APPLICATION_CREDENTIALS", "PUBSUB_EMULATOR_HOST"):
        monkeypatch.delenv(name, raising=False)
    nowhere = {"credentials_file": str(tmp_path / "none.json")}
    with pytest.raises(TerminalError, match="GOOGLE_APPLICATION_CREDENTIALS") as caught:
        feed_of(ADDRESS, Settings(storage_options={"pubsub": nowhere})).__enter__()
    assert caught.value.code == "credentials_invalid"


def test_a_server_that_is_away_may_come_back(pubsub):
    pubsub.send("files", **told())
    pubsub.away.add("Pull")
    with feed(pubsub) as found:
        with pytest.raises(TransientError, match="No answer"):
            found.receive(1)
        pubsub.away.clear()
        assert len(found.receive(5)) == 1


def test_without_its_package_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "google.pubsub_v1", None)
    with pytest.raises(TerminalError, match=r"ingestlab\[pubsub\]"):
        feed_of(ADDRESS, Settings())


# From a bucket to a queue


@pytest.fixture
def cloud(tmp_path, redis_url, gcs, gcs_bucket, pubsub, monkeypatch) -> tuple[World, str, Callable[..., str]]:
    """A world that may read a bucket; the notifications are sent by the test, as the server of buckets sends none."""
    monkeypatch.setattr(listening, "WAIT", 1.0)
    world = World(tmp_path, redis_url, "replace", executor="threads")
    options = {"gs": gcs, "pubsub": {"endpoint_url": pubsub.url}}
    world.settings = world.settings.model_copy(update={"storage_options": options})
    fs = fsspec.filesystem("gs", **gcs)

    def put(name: str, text: str = "n,word\n1,w\n") -> str:
        fs.pipe(f"{gcs_bucket}/{name}", text.encode())
        pubsub.send("files", **told(name=name, generation=generation(name), bucketId=gcs_bucket))
        return f"gs://{gcs_bucket}/{name}"

    def generation(name: str) -> str:
        fs.invalidate_cache()
        return str(fs.info(f"{gcs_bucket}/{name}")["generation"])

    return world, gcs_bucket, put


def test_a_bucket_announces_its_objects(cloud, pubsub):
    world, _, put = cloud
    uris = {put(name) for name in ("a.csv", "d/a b+c[1]%.csv", "ü.csv")}
    with Listening(ADDRESS, world) as found:
        until(lambda: set(queued(world)) >= uris, PATIENCE, "announced objects")
        until(lambda: left(pubsub) == 0, PATIENCE, "an empty subscription")
    assert (found.heard.submitted, dead(pubsub)) == (3, [])


def test_an_object_that_is_removed_leaves_its_table_and_older_events_of_it_are_done_with(cloud, pubsub, gcs):
    world, bucket, put = cloud
    there = put("a.csv")
    (first,) = pubsub.subscriptions["projects/p/subscriptions/files"].messages
    attributes = dict(first.message.attributes)
    world.expected[there] = [1]
    world.ingest([there])
    fs = fsspec.filesystem("gs", **gcs)
    fs.rm(f"{bucket}/a.csv")
    pubsub.send("files", **{**attributes, "eventType": "OBJECT_DELETE"})
    with Listening(ADDRESS, world):
        until(lambda: left(pubsub) == 0, PATIENCE, "an empty subscription")
    assert dead(pubsub) == []
    world.expected[there] = []
    world.check([there])


def test_an_announced_object_that_is_not_there_goes_to_the_dead_letters_in_the_end(cloud, pubsub, monkeypatch):
    world, bucket, _ = cloud
    monkeypatch.setattr(listening, "TRIES", 2)
    pubsub.send("files", **told(name="none.csv", bucketId=bucket))
    with Listening(ADDRESS, world) as found:
        until(lambda: delays(pubsub) == [10], PATIENCE, "a first delay")
        pubsub.skip(11)
        until(lambda: len(dead(pubsub)) == 1 and left(pubsub) == 0, PATIENCE, "a dead letter")
    assert "was announced and is not there" in dead(pubsub)[0][1]["reason"]
    assert (found.heard.postponed, found.heard.refused) == (1, 1)


def delays(pubsub: PubSub) -> list[int]:
    said = [request.ack_deadline_seconds for method, request in pubsub.calls if method == "ModifyAckDeadline"]
    return [seconds for seconds in said if seconds != 60]
