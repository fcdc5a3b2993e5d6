"""The Ingest page: its numbers against real jobs, its place in Dask's dashboard, and a browser that watches a run."""

from __future__ import annotations

import json
import socket
import statistics
import time
import urllib.request
import uuid
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest
import redis
from bokeh.client import pull_session
from bokeh.models.widgets import Div
from distributed.dashboard import scheduler as dask_pages
from support.browsing import screenshot
from support.dashboard import scheduler
from support.workers import PATIENCE, Yard, open_yard, until

from ingestlab.core.jobs import QueueSnapshot
from ingestlab.core.settings import Settings
from ingestlab.queue import submit
from ingestlab.queue.arrival.refusals import Refused, keep
from ingestlab.queue.arrival.status import ListenerStatus
from ingestlab.queue.rates import MEASURES, SPAN, Rates
from ingestlab.queue.rq.serializer import JOB_FUNCTION
from ingestlab.stack import valkey as server
from ingestlab.stack.dashboard import panels, preload
from ingestlab.stack.dashboard.collect import Collector, Snapshot
from ingestlab.stack.dashboard.failures import Assumption, Failure

NOW = 1_800_000_000.0
BAD = b"n,word\n" + b"".join(b"%d,%s\n" % (i, b"" if i % 10 == 0 else b"w") for i in range(100))
STRICT = """
from typing import Any
import pandera.pandas as pa
from ingestlab import Csv, Pipeline

class Row(pa.DataFrameModel):
    word: Any = pa.Field()

PIPELINE = Pipeline(reader=Csv(columns={"n": "int64", "word": "string"}), contract=Row)
"""


def seen(collector: Collector, condition: Callable[[Snapshot], bool], what: str, seconds: float = 30) -> Snapshot:
    """Looks until a snapshot is as wanted."""

    def look() -> Snapshot | None:
        collector.look()
        found = collector.latest()
        return found if condition(found) else None

    return until(look, seconds, what)


def ran(rates: Rates, **done: int) -> dict[str, int]:
    """What the history has in all."""
    history = rates.history()
    return {name: round(history.total(name), 6) for name in done}


# --- rates -----------------------------------------------------------------------------------------------------------


def test_work_is_spread_over_the_time_in_which_it_was_done():
    rates = Rates()
    rates.advance(NOW)
    rates.follow("a", NOW - 10.5, NOW - 0.5, {"rows": 100})
    found = rates.history().counts["rows"]
    np.testing.assert_allclose(found[-10:-1], 10)
    np.testing.assert_allclose([found[-11], found[-1]], 5)
    assert found.sum() == pytest.approx(100)


def test_to_be_told_the_same_twice_counts_once():
    rates = Rates()
    rates.advance(NOW)
    for began in (NOW - 9, NOW - 9, NOW - 8.99):  # RQ notes a start twice, a moment apart
        rates.follow("a", began, NOW - 2, {"files": 3, "rows": 30})
    rates.follow("a", NOW - 9, NOW - 1, {"files": 5, "rows": 50})
    assert ran(rates, files=5, rows=50) == {"files": 5, "rows": 50}


def test_a_retry_and_a_later_run_of_the_same_job_are_work_again():
    rates = Rates()
    rates.advance(NOW)
    rates.follow("a", NOW - 60, NOW - 50, {"rows": 10})
    rates.follow("a", NOW - 40, NOW - 30, {"rows": 10})  # again from the start, and as far
    rates.follow("a", NOW - 29.5, NOW - 20, {"rows": 4})  # at once, and not yet as far
    assert ran(rates, rows=0) == {"rows": 24}


def test_what_is_older_than_the_ring_is_forgotten():
    rates = Rates()
    rates.advance(NOW)
    rates.follow("old", NOW - 2 * SPAN, NOW - SPAN - 5, {"rows": 7})
    rates.follow("half", NOW - SPAN - 99, NOW - SPAN + 101, {"rows": 200})
    assert ran(rates, rows=0)["rows"] == pytest.approx(100, abs=1)
    rates.advance(NOW + 50)
    assert ran(rates, rows=0)["rows"] == pytest.approx(50, abs=1)
    rates.advance(NOW + 3 * SPAN)
    assert ran(rates, rows=0)["rows"] == 0


def test_another_machines_clock_may_be_ahead():
    rates = Rates()
    rates.advance(NOW)
    rates.follow("a", NOW + 30, NOW + 40, {"rows": 7})
    rates.advance(NOW + 1)
    assert ran(rates, rows=0) == {"rows": 7}


@pytest.mark.parametrize("width", [2, 10, 60])
@pytest.mark.parametrize("shift", [0, 1, 7])
def test_bins_are_rates_at_the_right_place(width, shift):
    rates = Rates()
    rates.advance(NOW + shift, waiting=4, running=2)
    rates.follow("a", NOW - 30, NOW, {"files": 300})
    rates.advance(NOW + shift + 1)
    bins = rates.history().binned(width, 60)
    assert {len(values) for values in bins.values()} == {60}
    assert set(np.diff(bins["x"])) == {width}
    edges = rates.history().end + bins["x"] + width / 2
    assert np.all(edges % width == 0)
    covered = np.minimum(edges, rates.history().end) - (edges - width)
    assert np.nansum(bins["files"] * covered) == pytest.approx(300)
    assert bins["waiting"][-1] == 4
    assert np.isnan(bins["waiting"][:-2]).all()


# --- reading ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def own_yard(tmp_path_factory: pytest.TempPathFactory, stack: Settings) -> Iterator[Yard]:
    """A yard without jobs of other tests, which would be counted as well."""
    with open_yard(tmp_path_factory.mktemp("dashboard"), stack.dask_scheduler) as yard:
        yield yard


@pytest.fixture
def strict(own_yard: Yard) -> Yard:
    """This yard with both workers, and a pipeline that rejects rows without a word."""
    own_yard.workers.have(2)
    own_yard.pipeline("watched", STRICT)
    return own_yard


def test_the_numbers_are_those_of_the_jobs(strict):
    collector = Collector(lambda: strict.settings)
    # A run has ended a moment before RQ lists its job so: another test's last files must not be told as ours.
    before = seen(collector, lambda s: bool(s.at) and len(s.workers) >= 2 and not s.count("running"), "idle workers")
    known = {name: before.history.total(name) for name in MEASURES}
    name = uuid.uuid4().hex  # files of an earlier try would be unchanged
    uris = [strict.file(f"{name}-{i}.csv", BAD) for i in range(12)]
    run = strict.submit(*uris, pipeline="watched", request_files=3)
    collector.look()  # amid the run, so that progress and end are told apart
    result = run.wait(PATIENCE, watch=lambda _: collector.look())

    def all_told(snapshot: Snapshot) -> bool:
        return round(snapshot.history.total("rows") - known["rows"]) >= result.tally.rows_in

    found = seen(collector, all_told, "all rows")
    told = {name: round(found.history.total(name) - known[name]) for name in MEASURES}
    assert told == {"files": 12, "rows": 1200, "rejected": 120, "bytes": 12 * len(BAD)}
    fresh = seen(Collector(lambda: strict.settings), all_told, "the same by one who comes later")
    assert {name: round(fresh.history.total(name) - known[name]) for name in MEASURES} == told
    explained = seen(collector, lambda s: s.rules.get("word:not_nullable", 0) >= 120, "rules")
    assert explained.rules["word:not_nullable"] - before.rules.get("word:not_nullable", 0) == 120
    assert found.error is None
    assert all(worker.version for worker in found.workers)


def test_waiting_jobs_are_counted_by_queue_and_tenant(strict):
    uri = strict.file("waiting.csv")
    for tenant in ("default", "acme"):
        strict.submit(uri, queue="nobody", tenant=tenant)
    strict.submit(strict.file("waiting-2.csv"), queue="nobody", tenant="acme")
    request = {"run": "r", "table": "t", "sources": [{"uri": "x"}], "tenant": "acme"}
    data = zlib.compress(json.dumps([JOB_FUNCTION, None, [request], {}]).encode())  # as other languages write it
    strict.client.hset("rq:job:foreign", mapping={"status": "queued", "data": data})
    strict.client.rpush("rq:queue:nobody", "foreign")
    try:
        snapshot = seen(Collector(lambda: strict.settings), lambda s: bool(s.at), "a look")
        queue = next(q for q in snapshot.queues if q.name == "nobody")
        assert (queue.waiting, dict(queue.tenants)) == (4, {"default": 1, "acme": 3})
        assert "ingestlab worker nobody" in panels.notes(snapshot)
    finally:
        for job in strict.client.lrange("rq:queue:nobody", 0, -1):
            strict.client.delete(b"rq:job:" + job)
        strict.client.delete("rq:queue:nobody")
        strict.client.srem("rq:queues", "rq:queue:nobody")


def test_failures_are_listed_with_their_reason_and_cure(strict):
    collector = Collector(lambda: strict.settings)
    good, gone = strict.file("good-neighbour.csv"), "file:///no/such/folder/lost.csv"
    strict.submit(good, gone).wait(PATIENCE)
    alone = strict.submit("file:///no/such/folder/alone.csv")
    alone.wait(PATIENCE)
    wanted = {gone, "file:///no/such/folder/alone.csv"}
    found = seen(collector, lambda s: wanted <= {f.what for f in s.failures}, "both failures")
    by_file = {failure.what: failure for failure in found.failures}
    assert by_file[gone].code == "not_found"
    assert "lost.csv" in by_file[gone].reason
    assert by_file[gone].fix
    assert by_file["file:///no/such/folder/alone.csv"].run == alone.id
    assert found.failed >= 2
    assert "lost.csv" in panels.failures(found)


def test_what_was_assumed_of_files_is_listed(strict):
    collector = Collector(lambda: strict.settings)
    run = strict.submit(strict.file("assumed.csv", b"id,word\n1,a\n"), pipeline=None, table="assumed")
    assert run.wait(PATIENCE).count("committed") == 1
    found = seen(collector, lambda s: [a for a in s.assumptions if a.run == run.id], "what was assumed")
    (one,) = (a for a in found.assumptions if a.run == run.id)
    assert one.what.endswith("assumed.csv")
    assert one.text == run.wait(5).outcomes[0].assumed
    assert "assumed.csv" in panels.assumptions(found)


def test_what_others_have_written_does_no_harm(redis_url):
    with redis.Redis.from_url(redis_url) as client:
        client.sadd("rq:queues", "rq:queue:odd")
        client.rpush("rq:queue:odd", "gone", "garbage")
        client.hset("rq:job:garbage", mapping={"status": "started", "meta": b"\x80\x04pickled", "data": b"?"})
        client.hset("rq:job:odd", mapping={"status": "failed", "meta": '{"progress":{"rows":"many"},"files":"x"}'})
        client.hset("rq:job:odd", mapping={"started_at": "2026-01-01T00:00:00Z", "ended_at": "2026-01-01T00:00:09Z"})
        client.zadd("rq:wip:odd", {"garbage:1": 2e9})
        client.zadd("rq:failed:odd", {"odd": 2e9})
        found = seen(Collector(lambda: Settings(redis_url=redis_url)), lambda s: bool(s.failures), "a failure")
        assert found.error is None
        assert dict(found.queues[0].tenants) == {"?": 2}
        assert "its worker left no message" in panels.failures(found)
        assert "starting" in panels.jobs(found)
        client.set("rq:queues", "no set")
        broken = Collector(lambda: Settings(redis_url=redis_url))
        broken.look()
        assert "WRONGTYPE" in panels.notes(broken.latest())


def test_a_look_is_cheap(strict):
    for i in range(3):
        strict.submit(strict.file(f"cheap-{i}.csv")).wait(PATIENCE)
    collector = Collector(lambda: strict.settings)
    costs = []
    for _ in range(15):
        collector.look()
        costs.append(collector.latest().cost)
    assert statistics.median(costs) < 0.02  # seconds of CPU; some 3 ms on a quiet machine


# --- Redis away ------------------------------------------------------------------------------------------------------


def test_it_says_that_redis_is_away_and_recovers(tmp_path):
    (tmp_path / "redis").mkdir()
    with server.serve(tmp_path / "redis") as url:
        settings = Settings(redis_url=url)
        secret = url.split(":")[2].split("@")[0]
        collector = Collector(lambda: settings)
        assert seen(collector, lambda s: s.error is None and s.at > 0, "a look").server == settings.redis_shown
    collector.look()
    away = collector.latest()
    assert "Redis server at" in str(away.error)
    assert away.at > 0, "the last numbers stay"
    page = panels.header(away) + panels.notes(away)
    assert "numbers of" in page
    assert secret not in page
    (tmp_path / "again").mkdir()
    with server.serve(tmp_path / "again") as url:
        settings = Settings(redis_url=url)
        assert seen(collector, lambda s: s.error is None, "recovery").server == settings.redis_shown


@pytest.mark.parametrize(
    ("settings", "says"),
    [({}, "REDIS_URL"), ({"redis_url": "gopher://:secret@x:1"}, "Redis URL"), ({"redis_url": "redis://:no@H"}, "word")],
)
def test_wrong_settings_are_said_without_the_password(settings, says, redis_url, monkeypatch):
    host = redis_url.rpartition("@")[2]
    known = {name: value.replace("H", host) for name, value in settings.items()}
    collector = Collector(lambda: Settings(**known))
    collector.look()
    page = panels.header(collector.latest()) + panels.notes(collector.latest())
    assert says in page
    assert "secret" not in page


def test_a_redis_that_never_answers_holds_nobody_up():
    with socket.create_server(("127.0.0.1", 0)) as mute:
        collector = Collector(lambda: Settings(redis_url=f"redis://127.0.0.1:{mute.getsockname()[1]}/0"))
        began = time.perf_counter()
        for _ in range(100):
            collector.latest()
        assert time.perf_counter() - began < 10, "to wait for an answer takes seconds each time"
        until(lambda: collector.latest().error, 10, "that Redis is away")
        collector.close()


def test_nothing_is_read_while_nobody_looks(redis_url):
    collector = Collector(lambda: Settings(redis_url=redis_url))
    until(lambda: collector.latest().at, 10, "a look")
    at = collector._snapshot.at
    time.sleep(2.5)  # that nothing happens can only be waited for
    assert collector._snapshot.at == at
    until(lambda: collector.latest().at > at, 10, "a look when asked again")


# --- what it looks like ----------------------------------------------------------------------------------------------


def test_what_comes_from_redis_is_escaped():
    evil = "<script>alert(1)</script>"
    failure = Failure(NOW, evil, evil, evil, evil, 3, evil, evil, evil)
    counts = dict.fromkeys(("running", "retrying", "finished", "failed", "canceled"), 1)
    queue = QueueSnapshot(evil, 5, counts, (), (), (), {}, {evil: 5})
    snapshot = Snapshot(
        at=NOW,
        server=evil,
        home_queue=evil,
        queues=(queue,),
        rules={evil: 1},
        failures=(failure,),
        tenants=(evil,),
        assumptions=(Assumption(NOW, evil, evil, evil),),
        listeners=(listener(name=evil, address=evil, host=evil, error=evil, sync=evil, answer=0, error_at=NOW),),
        refused=(Refused(at=NOW, tenant=evil, address=evil, reason=evil, tries=1, body=evil),),
        refusals=1,
    )
    parts = ("header", "notes", "cards", "queues", "jobs", "workers", "rejects", "failures", "assumptions")
    page = "".join(getattr(panels, part)(snapshot) for part in (*parts, "listeners", "refused"))
    assert evil not in page
    assert "&lt;script&gt;" in page


def listener(**fields: object) -> ListenerStatus:
    now = time.time()
    given = {"name": "listener-1", "host": "h", "pid": 1, "address": "sqs://q", "tenant": "default", "answer": now}
    return ListenerStatus(**{**given, "since": now, "beat": now, "every": 5.0, **fields})


def test_listeners_are_shown_with_their_lag_and_what_is_wrong(redis_url):
    with redis.Redis.from_url(redis_url) as client:
        client.hset("ingestlab:listeners", "a", listener(waiting=1234, refused=2).model_dump_json())
        dead = listener(address="sqs://dead", beat=time.time() - 60, folders=["s3://b"])
        client.hset("ingestlab:listeners", "b", dead.model_dump_json())
        keep(
            Refused(at=time.time(), tenant="default", address="sqs://q", reason="not JSON", tries=1, body="hi"),
            60,
            client,
        )
    snapshot = seen(Collector(lambda: Settings(redis_url=redis_url)), lambda s: bool(s.at), "a look")
    text = panels.listeners(snapshot)
    for words in ("1,234 waiting, no event yet", "gone since", "no folder is named", "<span class=red>2</span>"):
        assert words in text
    assert all(words in panels.refused(snapshot) for words in ("not JSON", "hi", "sqs://q"))
    assert panels.listeners(replace(snapshot, listeners=())) == panels.refused(replace(snapshot, refused=())) == ""


def test_an_empty_system_says_what_to_do(redis_url):
    settings = Settings(redis_url=redis_url, samples="http://127.0.0.1:1", queue="lessons")
    snapshot = seen(Collector(lambda: settings), lambda s: bool(s.at), "a look")
    text = panels.notes(snapshot)
    assert "ingestlab submit http://127.0.0.1:1/flights/" in text
    assert "ingestlab worker lessons" in text
    assert not panels.notes(replace(snapshot, at=0.0)), "before the first look nobody knows"


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (0.25, "0.2"), (9, "9"), (45.6, "46"), (3400, "3.4 k"), (12_345_678, "12.3 M")]
)
def test_numbers_are_short(value, text):
    assert panels.short(value) == text


# --- its place in the dashboard --------------------------------------------------------------------------------------


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=60) as answer:
        assert answer.status == 200
        return answer.read().decode()


def shown(url: str) -> dict[str, str]:
    """The panels' texts, as a reader who opens the page gets them."""
    session = pull_session(url=url)
    try:
        return {str(i): div.text for i, div in enumerate(session.document.select({"type": Div}))}
    finally:
        session.close()


def test_the_stacks_dashboard_has_the_page(stack):
    base = str(stack.dask_dashboard).removesuffix("/status")
    assert 'href="ingest"' in get(f"{base}/status"), "in the navigation bar"
    assert 'href="ingest"' in get(f"{base}/ingest")
    assert json.loads(get(f"{base}/individual-plots.json"))["Individual Ingest"] == "/individual-ingest"
    assert "navbar" not in get(f"{base}/individual-ingest")
    secret = str(stack.redis_password)
    for route in ("ingest", "individual-ingest"):
        text = until(lambda route=route: "".join(shown(f"{base}/{route}").values()), 10, "a page")
        assert secret not in text
    until(lambda: stack.redis_shown in "".join(shown(f"{base}/ingest").values()), 20, "where it reads from")


@pytest.mark.slow("long work")
def test_a_real_scheduler_loads_it_alike(tmp_path, redis_url):
    with scheduler(tmp_path, REDIS_URL=redis_url) as base:
        until(lambda: "Nothing has been ingested yet" in "".join(shown(f"{base}/ingest").values()), 20, "numbers")
        assert 'href="ingest"' in get(f"{base}/status")
    assert "Traceback" not in (tmp_path / "log").read_text()


@pytest.mark.slow("long work")
def test_a_scheduler_that_knows_no_redis_says_so(tmp_path):
    with scheduler(tmp_path) as base:
        until(lambda: "set REDIS_URL" in "".join(shown(f"{base}/ingest").values()), 20, "what to do")


class Other:
    """A scheduler of whom distributed remembers no pages yet."""

    jupyter = False


def test_the_insides_of_distributed_are_as_we_know_them():
    assert {*preload.INGEST, preload.RUNS} <= set(dask_pages.applications)
    other = Other()
    pages = dask_pages.template_variables(other)["pages"]
    assert pages[0] == preload.AFTER
    assert dask_pages.template_variables(other)["pages"] is pages, "it must be remembered, or we add to nothing"
    preload.dask_setup(other)
    preload.dask_setup(other)
    assert pages[:4] == ["status", "ingest", "runs", "tables"]
    assert (pages.count("ingest"), pages.count("runs")) == (1, 1)
    assert {"url": "individual-ingest", "name": "Ingest"} in dask_pages.template_variables(other)["plots"]


def test_another_distributed_gets_a_warning_and_no_crash(monkeypatch, caplog):
    monkeypatch.setattr(dask_pages, "template_variables", lambda _: {"pages": ["status"]})  # forgets each time
    preload.dask_setup(Other())
    monkeypatch.setattr(dask_pages, "template_variables", lambda _: {"pages": ("status",)})
    preload.dask_setup(Other())
    monkeypatch.delattr(dask_pages, "template_variables")
    preload.dask_setup(Other())
    monkeypatch.delattr(dask_pages, "applications")
    assert not preload.register()
    assert len(caplog.records) == 4
    assert all("Ingest page is missing" in record.getMessage() for record in caplog.records)


# --- in a browser ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [820, 960, 1180, 1400])
def test_dasks_bar_lies_over_nothing_of_the_page(stack, browser, width):
    page = browser.new_page(viewport={"width": width, "height": 700})
    page.goto(str(stack.dask_dashboard).replace("/status", "/ingest"))
    page.wait_for_selector(".card[data-key=rows] .value")
    page.wait_for_function("document.querySelector('.navbar').getBoundingClientRect().height < 60")
    page.close()


def test_a_reader_sees_moving_numbers_while_a_run_goes_on(stack, tmp_path, browser):
    for i in range(300):
        (tmp_path / f"moving-{i:03}.csv").write_bytes(b"n,word\n" + b"%d,w\n" % i * 2000)
    page = browser.new_page(viewport={"width": 1400, "height": 1000})
    troubles: list[str] = []
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.goto(str(stack.dask_dashboard).replace("/status", "/ingest"))
    page.wait_for_selector(".card[data-key=rows] .value")

    def card(key: str, part: str = "value") -> str:
        return page.locator(f".card[data-key={key}] .{part}").inner_text()

    def at_rest() -> bool:
        page.wait_for_timeout(100)
        return (card("running"), card("rows")) == ("0", "0")

    chosen = stack.model_copy(update={"request_files": 4})
    until(at_rest, 20, "what earlier tests have left to be done")
    before, seen_rates, seen_waiting = card("files", "more"), set(), set()
    for again in range(20):  # a fast machine runs through 300 files before the second look
        run = submit(str(tmp_path / "*.csv"), table="moving", settings=chosen, force=bool(again))
        while run.progress().state not in ("finished", "failed"):
            seen_rates.add(card("rows"))
            seen_waiting.add(card("waiting"))
            page.wait_for_timeout(100)
        assert run.result().count("committed") == 300
        if len(seen_rates) > 3 and len(seen_waiting) > 3:
            break
    screenshot(page, "ingest", tmp_path)
    assert len(seen_rates) > 3, "rows a second move"
    assert len(seen_waiting) > 3, "the queue gets shorter"
    until(at_rest, 20, "rest")
    after = card("files", "more")
    assert after != before
    assert page.locator("canvas").count() >= 4, "charts"
    page.reload()
    page.wait_for_selector(".card[data-key=rows] .value")
    assert card("files", "more") == after
    assert not troubles
