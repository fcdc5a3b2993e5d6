"""Tables in a terminal of any width: columns go, but no number and no name is cut."""

from __future__ import annotations

import io
import json

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from support.commands import Say
from support.lake import World

from ingestlab.cli import show
from ingestlab.cli.common import out
from ingestlab.cli.tables import Fitting, frame_table
from ingestlab.core.models import Progress

WORDS = st.text("abcdefgh01234567[/]", min_size=1, max_size=12)


def shown(table: Fitting, width: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width, soft_wrap=True, highlight=False)
    console.print(table)
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined, no-any-return]


@given(
    st.lists(st.tuples(WORDS, WORDS, st.lists(WORDS, min_size=1, max_size=9).map(" ".join)), min_size=1, max_size=4),
    st.integers(1, 120),
)
def test_a_column_is_whole_or_named_as_left_out(rows: list[tuple[str, str, str]], width: int) -> None:
    table = Fitting(("id", "count", "said"), rows, right=("count",), folds=("said",), leaves_out=("said", "count"))
    lines = shown(table, width)
    text = " ".join(line.strip() for line in lines)
    gone = [name.strip() for name in text.partition("not shown here:")[2].split(",") if name.strip()]
    heading = lines[0].split()
    assert {*heading, *gone} == {"id", "count", "said"}
    for values in rows:
        for name, value in zip(table.headings, values, strict=True):
            assert name in gone or all(word in text for word in value.split())
    if heading != ["id"]:
        assert max(map(len, lines)) <= width


def test_only_long_prose_of_a_frame_is_cut_and_only_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(out, "_width", 80)
    sha, prose = "0123456789abcdef" * 4, "some words " * 9
    frame = pd.DataFrame({"n": [12345678901234567890], "sha": [sha], "said": [prose]})
    (_, _, line) = shown(frame_table(frame, "rows"), 200)
    assert line.split()[:2] == ["12345678901234567890", sha]
    assert line.rstrip().endswith("…")


@pytest.mark.parametrize("width", [80, 60, 40])
def test_ids_and_counts_are_whole_at_any_width(
    say: Say, world: World, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    (table,) = json.loads(say("tables", "--json").stdout)
    lines = say("tables").stdout.splitlines()
    assert max(map(len, lines)) <= width
    cells = dict(zip(lines[0].split(), lines[1].split(), strict=True))
    assert cells.items() <= {name: f"{v:,}" if isinstance(v, int) else v for name, v in table.items()}.items()
    assert ("path" in cells) == (len(table["path"]) + 35 < width)
    moved = say("profile", "small").stdout
    assert "…" not in moved


def test_a_pipe_gets_everything(say: Say, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS")
    path = json.loads(say("tables", "--json").stdout)[0]["path"]
    assert path in say("tables").stdout
    lines = say("errors").stdout.splitlines()
    assert all(line.startswith(" ") and len(line.split()) > 3 for line in lines[1:]), "one line a code"


def test_what_a_run_leaves_on_the_screen_has_no_address_that_may_be_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(show, "out", Console(file=screen, force_terminal=True, width=100))
    with show.watching(2, "http://127.0.0.1:8787/status") as watch:
        watch(Progress(files=2, files_done=1))
    before, last = screen.getvalue().rsplit("1/2 files", 1)
    assert "127.0.0.1:8787" in before
    assert "127.0.0.1:8787" not in last
