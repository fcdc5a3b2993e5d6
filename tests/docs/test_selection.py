"""`make test` runs the quick tests, `make test-rest` the others, and together they are `make test-all`."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.selection import servers_of
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


@pytest.mark.parametrize(
    ("text", "quick", "all_"),
    [
        ("def test_a(ready):\n    pass\n", "the stack", "the stack"),
        ("def test_a(tmp_path, redis_url):\n    stack = ready = s3 = 1\n", "", ""),
        ('@pytest.mark.slow("long work")\ndef test_a(ready):\n    pass\n', "", "the stack"),
        ("def test_a(bucket):\n    pass\n\n\n@pytest.fixture\ndef lab(stack):\n    pass\n", "the stack", "the stack"),
        ('@pytest.fixture\ndef found(request):\n    request.getfixturevalue("s3")\n', "other servers", "other servers"),
    ],
)
def test_files_that_share_servers_are_known(text: str, quick: str, all_: str) -> None:
    assert (servers_of(text, slow=False), servers_of(text, slow=True)) == (quick, all_)


@pytest.mark.slow("long work")
def test_files_that_share_servers_are_run_by_one_process(tmp_path: Path) -> None:
    for name in "abcdef":
        (tmp_path / f"test_{name}.py").write_text(
            f"import os, pathlib, pytest\n\n\n@pytest.fixture\ndef stack():\n    return pathlib.Path({name!r})\n\n\n"
            f"def test_it(stack):\n    stack.write_text(os.environ['PYTEST_XDIST_WORKER'])\n"
        )
    command = [sys.executable, "-m", "pytest", "-n", "2", "--dist", "loadfile", "-p", "support.selection"]
    env = environment(PYTHONPATH=str(ROOT / "tests"))
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len({(tmp_path / name).read_text() for name in "abcdef"}) == 1
