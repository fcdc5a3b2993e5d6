"""User code that hangs, or ends the process that it runs in: one row or one file is the price, on real parts."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress

import pytest
from support.workers import Yard, open_yard, until

from ingestlab import stack as embedded
from ingestlab.analytics.lake import Lake
from ingestlab.core.settings import Settings
from ingestlab.queue import Run
from ingestlab.queue.abandoned import DEATHS

pytestmark = pytest.mark.slow("a stack of its own")
HEAD = b"n,word\n"
CODE = """
import ctypes, os, time
from ingestlab import Csv, Pipeline

def touch(word):
    {touch}
    return word

def clean(df):
    return df.assign(word=df["word"].map(touch).astype("str"))

PIPELINE = Pipeline(reader=Csv(columns={{"n": "int64", "word": "string"}}), clean=clean)
"""
# A call of C that holds the interpreter's lock while it sleeps: nothing that is written in Python runs beside it.
HOLDS_THE_LOCK = "ctypes.PyDLL(None).sleep(600)"
TOUCHES = {
    "sleeps": 'if word == "bad": time.sleep(600)',
    "spins": 'while word == "bad": pass',
    "holds_the_lock": f'if word == "bad": {HOLDS_THE_LOCK}',
    "exits": 'if word == "bad": os._exit(3)',
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yard]:
    """A yard with a Dask cluster of its own, whose workers are killed here."""
    home = tmp_path_factory.mktemp("stack") / "home"
    try:
        settings = embedded.start(Settings(_env_file=None, home=home), workers=0, dask_workers=2, detach=False)
        with open_yard(
            tmp_path_factory.mktemp("yard"), settings.dask_scheduler, task_timeout=4, row_timeout=1
        ) as found:
            for name, touch in TOUCHES.items():
                found.pipeline(name, CODE.format(touch=touch))
            found.workers.have(2)
            yield found
    finally:
        embedded.stop(home)


def rows(words: list[str]) -> bytes:
    return HEAD + "".join(f"{i},{word}\n" for i, word in enumerate(words)).encode()


@pytest.mark.parametrize("name", TOUCHES)
def test_a_row_that_hangs_or_ends_the_process_is_rejected_and_its_neighbours_are_rows(place: Yard, name: str) -> None:
    good = place.file(f"{name}-good.csv", rows(["a"] * 20))
    bad = place.file(f"{name}-bad.csv", rows(["a"] * 13 + ["bad"] + ["b"] * 6))
    began = time.monotonic()
    result = place.submit(good, bad, pipeline=name).wait(240)
    assert [o.status for o in result.outcomes] == ["committed", "committed"], result.outcomes
    rule = "clean:ProcessDied" if name == "exits" else "clean:TimeoutError"
    assert result.rules == {rule: 1}
    assert (result.tally.rows_in, result.tally.out) == (40, 39)
    reject = Lake(place.settings).rejects(name)
    assert reject["row"].tolist() == [13]
    assert "bad" in reject["raw"].tolist()[0]
    assert time.monotonic() - began < 150
    place.good(f"after-{name}.csv")


@pytest.mark.parametrize("name", ["sleeps", "holds_the_lock"])
def test_a_job_whose_task_hangs_ends_when_it_is_cancelled(place: Yard, name: str) -> None:
    place.pipeline("hangs", CODE.format(touch=TOUCHES[name]))
    uri = place.file(f"hangs-{name}.csv", rows(["a", "bad"]))
    run = place.submit(uri, pipeline="hangs")
    until(lambda: run.progress().state == "processing", 60, "a job at work")
    time.sleep(0.5)
    assert run.cancel("wrong file", by="ann") == 1
    began = time.monotonic()
    (outcome,) = run.wait(90).outcomes
    assert time.monotonic() - began < 60, "also where the machine is busy; the task itself would take 600 s"
    assert "Job was cancelled by ann: wrong file" in str(outcome.error)
    assert "hangs" not in Lake(place.settings).tables()
    place.good(f"after-cancel-{name}.csv")


def _ended(run: Run, place: Yard) -> bool:
    """Whether a run has ended; workers that have died are replaced."""
    with suppress(AssertionError):  # it may die before it is seen to listen
        place.workers.have(2)
    return run.progress().state in ("finished", "failed")


def test_a_job_that_ends_worker_after_worker_fails_with_its_story(place: Yard) -> None:
    place.pipeline("deadly", "import os\nos.getppid() and os.environ.get('INGESTLAB_BEAT') and os._exit(9)\n")
    run = place.submit(place.file("deadly.csv"), pipeline="deadly")
    until(lambda: _ended(run, place), 100, "the end of the job")
    (outcome,) = run.result().outcomes
    assert f"{DEATHS} workers died while running it" in str(outcome.error)
    assert "deadly.csv" in str(outcome.error)
    (place.folder / "pipelines/deadly.py").unlink()
    place.good("after-deadly.csv")
