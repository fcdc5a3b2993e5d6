"""Runs on the command line: the latest one, those that are asked for, their history, and what Tab completes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.commands import Say
from support.lake import World
from support.workers import environment

from ingestlab.core.settings import Settings


@pytest.fixture
def submitted(say: Say, queue: str, tmp_path: Path) -> list[str]:
    """The ids of two runs on a queue where nobody works, the latest first."""
    (tmp_path / "a.csv").write_text("id\n1\n")
    (tmp_path / "b.csv").write_text("id\n2\n")
    return [json.loads(say("submit", f"{name}.csv", "--json").stdout)["id"] for name in "ab"][::-1]


def test_without_an_id_the_latest_run_is_meant(say: Say, submitted: list[str]) -> None:
    assert say("show").stdout == f"run {submitted[0]} queued: 0/1 file, 0 rows\n"
    assert say("log").stdout.splitlines()[0] == f"run {submitted[0]}"


@pytest.mark.parametrize("command", ["show", "watch", "log"])
def test_without_any_run_it_is_said_how_to_get_one(say: Say, queue: str, command: str) -> None:
    assert "ingestlab submit" in say(command, code=1).stderr


def test_a_log_tells_when_a_run_was_queued(say: Say, submitted: list[str]) -> None:
    for run in submitted:
        head, *lines = say("log", run).stdout.splitlines()
        assert head == f"run {run}"
        assert re.fullmatch(r"\d\d:\d\d:\d\d  queued      .*", lines[0])


def test_runs_are_chosen_by_state_and_time(say: Say, submitted: list[str]) -> None:
    def ids(*args: str) -> list[str]:
        return [run["run"] for run in json.loads(say("runs", "--json", *args).stdout)]

    say("cancel", submitted[1])
    assert ids() == submitted
    assert ids("--state", "queued") == submitted[:1]
    assert ids("--state", "cancelled") == submitted[1:]
    assert ids("--since", "5m") == submitted
    assert ids("--since", "2099-01-01") == []
    assert ids("--limit", "1") == submitted[:1]
    assert say("runs", "--state", "committing").stdout == "No such runs.\n"
    say("runs", "--since", "soon", code=2)
    say("runs", "--state", "sleeping", code=2)


def test_runs_are_chosen_by_table(say: Say, stack: Settings, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id\n1\n")
    for table in ("one_of_two", "other_of_two"):
        say("submit", "a.csv", "--table", table, "--wait", "--home", stack.home)
    (found,) = json.loads(say("runs", "--table", "one_of_two", "--json", "--home", stack.home).stdout)
    assert (found["state"], found["rows"]) == ("finished", 1)


def tab(say: Say, monkeypatch: pytest.MonkeyPatch, *words: str) -> list[str]:
    """What bash is offered for the last of these words."""
    monkeypatch.setenv("_INGESTLAB_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", " ".join(["ingestlab", *words]))
    monkeypatch.setenv("COMP_CWORD", str(len(words)))
    try:
        return say().stdout.split()
    finally:
        monkeypatch.delenv("_INGESTLAB_COMPLETE")


def test_tab_completes_runs_tables_pipelines_and_rules(
    say: Say, world: World, submitted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert set(submitted) <= set(tab(say, monkeypatch, "show", ""))
    assert tab(say, monkeypatch, "cancel", submitted[0]) == [submitted[0]]
    assert tab(say, monkeypatch, "profile", "sm") == ["small"]
    assert tab(say, monkeypatch, "check", "bts") == ["bts_alarms"]
    assert "n:less_than" in tab(say, monkeypatch, "replay", "small", "--rule", "")
    assert tab(say, monkeypatch, "replay", "nothing", "--rule", "") == []


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (("n", ":", "le"), ["less_than"]),
        pytest.param(("n", ":"), ["less_than"], marks=pytest.mark.slow("all examples")),
        pytest.param(("n:le",), ["n:less_than"], marks=pytest.mark.slow("all examples")),
        pytest.param(("cl",), ["clean"], marks=pytest.mark.slow("all examples")),
    ],
)
def test_bash_completes_rules_after_the_colon_at_which_it_cuts(
    world: World, words: tuple[str, ...], offered: list[str]
) -> None:
    line = ["ingestlab", "replay", "small", "--rule", *words]
    asked = {"COMP_WORDS": "\n".join(line), "COMP_CWORD": str(len(line) - 1), "_INGESTLAB_COMPLETE": "complete_bash"}
    script = Path(sys.executable).parent / "ingestlab"  # which goes by its own name, as a shell's words do
    done = subprocess.run([script], env=environment(**asked), capture_output=True, text=True, check=True)
    assert done.stdout.split() == offered


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_tab_works_in_other_shells(say: Say, submitted: list[str], monkeypatch: pytest.MonkeyPatch, shell: str) -> None:
    monkeypatch.setenv("_INGESTLAB_COMPLETE", f"complete_{shell}")
    monkeypatch.setenv("_TYPER_COMPLETE_ARGS", "ingestlab show ")
    monkeypatch.setenv("_TYPER_COMPLETE_FISH_ACTION", "get-args")
    offered = say().stdout
    assert all(run in offered for run in submitted)
    assert "1 file" in offered


def test_tab_is_silent_without_a_server(say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:9/0")
    assert tab(say, monkeypatch, "show", "") == []
