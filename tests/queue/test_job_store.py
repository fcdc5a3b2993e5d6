"""Laws of the job store, under a broker that loses, doubles and shuffles its messages, and workers that die."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import redis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule
from support.selection import examples

from ingestlab.core.errors import TransientError, UndecodableJobError
from ingestlab.core.jobs import ENDED
from ingestlab.core.models import IngestRequest, Source
from ingestlab.core.settings import Settings
from ingestlab.queue.abandoned import DEATHS
from ingestlab.queue.jobs.queue import CarriedQueue
from ingestlab.queue.jobs.store import JobStore, Taken, Turn, set_key
from ingestlab.queue.jobs.sweep import LOST, Sweeper
from ingestlab.stack import valkey

QUEUE = "laws"
STATES = ("queued", "running", "retrying", *ENDED)
ALIVE, DEAD = 1000.0, 0.0  # seconds of silence that a worker may keep


class Post:
    """A broker in memory: what it has can be looked at, and taken out in any order."""

    def __init__(self) -> None:
        self.messages: list[Turn] = []
        self.away = False

    def send(self, turn: Turn, message: object) -> None:
        if self.away:
            raise TransientError("No answer from the broker", code="source_unavailable")
        self.messages.append(turn)

    def waiting(self, queue: str) -> int:
        return len(self.messages)


class Later(JobStore):
    """The store as a sweep long after sees it."""

    def now(self) -> float:
        return super().now() + 2 * LOST


def asked(name: str) -> IngestRequest:
    return IngestRequest(run="r1", table="t", sources=(Source(uri=f"file:///in/{name}.csv", size=3),))


@contextmanager
def empty(url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(url) as client:
        client.flushall()
        yield client


class Laws(RuleBasedStateMachine):
    """Producers, workers and a broker, each at its worst."""

    url = ""
    jobs = Bundle("jobs")
    turns = Bundle("turns")

    def __init__(self) -> None:
        super().__init__()
        self.client = redis.Redis.from_url(self.url)
        self.client.flushall()
        self.settings = Settings(_env_file=None, redis_url=self.url, retry_delays=(0, 0))
        self.post, self.store = Post(), JobStore(self.client)
        self.queue = CarriedQueue(self.settings, self.client, self.post)
        self.alive: dict[str, str] = {}  # by job: the turn that a living worker has

    def teardown(self) -> None:
        """Whatever has happened: with good workers and a good broker all jobs end."""
        self.post.away = False
        for turn in self.alive.values():
            self.store.finish(Turn(self._job_of(turn), QUEUE, turn), {})
        for _ in range(DEATHS * 4):
            self.sweep()
            while self.post.messages:
                if taken := self.store.begin(self.post.messages.pop(), "w", ALIVE):
                    assert self.store.finish(taken.turn, {"job": taken.turn.job})
        for job in self.store.jobs(self._known()).values():
            assert job.status in ENDED
        assert not self.queue.is_needed(QUEUE)
        assert self.store.count(QUEUE, "unsent") == 0
        self.client.close()

    def _job_of(self, turn: str) -> str:
        return next(job for job, name in self.alive.items() if name == turn)

    def _known(self) -> list[str]:
        return [asked(name).job_id for name in "abc"]

    @rule(target=jobs, name=st.sampled_from("abc"))
    def publish(self, name: str):
        job = asked(name).job_id
        before = self.store.jobs([job]).get(job)
        try:
            _, new = self.queue.publish(QUEUE, asked(name))
        except TransientError:
            assert job not in self.store.jobs([job]), "nothing was queued"
            return job
        assert new == (before is None or before.status in ENDED)
        return job

    @rule()
    def broker_goes_or_comes_back(self):
        self.post.away = not self.post.away

    @rule(data=st.data())
    def message_is_lost(self, data: st.DataObject):
        if self.post.messages:
            self.post.messages.remove(data.draw(st.sampled_from(self.post.messages)))

    @rule(data=st.data(), silence=st.sampled_from((ALIVE, DEAD)), twice=st.booleans(), target=turns)
    def message_arrives(self, data: st.DataObject, silence: float, twice: bool):
        if not self.post.messages:
            return multiple()
        turn = data.draw(st.sampled_from(self.post.messages))
        if not twice:
            self.post.messages.remove(turn)
        taken = self.store.begin(turn, "w", silence)
        if taken is None:
            return multiple()
        assert turn.job not in self.alive, "a living worker has it"
        if silence == ALIVE:
            self.alive[turn.job] = turn.turn
        return taken

    @rule(taken=consumes(turns), end=st.sampled_from(("finish", "fail", "retry", "wait")))
    def turn_ends(self, taken: Taken, end: str):
        turn = taken.turn
        moved = {
            "finish": lambda: self.store.finish(turn, {}),
            "fail": lambda: self.store.fail(turn, "X: y"),
            "retry": lambda: self.store.postpone(turn, 0, counts=True),
            "wait": lambda: self.store.postpone(turn, 0, counts=False),
        }[end]()
        if self.alive.get(turn.job) == turn.turn:
            assert moved, "a living worker's end counts"
            del self.alive[turn.job]

    @rule(job=jobs)
    def cancel(self, job: str):
        known = self.store.jobs([job]).get(job)
        assert self.queue.cancel(job, "by ann") == (known is not None and known.status not in ENDED)
        if known and known.status in ("queued", "retrying"):
            assert self.store.jobs([job])[job].status == "canceled"

    @rule(job=jobs)
    def again(self, job: str):
        known = self.store.jobs([job]).get(job)
        self.queue.again(job)
        if known and known.status == "failed":
            assert self.store.jobs([job])[job].status == "queued"

    @rule()
    def sweep(self):
        self.client.delete(f"ingestlab:sweep:{QUEUE}")
        Sweeper(Later(self.client), self.post, 100, "w").sweep(QUEUE)

    @invariant()
    def each_job_is_in_the_set_of_its_status(self):
        known = self.store.jobs(self._known())
        for state in STATES:
            members = {m.decode() for m in self.client.zrange(set_key(QUEUE, state), 0, -1)}
            assert members == {job.id for job in known.values() if job.status == state}

    @invariant()
    def what_a_living_worker_has_runs(self):
        for job in self.alive:
            assert self.store.jobs([job])[job].status == "running"


def test_no_job_is_lost_or_run_by_two(tmp_path):
    with valkey.serve(tmp_path) as url:
        Laws.url = url
        machine = Laws.TestCase
        machine.settings = settings(
            max_examples=examples(100), stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
        )
        machine().runTest()


@pytest.fixture
def queue(redis_url: str) -> Iterator[CarriedQueue]:
    with empty(redis_url) as client:
        yield CarriedQueue(Settings(_env_file=None, redis_url=redis_url), client, Post())


def test_a_job_whose_message_cannot_be_sent_is_not_queued(queue):
    queue._carrier.away = True
    with pytest.raises(TransientError, match="No answer"):
        queue.publish(QUEUE, asked("a"))
    assert not queue.is_needed(QUEUE)
    with pytest.raises(UndecodableJobError):
        queue.request(asked("a").job_id)


def test_the_message_of_a_producer_that_died_is_sent_by_the_next(queue):
    queue.publish(QUEUE, asked("a"))
    turn = queue._carrier.messages.pop()
    queue._client.zadd(set_key(QUEUE, "unsent"), {f"{turn.turn} {turn.job}": 1.0})  # as it was before the broker had it
    assert queue.publish(QUEUE, asked("a")) == (turn.job, False)
    assert queue._carrier.messages == [turn]


def test_a_job_whose_workers_die_fails_at_last_and_says_so(queue):
    job, _ = queue.publish(QUEUE, asked("a"))
    store = JobStore(queue._client)
    for _ in range(DEATHS):
        assert store.begin(queue._carrier.messages.pop(), "w", DEAD)
        queue._client.delete(f"ingestlab:sweep:{QUEUE}")
        Sweeper(store, queue._carrier, 100, "w").sweep(QUEUE)
    (known,) = queue.jobs([job]).values()
    assert known.status == "failed"
    assert known.notes["error"]["code"] == "job_abandoned"
    assert "a.csv" in queue.ending(job).traceback
    queue.again(job)
    assert queue.jobs([job])[job].notes.get("deaths") is None


def test_old_ends_are_forgotten(queue):
    store = JobStore(queue._client)
    for name in "abc":
        queue.publish(QUEUE, asked(name))
        store.finish(store.begin(queue._carrier.messages.pop(), "w", ALIVE).turn, {})
    store.trim(QUEUE, 2)
    assert list(queue.jobs([asked(name).job_id for name in "abc"])) == [asked(name).job_id for name in "bc"]
    assert store.count(QUEUE, "finished") == 2
