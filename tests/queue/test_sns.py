"""Amazon SNS announces objects over HTTP: only what it has signed is believed, and nothing is acked unqueued."""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import sys
from collections.abc import Iterator
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta
from typing import Any

import botocore.session
import fsspec
import pytest
import requests
from cryptography.hazmat.primitives.asymmetric import ec
from support.lake import World
from support.sns import TOPIC, Sns, at, certificate, serving_sns
from support.webhook import serving
from support.workers import PATIENCE, until

from ingestlab.core.errors import TerminalError
from ingestlab.core.settings import Settings
from ingestlab.interfaces import Notice
from ingestlab.queue.arrival import inbox as inboxes
from ingestlab.queue.arrival import sns as arrival
from ingestlab.queue.arrival import webhook
from ingestlab.queue.arrival.inbox import Inbox, Verdict
from ingestlab.queue.arrival.refusals import refused_messages
from ingestlab.queue.arrival.sns import SnsInspector
from ingestlab.queue.rq.queueing import open_queue
from ingestlab.stack.valkey import free_port

TOKENS = {"default": "a-long-random-text-of-ours", "other": "a-long-random-text-of-theirs"}
HOST = "https://sns.eu-west-1.amazonaws.com"


@pytest.fixture
def sns() -> Iterator[Sns]:
    with serving_sns() as found:
        yield found


@pytest.fixture
def world(tmp_path, redis_url, s3, sns) -> World:
    world = World(tmp_path, redis_url, "replace", executor="threads")
    more = {
        "storage_options": {"s3": s3, "sns": {"endpoint_url": sns.url}},
        "announce_tokens": TOKENS,
        "tenants": ("default", "other"),
        "sns_topics": (TOPIC,),
    }
    # as they are read from the environment
    world.settings = Settings.model_validate({**world.settings.model_dump(), **more})
    return world


@pytest.fixture
def url(world) -> Iterator[str]:
    with serving(world.settings) as url:
        yield f"{url}/sns?pipeline=small"


def event(bucket: str, *keys: str, kind: str = "ObjectCreated:Put") -> str:
    records = [{"eventName": kind, "s3": {"bucket": {"name": bucket}, "object": {"key": key}}} for key in keys]
    return json.dumps({"Records": records})


def put(world: World, bucket: str, name: str) -> str:
    fs = fsspec.filesystem("s3", **world.settings.storage_options["s3"])
    fs.pipe(f"{bucket}/{name}", b"n,word\n1,w\n")
    return f"s3://{bucket}/{name}"


def send(url: str, body: bytes, who: tuple[str, str] | None = ("default", TOKENS["default"])) -> requests.Response:
    return requests.post(url, body, headers={"Content-Type": "text/plain; charset=UTF-8"}, auth=who, timeout=60)


def queued(world: World) -> list[tuple[str, str]]:
    jobs = open_queue(world.redis, world.settings.queue).jobs
    return sorted((job.args[0]["tenant"], source["uri"]) for job in jobs for source in job.args[0]["sources"])


# What SNS sends


@pytest.mark.parametrize("version", ["1", "2"])
@pytest.mark.parametrize("subject", ["Amazon S3 Notification", None])
def test_a_signed_message_is_answered_when_its_objects_are_queued(world, url, sns, bucket, version, subject):
    there = put(world, bucket, "a b.csv")
    body = sns.message(event(bucket, "a+b.csv"), version=version, Subject=subject)
    answers = [send(url, body) for _ in range(2)]  # SNS sends some twice, and whoever has read one may, too
    assert [answer.status_code for answer in answers] == [200, 200]
    assert queued(world) == [("default", there)]
    assert sns.asked == ["/SimpleNotificationService-0123abc.pem"], "certificates are kept"


def test_the_token_says_whose_objects_they_are(world, url, sns, bucket):
    there = put(world, bucket, "a.csv")
    body = sns.message(event(bucket, "a.csv"))
    assert send(url, body, ("other", TOKENS["other"])).status_code == 200
    assert queued(world) == [("other", there)]


def test_what_event_bridge_publishes_is_read(world, url, sns, bucket):
    there = put(world, bucket, "a+b.csv")
    detail = {"bucket": {"name": bucket}, "object": {"key": "a+b.csv"}}
    told = json.dumps({"source": "aws.s3", "detail-type": "Object Created", "detail": detail})
    assert send(url, sns.message(told)).status_code == 200
    assert queued(world) == [("default", there)]


def test_an_object_that_is_not_there_yet_is_not_acked(world, url, sns, bucket):
    body = sns.message(event(bucket, "late.csv"))
    answer = send(url, body)
    assert (answer.status_code, answer.json()["code"]) == (503, "source_unavailable")
    there = put(world, bucket, "late.csv")
    assert send(url, body).status_code == 200
    assert queued(world) == [("default", there)]


def test_a_removed_object_is_out_of_its_table_when_the_message_is_answered(world, url, sns, bucket):
    there = put(world, bucket, "a.csv")
    world.expected[there] = [1]
    world.ingest([there])
    fsspec.filesystem("s3", **world.settings.storage_options["s3"]).rm(f"{bucket}/a.csv")
    assert send(url, sns.message(event(bucket, "a.csv", kind="ObjectRemoved:Delete"))).status_code == 200
    world.expected[there] = []
    world.check([there])


def test_a_subscription_is_confirmed_and_its_end_is_logged(url, sns, caplog):
    caplog.set_level(logging.INFO)
    body = sns.message("You have chosen to subscribe …", "SubscriptionConfirmation")
    sns.confirms = False
    assert send(url, body).status_code == 503
    sns.confirms = True
    assert send(url, body).status_code == 200
    assert sns.asked[-1] == f"/?Action=ConfirmSubscription&TopicArn={TOPIC}&Token=t"
    asked = len(sns.asked)
    ended = sns.message(
        "…", "UnsubscribeConfirmation", Token="t", SubscribeURL=f"{sns.url}/?Action=ConfirmSubscription"
    )
    assert send(url, ended).status_code == 200
    assert len(sns.asked) == asked, "nobody subscribes again by itself"
    assert f"subscription to {TOPIC} has ended" in caplog.text


def test_a_test_event_is_acked_and_queues_nothing(world, url, sns):
    assert send(url, sns.message('{"Event": "s3:TestEvent"}')).status_code == 200
    assert queued(world) == []


def test_a_message_of_256_kb_is_read(url, sns, bucket):
    told = json.loads(event(bucket, "a.csv", "b.csv", kind="ObjectRemoved:Delete"))
    text = json.dumps({**told, "more": '"' * 127_000})
    assert 254_000 < len(text) < 262_144
    assert send(url, sns.message(text)).status_code == 200
    assert send(url, b"x" * (webhook.MOST_SNS_BYTES + 1)).status_code == 413


# What it does not


def test_without_the_tenants_token_nothing_is_read(url, sns):
    body = sns.message("{}")
    for who in (None, ("default", "wrong"), ("other", TOKENS["default"]), ("", TOKENS["default"]), ("default", "")):
        answer = send(url, body, who)
        assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, 'Basic realm="ingestlab"')
    broken = requests.post(url, body, headers={"Authorization": "Basic !"}, timeout=30)
    assert broken.status_code == 401
    assert sns.asked == []


@pytest.mark.parametrize("body", [b"hello", b"[1]", b"{}", b'{"Records": []}', b'{"Type": "Other"}'])
def test_what_is_no_message_is_refused_such_as_a_raw_one(url, body):
    answer = send(url, body)
    assert (answer.status_code, answer.json()["code"]) == (400, "argument_invalid")
    assert "raw message delivery" in answer.json()["fix"]


@pytest.mark.parametrize(
    ("fields", "status", "reason"),
    [
        ({"TopicArn": "arn:aws:sns:eu-west-1:000000000000:another"}, 403, "none of this service's"),
        ({"SigningCertURL": "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-1.pem"}, 403, "not one of"),
        ({"SignatureVersion": "3"}, 403, "of another kind"),
        ({"Timestamp": "yesterday"}, 403, "has no time"),
        ({"Timestamp": "2026-01-01T00:00:00"}, 403, "has no time"),
        ({"Timestamp": None}, 403, "not signed: Timestamp missing"),
        ({"SigningCertURL": None}, 403, "not signed: SigningCertURL missing"),
        ({"Timestamp": at(datetime.now(UTC) - timedelta(hours=2))}, 503, "too old, or the clock"),
        ({"Timestamp": at(datetime.now(UTC) + timedelta(hours=1))}, 503, "too old, or the clock"),
    ],
)
def test_a_message_that_cannot_be_trusted_is_refused_with_the_reason(url, sns, caplog, fields, status, reason):
    answer = send(url, sns.message("{}", **fields))
    assert answer.status_code == status
    assert reason in answer.json()["problem"]
    assert reason in caplog.text
    assert [path for path in sns.asked if "Action" in path] == []


def test_an_unsigned_or_changed_message_is_refused(url, sns, world):
    good = json.loads(sns.message(event("b", "a.csv")))
    for change in ({"Message": event("b", "b.csv")}, {"Subject": "x"}, {"Signature": "FAKE"}, {"Signature": "%"}):
        answer = send(url, json.dumps(good | change).encode())
        assert (answer.status_code, answer.json()["code"]) == (403, "access_denied")
        assert "does not fit" in answer.json()["problem"]
    del good["Signature"]
    assert "not signed" in send(url, json.dumps(good).encode()).json()["problem"]
    assert queued(world) == []


def test_a_certificate_must_be_one_that_is_valid_today_and_served_by_sns(url, sns):
    pages = {
        "/SimpleNotificationService-1.pem": (certificate(sns.key, -1), 403, "not valid today"),
        "/SimpleNotificationService-2.pem": (b"<html>", 503, "is no certificate"),
        "/SimpleNotificationService-3.pem": (None, 503, "cannot be fetched"),
        "/SimpleNotificationService-4.pem": (None, 503, "cannot be fetched"),
        "/SimpleNotificationService-5.pem": (certificate(Sns().key), 403, "does not fit"),
        "/other/SimpleNotificationService-6.pem": (certificate(sns.key), 403, "not one of SNS"),
        "/SimpleNotificationService-7.pem?x=/SimpleNotificationService-7.pem": (None, 403, "not one of SNS"),
    }
    sns.pages |= {path: page for path, (page, *_) in pages.items() if page}
    sns.moved["/SimpleNotificationService-4.pem"] = f"{sns.url}/SimpleNotificationService-0123abc.pem"
    for path, (_, status, reason) in pages.items():
        answer = send(url, sns.message("{}", SigningCertURL=sns.url + path))
        assert (answer.status_code, reason in answer.json()["problem"]) == (status, True), answer.text
    assert [path for path in sns.asked if "6" in path or "7" in path] == []


def test_a_certificate_of_another_kind_of_key_is_refused(url, sns):
    sns.key = ec.generate_private_key(ec.SECP256R1())
    sns.pages["/SimpleNotificationService-0123abc.pem"] = certificate(sns.key)
    answer = send(url, sns.message("{}"))
    assert (answer.status_code, "of another kind" in answer.json()["problem"]) == (403, True)


@pytest.mark.parametrize(
    "there", ["http://169.254.169.254/?Action=ConfirmSubscription", "{}/?Action=DeleteTopic", "{}"]
)
def test_only_a_url_that_confirms_at_sns_is_asked(url, sns, there):
    answer = send(url, sns.message("…", "SubscriptionConfirmation", SubscribeURL=there.format(sns.url)))
    assert (answer.status_code, "does not confirm" in answer.json()["problem"]) == (403, True)
    assert sns.asked == ["/SimpleNotificationService-0123abc.pem"]


@pytest.mark.parametrize("text", ["hello", '{"a": 1}', '{"Records": [{}]}'])
def test_what_tells_of_no_object_is_refused_for_good_and_kept_for_people(url, world, sns, text):
    answer = send(url, sns.message(text))
    assert (answer.status_code, answer.json()["code"]) == (400, "argument_invalid")
    assert "tells of no object" in answer.json()["problem"]
    (refused,) = until(lambda: refused_messages(["default"], 3600, world.redis)[1], PATIENCE, "a kept message")
    assert (refused.address, refused.body, refused.reason) == ("sns:default:small", text, answer.json()["problem"])


def test_what_is_not_allowed_is_refused_for_good(world, sns, bucket):
    there = put(world, bucket, "a.csv")
    with serving(world.settings.model_copy(update={"schemes": ("https",)})) as url:
        answer = send(f"{url}/sns", sns.message(event(bucket, "a.csv")))
    assert (answer.status_code, answer.json()["code"]) == (400, "argument_invalid")
    assert there in answer.json()["problem"]


def test_a_pipeline_that_is_none_is_told_when_the_topic_is_subscribed(url, sns):
    answer = send(url.replace("small", "none"), sns.message("…", "SubscriptionConfirmation"))
    assert (answer.status_code, answer.json()["code"]) == (400, "pipeline_unknown")
    assert not any("Action" in path for path in sns.asked)


def test_without_topics_in_the_settings_none_is_taken(world, sns):
    with serving(world.settings.model_copy(update={"sns_topics": ()})) as url:
        answer = send(f"{url}/sns", sns.message("{}"))
    assert (answer.status_code, "INGESTLAB_SNS_TOPICS" in answer.json()["fix"]) == (403, True)


def test_while_redis_is_away_nothing_is_acked(world, sns, bucket):
    put(world, bucket, "a.csv")
    away = world.settings.model_copy(update={"redis_url": f"redis://127.0.0.1:{free_port()}/0"})
    with serving(away) as url:
        for _ in range(2):
            assert send(f"{url}/sns?pipeline=small", sns.message(event(bucket, "a.csv"))).status_code == 503


# The host of SNS, which only the settings' own topics name


@pytest.mark.parametrize(
    ("topic", "cert", "fits"),
    [
        (TOPIC, f"{HOST}/SimpleNotificationService-0a.pem", True),
        ("arn:aws-cn:sns:cn-north-1:000000000000:t", "https://sns.cn-north-1.amazonaws.com.cn", True),
        ("arn:aws-us-gov:sns:us-gov-west-1:000000000000:t", "https://sns.us-gov-west-1.amazonaws.com", True),
        (TOPIC, "http://sns.eu-west-1.amazonaws.com/SimpleNotificationService-0a.pem", False),
        (TOPIC, "https://sns.us-east-1.amazonaws.com/SimpleNotificationService-0a.pem", False),
        (TOPIC, "https://sns.s3-eu-west-1.amazonaws.com/SimpleNotificationService-0a.pem", False),
        (TOPIC, f"{HOST}.example.org/SimpleNotificationService-0a.pem", False),
        (TOPIC, f"{HOST}@example.org/SimpleNotificationService-0a.pem", False),
        (TOPIC, f"{HOST}:8443/SimpleNotificationService-0a.pem", False),
        (TOPIC, f"{HOST}/bucket/SimpleNotificationService-0a.pem", False),
        ("arn:aws:sns:evil.org/:000000000000:t", "https://sns.evil.org/SimpleNotificationService-0a.pem", False),
    ],
)
def test_a_certificate_is_fetched_from_the_topics_own_region_alone(sns, monkeypatch, topic, cert, fits):
    asked = []

    async def answered(url: str, _problem: str) -> bytes:
        asked.append(url)
        return sns.pages["/SimpleNotificationService-0123abc.pem"]

    monkeypatch.setattr(arrival, "_get", answered)
    where = cert if "SimpleNotificationService" in cert else f"{cert}/SimpleNotificationService-0a.pem"
    body = sns.message("text", TopicArn=topic, SigningCertURL=where)
    settings = Settings(sns_topics=(topic,))
    if fits:
        assert asyncio.run(SnsInspector(settings).read(body)).text == "text"
        assert asked == [where]
    else:
        with pytest.raises(TerminalError):
            asyncio.run(SnsInspector(settings).read(body))
        assert asked == []


# The inbox


def test_what_a_listener_took_and_could_not_handle_comes_again():
    inbox = Inbox("x")
    answers = [inbox.put((Notice("s3://b/a"),), "") for _ in range(3)]
    answers[1].cancel()
    with inbox:
        assert [message.handle for message in inbox.receive(0)] == ["0", "2"]
        assert (inbox.receive(0), answers[0].result(0).status) == ([], 503)
        last = inbox.put((), "")
        inbox.receive(0)
    assert last.result(0).status == 503


def test_more_than_can_wait_is_told_to_come_again(monkeypatch):
    monkeypatch.setattr(inboxes, "MOST", 2)
    inbox = Inbox("x")
    answers: list[Future[Verdict]] = [inbox.put((), "") for _ in range(3)]
    assert [answer.done() for answer in answers] == [False, False, True]
    assert answers[2].result().status == 503
    assert inbox.waiting() == 2


# A real SNS, but for its signatures


def test_a_bucket_announces_its_objects_by_a_topic(world, s3, bucket, sns, url):
    server = s3["client_kwargs"]["endpoint_url"]
    options = {"endpoint_url": server, "region_name": "us-east-1"}
    options |= {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
    session = botocore.session.Session()
    client, store = session.create_client("sns", **options), session.create_client("s3", **options)
    anybody = {"AWS": "*", "Service": "s3.amazonaws.com"}
    may = {"Effect": "Allow", "Principal": anybody, "Action": "sns:*", "Resource": "*"}
    policy = {"Policy": json.dumps({"Version": "2012-10-17", "Statement": [may]})}
    topic = client.create_topic(Name=f"t-{secrets.token_hex(4)}", Attributes=policy)["TopicArn"]
    world.settings = world.settings.model_copy(update={"sns_topics": (topic,)})
    with serving(world.settings) as ours:
        sns.behind, sns.subscriber = server, f"{ours}/sns?pipeline=small"
        endpoint = sns.url.replace("//", f"//default:{TOKENS['default']}@")
        client.subscribe(TopicArn=topic, Protocol="http", Endpoint=endpoint)
        until(lambda: confirmed(client, topic), PATIENCE, "a confirmed subscription")
        told = {"TopicArn": topic, "Events": ["s3:ObjectCreated:*"]}
        store.put_bucket_notification_configuration(
            Bucket=bucket, NotificationConfiguration={"TopicConfigurations": [told]}
        )
        uris = {put(world, bucket, name) for name in ("a.csv", "d/a b+c[1]%.csv", "ü.csv")}
        until(lambda: {uri for _, uri in queued(world)} >= uris, PATIENCE, "announced objects")
        until(lambda: len(sns.relayed) == 5, PATIENCE, "all answers, that to the test event as well")
        assert set(sns.relayed) == {200}

        client.subscribe(TopicArn=topic, Protocol="http", Endpoint=sns.subscriber.replace("//", "//default:x@"))
        unsigned = sns.subscriber.replace("//", f"//default:{TOKENS['default']}@")
        client.subscribe(TopicArn=topic, Protocol="http", Endpoint=unsigned)
        put(world, bucket, "later.csv")
        until(lambda: len(sns.relayed) == 6, PATIENCE, "another answer")
        assert confirmed(client, topic) == 1, "what is not signed, or has no token, is never confirmed"


def confirmed(client: Any, topic: str) -> int:
    found = client.list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"]
    told = (client.get_subscription_attributes(SubscriptionArn=each["SubscriptionArn"]) for each in found)
    return sum(each["Attributes"]["PendingConfirmation"] == "false" for each in told)


# The settings


def test_a_service_with_a_topic_that_is_none_does_not_start(world):
    with pytest.raises(TerminalError, match="no ARN of a topic: 'objects'") as caught:
        webhook.application(world.settings.model_copy(update={"sns_topics": ("objects",)}))
    assert (caught.value.code, "INGESTLAB_SNS_TOPICS" in caught.value.fix) == ("setting_invalid", True)


def test_without_the_package_that_checks_signatures_a_service_with_topics_does_not_start(world, monkeypatch):
    monkeypatch.setitem(sys.modules, "cryptography.x509", None)
    with pytest.raises(TerminalError, match=r"ingestlab\[sns\]"):
        webhook.application(world.settings)
    webhook.application(world.settings.model_copy(update={"sns_topics": ()}))
