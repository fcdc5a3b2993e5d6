"""What contract and aggregates cost: the same file with them and without.

A pipeline has no switch for the profile, which is in both. What all three cost is told as well: then the
profile's share, as the tasks tell it, is taken off the time without.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterable, Iterator
from pathlib import Path

from bigfile import WARM, WARM_COPIES, Ours, once, warm_up
from flightfiles import flights
from measures import Measure
from receipts import receipts
from stack import stack

MOST = 25.0  # percent
PIPELINES = {"on": "flights_big", "off": "flights_bare"}
DASK_WORKERS = 2


def measure(options: argparse.Namespace, home: Path) -> Iterator[Measure]:
    """Both in turn, round after round."""
    small, big = flights(options.cache, WARM_COPIES), flights(options.cache, options.copies)
    tenants = [WARM, *(f"{name}-{n}" for n in range(options.rounds) for name in PIPELINES)]
    runs: dict[str, list[Ours]] = {name: [] for name in PIPELINES}
    with stack(home, tenants, workers=1, dask_workers=DASK_WORKERS) as running, receipts(running.settings) as counts:
        warm_up(running, small)
        for n in range(options.rounds):
            for name, pipeline in PIPELINES.items():
                runs[name].append(once(running, big, f"{name}-{n}", counts, pipeline))
    pairs = list(zip(runs["on"], runs["off"], strict=True))
    details = {
        "seconds_on": [round(run.timed.seconds, 2) for run in runs["on"]],
        "seconds_off": [round(run.timed.seconds, 2) for run in runs["off"]],
        "profile_off": [round(run.steps.get("profile", 0.0) / DASK_WORKERS, 2) for run in runs["off"]],
        "steps_on": runs["on"][-1].steps,
        "steps_off": runs["off"][-1].steps,
        "cpu_on": round(statistics.median(run.lap.cpu for run in runs["on"]), 2),
        "cpu_off": round(statistics.median(run.lap.cpu for run in runs["off"]), 2),
    }
    more = _more(on.timed.seconds / off.timed.seconds for on, off in pairs)
    yield Measure("contract and aggregates, more", more, "%", MOST, "most", details)
    more = _more(on.timed.seconds / _without_profile(off) for on, off in pairs)
    yield Measure("  with the profile", more, "%")


def _more(ratios: Iterable[float]) -> float:
    """What comes on top, in percent: the median."""
    return round(100 * (statistics.median(ratios) - 1), 1)


def _without_profile(run: Ours) -> float:
    return run.timed.seconds - run.steps.get("profile", 0.0) / DASK_WORKERS
