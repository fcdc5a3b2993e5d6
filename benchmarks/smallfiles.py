"""Many small files: files a second over HTTP and from a folder, one file's time, and the tutorial's worker."""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import baseline_tutorial
from measures import Measure, check
from stack import Stack, Timed, stack

from ingestlab.analytics.lake import Lake
from ingestlab.queue.results import RunResult
from ingestlab.stack.samples import AlarmSet, alarm_files

PAUSE = 0.1  # seconds between two single files, so that the stack is idle again
TABLE = "bts_alarms"


@dataclass(frozen=True)
class Bench:
    """A running stack, a file server beside it, and the files that both know.

    Attributes:
        stack: The stack.
        root: The folder that the file server serves.
        url: Its base URL.
        rounds: How often a rate is measured. Every round has a tenant of its own: its files are new to the lake.
    """

    stack: Stack
    root: Path
    url: str
    rounds: int

    def make(self, name: str, files: int, dirty: float) -> AlarmSet:
        """Writes a set of alarm files of 15 KB into a folder that the server serves."""
        alarms = alarm_files(self.root / name, files=files, dirty=dirty, seed=sum(name.encode()))
        os.sync()  # else the disk is still busy with them when the clock runs
        return alarms

    def uris(self, alarms: AlarmSet) -> list[str]:
        """The addresses of a set's files on the file server."""
        return [self.url + path.relative_to(self.root).as_posix() for path in alarms.files]

    def run(self, uris: str | Sequence[str], tenant: str) -> Timed:
        """Submits files and waits."""
        return self.stack.run(uris, tenant)


def measure(options: argparse.Namespace, home: Path) -> Iterator[Measure]:
    """All that is measured on small files."""
    with _bench(home, options) as lab:
        _warm_up(lab, options.workers)
        clean = lab.make("clean", options.files, dirty=0.0)
        dirty = lab.make("dirty", options.files, dirty=0.02)
        ours = _first_time(lab, clean, "clean", target=1000)
        yield ours
        yield _first_time(lab, dirty, "dirty", target=1000)
        yield _second_time(lab, clean, "clean", target=1000)
        yield _local_second_time(lab, clean, target=5000)
        yield from _single(lab, lab.make("single", options.single, dirty=0.02), target=150)
        uris = lab.uris(clean)
        few = max(10, options.tutorial // 20)
        for worker_class, files in (("rq.SimpleWorker", options.tutorial), ("rq.Worker", few)):
            theirs = _tutorial(lab, uris[:files], options.workers, worker_class)
            yield theirs
            yield Measure("  ours, clean, against it", round(_number(ours) / _number(theirs), 1), "times")


def _number(measured: Measure) -> float:
    assert measured.value is not None
    return measured.value


@contextmanager
def _bench(home: Path, options: argparse.Namespace) -> Iterator[Bench]:
    """A stack and a file server of their own, for as long as the block lasts."""
    root, ready = home / "files", home / "files.url"
    root.mkdir(parents=True)
    numbered = [f"{name}-{n}" for name in ("warm", "clean", "dirty", "folder") for n in range(options.rounds)]
    command = (sys.executable, "-m", "ingestlab.stack.files", "--root", str(root), "--port", "0", "--ready", str(ready))
    with (
        subprocess.Popen(command, stdout=subprocess.DEVNULL) as server,
        stack(home / "stack", [*numbered, "single"], options.workers, options.dask_workers) as running,
    ):
        try:
            # A stack takes longer to start than the file server, so that its address is there.
            counted = Stack(running.settings, {**running.pids, "files": server.pid})
            yield Bench(counted, root, ready.read_text(), options.rounds)
        finally:
            server.terminate()


def _warm_up(lab: Bench, workers: int) -> None:
    """Lets every process do its imports and open its connections: those happen once in its life."""
    alarms = lab.make("warm", 128 * 2 * workers, dirty=0.02)
    for n in range(lab.rounds):
        check(*_counts(lab.run(lab.uris(alarms), f"warm-{n}").result, alarms))


def _first_time(lab: Bench, alarms: AlarmSet, name: str, target: float | None) -> Measure:
    """New files over HTTP, all rows counted."""

    def once(n: int) -> Timed:
        timed = lab.run(lab.uris(alarms), f"{name}-{n}")
        check(*_counts(timed.result, alarms))
        check(Lake(lab.stack.settings, tenant=f"{name}-{n}").table(TABLE).rows, alarms.clean)
        return timed

    return _rate(f"new files, HTTP, {name}", once, lab.rounds, target)


def _second_time(lab: Bench, alarms: AlarmSet, name: str, target: float | None) -> Measure:
    """The same files once more: the server is asked for each whether it has changed."""
    uris = lab.uris(alarms)
    return _rate("unchanged files, HTTP", lambda n: _unchanged(lab, uris, f"{name}-{n}"), lab.rounds, target)


def _local_second_time(lab: Bench, alarms: AlarmSet, target: float | None) -> Measure:
    """A folder's pattern once more, after its files were ingested: the listing tells that none has changed."""
    pattern = f"{alarms.folder}/*.csv"
    for n in range(lab.rounds):
        check(*_counts(lab.run(pattern, f"folder-{n}").result, alarms))
    return _rate("unchanged files, folder", lambda n: _unchanged(lab, pattern, f"folder-{n}"), lab.rounds, target)


def _single(lab: Bench, alarms: AlarmSet, target: float | None) -> Iterator[Measure]:
    """One file on an idle stack, again and again with another file: the median, and the ninth tenth."""
    times = []
    for uri in lab.uris(alarms):
        time.sleep(PAUSE)
        timed = lab.run([uri], "single")
        check(timed.result.count("committed"), 1)
        times.append(timed.seconds * 1000)
    details = {"files": len(times), "min": round(min(times), 1), "max": round(max(times), 1)}
    yield Measure("one file, idle stack, p50", round(statistics.median(times), 1), "ms", target, "most", details)
    yield Measure("one file, idle stack, p90", round(statistics.quantiles(times, n=10)[8], 1), "ms")


def _tutorial(lab: Bench, uris: Sequence[str], workers: int, worker_class: str) -> Measure:
    """The tutorial's worker on the same server and files: it computes a mean of each file and stores nothing."""
    figures: dict[str, Any] = baseline_tutorial.measure(uris, lab.stack.settings.redis, workers, worker_class)
    check(figures["failed"], 0)
    return Measure(f"tutorial, {worker_class}", figures["files_per_second"], "files/s", details=figures)


def _unchanged(lab: Bench, uris: str | Sequence[str], tenant: str) -> Timed:
    timed = lab.run(uris, tenant)
    check(timed.result.count("unchanged"), len(timed.result.outcomes))
    return timed


def _counts(result: RunResult, alarms: AlarmSet) -> tuple[tuple[object, ...], tuple[object, ...]]:
    """What came out, and what had to."""
    tally = result.tally
    got = (result.count("committed"), tally.rows_in, tally.out, tally.rejected, dict(result.rules))
    return got, (len(alarms.files), alarms.rows, alarms.clean, alarms.rejected, dict(alarms.dirty))


def _rate(name: str, once: Callable[[int], Timed], rounds: int, target: float | None) -> Measure:
    """The median of the rounds in files per second, and the processor time that a file takes."""
    runs = [once(n) for n in range(rounds)]
    files = len(runs[0].result.outcomes)
    rates = [files / run.seconds for run in runs]
    spent = sum((run.cpu for run in runs), Counter[str]())
    per_file = {part: round(1000 * seconds / files / rounds, 3) for part, seconds in spent.items()}
    details = {
        "files": files,
        "rounds": [round(rate) for rate in rates],
        "cpu_ms": round(sum(per_file.values()), 3),
        "cpu_ms_by_part": per_file,
        "others": round(statistics.mean(run.others for run in runs), 2),
        "worker_seconds": runs[-1].result.seconds,
    }
    return Measure(name, round(statistics.median(rates), 1), "files/s", target, details=details)
