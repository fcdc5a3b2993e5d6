"""What a larger file costs: time for each MB, memory of every process, and what a second Dask worker gains."""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bigfile import WARM, WARM_COPIES, Ours, once, warm_up
from flightfiles import Flights, flights, room_for
from measures import Measure
from stack import Stack, stack

STEADY = 1.10  # from STEADY_FROM copies on: the dearest MB against the cheapest
FLAT = 1.25  # memory: the largest file against STEADY_FROM copies
STEADY_FROM = 5
SCALE, SCALE_COPIES = 1.8, 20  # processing stage: one Dask worker against two
LARGEST = 80
PATIENCE = 360.0  # seconds that a benchmark may have taken so far for the largest file to be in it unasked


def measure(options: argparse.Namespace, home: Path) -> Iterator[Measure]:
    """Growing files on two Dask workers; then one of them on one worker and on two, in turns."""
    sizes, absent = _sizes(options)
    files = [flights(options.cache, copies) for copies in sizes]
    rounds = min(2, options.rounds)
    names = [WARM, *(f"x{file.copies}-{n}" for file in files for n in range(rounds)), *map(str, range(options.rounds))]
    with _ready(home / "two", names, 2, options) as two:
        grown = [(file, _runs(two, file, 1 if file.copies == LARGEST else rounds)) for file in files]
        yield from _growth(grown)
        if absent:
            yield Measure(f"growth, {LARGEST} copies", None, "s/GB", details={"absent": absent})
        scaled = [file for file in files if file.copies <= SCALE_COPIES][-1]
        with _ready(home / "one", names, 1, options) as single:
            pairs = [
                (_processing(single, scaled, str(n)), _processing(two, scaled, str(n))) for n in range(options.rounds)
            ]
    value = round(statistics.median(alone / both for alone, both in pairs), 2)
    details = {"copies": scaled.copies, "one_and_two_workers_s": pairs}
    yield Measure("  processing, 1 against 2 workers", value, "times", SCALE, "least", details)


@contextmanager
def _ready(home: Path, tenants: Sequence[str], dask_workers: int, options: argparse.Namespace) -> Iterator[Stack]:
    """A stack that is warm."""
    with stack(home, tenants, workers=1, dask_workers=dask_workers) as running:
        warm_up(running, flights(options.cache, WARM_COPIES))
        yield running


def _runs(running: Stack, file: Flights, rounds: int) -> list[Ours]:
    """Some rounds of a file; the smallest file comes first, as a process may keep what it has once used."""
    with file.path.open("rb") as opened:  # else the largest one's rate would be the disk's
        while opened.read(1 << 24):
            pass
    return [once(running, file, f"x{file.copies}-{n}") for n in range(rounds)]


def _growth(grown: Sequence[tuple[Flights, list[Ours]]]) -> Iterator[Measure]:
    per_gb = {file.copies: _middle(runs).timed.seconds / file.size * 1e9 for file, runs in grown}
    for file, runs in grown:
        yield _cost(file, runs, per_gb[file.copies])
    steady = [cost for copies, cost in per_gb.items() if copies >= STEADY_FROM]
    if len(steady) > 1:
        yield Measure("  dearest MB against cheapest", round(max(steady) / min(steady), 2), "times", STEADY, "most")
        worked = [_worked(file, runs) for file, runs in grown if file.copies >= STEADY_FROM]
        yield Measure("  in processing alone", round(max(worked) / min(worked), 2), "times")
        yield _flatness(grown)


def _worked(file: Flights, runs: Sequence[Ours]) -> float:
    return _middle(runs).timed.result.seconds["processing"] / file.size


def _sizes(options: argparse.Namespace) -> tuple[list[int], str]:
    """How many copies; and why the largest file is not among them, if so."""
    if options.quick:
        return [1, 2], ""
    if not room_for(options.cache, LARGEST):
        if options.growth:
            raise SystemExit(f"no room on the disk for {LARGEST} copies: see --cache and --home")
        return [1, 5, 20], "left out: disk"
    if not options.growth and time.monotonic() - options.began > PATIENCE:
        return [1, 5, 20], "left out: time"
    return [1, 5, 20, LARGEST], ""


def _middle(runs: Sequence[Ours]) -> Ours:
    return sorted(runs, key=lambda run: run.timed.seconds)[(len(runs) - 1) // 2]


def _processing(running: Stack, file: Flights, tenant: str) -> float:
    return round(once(running, file, tenant).timed.result.seconds["processing"], 2)


def _peaks(runs: Sequence[Ours]) -> dict[str, int]:
    """Peak memory of each process, in MB."""
    return {name: round(max(run.timed.peaks[name] for run in runs) / 1e6) for name in runs[0].timed.peaks}


def _cost(file: Flights, runs: Sequence[Ours], per_gb: float) -> Measure:
    stages = _middle(runs).timed.result.seconds
    details = {"copies": file.copies, "seconds": [round(run.timed.seconds, 2) for run in runs]}
    return Measure(
        f"growth, {file.megabytes:,.0f} MB",
        round(per_gb, 2),
        "s/GB",
        details={**details, "stages": stages, "peak_mb": _peaks(runs)},
    )


def _flatness(two: Sequence[tuple[Flights, list[Ours]]]) -> Measure:
    """The memory of the process that grows most."""
    some = next(_peaks(runs) for file, runs in two if file.copies >= STEADY_FROM)
    most = _peaks(two[-1][1])
    ratios = {name: round(most[name] / some[name], 2) for name in most}
    return Measure(
        "  peak memory, largest against 5 copies",
        max(ratios.values()),
        "times",
        FLAT,
        "most",
        {"by_process": ratios, "peak_mb": most},
    )
