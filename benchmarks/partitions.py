"""What a partition costs that has next to nothing in it."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bigfile import PIPELINE, WARM, Ours, once
from flightfiles import flights
from measures import Measure, check
from receipts import receipts
from stack import stack

MOST = 3.0  # ms
BARE = "flights_bare"


def measure(options: argparse.Namespace, home: Path) -> Iterator[Measure]:
    """A file in ten thousand pieces; then a month of it in as small ones, with no contract and no aggregate."""
    file = flights(options.cache, 1)
    month = min((options.cache / "months").glob("*.csv"))
    tiny = max(1024, file.size // options.partitions)
    with (
        stack(home, [WARM, PIPELINE, BARE], workers=1, dask_workers=2, partition_bytes=tiny) as running,
        receipts(running.settings) as counts,
    ):
        for tenant, pipeline in ((WARM, PIPELINE), (BARE, BARE)):  # the first one is for the imports
            counts.take()
            timed = running.run([month.as_uri()], tenant, pipeline)
            check(timed.result.count("committed"), 1)
            tasks, steps = counts.take()
        few = Ours(timed, steps, tasks)
        many = once(running, file, PIPELINE, counts)
    yield _cost("", many, MOST)
    yield _cost(", unchecked", few, None)


def _cost(what: str, ours: Ours, target: float | None) -> Measure:
    timed = ours.timed
    details: dict[str, Any] = {
        "partitions": ours.tasks,
        "seconds": round(timed.seconds, 2),
        "stages": timed.result.seconds,
        "steps": ours.steps,
        "cpu_ms": round(1000 * ours.lap.cpu / ours.tasks, 2),
        "cpu_by_part": {part: round(seconds, 2) for part, seconds in timed.cpu.items()},
    }
    value = round(1000 * timed.seconds / ours.tasks, 2)
    return Measure(f"{ours.tasks:,} tiny partitions{what}, each", value, "ms", target, "most", details)
