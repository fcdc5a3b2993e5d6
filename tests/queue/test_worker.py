"""Workers as real processes: killed, misled, kept waiting, and with their neighbours gone."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Barrier

import psutil
import pyarrow.dataset as ds
import pytest
import redis
from rq import Callback, Queue, Retry
from rq.job import Job, JobStatus
from support.servers import Server
from support.workers import CONTENT, ONCE, PATIENCE, Workers, Yard, environment, until

from ingestlab.analytics.lake import Lake
from ingestlab.core.errors import TransientError
from ingestlab.core.models import IngestRequest, Source
from ingestlab.core.settings import Settings
from ingestlab.lake.locks import connect
from ingestlab.queue import find_run
from ingestlab.queue.abandoned import DEATHS
from ingestlab.queue.broker import broker
from ingestlab.queue.rq.queueing import fetch_job, open_queue
from ingestlab.queue.rq.serializer import JOB_FUNCTION, REFUSAL, WORKER_CLASS, JobSerializer
from ingestlab.queue.rq.worker import IngestWorker
from ingestlab.queue.worker import BUSY_DELAY
from ingestlab.stack import valkey as server

RQ = str(Path(sys.executable).with_name("rq"))
GATED = """
import os, time
from pathlib import Path
from ingestlab import Csv, Pipeline

def clean(df):
    Path("FOLDER", f"began-{os.getpid()}").touch()
    while not Path("FOLDER", "open").exists():
        time.sleep(0.01)
    return df

PIPELINE = Pipeline(reader=Csv(columns={"n": "int64", "word": "string"}), clean=clean)
"""
EDITED = """
import os
from ingestlab import Csv, Pipeline

def clean(df):
    return df.assign(version=VERSION, pid=os.getpid())

PIPELINE = Pipeline(reader=Csv(columns={"n": "int64", "word": "string"}), clean=clean)
"""


# Killed


def test_a_worker_killed_while_it_downloads_is_replaced_at_once(ready):
    with Server({"killed.csv": CONTENT}) as slow:
        uri = slow.url("/held/killed.csv")
        run = ready.submit(uri)
        until(lambda: slow.log, 20, "a download that has begun")
        ready.workers.at_work_on(run.record.jobs[0].id).kill()
        until(lambda: len(slow.log) == 2, 30, "another worker that downloads")
        slow.release()
        assert run.wait(PATIENCE).count("committed") == 1
    assert len(slow.log) == 2
    assert ready.rows(uri) == ONCE


@pytest.mark.slow("processes killed")
def test_a_worker_killed_while_dask_processes_is_replaced_at_once(ready):
    uri = ready.file("killed.csv")
    ready.pipeline("gated", GATED.replace("FOLDER", str(ready.folder)))
    run = ready.submit(uri, pipeline="gated")
    until(lambda: list(ready.folder.glob("began-*")), 20, "a task that has begun")
    first = ready.workers.at_work_on(run.record.jobs[0].id)
    first.kill()
    until(lambda: ready.workers.at_work_on(run.record.jobs[0].id) != first, 30, "another worker at the job")
    (ready.folder / "open").touch()
    result = run.wait(PATIENCE)
    assert result.count("committed") == 1
    assert result.tally.rows_in == 100
    assert ready.rows(uri, "gated") == ONCE


@pytest.mark.slow("processes killed")
def test_a_dask_worker_killed_in_the_middle_of_a_task_costs_nothing_but_its_time(ready, stack):
    folder = ready.folder / "dask"
    folder.mkdir()
    uri = ready.file("dask.csv")
    ready.pipeline("gated2", GATED.replace("FOLDER", str(folder)))
    run = ready.submit(uri, pipeline="gated2")
    (mark,) = until(lambda: list(folder.glob("began-*")), 20, "a task that has begun")
    os.kill(int(mark.name.removeprefix("began-")), signal.SIGKILL)
    until(lambda: len(list(folder.glob("began-*"))) == 2, 30, "the task on another worker")
    (folder / "open").touch()
    assert run.wait(PATIENCE).count("committed") == 1
    assert ready.rows(uri, "gated2") == ONCE
    assert len(ready.client.xrange(f"rq:results:{run.record.jobs[0].id}")) == 1, "Dask redoes it: no retry of the job"


def test_with_the_default_settings_a_dead_workers_job_is_taken_over_within_30_seconds():
    settings = Settings(_env_file=None)
    silence = IngestWorker.get_heartbeat_ttl(_beating(settings.beat), None)
    assert silence == 15
    sweep = min(settings.beat, 1.0)  # of an idle worker; a job waits for an idle one in any case
    assert max(silence + sweep, settings.lock_ttl) + BUSY_DELAY + sweep < 30


def _beating(beat: float) -> IngestWorker:
    worker = IngestWorker.__new__(IngestWorker)
    worker.beat = beat
    return worker


def test_the_heart_beats_while_the_worker_is_busy(ready):
    with Server({"slow.csv": CONTENT}) as slow:
        run = ready.submit(slow.url("/held/slow.csv"))
        until(lambda: slow.log, 20, "a download that has begun")
        job, name = run.record.jobs[0].id, ready.client.hget(f"rq:job:{run.record.jobs[0].id}", "worker_name").decode()
        keys = (f"rq:worker:{name}", f"rq:job:{job}")
        before = [ready.client.hget(key, "last_heartbeat") for key in keys]
        moved = lambda: all(ready.client.hget(k, "last_heartbeat") != b for k, b in zip(keys, before, strict=True))  # noqa: E731
        until(moved, 5, "a beat")
        (entry, until_when) = ready.client.zrange("rq:wip:ingest", 0, -1, withscores=True)[0]
        assert entry.decode().startswith(job)
        until(lambda: ready.client.zscore("rq:wip:ingest", entry) > until_when, 5, "a longer life")
        assert ready.workers.at_work_on(job).pid in ready.workers.pids()
        slow.release()
        run.wait(PATIENCE)


def meet(*calls: Callable[[], None]) -> None:
    """Calls all of them at the same moment."""
    barrier = Barrier(len(calls))

    def together(call: Callable[[], None]) -> None:
        barrier.wait()
        call()

    with ThreadPoolExecutor(len(calls)) as pool:
        list(pool.map(together, calls, timeout=PATIENCE))


class TestDeath:
    """What becomes of a job whose worker dies at the worst moment; the dying are workers that stop in the middle."""

    @pytest.fixture
    def queue(self, redis_url) -> Iterator[Queue]:
        with redis.Redis.from_url(redis_url) as client:
            yield open_queue(client, "deadly")

    @staticmethod
    def worker(queue: Queue) -> IngestWorker:
        worker = IngestWorker([open_queue(queue.connection, queue.name)], connection=queue.connection)
        worker.beat = 0.1
        return worker

    def die_at(self, queue: Queue) -> None:
        """Begins the next job, and no more."""
        worker = self.worker(queue)
        job, _ = worker.dequeue_job_and_maintain_ttl(None)
        worker.prepare_execution(job)
        worker.prepare_job_execution(job, remove_from_intermediate_queue=True)
        (entry,) = queue.connection.zrange(f"rq:wip:{queue.name}", 0, -1)
        queue.connection.zadd(f"rq:wip:{queue.name}", {entry: 1})  # its silence has been long

    def sweep(self, worker: IngestWorker) -> None:
        worker.connection.delete("ingestlab:sweep:deadly")  # or it would be left to another worker for a while
        worker.sweep()

    @pytest.mark.parametrize("retry", [None, Retry(2, [60, 300])], ids=["no retries", "late retries"])
    def test_it_does_not_cost_the_job_a_retry_nor_time(self, queue, retry):
        queue.enqueue(JOB_FUNCTION, {}, job_id="j", retry=retry)
        self.die_at(queue)
        self.sweep(self.worker(queue))
        job = fetch_job(queue.connection, "j")
        assert job.get_status() == JobStatus.QUEUED
        assert (job.retries_left or 0) == (retry.max if retry else 0)
        assert queue.job_ids == ["j"]

    def test_however_many_look_after_it_at_once_the_job_is_queued_once(self, queue):
        """RQ's own housekeeping is among them: in a worker that starts, it meets the first sweep."""
        for _ in range(10):
            queue.enqueue(JOB_FUNCTION, {}, job_id="j")
            self.die_at(queue)
            queue.connection.delete("ingestlab:sweep:deadly", "rq:clean_registries:deadly")
            workers = [self.worker(queue) for _ in range(4)]
            meet(*[look for worker in workers for look in (worker.sweep, worker.clean_registries)])
            assert queue.job_ids == ["j"]
            queue.empty()

    def test_a_job_that_kills_worker_after_worker_is_given_up_with_its_reason(self, queue):
        request = IngestRequest(run="r", table="t", sources=(Source(uri="file:///x.csv"),))
        queue.enqueue(JOB_FUNCTION, request.to_dict(), job_id="j")
        for _ in range(DEATHS):
            self.die_at(queue)
            self.sweep(self.worker(queue))
        job = fetch_job(queue.connection, "j")
        assert job.get_status() == JobStatus.FAILED
        assert f"{DEATHS} workers died" in str(job.notes["error"])
        assert queue.job_ids == []

    def test_between_the_queue_and_the_beginning(self, queue):
        queue.enqueue(JOB_FUNCTION, {}, job_id="j")
        self.worker(queue).dequeue_job_and_maintain_ttl(None)
        assert queue.job_ids == []
        other = self.worker(queue)
        self.sweep(other)
        assert queue.job_ids == [], "it may be about to begin"
        until(lambda: self.sweep(other) or queue.job_ids == ["j"], 5, "the job back on the queue")

    def test_between_the_word_that_it_is_retried_and_the_deed(self, queue):
        queue.enqueue(JOB_FUNCTION, {}, job_id="j")
        self.die_at(queue)
        worker = self.worker(queue)
        job = worker.job_class.fetch("j", connection=queue.connection, serializer=JobSerializer)
        job.retries_left, job.retry_intervals = 1, [60]
        job.retry(queue, queue.connection.pipeline())  # which is never executed
        self.sweep(worker)
        assert queue.job_ids == ["j"]


# Misled


def plain_worker(url: str, queue: str, **env: str) -> str:
    """Runs a stock RQ worker until the queue is empty; gives what it logged."""
    command = [RQ, "worker", queue, "--url", url, "-b"]
    done = subprocess.run(command, env=environment(**env), capture_output=True, text=True, timeout=PATIENCE, check=True)
    return done.stdout + done.stderr


@pytest.mark.slow("processes killed")
def test_a_plain_worker_refuses_a_job_and_ours_does_it_after_a_requeue(ready):
    uri = ready.file("requeued.csv")
    run = ready.submit(uri, queue="plainly", retry_delays=())
    log = plain_worker(ready.settings.redis, "plainly")
    assert REFUSAL in log
    job = fetch_job(ready.client, run.record.jobs[0].id)
    assert job.get_status() == JobStatus.FAILED
    assert REFUSAL in job.latest_result().exc_string
    assert f"RQ_WORKER_CLASS={WORKER_CLASS}" in str(run.result().failed[0].exception())

    requeue = [RQ, "requeue", "--all", "--queue", "plainly", "--url", ready.settings.redis]
    subprocess.run(requeue, env=environment(), capture_output=True, timeout=PATIENCE, check=True)
    ours = {"RQ_WORKER_CLASS": WORKER_CLASS, **_environment_of(ready.settings)}
    plain_worker(ready.settings.redis, "plainly", **ours)
    assert run.wait(1).count("committed") == 1
    assert ready.rows(uri) == ONCE


@pytest.mark.slow("processes killed")
def test_a_plain_worker_leaves_a_jobs_retries_to_ours(ready, tmp_path):
    uri = ready.file("retried.csv")
    run = ready.submit(uri, queue="mixed")
    plain_worker(ready.settings.redis, "mixed")
    assert run.progress().state == "retrying"
    with Workers(ready.settings.model_copy(update={"queue": "mixed"}), tmp_path) as ours:
        ours.have(1)
        assert run.wait(PATIENCE).count("committed") == 1
    assert ready.rows(uri) == ONCE


def _environment_of(settings: Settings) -> dict[str, str]:
    from ingestlab.stack.services import environment as of

    return {k: v for k, v in of(settings).items() if k.startswith(("INGESTLAB_", "DASK_"))}


def test_rq_info_lists_queue_and_workers(ready):
    ready.good("info.csv")
    command = [RQ, "info", "--url", ready.settings.redis, "--raw"]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=PATIENCE, check=True)
    assert "queue ingest 0" in done.stdout
    assert sum(line.startswith("worker ") and "idle ingest" in line for line in done.stdout.splitlines()) == 2


class Trap:
    """Calls a function as soon as it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def ended(client: redis.Redis, job: Job) -> Job:
    """The job when it has failed, as our own serializer reads it."""
    found = until(lambda: (j := fetch_job(client, job.id)) and j.get_status() == JobStatus.FAILED and j, 20, "an end")
    assert found.latest_result().exc_string
    return found


def test_a_pickle_is_refused_unread(ready):
    pickle.loads(pickle.dumps(Trap(ready.folder / "control")))
    assert (ready.folder / "control").exists(), "the trap works"
    pids, trap = ready.workers.pids(), Trap(ready.folder / "unpickled")
    stock = Queue("ingest", connection=ready.client)
    for job in (stock.enqueue("os.getpid", trap), stock.enqueue("os.getpid", meta={"x": trap})):
        assert "UndecodableJobError: Job is not in JSON" in ended(ready.client, job).latest_result().exc_string
    assert not trap.path.exists()
    ready.good("after-pickle.csv")
    assert ready.workers.pids() == pids


@pytest.mark.parametrize("function", ["trap.spring", "os.system", "ingestlab.worker.main"])
def test_no_other_function_is_run(ready, function):
    job = open_queue(ready.client, "ingest").enqueue(function, "exit")
    assert f"a job that calls {JOB_FUNCTION}" in _words(ready, job)
    assert f"'{function}'" in _words(ready, job)
    assert not (ready.folder / "sprung").exists()


def _words(yard: Yard, job: Job) -> str:
    return str(ended(yard.client, job).latest_result().exc_string)


def test_nor_is_a_callback(ready):
    trap = Callback("trap.spring")
    callbacks = {"on_success": trap, "on_failure": trap, "on_stopped": trap}
    queue = open_queue(ready.client, "ingest")
    ended(ready.client, queue.enqueue("os.system", "exit", **callbacks))
    request = IngestRequest(run="r", pipeline="plain", table="t", sources=(Source(uri=ready.file("callback.csv")),))
    job = queue.enqueue(JOB_FUNCTION, request.to_dict(), **callbacks)
    until(lambda: job.get_status() == JobStatus.FINISHED, 20, "a job that ends well")
    assert not (ready.folder / "sprung").exists()


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ([JOB_FUNCTION, None, [{"run": "r", "table": "t"}], {}], "sources: Field required"),
        ([JOB_FUNCTION, None, [{"run": "r", "table": "../t", "sources": [{"uri": "x"}]}], {}], "table: String should"),
        ([JOB_FUNCTION, None, ["x"], {}], "message: Input should be"),
        ([JOB_FUNCTION, None, [], {}], "with 0 arguments"),
        ([JOB_FUNCTION, None, 5, {}], "with 5"),
        ([{"a": 1}, None, [1], {}], "{'a': 1}"),
        ({"run": "r"}, "a job in JSON: [function, null, args, kwargs]"),
        ("x", "a job in JSON: [function, null, args, kwargs]"),
    ],
)
def test_a_malformed_message_is_refused_at_once(ready, data, says):
    queue = open_queue(ready.client, "ingest")
    job = queue.create_job(JOB_FUNCTION, args=())
    job.data = JobSerializer.dumps(data)
    job.retries_left, job.retry_intervals = 3, [60]
    queue.enqueue_job(job)
    words = _words(ready, job)
    assert "UndecodableJobError" in words
    assert says in words


def test_after_all_of_that_the_workers_do_their_work(ready):
    pids = ready.workers.pids()
    ready.good("after-all.csv")
    assert ready.workers.pids() == pids
    assert "quitting" not in ready.workers.log.read_text()


def test_a_job_that_an_older_version_has_begun_goes_on(ready):
    """It kept what workers note in the job's meta, and one of ours does not read it twice."""
    uri = ready.file("old.csv")
    request = IngestRequest(run="old", pipeline="plain", table="t", sources=(Source(uri=uri),))
    error = TransientError("Server answers 503", code="http_unavailable").to_dict()
    progress = {"state": "retrying", "files": 1, "note": "Server answers 503"}
    meta = {"run": "old", "tenant": "default", "files": 1, "progress": progress, "error": error, "deaths": 2}
    queue = open_queue(ready.client, "olden")
    queue.enqueue_call(JOB_FUNCTION, (request.to_dict(),), job_id=request.job_id, retry=Retry(1, 1), meta=meta)
    door = broker(ready.settings)
    assert dict(door.jobs([request.job_id])[request.job_id].notes) == meta
    ready.client.rpoplpush("rq:queue:olden", "rq:queue:ingest")
    ready.client.hset(f"rq:job:{request.job_id}", "origin", "ingest")
    until(lambda: door.jobs([request.job_id])[request.job_id].status == "finished", 20, "its end")
    job = door.jobs([request.job_id])[request.job_id]
    assert (job.notes["run"], job.notes["progress"]["state"], job.notes.get("error")) == ("old", "finished", None)
    assert door.ending(job.id).result["outcomes"][0]["status"] == "committed"
    assert ready.rows(uri) == ONCE


# Trouble that passes, and trouble that stays


def test_trouble_that_passes_is_waited_for(ready):
    uri = ready.server.url("/flaky/a.csv?fail=2")
    run = ready.submit(uri)
    note = until(lambda: (p := run.progress()).state == "retrying" and p.note, 20, "a retry")
    assert "503" in note
    assert run.wait(PATIENCE).count("committed") == 1
    assert [r.status for r in ready.server.requests("/flaky/a.csv")] == [503, 503, 200]
    assert ready.rows(uri) == ONCE


def test_trouble_that_stays_uses_up_the_retries(ready):
    run = ready.submit(ready.server.url("/status/503"), ready.file("neighbour.csv"), retry_delays=(0, 0))
    result = run.wait(PATIENCE)
    assert len(ready.server.requests("/status/503")) == 3
    (failed,) = result.failed
    assert failed.error["kind"] == "transient"
    assert result.state == "finished"
    assert ready.rows(ready.file("neighbour.csv")) == ONCE, "the neighbour is committed in the first try, once"
    assert result.count("committed") == 1

    alone = ready.submit(ready.server.url("/status/502"), retry_delays=(0,)).wait(PATIENCE)
    assert (alone.state, alone.failed[0].error["kind"]) == ("failed", "transient")
    assert len(ready.server.requests("/status/502")) == 2


def test_what_will_not_pass_is_not_tried_again(ready):
    result = ready.submit(ready.server.url("/status/404")).wait(PATIENCE)
    assert (result.state, result.failed[0].error["kind"]) == ("failed", "terminal")
    assert len(ready.server.requests("/status/404")) == 1


def test_a_busy_source_waits_its_turn(ready):
    with Server({"shared.csv": CONTENT}) as slow:
        shared, a, b = slow.url("/held/shared.csv"), ready.file("mine.csv"), ready.file("yours.csv")
        runs = [ready.submit(shared, a), ready.submit(shared, b)]
        until(lambda: {run.progress().state for run in runs} == {"fetching", "retrying"}, 20, "one that waits")
        waiting = next(run for run in runs if run.progress().state == "retrying")
        assert "shared.csv is locked" in waiting.progress().note
        slow.release()
        results = [run.wait(PATIENCE) for run in runs]
    assert sorted(r.count("committed") for r in results) == [1, 2]
    assert sorted(r.count("unchanged") for r in results) == [0, 1]
    for uri in (shared, a, b):
        assert ready.rows(uri) == ONCE
    assert len(slow.log) == 2, "a download, and a question whether it changed"


# The pipeline and the cluster


def test_an_edited_pipeline_takes_effect_on_the_next_job_everywhere(ready, stack):
    workers = ready.workers.pids()
    for version in (1, 2, 3):
        ready.pipeline("edited", EDITED.replace("VERSION", str(version)))
        uris = [ready.file(f"edited-{version}-{i}.csv") for i in range(3)]
        assert ready.submit(*uris, pipeline="edited").wait(PATIENCE).count("committed") == 3
    table = ds.dataset(Lake(ready.settings).table("edited").path).to_table()
    seen = set(zip(table["_source"].to_pylist(), table["version"].to_pylist(), strict=True))
    assert len(seen) == 9
    assert all(f"edited-{version}-" in uri for uri, version in seen)
    pids = set(table["pid"].to_pylist())
    assert not pids & workers
    assert all("distributed" in " ".join(p.cmdline()) or p.parent() for p in map(psutil.Process, pids))


@pytest.mark.slow("processes killed")
def test_a_scheduler_that_is_away_or_dies_is_waited_for(ready, tmp_path):
    port = server.free_port()
    gate = tmp_path / "gate"
    gate.mkdir()
    ready.pipeline("gated3", GATED.replace("FOLDER", str(gate)))
    uri = ready.file("scheduler.csv")
    address = f"tcp://127.0.0.1:{port}"
    changed = {"dask_scheduler": address, "connect_timeout": 0.5, "queue": "remote"}
    with Workers(ready.settings.model_copy(update=changed), tmp_path) as workers:
        workers.have(1)
        lost = ready.submit(uri, pipeline="gated3", queue="remote", retry_delays=())
        assert lost.wait(PATIENCE).state == "failed"
        run = ready.submit(uri, pipeline="gated3", queue="remote", retry_delays=(1,) * 20)
        note = until(lambda: (p := run.progress()).state == "retrying" and p.note, 20, "a retry")
        assert f"No Dask scheduler answers at {address}" in note
        with dask_cluster(port, tmp_path):
            until(lambda: list(gate.glob("began-*")), 30, "a task that has begun")
        note = until(lambda: (p := run.progress()).state == "retrying" and p.note, 20, "a retry")
        assert "Dask workers were lost" in note
        (gate / "open").touch()
        with dask_cluster(port, tmp_path):
            assert run.wait(PATIENCE).count("committed") == 1
    assert ready.rows(uri, "gated3") == ONCE
    (failed,) = find_run(lost.id, ready.settings).result().failed  # its place in Redis is taken: the lake remembers
    assert (failed.uri, failed.error["kind"]) == (uri, "transient")
    assert address in str(failed.exception())


@contextmanager
def dask_cluster(port: int, folder: Path) -> Iterator[None]:
    """A scheduler and a worker on a port; both are killed in the end."""
    ready = folder / f"ready-{time.monotonic_ns()}"
    options = f"--workers 1 --port {port} --temp {folder} --ready {ready}".split()
    command = [sys.executable, "-m", "ingestlab.stack.cluster", *options]
    process = psutil.Popen(command, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until(ready.exists, 30, "a Dask cluster")
        yield
    finally:
        for part in [process, *process.children(recursive=True)]:
            part.kill()
        process.wait()


def test_a_transient_error_survives_the_queue(ready):
    result = ready.submit(ready.server.url("/status/500"), retry_delays=()).wait(PATIENCE)
    assert isinstance(result.failed[0].exception(), TransientError)


def test_ctrl_c_before_a_worker_has_begun_takes_it_from_the_list(redis_url, monkeypatch):
    def interrupted(_worker):
        raise KeyboardInterrupt

    client = connect(redis_url)
    worker = IngestWorker(["early"], connection=client)
    monkeypatch.setattr(IngestWorker, "subscribe", interrupted)
    assert worker.work(burst=True) is False
    assert not client.sismember("rq:workers", worker.key)
    until(lambda: not {"schedules", "heart"} & {t.name for t in threading.enumerate()}, 10, "the end of its threads")


def test_a_job_that_is_taken_again_and_again_is_not_taken_for_a_dead_workers(redis_url):
    with redis.Redis.from_url(redis_url) as client:
        queue = open_queue(client, "busy")
        worker = IngestWorker([queue], connection=client)
        worker.beat = 0.1

        def seen(job: str, enqueued: str) -> list[bytes]:
            client.delete(queue.intermediate_queue_key, queue.key)
            client.rpush(queue.intermediate_queue_key, job)
            client.hset(Job.key_for(job), "enqueued_at", enqueued)
            worker._put_back(queue)
            return client.lrange(queue.key, 0, -1)

        for again in range(8):
            assert seen("waits", f"moment {again}") == []
            time.sleep(0.05)
        until(lambda: seen("lost", "one moment") == [b"lost"], 5, "the job of a worker that died")
