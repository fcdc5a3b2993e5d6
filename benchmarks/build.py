"""One build of ingestlab, which does what it is asked: run by that build's Python, with that build's benchmarks.

    python build.py BENCHMARKS GROUP HOME CACHE COPIES FILES

It answers each line of standard input with a line of JSON: numbers by name. `before.py` asks two builds in turns.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

sys.path.insert(0, sys.argv[1])

import bigfile
import smallfiles
from flightfiles import flights
from partitions import BARE
from stack import stack

Round = Callable[[int], dict[str, float]]
ROUNDS = 9  # at most: tenants are named beforehand
SINGLE = 30
TINY = 3 << 10  # bytes of a partition


@contextmanager
def big(home: Path, cache: Path, copies: int, _files: int) -> Iterator[Round]:
    """The big file: seconds, processor time, and the largest Dask worker."""
    file = flights(cache, copies)
    tenants = [bigfile.WARM, *(f"big-{n}" for n in range(ROUNDS))]
    with stack(home, tenants, workers=1, dask_workers=2) as running:
        bigfile.warm_up(running, flights(cache, bigfile.WARM_COPIES))

        def once(n: int) -> dict[str, float]:
            ours = bigfile.once(running, file, f"big-{n}")
            peaks = [peak for name, peak in ours.timed.peaks.items() if name.startswith("dask-")]
            return {"seconds": ours.timed.seconds, "cpu": ours.lap.cpu, "peak": max(peaks) / 1e6}

        yield once


@contextmanager
def files(home: Path, _cache: Path, _copies: int, count: int) -> Iterator[Round]:
    """Small files over HTTP, new, dirty and unchanged: milliseconds of processor time each; and one alone."""
    options: Any = SimpleNamespace(rounds=ROUNDS, workers=2, dask_workers=2)
    with smallfiles._bench(home, options) as lab:  # noqa: SLF001 - the same in both builds
        smallfiles._warm_up(replace(lab, rounds=2), 2)  # noqa: SLF001
        sets = {name: lab.make(name, count, dirty) for name, dirty in (("clean", 0.0), ("dirty", 0.02))}
        single = lab.uris(lab.make("single", SINGLE * ROUNDS, dirty=0.02))

        def once(n: int) -> dict[str, float]:
            each = lambda timed: 1000 * sum(timed.cpu.values()) / count  # noqa: E731
            costs = {name: each(lab.run(lab.uris(made), f"{name}-{n}")) for name, made in sets.items()}
            unchanged = lab.run(lab.uris(sets["clean"]), f"clean-{n}")
            times = [lab.run([uri], "single").seconds for uri in single[n * SINGLE : (n + 1) * SINGLE]]
            return {**costs, "unchanged": each(unchanged), "single": 1000 * statistics.median(times)}

        yield once


@contextmanager
def tiny(home: Path, cache: Path, _copies: int, _files: int) -> Iterator[Round]:
    """A month of flights in pieces of 3 KB: milliseconds each."""
    month = min((cache / "months").glob("*.csv"))
    pieces = month.stat().st_size / TINY
    tenants = [bigfile.WARM, *(f"tiny-{n}" for n in range(ROUNDS))]
    with stack(home, tenants, workers=1, dask_workers=2, partition_bytes=TINY) as running:
        running.run([month.as_uri()], bigfile.WARM, BARE)

        def once(n: int) -> dict[str, float]:
            timed = running.run([month.as_uri()], f"tiny-{n}", bigfile.PIPELINE)
            assert timed.result.count("committed") == 1
            return {"tiny": 1000 * timed.seconds / pieces, "tiny_cpu": 1000 * Counter.total(timed.cpu) / pieces}

        yield once


def main(group: str, home: str, cache: str, copies: str, count: str) -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints is no answer
    open_ = {"big": big, "files": files, "tiny": tiny}[group]
    with open_(Path(home), Path(cache), int(copies), int(count)) as once:
        print("{}", file=answers, flush=True)
        for n, _ in enumerate(sys.stdin):
            print(json.dumps(once(n)), file=answers, flush=True)


if __name__ == "__main__":
    main(*sys.argv[2:])
