"""How fast is it? Starts stacks of its own, measures, prints tables, and keeps the numbers as JSON and a picture.

See README.md beside this file for what is measured.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import badrows
import before
import begin
import bigfile
import commits
import embedding
import growth
import lines
import listing
import merging
import partitions
import report
import restapi
import smallfiles
import switches
import tenants
from measures import Measure
from rich.console import Console
from rivals import PYTHON

RESULTS = Path(__file__).parent / "results"
PICTURE = Path(__file__).parent / "picture.py"
GROUPS: dict[str, Callable[[argparse.Namespace, Path], Iterator[Measure]]] = {
    "files": smallfiles.measure,
    "big": bigfile.measure,
    "before": before.measure,
    "switches": switches.measure,
    "partitions": partitions.measure,
    "growth": growth.measure,
    "lines": lines.measure,
    "rejects": badrows.measure,
    "vectors": embedding.measure,
    "begin": begin.measure,
    "log": commits.measure,
    "listing": listing.measure,
    "merge": merging.measure,
    "rest": restapi.measure,
    "tenants": tenants.measure,
}
QUICK = {
    "files": 512,
    "rounds": 1,
    "single": 20,
    "tutorial": 100,
    "copies": 1,
    "partitions": 300,
    "texts": 5000,
    "commits": 200,
    "listed": 100_000,
    "merged": 100_000,
    "pages": 100,
    "merges": 10,
    "changed": 1_000,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Measures; the exit code is 1 where a target is missed."""
    options = _options(argv)
    options.began = time.monotonic()
    console = Console(width=None if sys.stdout.isatty() else 120)
    measures: list[Measure] = []
    for folder in (RESULTS, options.home, options.cache):
        folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="home-", dir=options.home) as folder:
        machine = report.machine_of(Path(folder))
        with console.status("warming up") as status:
            for name in options.only or GROUPS:
                for measure in GROUPS[name](options, Path(folder, name)):
                    measures.append(measure)
                    status.update(report.line(measure))
                    if not console.is_terminal:
                        print(report.line(measure), flush=True)
    report.show(measures, machine, console)
    file = report.keep(measures, options, machine, RESULTS)
    console.print(f"All numbers: {file}")
    pictureless = {"log", "listing", "merge", "rest", "tenants"}
    if set(options.only or GROUPS) - pictureless and (drawn := _draw(file)) is not None:
        console.print(f"Picture: {drawn}")
    return int(any(m.met is False for m in measures))


def _draw(numbers: Path) -> Path | None:
    """The picture beside the numbers, by the environment that has the peers; None where nothing is to be drawn."""
    file = numbers.with_suffix(".png")
    done = subprocess.run([PYTHON, str(PICTURE), str(numbers), str(file)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"no picture: {done.stderr.strip().splitlines()[-1]}")
    return file if file.exists() else None


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure how fast ingestlab is.")
    parser.add_argument("--only", action="append", choices=GROUPS, help="one group of measures; may be repeated")
    parser.add_argument("--rounds", type=int, default=3, help="of each rate or time; the median counts")
    parser.add_argument("--files", type=int, default=4000, help="files of 15 KB in each measure")
    parser.add_argument("--single", type=int, default=60, help="single files on the idle stack")
    parser.add_argument("--tutorial", type=int, default=1000, help="files for the tutorial's worker, which is slow")
    parser.add_argument("--workers", type=int, default=2, help="RQ workers for the small files")
    parser.add_argument("--dask-workers", type=int, default=2, help="processes of the Dask cluster for them")
    parser.add_argument("--copies", type=int, default=20, help="of a year of flights, 31 MB each, in the big file")
    parser.add_argument("--peers", type=lambda text: text.split(","), help="e.g. DuckDB,Polars; all if not given")
    parser.add_argument("--partitions", type=int, default=10_000, help="tiny ones, of one file")
    parser.add_argument("--texts", type=int, default=100_000, help="to embed and to search in")
    parser.add_argument("--commits", type=int, default=20_000, help="in the table with a long log")
    parser.add_argument("--live", type=int, default=20, help="files of it that live; the others are replaced")
    parser.add_argument("--merged", type=int, default=10_000_000, help="rows of the table that others are merged into")
    parser.add_argument("--merges", type=int, default=100, help="commits that are merged into it")
    parser.add_argument("--changed", type=int, default=10_000, help="rows of each of these commits")
    parser.add_argument("--pages", type=int, default=2_000, help="of an API, 100 records each")
    parser.add_argument("--listed", type=int, default=1_000_000, help="files in the largest listing")
    parser.add_argument("--growth", action="store_true", help="insist on the largest file, 2.5 GB")
    parser.add_argument("--home", type=Path, default=RESULTS, help="where stacks live meanwhile: the disk to measure")
    parser.add_argument("--cache", type=Path, default=RESULTS / "cache", help="where the big files are kept")
    parser.add_argument("--quick", action="store_true", help="few files, one round, to see that it works")
    options = parser.parse_args(argv)
    for name, value in QUICK.items() if options.quick else ():
        setattr(options, name, value)
    options.home, options.cache = options.home.resolve(), options.cache.resolve()
    return options


if __name__ == "__main__":
    sys.exit(main())
