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
from ingestlab.jobs.results import RunResult
from ingestlab.lake import Lake
from ingestlab.stack import running, start, stop

Unit = Literal["files/s", "ms", "times"]
PATIENCE = 600.0  # seconds for one run
PAUSE = 0.1  # seconds between two single files, so that the stack is idle again
TABLE = "bts_alarms"
IDLE = ("supervisor", "samples")  # parts of the stack that have no share in the work
PIPELINES = Path(__file__).parents[1] / "pipelines"


@dataclass(frozen=True, slots=True)
class Measure:
    """One measured number; a target of a time is met from below, all others from above."""

    name: str
    value: float
    unit: Unit
    target: float | None = None
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def met(self) -> bool | None:
        """Whether the target was met; None where there is none."""
        if self.target is None:
            return None
        return self.value <= self.target if self.unit == "ms" else self.value >= self.target


@dataclass(frozen=True, slots=True)
class Timed:
    """A run's result, and what it took.

    Attributes:
        result: How it ended.
        seconds: From the call to the last committed result.
        cpu: Seconds of processor time of each part of the system.
        others: Cores that everything else on the machine kept busy meanwhile.
    """

    result: RunResult
    seconds: float
    cpu: Counter[str]
    others: float


@dataclass(frozen=True)
class Bench:
    """A running stack, a file server beside it, and the files that both know.

    Attributes:
        settings: Lead to the stack.
        root: The folder that the file server serves.
        url: Its base URL.
        rounds: How often a rate is measured. Every round has a tenant of its own: its files are new to the lake.
        pids: The processes whose time is counted.
    """

    settings: Settings
    root: Path
    url: str
    rounds: int
    pids: Mapping[str, int]

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
        before, busy, began = self.cpu(), _busy(), time.perf_counter()
        result = submit(uris, tenant=tenant, settings=self.settings).wait(PATIENCE)
        seconds, used = time.perf_counter() - began, self.cpu() - before
        return Timed(result, seconds, used, max(0.0, (_busy() - busy - used.total()) / seconds))

    def cpu(self) -> Counter[str]:
        """Seconds of processor time that each part has used so far, Dask's children included."""
        used: Counter[str] = Counter()
        for name, pid in self.pids.items():
            process = psutil.Process(pid)
            for one in (process, *(process.children() if name == "dask" else ())):
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
    own = {"home": home / "stack", "tenants": tenants(rounds), "pipelines": (str(PIPELINES),)}
    settings = load_settings(**own, redis_url="", redis_host="")  # not those that the environment may name
    command = (sys.executable, "-m", "ingestlab.stack.files", "--root", str(root), "--port", "0", "--ready", str(ready))
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:
        try:
            connected = start(settings, workers=workers, dask_workers=dask_workers, detach=False)
            state = running(settings.home)
            assert state is not None
            pids = {name: proc.pid for name, proc in state.pids.items() if name not in IDLE}
            # A stack takes longer to start than the file server, so that its address is there.
            yield Bench(
                connected, root, ready.read_text(), rounds, {**pids, "files": server.pid, "client": os.getpid()}
            )
        finally:
            stop(settings.home)
            server.terminate()


def warm_up(lab: Bench, workers: int) -> None:
    """Lets every process do its imports and open its connections: those happen once in its life."""
    alarms = lab.make("warm", 128 * 2 * workers, dirty=0.02)
    for n in range(lab.rounds):
        check(*_counts(lab.run(lab.uris(alarms), f"warm-{n}").result, alarms))


def first_time(lab: Bench, alarms: AlarmSet, name: str, target: float | None) -> Measure:
    """New files over HTTP, all rows counted."""

    def once(n: int) -> Timed:
        timed = lab.run(lab.uris(alarms), f"{name}-{n}")
        check(*_counts(timed.result, alarms))
        check(Lake(lab.settings, tenant=f"{name}-{n}").table(TABLE).rows, alarms.clean)
        return timed

    return _rate(f"new files, HTTP, {name}", once, lab.rounds, target)


def second_time(lab: Bench, alarms: AlarmSet, name: str, target: float | None) -> Measure:
    """The same files once more: the server is asked for each whether it has changed."""
    uris = lab.uris(alarms)
    return _rate("unchanged files, HTTP", lambda n: _unchanged(lab, uris, f"{name}-{n}"), lab.rounds, target)


def local_second_time(lab: Bench, alarms: AlarmSet, target: float | None) -> Measure:
    """A folder's pattern once more, after its files were ingested: the listing tells that none has changed."""
    pattern = f"{alarms.folder}/*.csv"
    for n in range(lab.rounds):
        check(*_counts(lab.run(pattern, f"folder-{n}").result, alarms))
    return _rate("unchanged files, folder", lambda n: _unchanged(lab, pattern, f"folder-{n}"), lab.rounds, target)


def single(lab: Bench, alarms: AlarmSet, target: float | None) -> Iterator[Measure]:
    """One file on an idle stack, again and again with another file: the median, and the ninth tenth."""
    times = []
    for uri in lab.uris(alarms):
        time.sleep(PAUSE)
        timed = lab.run([uri], "single")
        check(timed.result.count("committed"), 1)
        times.append(timed.seconds * 1000)
    details = {"files": len(times), "min": round(min(times), 1), "max": round(max(times), 1)}
    yield Measure("one file, idle stack, p50", round(statistics.median(times), 1), "ms", target, details)
    yield Measure("one file, idle stack, p90", round(statistics.quantiles(times, n=10)[8], 1), "ms")


def tutorial(lab: Bench, uris: Sequence[str], workers: int, worker_class: str) -> Measure:
    """The tutorial's worker on the same server and files: it computes a mean of each file and stores nothing."""
    figures: dict[str, Any] = baseline_tutorial.measure(uris, lab.settings.redis, workers, worker_class)
    check(figures["failed"], 0)
    return Measure(f"tutorial, {worker_class}", figures["files_per_second"], "files/s", None, figures)


def check(got: object, wanted: object) -> None:
    """Ends the benchmark where a count that is known beforehand comes out otherwise: it would measure nothing."""
    if got != wanted:
        raise SystemExit(f"wrong counts: expected {wanted}, got {got}")


def _busy() -> float:
    """Seconds that all cores together have not been idle so far."""
    times = psutil.cpu_times()
    return float(sum(times[:8]) - times.idle - getattr(times, "iowait", 0.0))


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
    return Measure(name, round(statistics.median(rates), 1), "files/s", target, details)
