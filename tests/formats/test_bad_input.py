"""Bad input on the whole system: it is told in words, its neighbours are published, and what was there stays."""

from __future__ import annotations

import re
import subprocess
from collections import Counter

import pytest
from support.bad_files import BAD, HEADER, PIPELINE, REFUSED, SECRET, noise
from support.bench import Bench, flags, mount, readable
from support.servers import Server

from ingestlab import stack as embedded
from ingestlab.analytics.lake import Lake
from ingestlab.core.errors import IngestError, TerminalError, UndecodableJobError
from ingestlab.core.models import IngestRequest, Source
from ingestlab.core.settings import Settings
from ingestlab.lake.locks import Locks, source_lock
from ingestlab.queue import find_run, submit
from ingestlab.queue.results import JobRef, RunRecord
from ingestlab.queue.rq.queueing import open_queue
from ingestlab.queue.rq.serializer import JOB_FUNCTION
from ingestlab.queue.run import Run

pytestmark = pytest.mark.slow("a stack of its own")
TABLES = ("small", "other", "blocked")


@pytest.fixture(scope="module")
def disk(tmp_path_factory):
    """A folder for the lake, on a small disk of its own where the system allows mounts; and why not."""
    folder = tmp_path_factory.mktemp("bad") / "lake"
    refusal = mount(folder, "96m")
    try:
        yield folder, refusal
    finally:
        if refusal is None:
            subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.fixture(scope="module")
def started(disk):
    """A stack that loses patience soon, with one RQ worker and one Dask worker, and something published."""
    lake, _ = disk
    pipelines = lake.parent / "pipelines"
    pipelines.mkdir()
    for name in TABLES:
        (pipelines / f"{name}.py").write_text(PIPELINE.replace("NAME", name))
    wanted = Settings(
        home=lake.parent / "home",
        lake=str(lake),
        pipelines=(str(pipelines),),
        fetch_attempts=2,
        fetch_delay=0.02,
        read_timeout=1.0,
        retry_delays=(0.0,),
        max_file_bytes=16 << 20,
    )
    try:
        with Server() as server:
            bench = Bench(embedded.start(wanted, workers=1, dask_workers=1, detach=False), server)
            first = bench.good(7)
            bench.assert_committed(bench.submit(first), first, 7)
            yield bench
    finally:
        embedded.stop(wanted.home)


@pytest.fixture
def bench(started):
    """The same for one test: at its end all that was published before is as it was, and nothing is half-done."""
    before = started.published()
    yield started
    after = started.published()
    assert {path: after.get(path) for path in before} == before
    started.check()


# Files


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_fails_alone(bench, name):
    bad = BAD[name]
    if bad.data is not None:
        bench.server.files[bad.path.split("/", 1)[1]] = bad.data
    left, uri, right = bench.good(), bench.server.url(bad.path), bench.good(9)
    seen = bench.submit(left, uri, right, pipeline="small")
    seen.tells(uri, bad.expected, bad.got, bad.fix)
    assert seen.result.state == "finished"
    bench.assert_committed(seen, left)
    bench.assert_committed(seen, right, 9)
    assert seen.result.rules == {"id:type": 2}  # whatever was tried again, too
    assert bench.rows(uri) + bench.rejects(uri) == Counter()


@pytest.mark.parametrize("fail", [1, 3], ids=["in the next attempt", "in the job's next try"])
def test_a_server_that_heals_is_forgiven(bench, fail):
    good = bench.good()
    name = bench.good().rsplit("/", 1)[1]
    uri = bench.server.url(f"flaky/{name}?fail={fail}&status=500")
    seen = bench.submit(good, uri, pipeline="small")
    assert seen.first.exit_code == 0
    bench.assert_committed(seen, good)
    bench.assert_committed(seen, uri)
    assert len(bench.server.requests(f"/flaky/{name}")) == fail + 1


def test_a_field_of_10_mb_rejects_its_row_alone(bench):
    giant = b"1,2031-01-01," + b"x" * (10 << 20) + b"\n"
    data = HEADER.encode() + b"0,2031-01-01,a\n" + giant + b"2,2031-01-01,b\n"
    good, uri = bench.good(), bench.serve("small-giant.csv", data)
    seen = bench.submit(good, uri)
    assert seen.first.exit_code == 0
    assert re.search(r"^ +1  word:field_size$", seen.first.output, re.MULTILINE)
    bench.assert_committed(seen, good)
    assert bench.rows(uri) == Counter([0, 2])
    assert bench.rejects(uri) == Counter([1])
    kept = Lake(bench.settings).rejects("small", run=seen.run.id, rule="field_size").iloc[0]
    assert len(kept["value"]) < 1000
    assert len(kept["raw"]) < 10_000


# Places that cannot be written


@pytest.mark.parametrize(
    ("way", "table"), [("blocked", "blocked"), ("small/day=2031-02-02", "small")], ids=["table", "part of a table"]
)
def test_a_table_folder_that_cannot_be_written_fails_its_own_files(bench, way, table):
    place = bench.lake / "tables" / "default" / way
    place.touch()
    days = "".join(f"{i},2031-02-{i + 1:02},w\n" for i in range(5))
    uri, good = bench.serve(f"{table}-days#.csv", (HEADER + days).encode()), bench.good(table="other")
    seen = bench.submit(uri, good)
    seen.tells(uri, f"Cannot write tables/default/{way}", "Not a directory", "no file is where a folder")
    bench.assert_committed(seen, good, table="other")
    assert not bench.rows(uri, table)
    assert place.read_bytes() == b""
    bench.check()
    place.unlink()
    again = bench.submit(uri, good)
    assert [o.status for o in again.result.outcomes] == ["committed", "unchanged"]
    assert bench.rows(uri, table) == Counter(range(5))


@pytest.mark.parametrize(
    ("left", "size", "what"),
    [
        (1 << 18, 1 << 20, "_ingestlab/tmp"),
        (900 << 10, 600 << 10, "_ingestlab/staging"),
        (0, 1 << 16, "_ingestlab/tmp"),
    ],
    ids=["while fetching", "while processing", "from the start"],
)
def test_a_full_disk_leaves_nothing_half_done_and_a_retry_finishes(bench, disk, left, size, what):
    if disk[1]:
        pytest.skip(f"a small disk to fill needs a mount, and the system says: {disk[1]}")
    data = noise(size)
    uri, small = bench.serve("small-noise#.csv", data), bench.good()
    make_room = bench.fill(left)
    try:
        seen = bench.submit(uri, small)
        for each in (uri, small):
            seen.tells(each, f"{what}", "a full disk", "Free space")
        assert seen.result.state == "failed"
        assert len(bench.server.requests(uri.removeprefix(bench.server.url("/")[:-1]))) == 1  # no try in vain
        bench.check()
    finally:
        make_room()
    assert bench.cli("retry", seen.run.id).exit_code == 0
    shown = bench.cli("show", seen.run.id, "--wait")
    assert shown.exit_code == 0, shown.output
    assert bench.rows(uri) == Counter(range(data.count(b"\n") - 1))
    bench.assert_committed(seen, small)


# Requests that are refused before anything is queued


@pytest.mark.parametrize("name", REFUSED)
def test_what_may_not_be_is_refused_before_anything_is_queued(bench, name):
    asked, expected, got, fix = REFUSED[name]
    options = dict(asked)
    uris = [bench.good(), options.pop("uri", bench.good())]
    before = bench.queued()
    with pytest.raises(TerminalError) as refusal:
        submit(uris, settings=bench.settings, **options)
    error = refusal.value
    assert expected in error.reason
    assert got in error.reason
    assert error.code != "unknown"
    assert fix in error.fix
    page = bench.cli("submit", "--wait", *uris, *flags(options))
    assert page.exit_code == 1
    lines = [f"{name:>8}  {text}" for name, text in [*error.lines(), ("code", error.code)]]
    assert page.output.split("\n") == [*lines, ""]
    assert SECRET not in page.output + str(error)
    assert bench.queued() == before


def test_a_refusal_is_three_lines_in_a_terminal(bench, cli):
    page = cli("submit", bench.good(), "--pipeline", "smal", "--home", bench.settings.home)
    assert (page.returncode, page.stdout, page.stderr.count("\n")) == (1, "", 5)
    assert readable(page.stderr)


def test_a_run_or_table_with_dots_in_its_name_is_not_looked_for(bench):
    with pytest.raises(TerminalError, match="the id of a run"):
        find_run("../manifests/default", bench.settings)
    with pytest.raises(TerminalError, match="of tenant default"):
        Lake(bench.settings).table("../default/small")
    with pytest.raises(TerminalError, match="one of the tenants"):
        Lake(bench.settings, tenant="../default")


# Requests that someone puts on the queue without asking


def ask(uris, **names):
    return IngestRequest(**{"run": "by-hand", "table": "small", **names}, sources=tuple(Source(uri=u) for u in uris))


def test_the_worker_itself_refuses_forbidden_sources_and_takes_the_rest(bench):
    left, right = bench.good(), bench.good(3)
    shown, secret = "http://…@127.0.0.1/small-a.csv", f"http://me:{SECRET}@127.0.0.1/small-a.csv"
    scheme, dots, local = (
        "gopher://host/small-a.csv",
        f"{bench.server.url('files/x')}/../small-a.csv",
        "/srv/../small-a",
    )
    seen = bench.push(ask([left, secret, scheme, dots, local, right], run="by-hand-1"))
    seen.tells(shown, "without a user and password", f"credentials in it: {shown}", "Use a signed URL")
    seen.tells(scheme, "one of the schemes", "'gopher'", "INGESTLAB_SCHEMES")
    seen.tells(dots, "a URI without '..'", dots, "Write the path out")
    seen.tells(local, "a URI without '..'", local, "Write the path out")
    bench.assert_committed(seen, left)
    bench.assert_committed(seen, right, 3)
    assert SECRET not in seen.first.output + seen.again.output
    bench.assert_untold(SECRET)


def test_a_job_of_one_forbidden_source_fails_without_telling_its_secret(bench):
    uri = f"s3://me:{SECRET}@bucket/small-a.csv"
    with Locks(bench.client, bench.settings.lake_url).lease() as lease:
        lease.acquire([source_lock("default", "small", uri)])  # it is refused before anyone would wait for it
        seen = bench.push(ask([uri], run="by-hand-2"))
    seen.tells("s3://…@bucket/small-a.csv", "without a user", "credentials in it: s3://…@bucket", "STORAGE_OPTIONS")
    assert seen.result.state == "failed"
    assert SECRET not in seen.first.output + seen.again.output
    bench.assert_untold(SECRET)


@pytest.mark.parametrize(
    ("names", "expected", "got"),
    [
        ({"pipeline": "smal", "run": "by-hand-3"}, "a pipeline in", "'smal'"),
        ({"tenant": "nobody", "run": "by-hand-4"}, "one of the tenants default", "'nobody'"),
    ],
    ids=["pipeline", "tenant"],
)
def test_the_worker_itself_refuses_an_unknown_name(bench, names, expected, got):
    left, right = bench.good(), bench.good()
    seen = bench.push(ask([left, right], **names))
    for uri in (left, right):
        seen.tells(uri, expected, got, "INGESTLAB_")
    assert not bench.rows(left)
    assert not (bench.lake / "raw" / "nobody").exists()


@pytest.mark.parametrize("field", ["run", "tenant", "table", "pipeline"])
def test_the_worker_itself_refuses_dots_in_a_name(bench, field):
    good = bench.good()
    payload = {**ask([good]).to_dict(), "run": f"dots-{field}", field: f"../{field}"}
    job = open_queue(bench.client, bench.settings.queue).enqueue_call(JOB_FUNCTION, args=(payload,))
    refs = (JobRef(id=job.id, run=f"dots-{field}"),)
    record = RunRecord(id=f"dots-{field}", queue="ingest", tenant="default", pipeline=None, files=1, jobs=refs)
    Run(record, bench.settings, bench.client).save()
    seen = bench.see(record.id)
    seen.tells("?", "an ingest request", f"{field}: String should match", "Enqueue with ingestlab.submit()")
    assert isinstance(seen.result.outcomes[0].exception(), UndecodableJobError)
    assert not list(bench.lake.parent.rglob(f"{field}*.json"))


def test_an_error_survives_its_way(bench):
    uri = bench.server.url("status/410")
    error = bench.submit(uri, pipeline="small").outcome(uri).exception()
    assert isinstance(error, IngestError)
    assert "taken away for good" in str(error)
