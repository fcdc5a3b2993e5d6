"""Grades: what students' saved notebooks show of their exercises."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from ingestlab.cli import app
from ingestlab.core.errors import TerminalError
from ingestlab.teaching.grading import grade


def exercise(answer: str, *outputs: dict[str, object]) -> dict[str, object]:
    source = [f"answer = {answer}\n", "\n", 'check("00.1", answer)']
    return {"cell_type": "code", "metadata": {"tags": ["exercise"]}, "source": source, "outputs": list(outputs)}


def raised(kind: str, text: str) -> dict[str, object]:
    return {"output_type": "error", "ename": kind, "evalue": text, "traceback": []}


SOLUTION = {
    "cell_type": "code",
    "metadata": {"tags": ["solution"]},
    "source": 'if unsolved("00.1"):\n    answer = 2\n    check("00.1", answer)',
    "outputs": [{"output_type": "stream", "text": ["00.1 ✔ Right: 2 workers.\n"]}],
}
RIGHT = {"output_type": "stream", "name": "stdout", "text": ["hello\n", "00.1 ✔ Right: 2 workers.\n"]}


@pytest.mark.parametrize(
    ("cell", "state", "as_given", "text"),
    [
        (exercise("2  # mine", RIGHT), "solved", True, "00.1 ✔ Right: 2 workers."),
        (exercise("1 + 1", RIGHT), "solved", False, "00.1 ✔ Right: 2 workers."),
        (exercise("3", raised("NotYet", "00.1: 3 is not what Redis says")), "wrong", False, "00.1: 3 is not what"),
        (exercise("x", raised("NameError", "name 'x'")), "wrong", False, "NameError: name 'x'"),
        (exercise("...", raised("NotYet", "00.1: expected how many; got nothing yet.")), "open", False, "00.1: expe"),
        (exercise("..."), "open", False, ""),
        (exercise("2 +"), "open", False, ""),
    ],
)
def test_an_exercise_counts_by_what_its_own_cell_shows(cell, state, as_given, text, tmp_path: Path) -> None:
    (tmp_path / "ann").mkdir()
    (tmp_path / "ann/00.ipynb").write_text(json.dumps({"cells": [cell, SOLUTION]}))
    (one,) = grade(tmp_path)
    assert (one.file, one.exercise, one.state, one.as_given) == ("ann/00.ipynb", "00.1", state, as_given)
    assert one.text.startswith(text)


def test_grades_are_csv_and_a_file_that_is_no_notebook_spoils_none(tmp_path: Path) -> None:
    (tmp_path / "ann.ipynb").write_text(json.dumps({"cells": [exercise("2", RIGHT), SOLUTION]}))
    (tmp_path / "bob.ipynb").write_text("{")
    (tmp_path / ".ipynb_checkpoints").mkdir()
    (tmp_path / ".ipynb_checkpoints/ann.ipynb").write_text("{")
    done = CliRunner().invoke(app, ["grade", str(tmp_path)])
    assert done.exit_code == 0, done.output
    rows = list(csv.DictReader(done.stdout.splitlines()))
    assert [(row["file"], row["exercise"], row["state"]) for row in rows] == [
        ("ann.ipynb", "00.1", "solved"),
        ("bob.ipynb", "", "unreadable"),
    ]


def test_a_folder_without_notebooks_is_named(tmp_path: Path) -> None:
    with pytest.raises(TerminalError, match="No notebook to grade"):
        grade(tmp_path)


KEYS = st.sampled_from(["cells", "metadata", "tags", "source", "outputs", "output_type", "text", "ename", "evalue"])
JSON = st.recursive(st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(KEYS, inner))


@given(data=JSON)
def test_whatever_is_in_a_file_it_has_grades_or_is_unreadable(data, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("any")
    (folder / "a.ipynb").write_text(json.dumps({"cells": [data, SOLUTION]}))
    assert {one.state for one in grade(folder)} <= {"open", "unreadable"}
