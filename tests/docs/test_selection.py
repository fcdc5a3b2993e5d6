"""`make test` runs the quick tests, `make test-rest` the others, and together they are `make test-all`."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.workers import ROOT, environment

TESTS = """
import pytest
from hypothesis import given, settings, strategies as st
from support.selection import examples

def test_quick():
    pass

@pytest.mark.slow("long work")
def test_slow():
    pass

def test_page(browser):
    pass

@pytest.fixture
def browser():
    pass

@settings(max_examples=examples(50))
@given(st.integers())
def test_law(number):
    with open("numbers", "a") as log:
        log.write("x")
"""


@pytest.mark.slow("long work")
@pytest.mark.parametrize(
    ("options", "ran", "tried"),
    [
        ("--part=quick", "quick law", 10),
        ("--part=quick -n 1", "quick law", 10),
        ("--part=rest", "slow page law", 50),
        ("", "quick slow page law", 50),
    ],
)
def test_a_part_runs_what_it_says(options: str, ran: str, tried: int, tmp_path: Path) -> None:
    (tmp_path / "test_some.py").write_text(TESTS)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n  slow(kind): slow\n")
    command = [sys.executable, "-m", "pytest", "-v", "-p", "support.selection", *options.split()]
    env = environment(PYTHONPATH=str(ROOT / "tests"), COLUMNS="150")
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    names = re.findall(r"PASSED.*::test_(\w+)|::test_(\w+) PASSED", done.stdout)
    assert {one or other for one, other in names} == set(ran.split())
    assert len((tmp_path / "numbers").read_text()) == tried
    told = "2 slow tests (1 long work, 1 in a browser), and four fifths of the examples of each law."
    assert (told in done.stdout) == ("quick" in options)
    assert ("make test-all" in done.stdout) == ("quick" in options)
