"""Every command in a terminal of 80 columns: lines fit, and no number, id or name is cut."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from support.commands import ALARMS, HEADER, Say

from ingestlab.cli import GROUPS, common
from ingestlab.core.settings import Settings

WIDTH = 80
LONG = 40  # characters of a path or an address that is whole, though its line is too long for it
COMMANDS = {command.__name__.replace("_", "-") for commands in GROUPS.values() for command in commands}
# Those that run until somebody stops them, or start what takes long; and those of which programs read the output.
ELSEWHERE = {
    "up",
    "down",
    "demo",
    "lab",
    "listen",
    "webhook",
    "worker",
    "scheduler",
    "dask-worker",
    "notebook",
    "env",
    "grade",
    "init",
    "scale",
}


class Lab(NamedTuple):
    """What there is to be shown: a table with rejects and text, and a run of which a file has failed."""

    table: str
    run: str
    file: Path
    bad: Path


@pytest.fixture
def terminal(stack: Settings, say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody looks at 80 columns, beside a stack that runs."""
    for screen in (common.out, common.err):
        monkeypatch.setattr(screen, "_force_terminal", True)
        monkeypatch.setattr(screen, "width", WIDTH)
        monkeypatch.setattr(screen, "no_color", True)
    monkeypatch.setenv("COLUMNS", str(WIDTH))
    monkeypatch.setenv("INGESTLAB_HOME", str(stack.home))


@pytest.fixture
def lab(terminal: None, say: Say, tmp_path: Path) -> Lab:
    good, bad = tmp_path / "alarm-2017-10-23-12-vn.csv", tmp_path / "alarm-bad.csv"
    rows = (
        f"{n:>12},1234567890,308,121,2017-10-23 12:00:25,2017-10-23 12:01:26,241.123456789,{n}\n" for n in range(40)
    )
    good.write_text(ALARMS + "".join(rows))
    bad.write_text(HEADER.replace("id,", "other,", 1) + "1,2\n")
    said = say("submit", good, bad, "--force", "--json", "--wait", code=1).stdout
    return Lab("bts_alarms", json.loads(said)["run"], good, bad)


CALLS: dict[str, Callable[[Lab], list[list[str | Path]]]] = {
    "submit": lambda lab: [
        ["submit", lab.file],
        ["submit", lab.file, lab.bad, "--force", "--wait"],
        ["submit", "no.csv"],
    ],
    "sync": lambda lab: [["sync", lab.file.parent, "--keep-vanished"], ["sync", "nowhere"]],
    "produce": lambda lab: [["produce", "--uri", lab.file]],
    "watch": lambda lab: [["watch", lab.run]],
    "show": lambda lab: [["show", lab.run], ["show", lab.run, "--files"], ["show", "2017"]],
    "log": lambda lab: [["log", lab.run]],
    "runs": lambda lab: [["runs"], ["runs", "--state", "committing"]],
    "failed": lambda lab: [["failed"]],
    "retry": lambda lab: [["retry", lab.run], ["retry", "2017"]],
    "cancel": lambda lab: [["cancel", lab.run]],
    "forget": lambda lab: [["forget", lab.run]],
    "new": lambda lab: [["new", "mine", "--from", lab.file, "--force"], ["new", "mine", "--from", lab.file]],
    "check": lambda lab: [["check", "bts_alarms", lab.file], ["check", lab.file], ["check", "nothing", lab.file]],
    "pipelines": lambda lab: [["pipelines"]],
    "tables": lambda lab: [["tables"]],
    "head": lambda lab: [["head", lab.file], ["head", lab.table], ["head", "nothing"]],
    "rows": lambda lab: [["rows", lab.table], ["rows", "--sql", f"FROM {lab.table}"], ["rows", "--sql", "SELEC"]],
    "diff": lambda lab: [["diff", lab.table, lab.run], ["diff", lab.table, lab.run, "--key", "id"], ["diff", "x", "1"]],
    "history": lambda lab: [["history", lab.table], ["history", "nothing"]],
    "rejects": lambda lab: [["rejects", lab.table], ["rejects", lab.run], ["rejects", "nothing"]],
    "profile": lambda lab: [["profile", lab.table]],
    "materialize": lambda lab: [["materialize", lab.table]],
    "search": lambda lab: [["search", lab.table, "an alarm"]],
    "replay": lambda lab: [["replay", lab.table, "--rule", "nothing"], ["replay", lab.table]],
    "undo": lambda lab: [["undo", lab.run, "--dry-run"], ["undo", "nothing"], ["undo", lab.run]],
    "delete": lambda lab: [["delete", lab.file, "--dry-run"], ["delete", "no.csv"], ["delete", lab.file]],
    "compact": lambda lab: [["compact", lab.table]],
    "rewrite": lambda lab: [["rewrite", lab.table]],
    "reembed": lambda lab: [["reembed", lab.table]],
    "reconcile": lambda lab: [["reconcile"]],
    "status": lambda lab: [["status"]],
    "doctor": lambda lab: [["doctor"]],
    "errors": lambda lab: [["errors"]],
    "audit": lambda lab: [["audit"]],
}


def faults(text: str) -> list[str]:
    """Lines that are too long, but for a path or an address that is so alone; and numbers that are cut."""
    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).replace("\r", "\n").splitlines()
    long = [line for line in lines if len(line.rstrip()) > WIDTH and max(map(len, line.split())) < LONG]
    return [*long, *(line for line in lines if re.search(r"\d…|…\d", line))]


@pytest.mark.slow("a stack of its own")
def test_commands_fit(say: Say, lab: Lab, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    shutil.copytree(Path(__file__).parents[2] / "pipelines", tmp_path / "own")
    monkeypatch.setenv("INGESTLAB_PIPELINES", str(tmp_path / "own"))
    calls = [args for of_command in CALLS.values() for args in of_command(lab)]
    shown = [(args, say(*args, code=None)) for args in calls]
    assert [args for args, done in shown if not done.output.strip()] == []
    assert [(args, line) for args, done in shown for line in faults(done.stdout) + faults(done.stderr)] == []


def test_every_command_is_looked_at() -> None:
    assert CALLS.keys() | ELSEWHERE == COMMANDS
    assert not CALLS.keys() & ELSEWHERE


@pytest.mark.parametrize("command", sorted(COMMANDS | {""}))
def test_help_fits(say: Say, terminal_only: None, command: str) -> None:
    assert faults(say(*filter(None, [command]), "--help").stdout) == []


@pytest.fixture
def terminal_only(say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    """Help needs no stack."""
    monkeypatch.setenv("COLUMNS", str(WIDTH))
    monkeypatch.setenv("TERMINAL_WIDTH", str(WIDTH))


@pytest.mark.parametrize(
    ("width", "text", "lines"),
    [
        (10, "a bb ccc dddd", ["a bb ccc", "dddd"]),
        (22, " problem  what is so", [" problem  what is so"]),
        (21, " problem  what is so bad", [" problem  what is so", "          bad"]),
        (10, "  indented words", ["  indented", "  words"]),
        (10, "/a/path/that/is/long and more", ["/a/path/that/is/long", "and more"]),
        (10, "", [""]),
    ],
)
def test_lines_are_broken_between_words(width: int, text: str, lines: list[str]) -> None:
    assert [part.plain for part in common.broken(common.Text(text), width)] == lines
