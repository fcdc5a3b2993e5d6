"""Many events of a bucket, out of order, doubled, lost, while processes die: after a sync, table and bucket are equal.

2,000 events by default; ``INGESTLAB_STORM=10000`` takes as many as one likes, 10,000 in some minutes.
"""

from __future__ import annotations

import json
import logging
import os
import random
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import botocore.config
import botocore.session
import pyarrow.dataset as ds
import pytest
from support.lake import World
from support.workers import PATIENCE, Workers, environment, until

from ingestlab.analytics.lake import Lake
from ingestlab.core.models import OVER
from ingestlab.maintenance.reconcile import reconcile
from ingestlab.queue import recent_runs, sync
from ingestlab.queue.arrival.status import listeners
from ingestlab.stack.services import environment as environment_of

log = logging.getLogger("ingestlab.tests")

EVENTS = int(os.environ.get("INGESTLAB_STORM", "2000"))
WINDOWS = 6  # in each of which something is killed
DOUBLED, DROPPED, GONE = 0.2, 0.05, 0.01
OVERWRITTEN, REMOVED = 0.2, 0.05
RIGHT = 0.7  # share of the objects that events alone must have brought to the table
THREADS = 8

Rows = list[tuple[int, int, str]]


class Event(NamedTuple):
    """One change of an object, and what the bucket says of it."""

    number: int
    key: str
    kind: Literal["ObjectCreated:Put", "ObjectRemoved:Delete"]

    def body(self, bucket: str) -> str:
        there = {"key": self.key, "sequencer": f"{self.number:016X}"}
        return json.dumps({"Records": [{"eventName": self.kind, "s3": {"bucket": {"name": bucket}, "object": there}}]})


def groups(items: list[Any], size: int) -> Iterator[list[Any]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def content(number: int) -> Rows:
    """The rows of a version of an object: no other has the same."""
    return [(row, 20 + number % 900, f"w{number}-{row}") for row in range(1 + number % 4)]


def script(dice: random.Random) -> Iterator[list[Event]]:
    """Changes of objects, some at once; of those that are gone before they are read both events come together."""
    live: list[str] = []
    number = 0
    while number < EVENTS:
        number += 1
        chance = dice.random()
        if live and chance < OVERWRITTEN:
            yield [Event(number, dice.choice(live), "ObjectCreated:Put")]
        elif live and chance < OVERWRITTEN + REMOVED:
            yield [Event(number, live.pop(dice.randrange(len(live))), "ObjectRemoved:Delete")]
        elif chance < OVERWRITTEN + REMOVED + GONE:
            number += 1
            key = f"gone/{number}.csv"
            yield [Event(number - 1, key, "ObjectCreated:Put"), Event(number, key, "ObjectRemoved:Delete")]
        else:
            live.append(f"in/{number % 50}/{number}.csv")
            yield [Event(number, live[-1], "ObjectCreated:Put")]


@dataclass
class Cloud:
    """A bucket, a queue, and two topics that lead to it: with SNS' envelope and without."""

    options: dict[str, Any]
    bucket: str
    topics: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        config = botocore.config.Config(max_pool_connections=THREADS)
        session = botocore.session.Session()
        self.s3, self.sqs, self.sns = (
            session.create_client(name, config=config, **self.options) for name in ("s3", "sqs", "sns")
        )
        dead = self.sqs.create_queue(QueueName=f"{self.bucket}-dead")["QueueUrl"]
        policy = json.dumps({"deadLetterTargetArn": self._arn(dead), "maxReceiveCount": "1000"})
        made = self.sqs.create_queue(QueueName=self.bucket, Attributes={"RedrivePolicy": policy})
        self.url = made["QueueUrl"]
        for name, raw in (("wrapped", "false"), ("raw", "true")):
            topic = self.sns.create_topic(Name=f"{self.bucket}-{name}")["TopicArn"]
            self.sns.subscribe(
                TopicArn=topic, Protocol="sqs", Endpoint=self._arn(self.url), Attributes={"RawMessageDelivery": raw}
            )
            self.topics.append(topic)

    def _arn(self, url: str) -> str:
        return self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]

    def change(self, events: list[Event]) -> None:
        """Does what is told of, side by side; what concerns one object one after the other."""
        by_key: dict[str, list[Event]] = defaultdict(list)
        for event in events:
            by_key[event.key].append(event)
        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(self._change, by_key.values()))

    def _change(self, events: list[Event]) -> None:
        for event in events:
            if event.kind == "ObjectRemoved:Delete":
                self.s3.delete_object(Bucket=self.bucket, Key=event.key)
            else:
                lines = "".join(f"{n},{word}\n" for _, n, word in content(event.number))
                self.s3.put_object(Bucket=self.bucket, Key=event.key, Body=f"n,word\n{lines}".encode())

    def send(self, events: list[Event]) -> None:
        """Sends events in three ways: straight, by SNS in its envelope, and raw."""
        for place, group in enumerate(groups(events, 10)):
            bodies = [event.body(self.bucket) for event in group]
            if place % 3:
                entries = [{"Id": str(i), "Message": body} for i, body in enumerate(bodies)]
                self.sns.publish_batch(TopicArn=self.topics[place % 3 - 1], PublishBatchRequestEntries=entries)
            else:
                entries = [{"Id": str(i), "MessageBody": body} for i, body in enumerate(bodies)]
                self.sqs.send_message_batch(QueueUrl=self.url, Entries=entries)

    def waiting(self) -> int:
        """Messages that can be received now."""
        name = "ApproximateNumberOfMessages"
        got = self.sqs.get_queue_attributes(QueueUrl=self.url, AttributeNames=[name])
        return int(got["Attributes"][name])

    def rows(self) -> dict[str, Rows]:
        """What the bucket has, by URI, as its own files say it."""
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket)
        keys = [entry["Key"] for page in pages for entry in page.get("Contents", ())]
        with ThreadPoolExecutor(THREADS) as pool:
            texts = pool.map(lambda key: self.s3.get_object(Bucket=self.bucket, Key=key)["Body"].read().decode(), keys)
            return {f"s3://{self.bucket}/{key}": _parsed(text) for key, text in zip(keys, texts, strict=True)}


def _parsed(text: str) -> Rows:
    lines = (line.split(",") for line in text.splitlines()[1:])
    return [(row, int(n), word) for row, (n, word) in enumerate(lines)]


class Listener:
    """``ingestlab listen`` as a process that is killed and started again."""

    def __init__(self, url: str, world: World) -> None:
        self._command = [sys.executable, "-m", "ingestlab", "listen", url, "--pipeline", "small"]
        self._env = {**environment(), **environment_of(world.settings)}
        self._log, self._world = world.folder / "listener.log", world
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            process = self._process = subprocess.Popen(self._command, env=self._env, stdout=log, stderr=log)
        until(lambda: process.poll() is not None or self._pids() >= {process.pid}, PATIENCE, "a listener")
        assert process.poll() is None, self._log.read_text()

    def _pids(self) -> set[int]:
        return {listener.pid for listener in listeners(self._world.redis) if not listener.gone}

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def end(self) -> None:
        assert self._process is not None
        self._process.terminate()
        assert self._process.wait(PATIENCE) == 0, self._log.read_text()


@pytest.fixture
def cloud(s3, bucket) -> Cloud:
    endpoint = s3["client_kwargs"]["endpoint_url"]
    keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
    return Cloud({"endpoint_url": endpoint, "region_name": "us-east-1", **keys}, bucket)


@pytest.fixture
def world(tmp_path, redis_url, s3, cloud) -> World:
    options = {"s3": s3, "sqs": cloud.options}
    limits = {"beat": 0.5, "retry_delays": (1, 1, 1), "fetch_attempts": 1}
    return World(tmp_path, redis_url, "replace", executor="threads", storage_options=options, **limits)


def published(world: World) -> dict[str, Rows]:
    """What the table has, by URI, as a reader finds it who knows nothing of ingestlab."""
    rows: dict[str, Rows] = defaultdict(list)
    columns = ["_source", "_row", "n", "word"]
    table = ds.dataset(Lake(world.settings).table("small").path).to_table(columns)
    for uri, *row in zip(*(table[name].to_pylist() for name in columns), strict=True):
        rows[uri].append(tuple(row))
    return {uri: sorted(found) for uri, found in rows.items()}


def idle(world: World) -> bool:
    return all(run.progress().state in OVER for run in recent_runs(world.settings, 10_000))


@pytest.mark.slow("thousands of events")
@pytest.mark.timeout(600 + EVENTS // 4)
def test_after_a_storm_and_one_sync_table_and_bucket_are_equal(world, cloud):
    dice = random.Random(14)
    steps = list(script(dice))
    listener = Listener(cloud.url, world)
    pool: list[Event] = []
    with Workers(world.settings, world.folder) as workers:
        workers.have(2)
        listener.start()
        for number, window in enumerate(groups(steps, len(steps) // WINDOWS + 1)):
            events = [event for step in window for event in step]
            cloud.change(events)
            kept = [event for event in events if dice.random() >= DROPPED]
            pool += kept + [event for event in kept if dice.random() < DOUBLED]
            dice.shuffle(pool)
            late = len(pool) // 4
            cloud.send(pool[late:])
            pool = pool[:late]
            sent = cloud.waiting()
            until(lambda sent=sent: cloud.waiting() < max(1, sent), PATIENCE, "a listener at work")
            if number % 2:
                listener.kill()
                listener.start()
            else:
                dice.choice(workers.alive()).kill()
                until(lambda: len(workers.alive()) == 1, PATIENCE, "its end")
                workers.have(2)
        cloud.send(pool)
        until(lambda: cloud.waiting() == 0 and idle(world), 3 * PATIENCE, "what is queued to be done")
        listener.end()
        until(lambda: idle(world), PATIENCE, "the last runs")
        bucket, table = cloud.rows(), published(world)
        right = sum(table.get(uri) == rows for uri, rows in bucket.items()) / len(bucket)
        log.info("%d objects, %.1f %% of them right before the sync", len(bucket), 100 * right)
        assert right > RIGHT, "events alone bring most objects to the table"
        report = sync(f"s3://{cloud.bucket}", pipeline="small", settings=world.settings)
        log.info("%s", report)
        until(lambda: idle(world), PATIENCE, "the runs of the sync")
        assert report.new + report.changed + len(report.vanished) > 0, "lost events have left something to do"
    assert published(world) == bucket
    again = sync(f"s3://{cloud.bucket}", pipeline="small", settings=world.settings)
    assert (again.new, again.changed, again.vanished) == (0, 0, ())
    left = reconcile(world.context().lake)  # staging folders of killed workers
    assert (left.busy, left.orphans, left.missing, left.restored) == ((), (), (), ())
    world.expected = {uri: [n for _, n, _ in rows] for uri, rows in bucket.items()}
    world.check(list(bucket))
