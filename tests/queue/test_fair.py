"""Turns among tenants: the law of the scripts on a real Valkey, beside a model; and nothing that gets lost."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingestlab.core.models import IngestRequest, Source
from ingestlab.core.settings import Settings
from ingestlab.core.tenants import parse
from ingestlab.lake.tenants import TenantTable
from ingestlab.queue.rq import fair
from ingestlab.queue.rq.broker import RqQueue
from ingestlab.queue.rq.queueing import fetch_job, open_queue

Q = "fair"
TENANTS = {"a": 1.0, "b": 1.0, "c": 3.0, "d": 0.5}


class Broker:
    """A queue with tenants, and the numbers of jobs that there were."""

    def __init__(self, url: str) -> None:
        self.client = redis.Redis.from_url(url)
        self.client.flushall()
        self.settings = Settings(redis_url=url, tenants=tuple(TENANTS))
        self.queue, self._numbers = RqQueue(self.settings, self.client), itertools.count()

    def give(self, name: str, **limits: float) -> None:
        TenantTable(self.settings).add(parse(name, limits))

    def weigh(self) -> None:
        for name, weight in TENANTS.items():
            self.give(name, weight=weight)

    def push(self, tenant: str, cost: int = 100, queue: str = Q) -> str:
        source = Source(uri=f"s3://b/{next(self._numbers)}", size=cost)
        job, new = self.queue.publish(queue, IngestRequest(run="r", tenant=tenant, sources=(source,)))
        assert new
        return job

    def begin(self, job: str, queue: str = Q) -> None:
        """What a worker does at the beginning of a job."""
        self.client.lrem(f"rq:queue:{queue}:intermediate", 1, job)
        self.client.hset(f"rq:job:{job}", "status", "started")

    def take(self) -> str | None:
        if job := fair.take(self.client, Q):
            self.begin(job)
        return job

    def places(self, job: str, queue: str = Q) -> int:
        """How often a job is on any list."""
        keys = [key for key in self.client.scan_iter(f"rq:queue:{queue}*") if self.client.type(key) == b"list"]
        return sum(self.client.lrange(key, 0, -1).count(job.encode()) for key in keys)


@pytest.fixture
def broker(redis_url: str) -> Iterator[Broker]:
    made = Broker(redis_url)
    yield made
    made.client.close()


class Model:
    """The law: who is furthest behind is served, and who comes back begins where the others are."""

    def __init__(self, weights: dict[str, float]) -> None:
        self.weights, self.lists = weights, {name: [] for name in weights}
        self.tags, self.served = dict.fromkeys(weights, 0.0), 0.0

    def push(self, tenant: str, job: str, cost: int) -> None:
        if not self.lists[tenant]:
            self.tags[tenant] = max(self.tags[tenant], self.served)
        self.lists[tenant].append((job, cost))

    def take(self) -> str | None:
        waiting = [name for name, jobs in self.lists.items() if jobs]
        if not waiting:
            return None
        tenant = min(waiting, key=lambda name: (self.tags[name], name))
        job, cost = self.lists[tenant].pop(0)
        self.served = max(self.served, self.tags[tenant])
        self.tags[tenant] += cost / self.weights[tenant]
        return job


STEPS = st.lists(
    st.one_of(st.tuples(st.sampled_from(sorted(TENANTS)), st.integers(1, 1000)), st.none()), min_size=1, max_size=60
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_scripts_serve_as_the_model_does(valkey: str, steps: list[tuple[str, int] | None]) -> None:
    """In any order of pushes and takes, down to the last job: none is lost, none comes twice."""
    broker, model = Broker(valkey), Model(TENANTS)
    broker.weigh()
    for step in [*steps, *[None] * len(steps)]:
        if step is None:
            assert broker.take() == model.take()
        else:
            model.push(step[0], broker.push(*step), step[1])
            fair.spread(broker.client, Q)
    broker.client.close()


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(costs=st.fixed_dictionaries({name: st.lists(st.integers(1, 500), min_size=20, max_size=20) for name in TENANTS}))
def test_tenants_that_wait_get_their_shares(valkey: str, costs: dict[str, list[int]]) -> None:
    """While all wait, what two have been given differs by no more than a job of each, whatever their jobs cost."""
    broker = Broker(valkey)
    broker.weigh()
    owner = {broker.push(name, cost): (name, cost) for name, some in costs.items() for cost in some}
    given_to, left = dict.fromkeys(TENANTS, 0.0), Counter(dict.fromkeys(TENANTS, 20))
    most = {name: max(some) / TENANTS[name] for name, some in costs.items()}
    while all(left.values()):
        name, cost = owner[broker.take() or ""]
        given_to[name] += cost / TENANTS[name]
        left[name] -= 1
        for one, other in itertools.combinations(TENANTS, 2):
            assert abs(given_to[one] - given_to[other]) <= most[one] + most[other] + 1e-6
    broker.client.close()


def test_a_flood_is_passed_by_who_asks_for_little(broker: Broker) -> None:
    for _ in range(500):
        broker.push("a")
    assert [broker.take() for _ in range(3)]
    quiet = broker.push("b")
    assert broker.take() == quiet


def test_many_names_of_one_tenant_are_one_turn(broker: Broker) -> None:
    """Whatever tables, pipelines and runs a tenant spreads its jobs over, it has one turn."""
    for number in range(50):
        source = Source(uri=f"s3://b/shard-{number}", size=100)
        request = IngestRequest(
            run=f"r{number}", tenant="a", pipeline=f"p{number}", table=f"t{number}", sources=(source,)
        )
        broker.queue.publish(Q, request)
    quiet = [broker.push("b") for _ in range(3)]
    served = [broker.take() for _ in range(7)]
    assert sum(job in quiet for job in served) == 3


def test_one_tenant_has_rqs_own_queue(redis_url: str) -> None:
    client = redis.Redis.from_url(redis_url)
    queue = RqQueue(Settings(redis_url=redis_url), client)
    jobs = [queue.publish(Q, IngestRequest(run="r", sources=(Source(uri=f"s3://b/{n}", size=1),)))[0] for n in range(3)]
    assert fair.take(client, Q) == jobs[0]
    assert open_queue(client, Q).job_ids == jobs[1:]
    assert fair.spread(client, Q) == 0
    assert not list(client.scan_iter("ingestlab:fair:*"))


def test_what_waits_is_counted_and_seen_by_rq(broker: Broker) -> None:
    for name in ("a", "a", "b"):
        broker.push(name)
    fair.spread(broker.client, Q)
    broker.push("b")
    assert fair.waiting(broker.client, Q) == {"a": 2, "b": 1}
    assert broker.queue.state(Q).waiting == 4
    assert broker.queue.names() == {Q}
    assert {queue.name: queue.count for queue in type(open_queue(broker.client, Q)).all(broker.client)} == {
        Q: 1,
        f"{Q}@a": 2,
        f"{Q}@b": 1,
    }
    monitor = broker.queue.monitor()
    (snapshot,) = monitor.queues([Q], 5)
    assert snapshot.waiting == 4
    assert monitor.tenants([snapshot])[Q] == Counter(a=2, b=2)
    while broker.take():
        pass
    assert not broker.queue.is_needed(Q) or broker.client.exists(f"rq:wip:{Q}")
    assert broker.client.smembers("rq:queues") == {f"rq:queue:{Q}".encode()}


def test_a_cancelled_job_is_not_served_and_comes_back_once(broker: Broker) -> None:
    first, second = broker.push("a"), broker.push("a")
    fair.spread(broker.client, Q)
    assert broker.queue.cancel(first)
    assert (broker.places(first), broker.places(second)) == (0, 1)
    request = broker.queue.request(first)
    assert broker.queue.publish(Q, request) == (first, True)
    assert [broker.take(), broker.take(), broker.take()] == [second, first, None]


def test_what_others_cancel_and_queue_again_runs_once(broker: Broker) -> None:
    """RQ's own tools know nothing of the lists of tenants: an entry stays there."""
    job = broker.push("a")
    fair.spread(broker.client, Q)
    rq_job = fetch_job(broker.client, job)
    assert rq_job is not None
    rq_job.cancel()
    broker.queue.publish(Q, broker.queue.request(job))
    assert broker.places(job) == 2
    assert [broker.take(), broker.take()] == [job, None]
    assert broker.places(job) == 0


def test_a_job_that_nobody_began_is_put_back(broker: Broker) -> None:
    job = broker.push("a")
    assert fair.take(broker.client, Q) == job  # and its worker dies
    assert broker.places(job) == 1
    broker.client.lrem(f"rq:queue:{Q}:intermediate", 1, job)
    broker.client.lpush(f"rq:queue:{Q}", job)  # as the sweep does
    assert [broker.take(), broker.take()] == [job, None]


def test_who_runs_as_many_as_it_may_waits_and_holds_up_nobody(broker: Broker) -> None:
    broker.give("a", running_jobs=2)
    mine = [broker.push("a") for _ in range(4)]
    theirs = [broker.push("b") for _ in range(3)]
    served = [broker.take() for _ in range(6)]
    assert [job for job in served if job in mine] == mine[:2]
    assert [job for job in served if job in theirs] == theirs
    assert served[5] is None
    assert broker.queue.state(Q).waiting == 2
    assert broker.queue.is_needed(Q)
    (place,) = [
        key for key in broker.client.scan_iter("ingestlab:slot:a:*") if broker.client.get(key) == mine[0].encode()
    ]
    broker.client.delete(place)  # it has ended
    assert [broker.take(), broker.take()] == [mine[2], None]


def test_an_idle_worker_is_woken_and_keeps_to_the_limits(broker: Broker) -> None:
    """What comes while a worker sleeps is left for it, whoever looks meanwhile."""
    broker.give("a", running_jobs=1)
    assert fair.take(broker.client, Q, seconds=60) is None  # it sleeps from here on
    first, second = broker.push("a"), broker.push("a")
    fair.spread(broker.client, Q)
    assert broker.client.lrange(f"rq:queue:{Q}", 0, -1) == [second.encode()]
    assert fair._wait(broker.client, Q, 1.0) == (Q, second)
    broker.begin(second)
    assert broker.take() is None  # the tenant's only place is taken
    third = broker.push("a")
    broker.client.zadd(f"ingestlab:fair:{Q}:idle", {"other": 9e12})
    assert fair._wait(broker.client, Q, 1.0) is None
    assert (broker.places(first), broker.places(third)) == (1, 1)
    assert broker.client.hkeys(f"ingestlab:fair:{Q}:parked") == [b"a"]
    broker.client.delete("ingestlab:slot:a:0")
    broker.client.delete(f"ingestlab:fair:{Q}:idle")
    assert {broker.take()} == {third}
