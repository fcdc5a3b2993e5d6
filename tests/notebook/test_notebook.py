"""Lab, its runs and its tables as people have them in a notebook; and the mistakes that students make there."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import time
import urllib.request
from datetime import datetime
from pathlib import Path

import pandas as pd
import pytest
import redis
from support.kernel import Kernel, kernel
from support.servers import Server
from support.workers import CONTENT, PATIENCE, Yard, environment, environment_of, until

from ingestlab.core.errors import IngestError, TerminalError, TransientError
from ingestlab.core.models import Outcome, Progress
from ingestlab.core.settings import Settings
from ingestlab.notebook import Lab, LabRun, links
from ingestlab.notebook.charts import Summary, draw
from ingestlab.notebook.progress import View, Watcher
from ingestlab.queue.arrival.status import ListenerStatus
from ingestlab.queue.results import RunResult
from ingestlab.stack.valkey import free_port

CHECKED = """
from typing import Any

import pandera.pandas as pa
from ingestlab import Aggregate, Csv, Pipeline


class Contract(pa.DataFrameModel):
    n: Any = pa.Field(lt=90)


PIPELINE = Pipeline(
    reader=Csv(columns={"n": "int64", "word": "string"}),
    contract=Contract,
    aggregates={"by_word": Aggregate(by=["word"], measures={"rows": "count", "most": ("n", "max")})},
)
"""
ODD = """
from ingestlab import Csv, Pipeline


class Odd(Csv):
    def split(self, *rest):
        return 1 / 0


PIPELINE = Pipeline(reader=Odd(columns={"n": "int64"}))
"""


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def lab_of(settings: Settings, **overrides: object) -> Lab:
    """A Lab on a test's servers, which count as those that the settings name."""
    names = ("home", "redis_url", "dask_scheduler", "pipelines", "tenants", "beat", "retry_delays", "fetch_attempts")
    return Lab(**{name: getattr(settings, name) for name in names} | overrides)


@pytest.fixture
def lab(ready: Yard) -> Lab:
    ready.pipeline("checked", CHECKED)
    return lab_of(ready.settings)


# The card


def test_the_card_of_the_embedded_stack_says_what_answers(stack):
    plain = repr(lab := Lab(home=stack.home))
    assert stack.redis_shown in plain
    assert stack.redis_password not in plain + lab._repr_html_()
    assert "2 workers" in next(line for line in plain.splitlines() if " ingest " in line)
    assert "2 workers" in next(line for line in plain.splitlines() if "tcp://" in line)
    assert stack.dask_dashboard in plain
    assert "!" not in plain
    page = lab._repr_html_()
    assert "embedded stack" in page
    assert f"href='{stack.dask_dashboard}'" in page, "outside of a notebook the address is what it is"


def test_the_card_says_that_nobody_listens_and_what_to_do(settings, redis_url):
    lab = Lab(home=settings().home, redis_url=redis_url, queue="quiet")
    assert "no worker" in repr(lab)
    assert "No worker listens on quiet" in lab._repr_html_()
    assert "ingestlab worker" in lab._repr_html_()


def test_the_card_of_servers_that_are_away_is_shown(settings):
    lab = Lab(home=settings().home, redis_url="redis://:secret@127.0.0.1:1/0", milvus_uri="http://127.0.0.1:1")
    assert repr(lab).count("does not answer") == 3
    assert "lab = Lab()" in lab._repr_html_()
    assert "secret" not in repr(lab) + lab._repr_html_()


def test_all_queues_with_something_on_them_are_on_the_card(lab, yard):
    other = lab.submit(yard.file("on-other.csv"), queue="other", pipeline="plain")
    try:
        assert "other - 1 waiting" in repr(lab)
    finally:
        assert other.cancel() == 1


def test_listeners_are_on_the_card_with_what_waits(settings, redis_url):
    now = time.time()
    about = {"name": "listener-1", "host": "h", "pid": 1, "tenant": "default", "since": now, "every": 5.0}
    with redis.Redis.from_url(redis_url) as client:
        for address, beat in (("sqs://alarms", now), ("sqs://dead", now - 60)):
            status = ListenerStatus(address=address, beat=beat, waiting=5, **about)
            client.hset("ingestlab:listeners", address, status.model_dump_json())
    lab = Lab(home=settings().home, redis_url=redis_url)
    assert "sqs://alarms - 5 waiting, no event yet" in repr(lab)
    assert "sqs://dead - gone since" in repr(lab)
    assert "gone since" in lab._repr_html_()


# Links


@pytest.fixture(scope="module")
def jupyter(tmp_path_factory):
    """A real Jupyter server under a path, with the proxy; gives the environment of its kernels."""
    pytest.importorskip("jupyter_server_proxy", reason="the extra `lab` is not installed")
    folder = tmp_path_factory.mktemp("jupyter")
    env = environment(JUPYTER_RUNTIME_DIR=str(folder), JUPYTER_CONFIG_DIR=str(folder / "config"))
    options = (
        "--no-browser",
        "--allow-root",
        "--ip=127.0.0.1",
        f"--port={free_port()}",
        "--ServerApp.base_url=/user/ann/",
    )
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen([sys.executable, "-m", "jupyter_server", *options], env=env, stdout=log, stderr=log)
    try:
        file = folder / f"jpserver-{server.pid}.json"
        until(lambda: file.exists() or server.poll(), 40, "a Jupyter server")
        assert file.exists(), (folder / "log").read_text()
        yield {"JUPYTER_RUNTIME_DIR": str(folder), "JPY_PARENT_PID": str(server.pid)}
    finally:
        server.kill()  # it has started nothing, and takes its time to say goodbye
        server.wait(PATIENCE)


@pytest.mark.slow("long work")
def test_a_link_goes_through_the_jupyter_server_and_arrives(jupyter, monkeypatch, yard):
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", jupyter["JUPYTER_RUNTIME_DIR"])
    info = json.loads(Path(jupyter["JUPYTER_RUNTIME_DIR"], f"jpserver-{jupyter['JPY_PARENT_PID']}.json").read_text())
    until(lambda: listens(info["port"]), 20, "the server to listen")
    assert links.proxy_base(jupyter) == "/user/ann/"
    page = f"http://127.0.0.1:{info['port']}/user/ann/proxy/{yard.server.port}/files/a.csv"
    request = urllib.request.Request(page, headers={"Authorization": f"token {info['token']}"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert answer.read() == CONTENT


def test_a_server_without_the_proxy_passes_nothing_on(tmp_path, monkeypatch, yard):
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path))
    info = {"url": yard.server.url("/"), "base_url": "/", "token": "t"}
    (tmp_path / "jpserver-7.json").write_text(json.dumps(info))
    assert links.proxy_base({"JPY_PARENT_PID": "7", "JUPYTERHUB_SERVICE_PREFIX": "/user/ann/"}) is None
    assert links.proxy_base({}) is None


# Watching, in a real kernel


@pytest.fixture(scope="module")
def live(yard, tmp_path_factory):
    """A kernel with a Lab on the yard."""
    yard.workers.have(2)
    env = {**environment(), **environment_of(yard.settings)}
    env.pop("JPY_PARENT_PID", None)
    with kernel(tmp_path_factory.mktemp("kernel"), env) as found:
        found.cell("from ingestlab import Lab\nlab = Lab()")
        yield found


def text(outputs: list[dict[str, object]]) -> str:
    return "\n".join(str(o.get("text") or o.get("data", {}).get("text/plain") or o.get("traceback")) for o in outputs)


def test_a_run_is_one_display_whose_end_says_all(live: Kernel, yard: Yard):
    outputs = live.cell(f"run = lab.submit({yard.file('plain-shown.csv')!r})\nrun.watch()")
    (shown,) = [o for o in outputs if "data" in o]
    assert set(shown["data"]) == {"text/html", "text/plain"}
    assert "finished, 1/1 file, " in shown["data"]["text/plain"]
    assert "100 rows" in shown["data"]["text/plain"]
    assert "finished" in shown["data"]["text/html"]
    assert " left" not in shown["data"]["text/html"]
    later = live.cell("run")
    assert "finished, 1/1 file" in text(later), "in another cell it shows itself"


@pytest.mark.slow("long work")
def test_an_interrupted_watch_does_not_hurt_the_run_and_a_restarted_kernel_finds_it(live: Kernel, yard: Yard):
    with Server({"plain-held.csv": CONTENT}) as slow:
        uri = slow.url("/held/plain-held.csv")
        cell = live.begin(f"run = lab.submit({uri!r}, pipeline='plain')\nrun.watch()")
        live.outputs(cell, seen="fetching")
        live.interrupt()
        outputs = live.outputs(cell, seen="No longer watched")
        assert "the run goes on" in text(outputs)
        assert not [o for o in outputs if "ename" in o], "no traceback"
        run = text(live.cell("print(run.id)")).strip()
        live.restart()
        live.cell("from ingestlab import Lab\nlab = Lab()")
        assert run in text(live.cell("lab.runs().to_string()"))
        assert "follows it" in text(live.cell("lab.run()")), "the latest run"
        cell = live.begin(f"run = lab.run({run!r}).watch()")
        live.outputs(cell, seen="fetching")
        slow.release()
        live.outputs(cell, seen="finished")
    assert "committed" in text(live.cell("print(lab.run().files.status[0])"))


def test_links_in_a_kernel_go_where_its_page_is(live: Kernel):
    live.cell("from ingestlab.notebook.links import reachable\nhub = {'JUPYTERHUB_SERVICE_PREFIX': '/user/ann/'}")
    ask = "print(reachable('http://127.0.0.1:8787/status', {}), reachable('http://10.0.0.5:8787/status', hub),"
    answers = text(live.cell(f"{ask} reachable('http://127.0.0.1:8787/status', hub))")).split()
    assert answers[:2] == ["http://127.0.0.1:8787/status", "http://10.0.0.5:8787/status"]
    assert answers[2] == "/user/ann/proxy/8787/status"
    passed_on = "print(reachable('http://scheduler:8787/status', hub, ['scheduler']))"
    assert text(live.cell(passed_on)).strip() == "/user/ann/proxy/scheduler:8787/status"
    live.cell("__vsc_ipynb_file__ = 'a.ipynb'")
    assert text(live.cell("print(reachable('http://127.0.0.1:8787/status', hub))")).strip().startswith("http://127")
    live.cell("del __vsc_ipynb_file__")


def test_an_error_in_a_cell_is_a_few_lines_that_help(live: Kernel):
    (error,) = live.cell("lab.submit('plain-x.csv', pipeline='plian')")
    assert [line.split()[0] for line in error["traceback"]] == ["problem", "expected", "got", "do", "code"]
    assert "Did you mean 'plain'?" in error["traceback"][-2]
    assert "TerminalError" not in "".join(error["traceback"])


def test_a_slow_call_shows_its_seconds_and_a_quick_one_nothing(live: Kernel):
    assert live.cell("from threading import Event\nfrom ingestlab.notebook.stopwatch import stopwatch") == []
    assert live.cell('with stopwatch("lab.check()", after=60): pass') == []
    message = live.begin('with stopwatch("lab.check()", after=0) as add: add("read"); Event().wait()')
    (shown,) = live.outputs(message, seen="lab.check() runs … 1 s: read")
    live.interrupt()
    live.outputs(message)
    assert re.fullmatch(r"lab\.check\(\) took \d s: read", shown["data"]["text/plain"])
    assert shown["data"]["text/plain"] in shown["data"]["text/html"]


# A student's mistakes in a kernel


def test_a_cell_that_is_run_before_those_above_it_is_told_so(live: Kernel, yard: Yard):
    live.cell("from ingestlab.teaching import check")
    (error,) = live.cell("print(1)\nanswers['x']")[1:]
    assert error["ename"] == "NameError"
    assert [line.split()[0] for line in error["traceback"]] == ["NameError:", "problem", "do"]
    assert "'answers'" in error["traceback"][1]
    assert "Run All Above Selected Cell" in error["traceback"][-1]
    (typo,) = live.cell("def inside():\n    return lba\n\ninside()")
    assert "Did you mean 'lab'?" in typo["traceback"][-1]


def test_errors_that_are_nobody_s_order_are_shown_as_ever(live: Kernel, yard: Yard):
    live.cell("from ingestlab.teaching import check")
    for code in ("def f():\n    x += 1\n\nf()", "exec('nothing', {})", "1 / 0"):
        (error,) = live.cell(code)
        assert not any("Run All Above" in line for line in error["traceback"]), code
        assert any("Traceback" in line for line in error["traceback"]), code


def test_an_interrupted_start_of_a_worker_leaves_none_behind(live: Kernel, yard: Yard):
    live.cell("from ingestlab.teaching import start_worker\nimport psutil")
    cell = live.begin("display('begun')\nworker = start_worker('night')")
    live.outputs(cell, seen="begun")
    live.interrupt()
    *_, error = live.outputs(cell)
    assert error["ename"] == "KeyboardInterrupt"
    alive = "[p.pid for p in psutil.Process().children() if 'ingestlab.queue.worker' in p.cmdline()]"
    assert text(live.cell(f"print({alive})")).strip() == "[]"


# What a run tells


def test_rejects_log_and_files_of_one_run(lab, yard):
    first = lab.submit(yard.file("checked-1.csv"), pipeline="checked").watch(30)
    second = lab.submit(yard.file("checked-2.csv"), pipeline="checked").watch(30)
    assert isinstance(second, LabRun)
    rejects = second.rejects()
    assert len(rejects) == 10
    assert set(rejects["table"]) == {"checked"}
    assert set(rejects["run"]) == {second.id} != {first.id}
    assert len(second.rejects(rule="no_such_rule")) == 0
    lines = str(second.log()).splitlines()
    assert [line.split()[1] for line in lines[1:]] == ["queued", "begun", "finished"]
    assert "1 committed" in lines[-1]
    assert repr(second.log()) == str(second.log())
    assert second.files["rejected"].to_list() == [10]
    assert "rejected by n:less_than 10" in repr(second)


def test_a_run_of_a_file_that_fails_says_which_and_why_and_can_be_tried_again(lab, yard):
    uri = yard.file("late.csv")
    (yard.folder / "late.csv").unlink()
    run = lab.submit([uri, yard.file("there.csv")], pipeline="plain").watch(30)
    assert [o.uri for o in run.failures()] == [uri]
    assert "✗ late.csv: File not found" in repr(run)
    assert "late.csv" in run._repr_html_()
    assert "failed      late.csv" in str(run.log())
    yard.file("late.csv")
    assert run.retry() == 1
    assert lab.run(run.id).watch(30).result().failed == ()


def test_a_file_that_fails_is_told_while_its_neighbours_are_at_work(lab, yard):
    with Server({"plain-held.csv": CONTENT}) as slow:
        run = lab.submit([slow.url("/files/plain-none.csv"), slow.url("/held/plain-held.csv")], pipeline="plain")
        (failure,) = until(lambda: run.progress().failures, 20, "a failure")
        assert run.progress().state == "fetching"
        assert run.failures() == (failure,)
        for form in (repr(run), run._repr_html_(), str(run.log())):
            assert "plain-none.csv" in form
            assert "404" in form
        until(lambda: "fetching    1 of 2 files" in str(run.log()), 20, "the file that failed to be counted")
        slow.release()
        assert [o.uri for o in run.watch(30).result().failed] == [failure.uri]
    assert repr(run).count("✗") == 1
    assert lab.runs().set_index("run")["failed"][run.id] == 1


def test_the_log_has_the_traceback_of_an_error_that_nobody_has_foreseen(lab, yard):
    yard.pipeline("odd", ODD)
    log = str(lab.submit(yard.file("odd.csv"), pipeline="odd").watch(30).log())
    assert "run.log() and the worker's log" in log
    assert log.count("Traceback") == 1
    assert log.splitlines()[-1].strip() == "ZeroDivisionError: division by zero"
    assert "odd.py" in log


def test_of_many_failed_files_the_first_are_told_and_the_others_counted(lab, yard):
    run = lab.submit([f"{yard.folder}/none-{n}.csv" for n in range(8)], pipeline="plain").watch(30)
    assert run.progress().failed == 8
    assert len(run.progress().failures) == 5
    assert repr(run).count("✗") == 5
    assert "and 3 more failed files: run.files" in repr(run)
    assert len(run.failures()) == 8


def test_a_run_that_waits_can_be_cancelled_and_says_so(lab, yard):
    run = lab.submit(yard.file("waits.csv"), pipeline="plain", queue="nobody")
    with pytest.raises(TransientError, match=r"run\.watch\(\)"):
        run.result()
    with pytest.raises(TransientError, match="It goes on"):
        run.watch(timeout=0.3)
    assert "lab.run(" in repr(run)
    assert run.cancel() == 1
    assert run.progress().state == "cancelled"


def test_what_a_page_shows_is_escaped_and_complete():
    bad = Outcome(uri="file:///<b>.csv", status="failed", error=TerminalError("<i>", "a & b", "Do <c>.").to_dict())
    good = Outcome(uri="file:///a.csv", status="committed", table="t")
    counts = {"tally": {}, "rules": {"n:lt": 3}, "parquet_bytes": 1, "tables": ("t",), "seconds": {}}
    result = RunResult.model_validate({"run": "r", "state": "finished", "outcomes": (good, bad), **counts})
    progress = Progress(state="finished", files=2, files_done=2, rows=1234, rejected=3, failed=1, bytes=5_000_000)
    view = View("r", progress, seconds=130, rate=9.4, result=result)
    for form in (view.html(), view.plain()):
        assert all(word in form for word in ("1,234 rows", "5.0 MB", "3 rejected", "2 min", "n:lt 3", "in table t"))
    assert "&lt;b&gt;.csv" in view.html()
    assert not {"<i>", "<c>", "<b>.csv"} & set(view.html().split())
    going = View("r", Progress(state="processing", files=4, files_done=1, share=0.43), seconds=8, left=12)
    assert "about 12 s left" in going.plain()
    assert "width:43.0%" in going.html()


class Seen(Watcher):
    """Keeps what is shown."""

    def show(self, view: View, *, last: bool = False) -> None:
        super().show(view, last=last)
        self.views = [*getattr(self, "views", []), view]


def test_a_run_that_is_watched_late_shows_its_own_time():
    watcher = Seen("r")
    watcher(Progress(state="queued", files=2))
    watcher(Progress(state="processing", files=2, share=0.5, began=time.time() - 240))
    empty = {"outcomes": (), "tally": {}, "rules": {}, "parquet_bytes": 1, "tables": (), "seconds": {}}
    watcher.end(RunResult.model_validate({"run": "r", "state": "finished", "began": 50, "ended": 350, **empty}))
    waits, runs, ended = (view.plain() for view in watcher.views)
    assert " s" not in waits.partition(":")[2]
    assert "4 min, about 4 min left" in runs
    assert "5 min" in ended


def test_how_much_is_done_grows_with_every_step(lab, yard):
    seen: list[Progress] = []
    lab.submit(yard.file("share.csv"), pipeline="plain").wait(30, seen.append)
    shares = [p.share for p in seen]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


# Tables and aggregates


def test_a_table_shows_its_columns_size_and_last_run(lab, yard):
    run = lab.submit(yard.file("table.csv"), pipeline="checked", force=True).watch(30)
    table = lab.table("checked")
    for form in (repr(table), table._repr_html_()):
        assert all(word in form for word in ("checked", "word", "int64", f"{table.rows:,} rows", run.id))
    frames = (table.pandas(), table.dask().compute(), table.polars().to_pandas(), table.duckdb().df())
    assert {len(frame) for frame in frames} == {table.rows}


def test_an_aggregate_is_a_frame_with_a_chart(lab, yard):
    lab.submit(yard.file("chart.csv"), pipeline="checked").watch(30)
    found = lab.aggregate("checked", "by_word")
    assert isinstance(found, pd.DataFrame)
    assert found.attrs["keys"] == ["word"]
    page = found._repr_html_()
    assert page.index("<svg") < page.index("<table")
    assert "currentColor" in page
    assert type(found.groupby("word")["rows"].sum().to_frame()) is pd.DataFrame
    assert "<svg" not in (found[found["rows"] < 0]._repr_html_() or ""), "a part of it is a plain frame"


def test_times_are_lines_names_are_bars_and_nothing_is_nothing():
    hours = [datetime(2024, 5, 1, hour) for hour in range(4)] * 2
    frame = pd.DataFrame({"site": list("aaaabbbb"), "hour": hours, "n": range(8), "mean": [0.5] * 8, "what": "x"})
    lines = draw(frame, ["site", "hour"])
    assert lines.count("#3f87c6") >= 2, "a line in each panel"
    assert ">site<" in lines
    assert ">what<" not in lines, "text is no measure"
    assert "2024" in lines
    assert ">a · 2024" not in lines
    assert ">b<" in draw(frame.head(8), ["site"])
    assert draw(frame.head(1), ["site"]) == draw(frame, []) == draw(frame[["site"]], ["site"]) == ""
    arrow = frame.convert_dtypes(dtype_backend="pyarrow")
    arrow.loc[0, "n"] = None
    arrow.loc[1, "site"] = None
    assert "<svg" in draw(arrow, ["site", "hour"])
    assert "none" in draw(arrow, ["site"])
    assert Summary(frame)._repr_html_().startswith("<div>"), "without keys it is the table alone"


# A student's mistakes


def test_the_same_cell_twice_does_nothing_twice_and_says_so(lab, yard):
    uri = yard.file("twice.csv")
    lab.submit(uri, pipeline="plain").watch(30)
    again = lab.submit(uri, pipeline="plain").watch(30)
    assert again.files["status"].to_list() == ["unchanged"]
    assert "nothing was done" in repr(again)
    assert "force=True" in again._repr_html_()


@pytest.mark.parametrize(
    ("name", "ask"),
    [
        ("checked", lambda lab: lab.table("cheked")),
        ("checked", lambda lab: lab.submit("x.csv", pipeline="Chekced")),
        ("by_word", lambda lab: lab.aggregate("checked", "by_words")),
        ("plain", lambda lab: lab.check("plian", "x.csv")),
    ],
)
def test_a_typo_is_answered_with_the_likeliest_name(lab, yard, name, ask):
    lab.submit(yard.file("typo.csv"), pipeline="checked").wait(PATIENCE)
    with pytest.raises(TerminalError) as error:
        ask(lab)
    assert f"Did you mean '{name}'?" in error.value.fix


def test_a_run_whose_id_is_mistyped_is_answered_with_the_likeliest(lab, yard):
    run = lab.submit(yard.file("id.csv"), pipeline="plain")
    run.wait(PATIENCE)
    with pytest.raises(TerminalError, match=f"Did you mean '{run.id}'"):
        lab.run(run.id[:-1])


def test_a_table_asked_for_before_anything_is_there_says_when_it_will_be(settings, redis_url):
    lab = Lab(home=settings().home, redis_url=redis_url)
    with pytest.raises(TerminalError, match=r"none yet.*when a run has published"):
        lab.table("alarms")
    with pytest.raises(TerminalError, match=r"lab\.submit\(\)"):
        lab.run()
    assert list(lab.runs().columns)[:2] == ["run", "at"]


def test_a_pipeline_that_is_no_python_is_refused_at_once_with_its_line(lab, yard):
    yard.pipeline("torn", "from ingestlab import Csv\n\nPIPELINE = Pipeline(reader=Csv(\n")
    try:
        with pytest.raises(TerminalError, match=r"SyntaxError.*torn\.py, line 3"):
            lab.submit(yard.file("torn.csv"), pipeline="torn")
    finally:
        (yard.folder / "pipelines/torn.py").unlink()


def test_an_aggregate_that_a_torn_pipeline_may_declare_is_answered_with_its_line(lab, yard):
    lab.submit(yard.file("half.csv"), pipeline="checked").watch(30)
    yard.pipeline("checked", CHECKED.replace('"by_word": Agg', '"by_letter": Agg').replace("},\n)", "},"))
    try:
        with pytest.raises(TerminalError, match=r"SyntaxError.*checked\.py, line \d+"):
            lab.aggregate("checked", "by_letter")
        assert "most" in lab.aggregate("checked", "by_word"), "the last that was declared"
    finally:
        yard.pipeline("checked", CHECKED)


def test_paths_are_taken_for_files_and_nothing_else_is(lab, yard):
    yard.file("path.csv")
    runs = [lab.submit(given, pipeline="plain") for given in (yard.folder / "path.csv", [yard.folder / "path.csv"])]
    assert [run.watch(30).result().failed for run in runs] == [(), ()]
    for wrong in (5, [yard.folder, 5], None):
        with pytest.raises(TerminalError, match=r"the URI or path of a file, or a list of them: (int 5|NoneType)"):
            lab.submit(wrong)


def test_a_kind_of_samples_that_is_not_there_is_answered_with_the_likeliest(stack):
    with pytest.raises(TerminalError, match=r"\(bts, .*Did you mean 'weblogs'"):
        Lab(home=stack.home).samples("weblog")


def test_redis_that_is_gone_is_said_in_words_that_help(settings):
    lab = Lab(home=settings().home, redis_url="redis://127.0.0.1:1/0")
    with pytest.raises(TransientError, match=r"ingestlab up.*Lab\(\)"):
        lab.submit("file:///a.csv")


def test_an_error_tells_ipython_what_was_expected_what_came_and_what_to_do():
    lines = IngestError("a", "b", "c")._render_traceback_()
    assert [line.split() for line in lines] == [
        ["expected", "a"],
        ["got", "b"],
        ["do", "c"],
        ["code", "unknown"],
    ]
    assert len(IngestError("a", "b")._render_traceback_()) == 3


def test_a_server_of_ones_own_is_not_scaled(lab):
    with pytest.raises(IngestError, match="a running stack"):
        lab.scale(workers=3)
