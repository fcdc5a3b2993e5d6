"""What is measured, and the stack that it is measured on."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import baseline_tutorial
import psutil

from ingestlab import Settings, load_settings, submit
from ingestlab.datasets import AlarmSet, alarm_files
from ingestlab.jobs.run import RunResult
from ingestlab.lake import Lake
from ingestlab.stack import running, start, stop

Unit = Literal["files/s", "ms", "times"]
PATIENCE = 600.0  # seconds for one run
PAUSE = 0.1  # seconds between two single files, so that the stack is idle again
TABLE = "bts_alarms"


@dataclass(frozen=True, slots=True)
class Measure:
    """One measured number; a target of a time is met from below, all others from above."""

    name: str
    value: float
    unit: Unit
    target: float | None = None
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def met(self) -> bool | None:
        """Whether the target was met; None where there is none."""
        if self.target is None:
            return None
        return self.value <= self.target if self.unit == "ms" else self.value >= self.target


@dataclass(frozen=True)
class Bench:
    """A running stack, a file server beside it, and the files that both know.

    Every round of every measure has a tenant of its own: its files are new to the lake.
    """

    settings: Settings
    root: Path
    url: str
    rounds: int
    pids: Mapping[str, int]

    def make(self, name: str, files: int, dirty: float) -> AlarmSet:
        """Writes a set of alarm files of 15 KB into a folder that the server serves."""
        return alarm_files(self.root / name, files=files, dirty=dirty, seed=sum(name.encode()))

    def uris(self, alarms: AlarmSet) -> list[str]:
        """The addresses of a set's files on the file server."""
        return [self.url + path.relative_to(self.root).as_posix() for path in alarms.files]

    def run(self, uris: str | Sequence[str], tenant: str) -> tuple[RunResult, float]:
        """Submits files, and gives their result and the seconds from the call to the last committed result."""
        began = time.perf_counter()
        result = submit(uris, tenant=tenant, settings=self.settings).wait(PATIENCE)
        return result, time.perf_counter() - began

    def cpu(self) -> Counter[str]:
        """Seconds of processor time that each part has used so far, its children included."""
        used: Counter[str] = Counter()
        for name, pid in self.pids.items():
            process = psutil.Process(pid)
            for one in (process, *process.children(recursive=name == "dask")):
                times = one.cpu_times()
                used[name.partition("-")[0]] += times.user + times.system
        return used


def tenants(rounds: int) -> tuple[str, ...]:
    """All tenants that the measures use."""
    numbered = [f"{name}-{n}" for name in ("warm", "clean", "dirty", "folder") for n in range(rounds)]
    return (*numbered, "single")


@contextmanager
def bench(home: Path, workers: int, dask_workers: int, rounds: int) -> Iterator[Bench]:
    """A stack and a file server of their own, for as long as the block lasts."""
    root, ready = home / "files", home / "files.url"
    root.mkdir(parents=True)
    settings = load_settings(home=home / "stack", tenants=tenants(rounds), redis_url="")
    command = (sys.executable, "-m", "ingestlab.stack.files", "--root", str(root), "--port", "0", "--ready", str(ready))
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:
        try:
            found = start(settings, workers=workers, dask_workers=dask_workers, detach=False)
            state = running(settings.home)
            assert state is not None
            pids = {name: proc.pid for name, proc in state.pids.items() if name not in ("supervisor", "samples")}
            # A stack takes longer to start than the file server, so that its address is there.
            yield Bench(found, root, ready.read_text(), rounds, pids | {"files": server.pid, "client": os.getpid()})
        finally:
            stop(settings.home)
            server.terminate()


def warm_up(lab: Bench, workers: int) -> None:
    """Lets every process do its imports and open its connections: those happen once in its life."""
    alarms = lab.make("warm", 128 * 2 * workers, dirty=0.02)
    for n in range(lab.rounds):
        check(*_counts(lab.run(lab.uris(alarms), f"warm-{n}")[0], alarms))


def first_time(lab: Bench, alarms: AlarmSet, name: str, target: float | None) -> Measure:
    """New files over HTTP, from the submit call to the last committed result; all rows are counted."""

    def once(n: int) -> RunResult:
        result, seconds = lab.run(lab.uris(alarms), f"{name}-{n}")
        check(*_counts(result, alarms))
        check(Lake(lab.settings, tenant=f"{name}-{n}").table(TABLE).rows, alarms.clean)
        return result, seconds

    return _rate(f"new files over HTTP, {name}", once, lab, target)


def second_time(lab: Bench, alarms: AlarmSet, name: str, target: float | None) -> Measure:
    """The same files once more: the server is asked for each whether it has changed."""
    return _rate(
        "unchanged files over HTTP", lambda n: _unchanged(lab, lab.uris(alarms), f"{name}-{n}"), lab, target
    )


def local_second_time(lab: Bench, alarms: AlarmSet, target: float | None) -> Measure:
    """A folder's pattern once more, after its files were ingested: the listing tells that none has changed."""
    pattern = f"{alarms.folder}/*.csv"
    for n in range(lab.rounds):
        check(*_counts(lab.run(pattern, f"folder-{n}")[0], alarms))
    return _rate("unchanged files in a folder", lambda n: _unchanged(lab, pattern, f"folder-{n}"), lab, target)


def single(lab: Bench, alarms: AlarmSet, target: float | None) -> Measure:
    """One file on an idle stack, again and again with another file."""
    times = []
    for uri in lab.uris(alarms):
        time.sleep(PAUSE)
        result, seconds = lab.run([uri], "single")
        check(result.count("committed"), 1)
        times.append(seconds * 1000)
    tenths = statistics.quantiles(times, n=10)
    details = {"files": len(times), "p90": round(tenths[8], 1), "min": round(min(times), 1), "max": round(max(times), 1)}
    return Measure("one file on an idle stack (p50)", round(statistics.median(times), 1), "ms", target, details)


def tutorial(lab: Bench, uris: Sequence[str], workers: int, worker_class: str) -> Measure:
    """The tutorial's worker on the same server and files: it computes a mean of each file and stores nothing."""
    figures: dict[str, Any] = baseline_tutorial.measure(uris, lab.settings.redis, workers, worker_class)
    check(figures["failed"], 0)
    return Measure(f"the tutorial's worker ({worker_class})", figures["files_per_second"], "files/s", None, figures)


def check(got: object, wanted: object) -> None:
    """Ends the benchmark where a number that is known beforehand comes out otherwise: speed without it is nothing."""
    if got != wanted:
        raise SystemExit(f"wrong counts: expected {wanted}, got {got}")


def _unchanged(lab: Bench, uris: str | Sequence[str], tenant: str) -> tuple[RunResult, float]:
    result, seconds = lab.run(uris, tenant)
    check(result.count("unchanged"), len(result.outcomes))
    return result, seconds


def _counts(result: RunResult, alarms: AlarmSet) -> tuple[tuple[object, ...], tuple[object, ...]]:
    """What came out, and what had to."""
    tally = result.tally
    got = (result.count("committed"), tally.rows_in, tally.out, tally.rejected, dict(result.rules))
    return got, (len(alarms.files), alarms.rows, alarms.clean, alarms.rejected, dict(alarms.dirty))


def _rate(name: str, once: Callable[[int], tuple[RunResult, float]], lab: Bench, target: float | None) -> Measure:
    """The median of the rounds in files per second, and the processor time that they took."""
    before = lab.cpu()
    results = [once(n) for n in range(lab.rounds)]
    used = lab.cpu() - before
    files = len(results[0][0].outcomes)
    rates = [files / seconds for _, seconds in results]
    details = {
        "files": files,
        "rounds": [round(rate) for rate in rates],
        "cpu_ms_per_file": {part: round(1000 * spent / files / lab.rounds, 3) for part, spent in used.items()},
        "worker_seconds": results[-1][0].seconds,
    }
    return Measure(name, round(statistics.median(rates), 1), "files/s", target, details)
