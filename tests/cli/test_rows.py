"""Rows on the command line: of tables, of queries, of rejects and of files; few in a terminal, all in a pipe."""

from __future__ import annotations

import csv
import io
import json
import sys
from pathlib import Path

import pytest
from support.commands import Say
from support.lake import World

from ingestlab.analytics.lake import Lake
from ingestlab.analytics.sql import query
from ingestlab.cli.common import out
from ingestlab.core.errors import TerminalError
from ingestlab.core.settings import Settings


@pytest.fixture
def terminal(say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody looks at 80 columns."""
    monkeypatch.setattr(out, "_force_terminal", True)
    monkeypatch.setattr(out, "no_color", True)
    monkeypatch.setenv("COLUMNS", "80")


def table_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_a_pipe_gets_all_rows_of_a_table_as_csv(say: Say, world: World) -> None:
    rows = table_of(say("rows", "small").stdout)
    assert sorted((row["n"], row["even"]) for row in rows) == [("1", "False"), ("2", "True"), ("4", "True")]
    assert all(row["_source"].endswith("a.csv") for row in rows)
    assert len(table_of(say("rows", "small", "--limit", "2").stdout)) == 2
    assert [row["n"] for row in json.loads(say("rows", "small", "--json").stdout)] == [1, 2, 4]


def test_files_that_a_commit_has_replaced_are_named(say: Say, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = Lake(world.settings).table("small")
    opened.dataset()
    for part in opened.parts:
        world.store.delete(part.target)
    monkeypatch.setattr(Lake, "table", lambda *_: opened)
    assert "Try again" in say("rows", "small", code=1).stderr


def test_a_terminal_gets_a_few_rows_and_is_told_of_more(say: Say, world: World, terminal: None) -> None:
    shown = say("rows", "small", "-n", "2").stdout
    assert "small: 3 rows" in shown
    assert "and more" in shown
    assert "and more" not in say("rows", "small").stdout


def test_sql_runs_over_the_tables_that_it_names(say: Say, world: World) -> None:
    world.ingest([world.put("b.csv", [7])])
    both = "SELECT s.n, r.rule FROM small s JOIN small__rejects r USING (_none)"
    assert "not exist" in say("rows", "--sql", both, code=1).stderr
    (row,) = json.loads(say("rows", "--json", "--sql", "WITH a AS (FROM small) SELECT sum(n) AS total FROM a").stdout)
    assert row == {"total": 14}
    counts = table_of(
        say("rows", "--sql", "SELECT rule, count(*) AS c FROM small__rejects GROUP BY 1 ORDER BY 1").stdout
    )
    assert counts == [{"rule": "clean", "c": "1"}, {"rule": "less_than", "c": "1"}]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM '{secret}'",
        "SELECT * FROM read_text('{secret}')",
        "COPY (SELECT 1) TO '{secret}'",
        "ATTACH '{secret}' AS other",
        "INSTALL httpfs",
        "SET enable_external_access = true",
        "SELECT * FROM secret",
    ],
)
def test_sql_sees_neither_files_nor_variables(world: World, tmp_path: Path, sql: str) -> None:
    secret = tmp_path / "secret.csv"
    secret.write_text("id\n1\n")
    with pytest.raises(TerminalError) as failed:
        query(Lake(world.settings), sql.format(secret=secret)).read_all()
    assert failed.value.code == "argument_invalid"
    assert secret.read_text() == "id\n1\n"


def test_a_wrong_query_is_explained(say: Say, world: World) -> None:
    said = say("rows", "--sql", "SELECT * FROM smal", code=1).stderr
    assert "Did you mean 'small'?" in said
    assert said.count("Did you mean") == 1
    assert "syntax error" in say("rows", "--sql", "SELEC 1", code=1).stderr
    assert "Could not convert string" in say("rows", "--sql", "SELECT word::INT FROM small", code=1).stderr
    say("rows", code=2)
    say("rows", "small", "--sql", "SELECT 1", code=2)


def test_without_duckdb_one_command_is_named(say: Say, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "duckdb", None)
    assert "pip install 'ingestlab[duckdb]'" in say("rows", "--sql", "SELECT 1", code=1).stderr


def test_values_that_arrow_writes_no_csv_of(say: Say, world: World) -> None:
    sql = "SELECT [1, 2] AS l, {'a': 'x'} AS s, '\\xFF'::BLOB AS b, DATE '2024-05-31' AS d, 1.10::DECIMAL(4, 2) AS m"
    (row,) = table_of(say("rows", "--sql", sql).stdout)
    assert row == {"l": "[1,2]", "s": '{"a":"x"}', "b": '"ff"', "d": "2024-05-31", "m": "1.10"}
    (same,) = json.loads(say("rows", "--json", "--sql", sql).stdout)
    assert same == {"l": [1, 2], "s": {"a": "x"}, "b": "ff", "d": "2024-05-31", "m": "1.10"}
    assert json.loads(say("rows", "--json", "--sql", "SELECT 1 AS a WHERE false").stdout) == []
    assert json.loads(say("rows", "--json", "--sql", "SELECT 'nan'::DOUBLE AS a").stdout) == [{"a": None}]


def test_rejects_are_those_of_a_table_a_rule_or_a_run(say: Say, world: World) -> None:
    rows = table_of(say("rejects", "small").stdout)
    assert sorted((row["row"], row["rule"]) for row in rows) == [("2", "clean"), ("4", "less_than")]
    (row,) = json.loads(say("rejects", "small", "--rule", "n:less_than", "--json").stdout)
    assert (row["column"], row["value"]) == ("n", "5000")
    assert say("rejects", "small", "--rule", "none").stdout.splitlines() == [
        '"table","run","source","sha256","row","rule","column","value","raw"'
    ]
    assert "no table and no run 'smal'" in (said := say("rejects", "smal", code=1).stderr)
    assert "Did you mean 'small'?" in said


def test_a_terminal_gets_rejects_by_rule(say: Say, world: World, terminal: None) -> None:
    lines = [line.split() for line in say("rejects", "small").stdout.splitlines()]
    assert lines[0] == ["small:", "2", "rejects"]
    assert ["1", "n:less_than"] in lines
    assert lines[-1][-3:] == ["ingestlab", "replay", "small"]
    assert say("rejects", "small", "--rule", "clean").stdout.startswith("small: 1 reject\n")


def test_rejects_of_the_latest_run(say: Say, stack: Settings, alarms: Path) -> None:
    home = ("--home", stack.home)
    result = json.loads(say("submit", alarms, "--table", "alarms", "--wait", "--force", "--json", *home).stdout)
    rows = table_of(say("rejects", *home).stdout)
    assert {row["run"] for row in rows} == {result["run"]}
    assert len(rows) == result["tally"]["rejected"] == 3
    assert rows == table_of(say("rejects", result["run"], *home).stdout)


def test_head_shows_a_file_as_its_format_says(say: Say, tmp_path: Path, terminal: None) -> None:
    (tmp_path / "a.csv").write_text("id,when\n1,2024-05-31\n2,2024-06-01\n")
    (tmp_path / "bare").write_text("id;x\n1;2\n2;3\n3;4\n")
    assert [line.split() for line in say("head", "a.csv", "-n", "1").stdout.splitlines()[1:]] == [
        ["id", "when"],
        ["1", "2024-05-31"],
    ]
    assert say("head", "bare").stdout.splitlines()[1].split() == ["id", "x"]
    assert "File not found" in say("head", "./none.csv", code=1).stderr


def test_head_shows_a_table(say: Say, world: World) -> None:
    assert [row["n"] for row in table_of(say("head", "small", "-n", "2").stdout)] == ["1", "2"]
    assert "There is no 'smal'" in say("head", "smal", code=1).stderr
