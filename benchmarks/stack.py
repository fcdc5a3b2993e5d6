"""The stack that is measured: its life, its runs, its processor time and its memory."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import measures
import psutil

from ingestlab import Settings, load_settings, submit
from ingestlab.queue.results import RunResult
from ingestlab.stack import running, start, stop

PATIENCE = 600.0  # seconds for one run
IDLE = ("supervisor", "samples")  # parts of the stack that have no share in the work
HERE = Path(__file__).parent
PIPELINES = (str(HERE.parent / "pipelines"), str(HERE / "pipelines"))
GLANCE = 0.05  # seconds between two looks at the memory


@dataclass(frozen=True, slots=True)
class Timed:
    """A run's result, and what it took.

    Attributes:
        result: How it ended.
        seconds: From the call to the last committed result.
        cpu: Seconds of processor time of each part of the system.
        others: Cores that everything else on the machine kept busy meanwhile.
        peaks: Largest resident memory of each process, in bytes.
    """

    result: RunResult
    seconds: float
    cpu: Counter[str]
    others: float
    peaks: Mapping[str, int]


@dataclass(frozen=True)
class Stack:
    """A running stack.

    Attributes:
        settings: Lead to it.
        pids: The processes whose time is counted.
    """

    settings: Settings
    pids: Mapping[str, int]

    def run(self, uris: str | Sequence[str], tenant: str, pipeline: str | None = None) -> Timed:
        """Submits files and waits until the last one is committed."""
        before, busy = self.cpu(), measures.busy()
        with _watched(self._processes()) as peaks:
            began = time.perf_counter()
            result = submit(uris, tenant=tenant, pipeline=pipeline, settings=self.settings).wait(PATIENCE)
            seconds = time.perf_counter() - began
        used = self.cpu() - before
        return Timed(result, seconds, used, max(0.0, (measures.busy() - busy - used.total()) / seconds), peaks)

    @contextmanager
    def watched(self) -> Iterator[Mapping[str, int]]:
        """Notes the largest memory of each process while the block runs."""
        with _watched(self._processes()) as peaks:
            yield peaks

    def cpu(self) -> Counter[str]:
        """Seconds of processor time that each part has used so far, Dask's children included."""
        used: Counter[str] = Counter()
        for name, pid in self.pids.items():
            used[name.partition("-")[0]] += measures.cpu(psutil.Process(pid), children=name == "dask")
        return used

    def forget(self, tenant: str) -> None:
        """Removes what a tenant has in the lake, so that disks do not fill up between the rounds."""
        lake = Path(self.settings.lake_url)
        for folder in (*lake.glob(f"*/{tenant}"), *lake.glob(f"_ingestlab/*/{tenant}")):
            shutil.rmtree(folder)
        os.sync()  # else the disk is still busy when the clock runs again

    def _processes(self) -> dict[str, psutil.Process]:
        """All processes of the stack, and the names that people know them by."""
        processes = {name: psutil.Process(pid) for name, pid in self.pids.items() if name != "client"}
        dask = [p for p in processes["dask"].children() if "spawn_main" in " ".join(p.cmdline())]
        return {**processes, **{f"dask-{n}": p for n, p in enumerate(sorted(dask, key=lambda p: p.pid), 1)}}


@contextmanager
def stack(home: Path, tenants: Sequence[str], workers: int, dask_workers: int, **more: Any) -> Iterator[Stack]:
    """A stack of its own, for as long as the block lasts; `more` are settings."""
    own = {"home": home, "tenants": tuple(tenants), "pipelines": PIPELINES, **more}
    settings = load_settings(**own, redis_url="", redis_host="")  # not those that the environment may name
    try:
        connected = start(settings, workers=workers, dask_workers=dask_workers, detach=False)
        state = running(settings.home)
        assert state is not None
        pids = {name: proc.pid for name, proc in state.pids.items() if name not in IDLE}
        yield Stack(connected, {**pids, "client": os.getpid()})
    finally:
        stop(settings.home)


@contextmanager
def _watched(processes: Mapping[str, psutil.Process]) -> Iterator[dict[str, int]]:
    """Notes the largest memory of some processes while the block runs."""
    peaks = dict.fromkeys(processes, 0)
    over = threading.Event()

    def watch() -> None:
        while not over.wait(GLANCE):
            for name, process in processes.items():
                with suppress(psutil.NoSuchProcess):
                    peaks[name] = max(peaks[name], process.memory_info().rss)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield peaks
    finally:
        over.set()
        thread.join()
