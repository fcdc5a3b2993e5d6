"""Submissions: what becomes a job, which jobs are one, and what can be told of a run, long after its end too."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import psutil
import pyarrow.dataset as ds
import pytest
import redis
from hypothesis import given
from hypothesis import settings as tries
from hypothesis import strategies as st
from support.selection import examples
from support.servers import Server
from support.workers import CONTENT, ONCE, PATIENCE, PLAIN, environment, until

from ingestlab import stack as embedded
from ingestlab.analytics.lake import Lake
from ingestlab.core.errors import IngestError, TerminalError, TransientError
from ingestlab.core.models import IngestRequest, Progress, Source, Tally
from ingestlab.core.settings import Settings, load_settings
from ingestlab.queue import find_run, recent_runs, submit
from ingestlab.queue.advice import of_result, of_submission
from ingestlab.queue.broker import broker
from ingestlab.queue.results import RunResult
from ingestlab.queue.rq.queueing import open_queue
from ingestlab.sources.expand import expand, pack
from ingestlab.stack import valkey
from ingestlab.stack.services import variables
from ingestlab.stack.state import Proc, running

ROWS = b"n,word\n1,a\n2,b\n"


# One job for one request


@pytest.fixture
def quiet(settings, redis_url, tmp_path):
    """Settings of a queue on which nobody works, and some files to submit."""
    (tmp_path / "in").mkdir()
    for name in "abcdefg":
        (tmp_path / "in" / f"{name}.csv").write_bytes(ROWS)
    return settings(redis_url=redis_url, queue="quiet")


def waiting(settings: Settings) -> int:
    with redis.Redis.from_url(settings.redis) as client:
        return len(open_queue(client, settings.queue))


def test_the_same_submission_twice_while_it_is_queued_is_one_job(quiet, tmp_path):
    first = submit(f"{tmp_path}/in/a.csv", settings=quiet)
    again = submit(f"{tmp_path}/in/a.csv", settings=quiet)
    assert (again.id, again.record.jobs) == (first.id, first.record.jobs)
    assert waiting(quiet) == 1
    assert [run.id for run in recent_runs(quiet)] == [first.id]


def test_the_same_submission_twice_while_it_runs_is_one_job_and_unchanged_afterwards(ready):
    with Server({"x.csv": CONTENT}) as slow:
        uri = slow.url("/held/x.csv")
        first = ready.submit(uri)
        until(lambda: slow.log, 20, "a download that has begun")
        assert ready.submit(uri).id == first.id
        slow.release()
        assert first.wait(PATIENCE).count("committed") == 1
        later = ready.submit(uri)
        result = later.wait(PATIENCE)
    assert later.id != first.id
    assert [o.status for o in result.outcomes] == ["unchanged"]
    assert ready.rows(uri) == ONCE
    assert [r.status for r in slow.log] == [200, 200], "held answers know no 304, so the content tells"
    assert find_run(first.id, ready.settings).result().count("committed") == 1, (
        "the first run's end is not the second's"
    )


def test_what_failed_is_queued_anew_when_it_is_submitted_again(ready):
    with Server({}) as files:
        uri = files.url("/files/late.csv")
        first = ready.submit(uri)
        assert first.wait(PATIENCE).state == "failed"
        files.files["late.csv"] = CONTENT
        second = ready.submit(uri)
        assert second.wait(PATIENCE).count("committed") == 1
    assert second.id != first.id
    assert second.record.jobs[0].id == first.record.jobs[0].id
    (failed,) = find_run(first.id, ready.settings).result().failed  # its job's place in Redis is taken
    assert "404" in str(failed.exception())
    assert find_run(first.id, ready.settings).progress().state == "failed"
    assert ready.rows(uri) == ONCE


def test_overlapping_submissions_share_jobs(quiet, tmp_path):
    alone = quiet.model_copy(update={"request_files": 1})
    a, b, c = (f"{tmp_path}/in/{name}.csv" for name in "abc")
    first, second = submit([a, b], settings=alone), submit([b, c], settings=alone)
    assert waiting(quiet) == 3
    assert [ref.run for ref in second.record.jobs] == [first.id, second.id]
    assert second.record.jobs[0].id == first.record.jobs[1].id
    assert (second.record.files, second.progress().files) == (2, 2)


def test_another_version_of_a_file_is_another_job(quiet, tmp_path):
    submit(f"{tmp_path}/in/a.csv", settings=quiet)
    (tmp_path / "in/a.csv").write_bytes(ROWS + b"3,c\n")
    submit(f"{tmp_path}/in/a.csv", settings=quiet)
    assert waiting(quiet) == 2


def test_a_cancelled_job_leaves_the_queue_and_can_be_submitted_again(quiet, tmp_path):
    run = submit(
        [f"{tmp_path}/in/a.csv", f"{tmp_path}/in/b.csv"], settings=quiet.model_copy(update={"request_files": 1})
    )
    assert run.cancel("wrong folder", by="ann") == 2
    assert run.cancel() == 0
    assert waiting(quiet) == 0
    result = run.wait(5)
    said = "Job was cancelled by ann: wrong folder. `ingestlab retry` runs it again."
    assert [str(o.exception()) for o in result.failed] == [said, said]
    assert run.progress().state == result.state == "cancelled"
    again = submit(f"{tmp_path}/in/a.csv", settings=quiet)
    assert (waiting(quiet), again.progress().state) == (1, "queued")
    with redis.Redis.from_url(quiet.redis) as client:
        assert client.zrange("rq:canceled:quiet", 0, -1) == [run.record.jobs[1].id.encode()]


def test_waiting_has_an_end_and_results_a_beginning(quiet, tmp_path):
    run = submit(f"{tmp_path}/in/a.csv", settings=quiet)
    with pytest.raises(TransientError, match=r"did not end within 0\.1 s: queued"):
        run.wait(0.1)
    with pytest.raises(TransientError, match="has not ended"):
        run.result()
    assert run.progress() == Progress(state="queued", files=1)


# What is asked for


def uris(sources: list[Source]) -> list[str]:
    return [Path(s.uri).name for s in sources]


def test_requests_are_packed_by_number_and_size(quiet, tmp_path):
    by_number = quiet.model_copy(update={"request_files": 3})
    run = submit(f"{tmp_path}/in/*.csv", settings=by_number)
    assert [job["files"] for job in metas(quiet, run)] == [3, 3, 1]
    (tmp_path / "in/d.csv").write_bytes(ROWS * 100)
    by_size = quiet.model_copy(update={"request_bytes": 5 * len(ROWS)})
    run = submit(f"{tmp_path}/in/*.csv", settings=by_size, table="other")
    assert [job["files"] for job in metas(quiet, run)] == [3, 1, 3], "the big one is alone"


def metas(settings: Settings, run) -> list[dict]:
    jobs = broker(settings).jobs([ref.id for ref in run.record.jobs])
    return [jobs[ref.id].notes for ref in run.record.jobs]


@tries(max_examples=examples(300), deadline=None)
@given(sizes=st.lists(st.one_of(st.none(), st.integers(0, 60))), files=st.integers(1, 5), size=st.integers(1, 40))
def test_packing_keeps_order_and_limits_and_loses_nothing(sizes, files, size):
    limits = Settings(_env_file=None, request_files=files, request_bytes=size)
    sources = [Source(uri=f"x{i}", size=s) for i, s in enumerate(sizes)]
    groups = list(pack(sources, limits))
    assert [s for group in groups for s in group] == sources
    assert all(1 <= len(group) <= files for group in groups)
    assert all(len(group) == 1 or sum(s.size or 0 for s in group) <= size for group in groups)
    for one, other in pairwise(groups):  # no request is smaller than it must be
        weight = sum((size // files if s.size is None else s.size) for s in [*one, other[0]])
        assert len(one) == files or weight > size


def test_patterns_on_local_paths(settings, tmp_path):
    found = settings()
    for name in ("a.csv", "b.csv", "a[1].csv", "50% #1?.csv", "ü.csv", "deep/er/c.csv", "folder.csv/d.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(ROWS)

    def names(*patterns: str) -> list[str]:
        return uris(expand(patterns, found))

    everything = ["50%25%20%231%3F.csv", "a.csv", "a%5B1%5D.csv", "b.csv", "%C3%BC.csv"]
    assert names(f"{tmp_path}/*.csv") == everything, "files alone, sorted"
    assert set(names(f"{tmp_path}/**/*.csv")) == {*everything, "c.csv"}
    assert names(f"{tmp_path}/[ab].csv") == ["a.csv", "b.csv"]
    assert names(f"{tmp_path}/a[1].csv") == ["a%5B1%5D.csv"], "a file of that very name is meant"
    assert names(f"{tmp_path}/b.csv", f"{tmp_path}/?.csv", f"{tmp_path}/a.csv") == ["b.csv", "a.csv", "%C3%BC.csv"]
    assert names((tmp_path / "50% #1?.csv").as_uri()) == ["50%25%20%231%3F.csv"]
    assert names(f"FILE://{tmp_path}/[ab].csv") == ["a.csv", "b.csv"]
    assert names(f"file://localhost{tmp_path}/?.csv") == ["a.csv", "b.csv", "%C3%BC.csv"]
    (source,) = expand([f"{tmp_path}/a.csv"], found)
    stat = (tmp_path / "a.csv").stat()
    assert (source.size, source.version) == (len(ROWS), f"size:{len(ROWS)} time:{stat.st_mtime_ns}")


def test_a_relative_path_is_meant_from_here(settings, tmp_path, monkeypatch):
    (tmp_path / "a.csv").write_bytes(ROWS)
    monkeypatch.chdir(tmp_path)
    assert expand(["a.csv"], settings())[0].uri == (tmp_path / "a.csv").as_uri()


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"uris": "/nowhere/*.csv"}, r"no files that match /nowhere/\*\.csv\. Check the pattern"),
        ({"uris": []}, "No URI is given"),
        ({"uris": "memory://nothing/*.csv"}, "files that match memory://nothing"),
        ({"uris": "ftp://host/a.csv"}, "one of the schemes"),
        ({"uris": "/a/../b.csv"}, r"without '\.\.'"),
        ({"uris": "x.csv", "pipeline": "nope"}, "'nope'"),
        ({"uris": "x.csv", "tenant": "nobody"}, "tenants default"),
        ({"uris": "x.csv", "queue": "a/b"}, "queue name"),
        ({"uris": "x.csv", "table": "../t"}, "table name"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_queued(quiet, tmp_path, asked, says):
    asked["uris"] = [f"{tmp_path}/in/a.csv", asked["uris"]] if isinstance(asked["uris"], str) else asked["uris"]
    with pytest.raises(TerminalError, match=says):
        submit(**asked, settings=quiet)
    assert waiting(quiet) == 0
    assert recent_runs(quiet) == []


@tries(max_examples=examples(50), deadline=None)
@given(run=st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=20))
def test_a_job_is_named_by_what_is_asked_and_not_by_who_asks(run):
    base = IngestRequest(run="r", table="t", sources=(Source(uri="a", size=1, version="v"),))
    assert base.model_copy(update={"run": run}).job_id == base.job_id
    changes = [
        {"tenant": "x"},
        {"pipeline": "x"},
        {"table": "x"},
        {"force": True},
        {"sources": (Source(uri="b", size=1, version="v"),)},
        {"sources": (Source(uri="a", size=2, version="v"),)},
        {"sources": (Source(uri="a", size=1, version="w"),)},
        {"sources": base.sources * 2},
    ]
    assert len({base.model_copy(update=c).job_id for c in changes} | {base.job_id}) == len(changes) + 1


# Pipelines by file name, tenants


def test_files_of_two_pipelines_and_of_none_in_one_submission(ready):
    ready.pipeline("words", PLAIN.replace("plain-*.csv", "words-*.csv"))
    two = [ready.file("plain-x.csv"), ready.file("words-x.csv")]
    generic = [ready.file("x-1.csv", b"when,much,who\n2024-01-02,1.5,me\n2024-01-03,2,you\n")]
    generic.append(ready.file("x-2.tsv", b"when\tmuch\twho\n2024-01-04\t3\tthey\n"))
    strange = ready.file("z.weird")
    run = ready.submit(*two, *generic, strange, pipeline=None)
    result = run.wait(PATIENCE)
    assert len(run.record.jobs) == 1
    assert [(o.table, o.status) for o in result.outcomes] == [
        ("plain", "committed"),
        ("words", "committed"),
        ("x", "committed"),
        ("x", "committed"),
        ("", "failed"),
    ]
    assert "z.weird" in str(result.failed[0].exception())
    assert ready.rows(two[0]) == ready.rows(two[1], "words") == ONCE
    table = Lake(ready.settings).table("x").arrow(where=ds.field("_source").isin(generic))
    assert [str(table.schema.field(n).type) for n in ("when", "much", "who")] == ["date32[day]", "double", "string"]
    assert sorted(table["much"].to_pylist()) == [1.5, 2, 3]


def test_files_that_no_pipeline_takes_have_a_table_of_their_kind_and_that_is_said(ready):
    files = [ready.file(f"rain-{day}.csv", b"mm\n1\n") for day in ("2024-01-01", "2024-01-02")]
    files += [ready.file("2024.csv", b"other\nx\n"), ready.file("plain.csv", b"z\n1\n"), ready.file("plain-1.csv")]
    run = submit([*files, ready.file("p.weird")], settings=ready.settings)
    assert [o.table for o in run.wait(PATIENCE).outcomes] == ["rain", "rain", "csv_files", "plain_files", "plain", ""]
    path = files[0].removeprefix("file://")
    folder = path.rpartition("/")[0]
    assert run.record.notes[0] == (
        f"no pipeline takes {path} and 1 more: types guessed, nothing checked, table rain. "
        f"Write one: ingestlab new rain --from '{folder}/rain-*.csv'"
    )
    assert run.record.notes[1].endswith(f"--from {folder}/2024.csv"), "one file is named by itself"
    assert [note.split("table ")[1].split(".")[0] for note in run.record.notes] == ["rain", "csv_files", "plain_files"]
    assert submit(files[4], settings=ready.settings).record.notes == ()


@pytest.mark.parametrize(
    ("names", "shown"),
    [
        (["s3://b/in/rain-1.csv", "s3://b/in/rain-23.csv"], "'s3://b/in/rain-*.csv'"),
        (["s3://b/in/rain-1.csv", "s3://b/in/rain.csv.gz"], "'s3://b/in/rain*'"),
        (["s3://b/in/rain-1.csv", "s3://b/other/rain-2.csv"], "s3://b/in/rain-1.csv"),
        (["s3://b/in/1.csv", "s3://b/in/2.csv"], "s3://b/in/1.csv"),
        (["https://h/rain-1.csv", "https://h/rain-2.csv"], "https://h/rain-1.csv"),
    ],
)
def test_a_pipeline_is_proposed_for_all_files_of_a_kind_that_a_pattern_names(tmp_path, names, shown):
    (tmp_path / "other.py").write_text(
        "from ingestlab import Csv, Pipeline\nPIPELINE = Pipeline(matches=['x'], reader=Csv())"
    )
    settings = Settings(_env_file=None, pipelines=(str(tmp_path),))
    request = IngestRequest(run="r-1", sources=tuple(Source(uri=name, size=1) for name in names))
    (said,) = of_submission([request], settings)
    assert said.endswith(f" --from {shown}"), said


def test_where_types_are_guessed_the_pipelines_that_do_not_load_are_named(tmp_path):
    (tmp_path / "broken.py").write_text("1 / 0")
    settings = Settings(_env_file=None, pipelines=(str(tmp_path),))
    request = IngestRequest(run="r-1", sources=(Source(uri="s3://bucket/rain-1.csv", size=1),))
    (said,) = of_submission([request], settings)
    assert said.startswith(
        "no pipeline takes s3://bucket/rain-1.csv (not loaded: broken): types guessed, nothing checked"
    )


def test_that_much_was_rejected_is_said_with_the_commonest_rule_and_what_shows_it():
    def result(rows: int, **rules: int) -> RunResult:
        rejected = min(rows, max(rules.values(), default=0))
        tally = Tally(rows_in=rows, accepted=rows - rejected, rejected=rejected, out=rows - rejected)
        told = {"outcomes": (), "parquet_bytes": 0, "tables": (), "seconds": {}, "rules": rules}
        return RunResult(run="r-1", state="finished", tally=tally, **told)

    assert of_result(result(10, few=2), "terminal") == of_result(result(0), "notebook") == ()
    (said,) = of_result(result(10, **{"a b:range": 3, "type": 1}), "terminal")
    assert said.startswith("30% of the rows were rejected, most by the rule a b:range (3 times). See them: ")
    assert said.endswith("ingestlab rejects r-1 --rule 'a b:range'")
    assert of_result(result(10, **{"n:type": 3}), "notebook")[0].endswith("run.rejects('n:type')")


def test_a_file_that_no_pipeline_matches_goes_to_the_table_that_is_named(ready):
    uri = ready.file("named.csv", ROWS)
    run = submit(uri, table="chosen", settings=ready.settings)
    assert run.wait(PATIENCE).tables == ("chosen",)
    assert Lake(ready.settings).table("chosen").rows == 2


def test_tenants_are_apart(ready):
    uri = ready.file("tenants.csv")
    for tenant in ("default", "acme"):
        assert (
            submit(uri, pipeline="plain", tenant=tenant, settings=ready.settings).wait(PATIENCE).count("committed") == 1
        )
    assert ready.rows(uri) == ready.rows(uri, tenant="acme") == ONCE
    folders = {Lake(ready.settings, tenant).table("plain").path for tenant in ("default", "acme")}
    assert len(folders) == 2
    lake = Path(ready.settings.lake_url)
    assert len(list((lake / "raw").glob("*/plain/*"))) == len({*(lake / "raw").glob("*/plain/*")})
    assert list((lake / "raw/acme/plain").iterdir())
    assert [t.name for t in Lake(ready.settings, "acme").tables()] == ["plain"]


# From the beginning to long after the end


def test_a_run_is_watched_to_its_end(ready):
    seen: list[Progress] = []
    with Server({"w.csv": CONTENT}) as slow:
        run = ready.submit(slow.url("/held/w.csv"), ready.file("watched.csv"))
        until(lambda: run.progress().state == "fetching" and slow.log, 20, "a download that has begun")
        until(lambda: run.progress().files_done == 1, 20, "the other file")

        def watch(progress: Progress) -> None:
            seen.append(progress)
            slow.release()

        result = run.wait(20, watch)
    assert seen[0].state == "fetching"
    last = seen[-1]
    assert (last.state, last.files, last.files_done, last.rows, last.rejected, last.failed) == (
        "finished",
        2,
        2,
        200,
        0,
        0,
    )
    assert last.bytes == 2 * len(CONTENT)
    assert result.tally.rows_in == 200
    assert result.tables == ("plain",)
    assert result.parquet_bytes > 0
    assert {"fetching", "processing", "committing"} <= set(result.seconds)


def show(settings: Settings, run: str) -> subprocess.CompletedProcess[str]:
    from ingestlab.stack.services import environment as of

    command = [sys.executable, "-m", "ingestlab", "show", run, "--json"]
    return subprocess.run(command, env={**environment(), **of(settings)}, capture_output=True, text=True, check=False)


def test_a_run_is_found_from_another_process_and_when_redis_has_forgotten_it(ready):
    run = ready.submit(ready.file("found.csv"))
    known = run.wait(PATIENCE)
    done = show(ready.settings, run.id)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["outcomes"] == [o.to_dict() for o in known.outcomes]

    job = run.record.jobs[0].id
    ready.client.delete(f"ingestlab:run:{run.id}", f"rq:job:{job}", f"rq:results:{job}")
    again = find_run(run.id, ready.settings)
    assert again.result() == known
    assert (again.record.queue, again.record.tenant, again.record.files) == ("ingest", "default", 1)
    assert again.progress().state == "finished"


@pytest.mark.parametrize("run", ["20200101-000000-abcdef", "", "..", "../../tables"])
def test_a_run_that_nobody_knows(ready, run):
    with pytest.raises(TerminalError, match="the id of a run"):
        find_run(run, ready.settings)


def test_a_failed_run_is_retried_under_its_own_id(ready):
    with Server({"there.csv": CONTENT}) as files:
        there, late = files.url("/files/there.csv"), files.url("/files/late.csv")
        run = ready.submit(late)
        assert run.wait(PATIENCE).state == "failed"
        files.files["late.csv"] = CONTENT
        assert run.retry() == 1
        assert run.wait(PATIENCE).count("committed") == 1
        assert run.retry() == 0
        assert ready.submit(there).wait(PATIENCE).count("committed") == 1
    assert find_run(run.id, ready.settings).result().count("committed") == 1
    assert ready.rows(late) == ONCE


def test_the_files_that_a_finished_job_left_behind_are_tried_again(ready):
    with Server({"a.csv": CONTENT}) as files:
        good, late = files.url("/files/a.csv"), files.url("/files/late2.csv")
        run = ready.submit(good, late)
        assert [o.status for o in run.wait(PATIENCE).outcomes] == ["committed", "failed"]
        files.files["late2.csv"] = CONTENT
        assert run.retry() == 1
        assert run.wait(PATIENCE).count("committed") == 2
        assert run.retry() == 0
    assert (ready.rows(good), ready.rows(late)) == (ONCE, ONCE)


def test_a_retry_that_fails_changes_nothing_of_what_the_run_has_done(ready):
    names = [f"many-{n}.csv" for n in range(50)]
    uris = [ready.file(name) for name in names]
    (ready.folder / names[7]).unlink()
    ready.pipeline("many", PLAIN.replace("plain-*.csv", "many-*.csv"))
    run = ready.submit(*uris, pipeline="many")
    first = run.wait(PATIENCE)
    assert (first.count("committed"), first.count("failed"), first.tally.rows_in) == (49, 1, 4900)

    ready.pipeline("many", "no pipeline at all")
    assert run.retry() == 1
    second = run.wait(PATIENCE)
    assert (second.count("committed"), second.count("failed"), second.tally.rows_in) == (49, 1, 4900)
    assert second.state == "finished"
    assert [dict(a.counts) for a in second.attempts] == [{"committed": 49, "failed": 1}, {"failed": 1}]
    assert "does not load" in str(second.failed[0].exception()), "the last word on the file that failed"
    assert (second.rules, second.parquet_bytes, second.tables) == (first.rules, first.parquet_bytes, first.tables)
    p = run.progress()
    assert (p.state, p.files, p.files_done, p.failed, p.rows) == ("finished", 50, 50, 1, 4900)
    assert (p.began, p.ended) == (second.began, second.ended)
    assert p.began == first.began < first.ended < p.ended, "a run's own time is that of all its attempts"
    shown = json.loads(show(ready.settings, run.id).stdout)
    assert shown == json.loads(second.model_dump_json()), "one fold for all who ask"
    assert [line.split()[1] for line in run.history() if "worker" in line] == ["begun", "begun"]

    job = run.record.jobs[0].id
    ready.client.delete(f"ingestlab:run:{run.id}", f"rq:job:{job}", f"rq:results:{job}")
    again = find_run(run.id, ready.settings)
    assert again.result() == second, "the lake remembers all attempts, too"
    ready.pipeline("many", PLAIN.replace("plain-*.csv", "many-*.csv"))
    ready.file(names[7])
    assert again.retry() == 1
    last = again.wait(PATIENCE)
    assert (last.count("committed"), last.tally.rows_in, len(last.attempts)) == (50, 5000, 3)
    assert last.attempts[:2] == second.attempts
    assert sum(ready.rows(uris[7], "many").values()) == 100

    again.forget()
    with pytest.raises(TerminalError, match="the id of a run"):
        find_run(run.id, ready.settings)
    assert run.id not in [r.id for r in recent_runs(ready.settings, 1000)]
    assert sum(ready.rows(uris[7], "many").values()) == 100, "what it has published stays"


def test_what_a_worker_has_done_before_it_died_is_an_attempt(ready):
    with Server({"held.csv": CONTENT}) as slow:
        uri = slow.url("/held/held.csv")
        run = ready.submit(uri)
        until(lambda: slow.log, 20, "a download that has begun")
        ready.workers.at_work_on(run.record.jobs[0].id).kill()
        until(lambda: len(slow.log) == 2, 30, "another worker that downloads")
        slow.release()
        result = run.wait(PATIENCE)
    assert [(a.state, dict(a.counts)) for a in result.attempts] == [("lost", {}), ("finished", {"committed": 1})]
    assert len({a.worker for a in result.attempts}) == 2
    assert "Worker died" in str(run.history())


def test_force_ingests_again_and_doubles_nothing(ready):
    uri = ready.file("forced.csv")
    ready.submit(uri).wait(PATIENCE)
    run = submit(uri, pipeline="plain", force=True, settings=ready.settings)
    assert run.wait(PATIENCE).count("committed") == 1
    assert ready.rows(uri) == ONCE
    again = submit(uri, pipeline="plain", force=True, settings=ready.settings)
    assert again.id != run.id
    assert again.wait(PATIENCE).count("committed") == 1
    assert ready.rows(uri) == ONCE
    assert submit(uri, pipeline="plain", settings=ready.settings).wait(PATIENCE).count("unchanged") == 1


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("redis://:hush@127.0.0.1:1/0", TransientError),
        ("redis://:hush@no-such-host.invalid:6379/0", TransientError),
        ("redis://:hu/sh@127.0.0.1:6379/0", TerminalError),
        ("http://:hush@127.0.0.1:6379/0", TerminalError),
        ("127.0.0.1:6379", TerminalError),
    ],
)
def test_a_redis_that_cannot_be_reached_is_named_without_its_password(settings, tmp_path, url, kind):
    (tmp_path / "a.csv").write_bytes(ROWS)
    away = settings(redis_url=url)
    for attempt in (lambda: submit(f"{tmp_path}/a.csv", settings=away), lambda: find_run("r", away)):
        with pytest.raises(IngestError) as caught:
            attempt()
        assert isinstance(caught.value, kind)
        assert "Redis" in str(caught.value)
        assert "hu" not in str(caught.value)
        assert caught.value.fix


def test_a_wrong_password_is_not_retried(settings, redis_url, tmp_path):
    (tmp_path / "a.csv").write_bytes(ROWS)
    wrong = settings(redis_url=redis_url.replace("://:", "://:hush"))
    with pytest.raises(TerminalError, match="Check its password") as caught:
        submit(f"{tmp_path}/a.csv", settings=wrong)
    assert "hush" not in str(caught.value)


@pytest.mark.slow("processes killed")
def test_what_redis_has_accepted_outlives_its_kill(tmp_path):
    address = valkey.url(port := valkey.free_port(), "s")
    command = valkey.prepare(tmp_path / "redis", port, "s")
    for kills in range(3):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            until(lambda: valkey.answers(address), 10, "Valkey")
            with redis.Redis.from_url(address) as client:
                assert client.llen("jobs") == 20 * kills
                second = client.time()[0]
                until(lambda now=client.time, then=second: now()[0] > then, 2, "its next second, when it may sync")
                client.set("large", b"x" * (16 << 20))  # whatever syncs this is at it for a while
                for job in range(20):
                    client.rpush("jobs", job)
        finally:
            process.kill()
            process.wait()


@pytest.mark.slow("a stack of its own")
def test_a_queued_job_survives_kill_9_of_the_whole_stack_and_is_then_done(settings, tmp_path):
    (tmp_path / "pipelines").mkdir()
    (tmp_path / "pipelines/plain.py").write_text(PLAIN)
    (tmp_path / "a.csv").write_bytes(CONTENT)
    wanted = settings(pipelines=(str(tmp_path / "pipelines"),))
    try:
        first = embedded.start(wanted, workers=0, dask_workers=1)
        run = submit(f"{tmp_path}/a.csv", pipeline="plain", settings=first)
        parts = [p for proc in running(wanted.home).pids.values() if (p := proc.find())]
        for process in {q.pid: q for p in parts for q in [p, *p.children(recursive=True)]}.values():
            with suppress(psutil.NoSuchProcess):  # it has ended with its parent
                process.kill()
        psutil.wait_procs(parts, timeout=10)
        again = embedded.start(wanted, workers=1, dask_workers=1)
        result = find_run(run.id, again).wait(PATIENCE)
    finally:
        embedded.stop(wanted.home)
    assert result.count("committed") == 1
    assert ds.dataset(Lake(again).table("plain").path).count_rows() == 100


# Settings


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder to be in, whose .env counts, and an environment with none of our names."""
    monkeypatch.setitem(Settings.model_config, "env_file", ".env")
    monkeypatch.chdir(tmp_path)
    for name in variables():
        monkeypatch.delenv(name, raising=False)
    return tmp_path


TUTORIAL = {
    "REDIS_HOST": ("redis_host", "redis.example"),
    "REDIS_PORT": ("redis_port", 1234),
    "REDIS_PASSWORD": ("redis_password", "p@ss/w:rd"),
    "REDIS_URL": ("redis_url", "redis://other.example:1/0"),
    "QUEUE_NAME": ("queue", "bigdatastudy"),
}


@pytest.mark.parametrize("name", TUTORIAL)
def test_the_tutorials_names_count_in_the_environment_and_in_env_files(place, monkeypatch, name):
    field, value = TUTORIAL[name]
    (place / ".env").write_text(f"{name}={value}\n")
    assert getattr(load_settings(), field) == value
    (place / ".env").unlink()
    assert getattr(load_settings(), field) != value
    monkeypatch.setenv(name, str(value))
    assert getattr(load_settings(), field) == value


def test_a_host_and_a_password_make_a_url(place, monkeypatch):
    for name in ("REDIS_HOST", "REDIS_PORT", "REDIS_PASSWORD"):
        monkeypatch.setenv(name, str(TUTORIAL[name][1]))
    found = load_settings()
    assert found.redis == "redis://:p%40ss%2Fw%3Ard@redis.example:1234/0"
    assert redis.Redis.from_url(found.redis).connection_pool.connection_kwargs["password"] == "p@ss/w:rd"
    assert found.redis_shown == "redis://redis.example:1234/0"


def test_arguments_beat_the_environment_beats_the_env_file_beats_the_stack_beats_the_defaults(place, monkeypatch):
    def queue(**given: str) -> str:
        return load_settings(**given).queue

    assert queue() == "ingest"
    (place / ".ingestlab").mkdir()
    told = {"settings": {"queue": "stack", "redis_url": "redis://stack:1/0"}, "pids": {}}
    told["pids"]["supervisor"] = Proc.of(os.getpid()).to_dict()
    (place / ".ingestlab/stack.json").write_text(json.dumps(told))
    assert queue() == "stack"
    assert load_settings().redis == "redis://stack:1/0"
    (place / ".env").write_text("QUEUE_NAME=file\n")
    assert queue() == "file"
    monkeypatch.setenv("QUEUE_NAME", "environment")
    assert queue() == "environment"
    monkeypatch.setenv("INGESTLAB_QUEUE", "ours")
    assert queue() == "ours", "our own name beats the tutorial's"
    assert queue(queue="argument") == "argument"
    assert queue(queue=None) == "ours", "None means not given"
    monkeypatch.setenv("REDIS_URL", "redis://real:1/0")
    monkeypatch.delenv("QUEUE_NAME")
    monkeypatch.delenv("INGESTLAB_QUEUE")
    (place / ".env").unlink()
    assert (queue(), load_settings().redis) == ("ingest", "redis://real:1/0"), "real servers are named: no stack"


def test_no_redis_says_how_to_get_one(place):
    with pytest.raises(TerminalError, match="Start one with `ingestlab up`, or set REDIS_URL"):
        _ = load_settings().redis


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("INGESTLAB_CONNECTIONS", "many", "connections"),
        ("INGESTLAB_CONNECTIONS", "0", "connections"),
        ("REDIS_PORT", "x", "REDIS_PORT|redis_port"),
        ("INGESTLAB_RETRY_DELAYS", "1,soon", "retry_delays"),
        ("INGESTLAB_STORAGE_OPTIONS", "{", "storage_options"),
        ("INGESTLAB_BEAT", "", "beat"),
    ],
)
def test_a_value_that_cannot_be_used_is_named(place, monkeypatch, name, value, says):
    monkeypatch.setenv(name, value)
    with pytest.raises(TerminalError, match=says):
        load_settings()
