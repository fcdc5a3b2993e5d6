"""Workers of any queue backend as real processes, with a Dask cluster, a file server and small pipelines."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import psutil
import pyarrow.dataset as ds
import redis

from ingestlab.analytics.lake import Lake
from ingestlab.core.settings import Settings
from ingestlab.queue import Run, submit
from ingestlab.queue.broker import broker
from ingestlab.stack import valkey
from ingestlab.stack.services import environment as environment_of
from support.servers import Server

ROOT = Path(__file__).parents[2]
SLOWNESS = 4  # times what a step takes on an idle machine; nobody waits longer than it takes
PATIENCE = 120.0  # seconds that a run may take on a busy machine
CONTENT = b"n,word\n" + b"".join(b"%d,w%d\n" % (i, i) for i in range(100))
ONCE = Counter(range(100))  # each of its rows once
PLAIN = """
from ingestlab import Csv, Pipeline
PIPELINE = Pipeline(reader=Csv(columns={"n": "int64", "word": "string"}), matches=["plain-*.csv"])
"""


def environment(**more: str) -> dict[str, str]:
    """An environment in which another process finds this checkout, and prints in full width."""
    path = os.pathsep.join(p for p in (str(ROOT), os.environ.get("PYTHONPATH")) if p)
    return {**os.environ, "PYTHONPATH": path, "COLUMNS": "200", **more}


def until(condition: Callable[[], Any], seconds: float, what: str) -> Any:
    """Waits until a condition holds, for a minute at least; gives what it gave. The seconds are of an idle machine."""
    seconds = max(60.0, SLOWNESS * seconds)
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.02)
    return value


def open_gates(folder: Path) -> None:
    """Lets everything go on that has come to a gate, so that a test that failed before it did so ends alone."""
    for pattern in ("began-*", "*/began-*", "gates/*/began-*"):
        for mark in folder.glob(pattern):
            (mark.parent / "open").touch()


class Workers:
    """Workers on one queue, as processes of their own, whose log lies in a folder."""

    def __init__(self, settings: Settings, folder: Path, queue: str = "", **env: str) -> None:
        self.settings, self.client, self.log = settings, redis.Redis.from_url(settings.redis), folder / "workers.log"
        self.queue = queue or settings.queue
        self._env = {**environment(**env), **environment_of(settings), "INGESTLAB_LOG_LEVEL": "INFO"}
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        for process in self._processes:
            process.kill()
            process.wait()
        self.client.close()

    def pids(self) -> set[int]:
        """The workers that listen."""
        return {listener.pid for listener in broker(self.settings).listeners(self.queue) if listener.version}

    def alive(self) -> list[subprocess.Popen[bytes]]:
        """The workers whose processes have not ended."""
        return [p for p in self._processes if p.poll() is None]

    def have(self, count: int) -> None:
        """Starts workers until so many of ours listen; those that end while they start fail the test."""
        alive = self.alive()
        command = [sys.executable, "-m", "ingestlab.queue.worker", self.queue]
        with self.log.open("ab") as log:
            new = [subprocess.Popen(command, env=self._env, stdout=log, stderr=log) for _ in range(count - len(alive))]
        self._processes = [*alive, *new]
        wanted = {p.pid for p in self._processes}
        try:
            until(lambda: wanted <= self.pids() or any(p.poll() for p in self._processes), 60, "workers that listen")
        except AssertionError as error:  # the next test begins with others
            error.add_note(self._silent(wanted - self.pids()))
            raise
        assert wanted <= self.pids(), self.log.read_text()

    def _silent(self, pids: set[int]) -> str:
        """Ends the workers that do not listen; gives what there is to know of them."""
        entries = [self.client.hgetall(key) for key in self.client.keys("rq:worker:*")]
        for process in [p for p in self._processes if p.pid in pids]:
            process.kill()
            process.wait()
        return f"{pids} were silent; registered: {entries}; {self.log.read_text()[-5000:]}"

    def at_work_on(self, job_id: str) -> psutil.Process:
        """The worker process that has begun a job; a dead one's entry may be gone before another has begun."""

        def found() -> psutil.Process | None:
            job = broker(self.settings).jobs([job_id])[job_id]
            alive = broker(self.settings).listeners(self.queue)
            pid = next(
                (listener.pid for listener in alive if job.status == "running" and listener.name == job.worker), 0
            )
            return psutil.Process(pid) if pid and psutil.pid_exists(pid) else None

        return until(found, 20, "a worker for the job")


@dataclass(frozen=True)
class Yard:
    """Two workers on a queue, the stack's Dask cluster, and a server with files."""

    workers: Workers
    server: Server
    folder: Path

    @property
    def settings(self) -> Settings:
        return self.workers.settings

    @property
    def client(self) -> redis.Redis:
        return self.workers.client

    def file(self, name: str, content: bytes = CONTENT) -> str:
        """Writes a source file; gives its URI."""
        path = self.folder / name
        path.write_bytes(content)
        return path.as_uri()

    def pipeline(self, name: str, text: str) -> None:
        """Writes a pipeline file."""
        (self.folder / "pipelines" / f"{name}.py").write_text(text)

    def submit(self, *uris: str, pipeline: str | None = "plain", queue: str | None = None, **settings: object) -> Run:
        """Submits under the yard's settings, but for those given."""
        chosen = self.settings.model_copy(update=settings)
        return submit(uris, pipeline=pipeline, queue=queue, settings=chosen)

    def good(self, name: str) -> None:
        """A job that must go well: the workers are alive."""
        assert self.submit(self.file(name)).wait(PATIENCE).count("committed") == 1

    def rows(self, uri: str, table: str = "plain", tenant: str = "default") -> Counter[int]:
        """How often each row of a source is published, as a reader that knows nothing of ingestlab finds it."""
        folder = ds.dataset(Lake(self.settings, tenant).table(table).path)
        rows = folder.to_table(["_source", "_row"], filter=ds.field("_source") == uri)
        return Counter(rows["_row"].to_pylist())


@contextmanager
def open_yard(folder: Path, dask: str | None, **limits: Any) -> Iterator[Yard]:
    """Opens a yard in a folder, with limits among its settings; its workers start when they are asked for."""
    (folder / "pipelines").mkdir()
    (folder / "pipelines/plain.py").write_text(PLAIN)
    (folder / "trap.py").write_text(f"def spring(*args):\n    open({str(folder / 'sprung')!r}, 'w').close()\n")
    (folder / "redis").mkdir()
    with valkey.serve(folder / "redis") as url, Server({"a.csv": CONTENT}) as files:
        settings = Settings(
            _env_file=None,
            home=folder / "home",
            redis_url=url,
            dask_scheduler=dask,
            pipelines=(str(folder / "pipelines"),),
            tenants=("default", "acme"),
            beat=0.5,
            lock_ttl=3,
            fetch_attempts=1,
            fetch_delay=0.01,
            retry_delays=(1, 1),
            **limits,
        )
        with Workers(settings, folder, PYTHONPATH=os.pathsep.join([str(ROOT), str(folder)])) as workers:
            yield Yard(workers, files, folder)
