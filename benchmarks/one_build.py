"""One build of ingestlab, told through its standard input what to measure; `before` runs two of them in turns.

    python one_build.py BENCHMARKS GROUP HOME OPTIONS

BENCHMARKS is the build's own folder of benchmarks, OPTIONS are those of ``run.py`` as JSON. Each line of input is the
number of a round; the answer is a line of JSON.
"""

# ruff: noqa: PLC0415, SLF001 - modules of the build that is named, and what is behind their measures

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Round = Callable[[int], dict[str, Any]]


def main(folder: str, group: str, home: str, told: str) -> None:
    """Warms up, then answers until its input ends."""
    sys.path[0] = folder
    options = argparse.Namespace(**json.loads(told))
    options.cache = Path(options.cache)
    answers, sys.stdout = sys.stdout, sys.stderr
    with {"big": _big, "files": _files}[group](options, Path(home)) as once:
        print("{}", file=answers, flush=True)
        for line in sys.stdin:
            print(json.dumps(once(int(line))), file=answers, flush=True)


@contextmanager
def _big(options: argparse.Namespace, home: Path) -> Iterator[Round]:
    """The big file: seconds, processor time, the memory of the larger Dask worker, and the tasks' steps."""
    import bigfile
    from flightfiles import flights
    from receipts import receipts
    from stack import stack

    small, big = flights(options.cache, bigfile.WARM_COPIES), flights(options.cache, options.copies)
    tenants = [bigfile.WARM, *(f"big-{n}" for n in range(options.rounds))]
    with stack(home, tenants, workers=1, dask_workers=2) as running, receipts(running.settings) as told:
        bigfile.warm_up(running, small, told)

        def once(n: int) -> dict[str, Any]:
            ours = bigfile.once(running, big, f"big-{n}", told)
            peak = max(size for name, size in ours.timed.peaks.items() if name.startswith("dask-"))
            steps = {"stages": dict(ours.timed.result.seconds), "steps": dict(ours.steps)}
            return {"seconds": ours.lap.seconds, "cpu": ours.lap.cpu, "peak_mb": peak / 1e6, **steps}

        yield once


@contextmanager
def _files(options: argparse.Namespace, home: Path) -> Iterator[Round]:
    """New files of 15 KB over HTTP, then the same ones again: processor time of each."""
    import smallfiles
    from measures import check

    with smallfiles._bench(home, options) as lab:
        smallfiles._warm_up(lab, options.workers)
        sets = {name: lab.make(name, options.files, dirty) for name, dirty in (("clean", 0.0), ("dirty", 0.02))}

        def once(n: int) -> dict[str, Any]:
            found: dict[str, Any] = {}
            for name, alarms in sets.items():
                timed = lab.run(lab.uris(alarms), f"{name}-{n}")
                check(*smallfiles._counts(timed.result, alarms))
                found |= {name: timed.seconds, f"{name}_cpu": timed.cpu.total()}
            again = lab.run(lab.uris(sets["clean"]), f"clean-{n}")
            return found | {"unchanged": again.seconds, "unchanged_cpu": again.cpu.total()}

        yield once


if __name__ == "__main__":
    main(*sys.argv[1:])
