"""The goals of the Makefile install what they need: the demo and JupyterLab little, the tests all."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from support.workers import ROOT


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """The files by which an environment is made."""
    for name in ("Makefile", "pyproject.toml", "requirements.lock"):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def commands(clone: Path, *words: str) -> str:
    done = subprocess.run(["make", "--dry-run", *words], cwd=clone, capture_output=True, text=True, check=True)
    return done.stdout


@pytest.mark.parametrize(
    ("goal", "extras"), [("demo", "stack,lab,listen"), ("lab", "stack,lab,listen"), ("test", "all,dev")]
)
def test_a_fresh_clone_installs_what_the_goal_needs_and_shows_it(clone: Path, goal: str, extras: str) -> None:
    shown = commands(clone, goal, "UV=")
    assert ".venv/bin/python -m pip install" in shown
    assert f"--constraint requirements.lock --editable '.[{extras}]'" in shown
    assert "--quiet" not in shown
    assert shown.count("--editable") == 1


def test_uv_is_used_where_it_is(clone: Path) -> None:
    shown = commands(clone, "demo", "UV=/opt/uv")
    assert "/opt/uv pip install --python .venv/bin/python --constraint requirements.lock" in shown


def test_where_everything_is_installed_the_demo_keeps_it_so(clone: Path) -> None:
    (clone / ".venv").mkdir()
    (clone / ".venv/.installed").touch()
    assert "--editable" not in commands(clone, "demo")
    assert "[all,dev]" in commands(clone, "demo", "--what-if=requirements.lock")
