"""What many submissions cost Redis: connections, and memory; and that runs are found when it has forgotten them."""

from __future__ import annotations

import gc

import pytest
import redis
from rq.registry import FinishedJobRegistry
from support.workers import PATIENCE, until

from ingestlab.core.errors import TerminalError
from ingestlab.lake.locks import connect
from ingestlab.notebook.lab import Lab
from ingestlab.notebook.run import LabRun
from ingestlab.queue import find_run, recent_runs, submit
from ingestlab.queue.rq.queueing import open_queue, trim


def clients(url: str) -> int:
    with redis.Redis.from_url(url) as client:
        return len(client.client_list())


def test_a_process_has_one_pool_of_connections_however_much_it_submits(settings, redis_url, tmp_path):
    chosen = settings(redis_url=redis_url, queue="quiet")
    path = tmp_path / "a.csv"
    path.write_text("n\n1\n")
    before, kept = clients(redis_url), []
    for number in range(200):
        run = submit(str(path), settings=chosen, table=f"t{number}")
        if number % 2:
            kept.append(run)
        if number % 20 == 0:
            lab = Lab(redis_url=redis_url, home=chosen.home)
            lab.runs(2)
            assert find_run(run.id, chosen).progress().state == "queued"
            with connect(redis_url) as client:
                client.ping()
            del lab
    assert clients(redis_url) - before <= 2, "the one that submits, and the one that asks"
    del kept
    gc.collect()
    assert clients(redis_url) - before <= 2


def test_an_address_that_is_none_is_said_each_time():
    for _ in range(2):
        with pytest.raises(TerminalError, match="Redis URL cannot be read"):
            connect("http://me:secret@example.org")


def test_what_has_ended_is_kept_short_and_found_in_the_lake(ready):
    runs = [ready.submit(ready.file(f"plain-load-{i}.csv")) for i in range(6)]
    for run in runs:
        assert run.wait(PATIENCE).count("committed") == 1
    jobs = [f"rq:job:{run.record.jobs[0].id}" for run in runs]
    # A run has ended a moment before RQ has written so.
    until(lambda: all(ready.client.ttl(key) > 0 for key in jobs), 10, "jobs that RQ keeps for a while")
    assert ready.client.ttl(jobs[0]) <= ready.settings.result_ttl
    queue = open_queue(ready.client, ready.settings.queue)
    while trim(queue, 2):  # those of other tests, too, some at a time
        pass
    assert len(FinishedJobRegistry(queue=queue)) == 2
    assert sum(ready.client.exists(key) for key in jobs) <= 2, "which two is open: RQ counts in whole seconds"
    for run in runs:
        again = LabRun.of(find_run(run.id, ready.settings))
        assert again.progress().state == "finished"
        assert again.watch(5).result().count("committed") == 1
        assert again.history()


def test_runs_that_redis_has_forgotten_are_listed_from_the_lake(ready):
    ready.client.delete("ingestlab:runs")  # those of other tests: few are dropped at a time
    old = [ready.submit(ready.file(f"plain-old-{i}.csv")) for i in range(3)]
    for run in old:
        run.wait(PATIENCE)
        key = f"rq:job:{run.record.jobs[0].id}"
        until(lambda key=key: ready.client.ttl(key) > 0, 10, "a job that RQ keeps for a while")
    chosen = ready.settings.model_copy(update={"keep_jobs": 1})
    while trim(open_queue(ready.client, ready.settings.queue), 1):
        pass
    ready.client.delete(*(f"rq:job:{run.record.jobs[0].id}" for run in old))
    last = submit(ready.file("plain-new.csv"), pipeline="plain", settings=chosen)
    last.wait(PATIENCE)
    assert not any(ready.client.exists(f"ingestlab:run:{run.id}") for run in old), "the newest alone is kept"
    assert ready.client.exists(f"ingestlab:run:{last.id}")
    found = recent_runs(ready.settings, 1000)
    assert {run.id for run in [*old, last]} <= {run.id for run in found}
    moments = [run.record.at for run in found]  # ids of one second are in no order
    assert moments == sorted(moments, reverse=True)
    again = next(run for run in found if run.id == old[0].id)
    assert (again.progress().state, again.record.at > 0) == ("finished", True)


def test_a_run_that_waits_is_not_forgotten(settings, redis_url, tmp_path):
    chosen = settings(redis_url=redis_url, queue="quiet", keep_jobs=2)
    (tmp_path / "a.csv").write_text("n\n1\n")
    runs = [submit(str(tmp_path / "a.csv"), settings=chosen, table=f"t{number}") for number in range(5)]
    assert [find_run(run.id, chosen).progress().state for run in runs] == ["queued"] * 5


def test_what_failed_and_was_forgotten_is_tried_again_by_the_lake_s_record(ready):
    path = ready.folder / "plain-later.csv"
    run = ready.submit(path.as_uri())
    assert run.wait(PATIENCE).state == "failed"
    ready.client.delete(f"rq:job:{run.record.jobs[0].id}")
    path.write_text("n,word\n1,a\n")
    again = find_run(run.id, ready.settings)
    assert again.retry() == 1
    assert again.wait(PATIENCE).count("committed") == 1
