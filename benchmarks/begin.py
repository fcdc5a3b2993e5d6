"""How long one waits before one can work: for `Lab()` with nothing running, and for the first cell in a browser."""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import measures
import psutil
from measures import Measure

from ingestlab.stack import running, stop

HERE = Path(__file__).parent
ROOT = HERE.parent
LAB, CELL = 6.0, 30.0  # seconds
NOTEBOOK = "notebooks/00_start_here.ipynb"
NEEDED = ("playwright", "jupyterlab", "dask_labextension", "pytest")
FRESH = """
import json, sys, time
sys.path.append(sys.argv[2])
began = time.perf_counter()
from ingestlab import Lab
imported = time.perf_counter()
from begin import cpu, measures
busy = measures.busy()
before = time.perf_counter()
lab = Lab(home=sys.argv[1])
seconds = time.perf_counter() - before
used = cpu(sys.argv[1])
others = max(0.0, (measures.busy() - busy - sum(used.values())) / seconds)
began_card = time.perf_counter()
lab._repr_html_()
card = time.perf_counter() - began_card
print(json.dumps({"import": imported - began, "lab": seconds, "card": card, "cpu": used, "others": others}))
"""


def measure(options: argparse.Namespace, home: Path) -> Iterator[Measure]:
    """Stacks that are started from nothing, each in a home of its own."""
    yield _lab([_fresh(home / f"lab-{n}") for n in range(options.rounds)])
    if absent := _absent():
        yield Measure("`ingestlab lab` to the first cell", None, "s", CELL, "most", {"absent": absent})
        return
    rounds = [_first_cell(home / f"cell-{n}") for n in range(options.rounds)]
    value = statistics.median(marks["cell"] for marks in rounds)
    yield Measure("`ingestlab lab` to the first cell", value, "s", CELL, "most", {"marks_s": rounds})


def _lab(rounds: list[dict[str, Any]]) -> Measure:
    details = {
        "rounds": rounds,
        "import_s": statistics.median(lap["import"] for lap in rounds),
        "card_s": statistics.median(lap["card"] for lap in rounds),
        "cpu_s": round(statistics.median(sum(lap["cpu"].values()) for lap in rounds), 2),
        "others": round(statistics.median(lap["others"] for lap in rounds), 2),
    }
    return Measure("Lab() from nothing", statistics.median(lap["lab"] for lap in rounds), "s", LAB, "most", details)


def _fresh(home: Path) -> dict[str, Any]:
    """`Lab()` in an interpreter of its own, what its stack has used by then, and how busy everyone else was."""
    command = [sys.executable, "-c", FRESH, home, HERE]
    try:
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
        return _rounded(json.loads(done.stdout))
    finally:
        stop(home)


def cpu(home: str) -> Counter[str]:
    """Seconds of processor time that each part of a stack has used so far, with all that it has started."""
    state, used = running(Path(home)), Counter[str]()
    assert state is not None
    for name, proc in state.pids.items():
        whole = name in ("dask", "milvus")  # the others' children are parts themselves
        used[name.partition("-")[0]] += measures.cpu(psutil.Process(proc.pid), children=whole)
    return used


def _absent() -> str:
    missing = next((name for name in NEEDED if find_spec(name) is None), None)
    if missing is None and not any(map(shutil.which, ("chromium", "chromium-browser"))):
        missing = "chromium"
    return f"not installed: {missing}" if missing else ""


def _first_cell(folder: Path) -> dict[str, Any]:
    """Seconds from the command until the server answers, the notebook is open, and its first cell has run."""
    sys.path.append(str(ROOT / "tests"))  # whose way of using JupyterLab this is
    from browsing import open_browser  # noqa: PLC0415
    from labs import open_lab  # noqa: PLC0415

    for name in ("notebooks", "pipelines"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns(".*", "__pycache__"))
    scratch, marks = folder / "scratch", {}
    scratch.mkdir()
    try:
        with open_browser() as browser:
            began = time.perf_counter()
            with open_lab(folder, folder / ".ingestlab", NOTEBOOK, scratch) as lab:
                marks["server"] = time.perf_counter() - began
                notebook = lab.open(browser, NOTEBOOK)
                marks["notebook"] = time.perf_counter() - began
                notebook.run_first()
                marks["cell"] = time.perf_counter() - began
                measures.check(notebook.failed(), [])
    finally:
        stop(folder / ".ingestlab")
    return _rounded(marks)


def _rounded(figures: dict[str, Any]) -> dict[str, Any]:
    return {name: _rounded(v) if isinstance(v, dict) else round(v, 2) for name, v in figures.items()}
