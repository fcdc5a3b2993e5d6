"""The commands about earlier states of tables."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.commands import Say
from support.lake import World

from ingestlab.maintenance.delete import delete


@pytest.fixture
def world(tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> World:
    """A table with three commits: two files, one of them replaced, and taken out."""
    made = World(tmp_path / "world", redis_url, "replace")
    a, b = made.put("a.csv", [1, 2, 13]), made.put("b.csv", [3, 4])
    made.ingest([a, b], run="r1")
    made.put("a.csv", [5])
    made.ingest([a], run="r2")
    delete(a, made.context())
    monkeypatch.setenv("INGESTLAB_HOME", str(made.settings.home))
    monkeypatch.setenv("REDIS_URL", redis_url)
    return made


def test_history_lists_commits(world: World, say: Say) -> None:
    found = json.loads(say("history", "small", "--json").stdout)
    assert [commit["number"] for commit in found["commits"]] == [3, 2, 1]
    shown = say("history", "small").stdout
    assert "+1 -2" in shown
    assert "each kept for 7 days" in shown
    assert len(json.loads(say("history", "small", "-n", "1", "--json").stdout)["commits"]) == 1
    assert "no table 'nothing'" in say("history", "nothing", code=1).stderr


def test_rows_of_an_earlier_state(world: World, say: Say) -> None:
    rows = json.loads(say("rows", "small", "--as-of", "r1", "--json").stdout)
    assert sorted(row["n"] for row in rows) == [1, 2, 3, 4]
    assert say("head", "small", "--as-of", "2").stdout.count("\n") == 4
    assert "no state as of" in say("rows", "small", "--as-of", "99", code=1).stderr
    assert "one table" in say("rows", "--sql", "SELECT 1", "--as-of", "1", code=2).stderr
    assert "for tables" in say("head", "world/sources/b.csv", "--as-of", "1", code=2).stderr


def test_diff_shows_rows_and_counts(world: World, say: Say) -> None:
    found = json.loads(say("diff", "small", "r1", "r2", "--key", "n", "--json").stdout)
    assert (found["came"], found["went"], found["changed"]) == (1, 2, 0)
    assert sorted(row["n"] for row in found["rows"]) == [1, 2, 5]
    shown = say("diff", "small", "r1", "-n", "1").stdout
    assert "0 rows came, 2 went" in shown
    assert "and more" in shown
    assert "no state as of" in say("diff", "small", "99", code=1).stderr


def test_undo_shows_asks_and_undoes(world: World, say: Say) -> None:
    run = json.loads(say("history", "small", "-n", "1", "--json").stdout)["commits"][0]["run"]
    shown = say("undo", run, "--dry-run").stdout
    assert "0 rows go and 1 come back" in shown
    assert json.loads(say("undo", run, "--dry-run", "--json").stdout)[0]["restored"] == 1
    assert "not confirmed" in say("undo", run, answer="n\n", code=1).stderr
    assert "has changed" in say("undo", "r2", "--yes", code=1).stderr
    assert say("undo", run, answer="y\n").stdout.count("1 come back") == 2
    assert "undone already" in say("undo", run).stdout
    assert json.loads(say("undo", "r2", "--yes", "--json").stdout)[0]["removed"] == 1
    assert sorted(row["n"] for row in json.loads(say("rows", "small", "--json").stdout)) == [1, 2, 3, 4]
    assert "delete, undone" in say("history", "small").stdout
    assert "No table" in say("undo", "nothing", code=1).stderr
