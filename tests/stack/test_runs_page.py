"""The Runs page: what it shows against real runs, with Redis away too, and in a browser."""

from __future__ import annotations

import itertools
import json
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from support.workers import PATIENCE, Yard

from ingestlab.core.errors import TerminalError
from ingestlab.core.models import Outcome
from ingestlab.core.settings import Settings
from ingestlab.notebook.runner import submit_notebook
from ingestlab.queue import Run, submit
from ingestlab.stack.dashboard.runs import RunReader, Search, groups_of

EVIL = "<img src=x onerror=alert(1)>"
STRICT = """
from typing import Any
import pandera.pandas as pa
from ingestlab import Csv, Pipeline

class Row(pa.DataFrameModel):
    name: Any = pa.Field()
    m: Any = pa.Field(le=90)

PIPELINE = Pipeline(reader=Csv(columns={"m": "int64", "name": "string"}), contract=Row)
"""
NUMBERS = itertools.count()
BAD = "m,name\n" + "".join(f"{i},{'' if i % 10 == 0 else EVIL}\n" for i in range(100))


@pytest.fixture
def mixed(ready: Yard) -> Run:
    """A run with a good file, one with rejects, and two that are not there; names and values are somebody's HTML."""
    ready.pipeline("mixed", STRICT)
    number = next(NUMBERS)
    files = [ready.file(f"good{number}{EVIL}.csv", b"m,name\n1,a\n"), ready.file(f"bad{number}.csv", BAD.encode())]
    run = ready.submit(*files, "file:///no/such/a.csv", "file:///no/such/b.csv", pipeline="mixed")
    run.wait(PATIENCE)
    return run


# --- what is read ----------------------------------------------------------------------------------------------------


def test_a_line_of_the_list_says_what_the_command_line_says(ready, mixed):
    row = next(row for row in RunReader(lambda: ready.settings).list(Search()).rows if row.id == mixed.id)
    progress, result = mixed.progress(), mixed.result()
    assert (row.rows, row.rejected, row.files, row.failed) == (101, 19, 4, 2)
    told = {name: getattr(progress, name) for name in ("rows", "rejected", "files", "failed")}
    assert told == {name: getattr(row, name) for name in told}
    assert (row.kind, row.state) == ("partly failed", "finished, 2 of 4 failed")
    assert (row.started, row.pipeline, row.tables, row.tenant) == ("submit", "mixed", result.tables, "default")
    assert (row.first == mixed.record.jobs and row.first) or row.first.startswith("file:///")
    assert row.seconds is not None
    assert 0 <= row.seconds < PATIENCE


@pytest.mark.parametrize(
    ("search", "takes"),
    [
        (Search(), True),
        (Search(text="MIXED good"), True),
        (Search(text="no-such-word"), False),
        (Search(state="partly failed"), True),
        (Search(state="finished"), False),
        (Search(table="mixed", tenant="default"), True),
        (Search(table="plain"), False),
        (Search(tenant="acme"), False),
    ],
)
def test_filters_choose_runs(ready, mixed, search, takes):
    found = RunReader(lambda: ready.settings).list(search)
    assert (mixed.id in {row.id for row in found.rows}) == takes
    assert "mixed" in found.tables, "there is always all to choose among"


def test_a_page_has_errors_by_reason_and_the_first_rejects_of_each_rule(ready, mixed):
    page = RunReader(lambda: ready.settings).page(mixed.id)
    assert page is not None
    (group,) = page.groups
    assert (group.code, group.files) == ("not_found", 2)
    assert group.named == ("file:///no/such/a.csv", "file:///no/such/b.csv")
    rules = {rule.rule: rule for rule in page.rules}
    assert {name: rule.rows for name, rule in rules.items()} == mixed.result().rules
    assert [reject.row for _, reject in rules["name:not_nullable"].first] == [0, 10, 20]
    assert [reject.value for _, reject in rules["m:less_than_or_equal_to"].first] == ["91", "92", "93"]
    assert [file.status for file in page.files] == ["failed", "failed", "committed", "committed"]
    assert page.log == tuple(mixed.history())


def test_the_errors_of_many_files_are_one_group_whatever_the_files_are_called():
    same = TerminalError(
        "Pipeline 'x' does not load", got="NameError, line 22", fix="Correct it.", code="pipeline_invalid"
    )
    own = [TerminalError(f"Columns are missing in {name}.csv", got="no id", code="columns_missing") for name in "ab"]
    outcomes = [Outcome(uri=f"file:///d/{i}.csv", status="failed", error=same.to_dict()) for i in range(41)]
    outcomes += [
        Outcome(uri=f"file:///d/{n}.csv", status="failed", error=e.to_dict()) for n, e in zip("ab", own, strict=True)
    ]
    many, two = groups_of(outcomes)
    assert (many.files, many.problem, many.details) == (41, "Pipeline 'x' does not load", "NameError, line 22")
    assert len(many.named) == 20
    assert (two.files, two.problem) == (2, "Columns are missing in …")
    (alone,) = groups_of(outcomes[-1:])
    assert alone.problem == "Columns are missing in b.csv"


def test_ended_runs_are_readable_while_redis_is_away(ready, mixed):
    away = ready.settings.model_copy(update={"redis_url": "redis://:secret@127.0.0.1:1/0"})
    there, reader = RunReader(lambda: ready.settings), RunReader(lambda: away)
    found = reader.list(Search())
    assert found.trouble is not None
    assert "No answer from a Redis server at redis://127.0.0.1:1/0" in str(found.trouble)
    row = next(row for row in found.rows if row.id == mixed.id)
    known = next(row for row in there.list(Search()).rows if row.id == mixed.id)
    for name in ("rows", "rejected", "files", "failed", "state", "started", "pipeline", "tables", "first", "tenant"):
        assert getattr(row, name) == getattr(known, name), name
    page, other = reader.page(mixed.id), there.page(mixed.id)
    assert page is not None
    assert other is not None
    assert (page.groups, page.rules) == (other.groups, other.rules)
    assert reader.page("20200101-000000-abcdef") is None
    assert reader.page("../../etc/passwd") is None


# --- what is served --------------------------------------------------------------------------------------------------


def get(url: str) -> tuple[int, dict[str, str], str]:
    try:
        with urllib.request.urlopen(url, timeout=60) as answer:
            return answer.status, dict(answer.headers), answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, dict(error.headers), error.read().decode()


def base_of(settings: Settings) -> str:
    return str(settings.dask_dashboard).removesuffix("/status")


@pytest.fixture
def ended(stack: Settings, tmp_path: Path) -> Run:
    """A run of the stack that has ended, of files with names and values that are somebody's HTML."""
    (tmp_path / f"{EVIL}.csv").write_text(f"a,b\n1,{EVIL}\n")
    (tmp_path / "b.csv").touch()  # empty files fail
    run = submit([str(tmp_path / f"{EVIL}.csv"), str(tmp_path / "b.csv")], table="page", settings=stack)
    run.wait(PATIENCE)
    return run


def test_the_pages_are_beside_dasks_own_and_escape_what_they_show(stack, ended):
    base = base_of(stack)
    assert 'href="runs"' in get(f"{base}/status")[2], "in the navigation bar"
    assert json.loads(get(f"{base}/individual-plots.json")[2])["Individual Runs"] == "/individual-runs"
    for path in ("runs", "individual-runs", f"runs/{ended.id}"):
        status, headers, text = get(f"{base}/{path}")
        assert status == 200, path
        assert ended.id in text
        assert "<img" not in text
        assert "onerror=alert(1)>" not in text
        assert str(stack.redis_password) not in text
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
    assert get(f"{base}/ingest-assets/runs.css")[0] == 200
    assert get(f"{base}/ingest-assets/..%2froutes.py")[0] == 404


@pytest.mark.slow("notebook jobs")
def test_the_page_of_a_notebook_is_a_link_and_runs_no_script(stack, tmp_path):
    (tmp_path / "kept.csv").write_text("a\n1\n")
    values = {"uri": (tmp_path / "kept.csv").as_uri(), "table": "kept"}
    run = submit_notebook("run_pipeline.ipynb", values, settings=stack)
    assert run.wait(PATIENCE).state == "finished"
    page = f"{base_of(stack)}/runs/{run.id}"
    assert f'href="{run.id}/notebook"' in get(page)[2]
    status, headers, text = get(f"{page}/notebook")
    assert status == 200
    assert "kept.csv" in text
    assert headers["Content-Security-Policy"].startswith("sandbox; default-src 'none';")


def test_a_run_without_a_notebook_has_no_page_of_one(stack, ended):
    assert get(f"{base_of(stack)}/runs/{ended.id}/notebook")[0] == 404


def test_an_unknown_run_is_said_to_be_unknown(stack):
    status, _, text = get(f"{base_of(stack)}/runs/{EVIL.replace(' ', '%20').replace('<', '%3C').replace('>', '%3E')}")
    assert status == 404
    assert "Neither Redis nor the lake knows a run" in text
    assert "<img" not in text
    assert "Traceback" not in text
