"""The examples in the docstrings of what users call are run, in a folder with files, beside a worker."""

from __future__ import annotations

import doctest
import inspect
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.workers import Workers

import ingestlab
from ingestlab.stack.samples import ensure_samples
from ingestlab.stack.services import environment

QUEUED = {"Lab", "Run", "submit"}  # their examples are work for a worker
LONG = {"Lab", "Run"}
NEEDED = {"Csv", "Lab", "Pipeline", "Run", "Settings", "load_settings", "submit"}


def examples(name: str) -> list[doctest.DocTest]:
    thing = getattr(ingestlab, name)
    finder = doctest.DocTestFinder(recurse=True, exclude_empty=True)
    return [test for test in finder.find(thing, name, module=inspect.getmodule(thing)) if test.examples]


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ensure_samples(tmp_path_factory.mktemp("samples"))


@pytest.fixture
def _worker(redis_url: str, settings, samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A queue with a worker, which the environment names, and a folder with files of a user."""
    (tmp_path / "data").mkdir()
    for file in sorted((samples / "bts").glob("alarm-*.csv"))[:2]:
        shutil.copy(file, tmp_path / "data")
    served = settings(redis_url=redis_url, queue="examples")
    monkeypatch.chdir(tmp_path)
    for variable, value in environment(served).items():
        monkeypatch.setenv(variable, value)
    with Workers(served, tmp_path) as workers:
        workers.have(1)
        yield


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow("long work")] if name in LONG else [])
        for name in sorted(name for name in ingestlab.__all__ if examples(name))
    ],
)
def test_the_examples_of_a_public_name_are_right(name: str, request: pytest.FixtureRequest) -> None:
    if name in QUEUED:
        request.getfixturevalue("_worker")
    for example in examples(name):
        runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
        report: list[str] = []
        runner.run(example, out=report.append)
        assert not runner.failures, "".join(report)
        assert runner.tries


def test_what_users_call_first_has_examples() -> None:
    assert all(examples(name) for name in NEEDED)
