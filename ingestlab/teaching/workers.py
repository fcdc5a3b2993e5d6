"""An RQ worker of one's own, which a notebook may start, stop and kill as it likes."""

from __future__ import annotations

import atexit
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ingestlab.core.errors import StackError
from ingestlab.core.settings import Settings, load_settings
from ingestlab.lake.locks import connect
from ingestlab.notebook.stopwatch import stopwatch
from ingestlab.queue.broker import broker, reaching
from ingestlab.stack.services import environment

PATIENCE = 60.0  # seconds for a worker to listen: it imports a lot
GRACE = 10.0  # seconds for it to end when it is asked


class OwnWorker:
    """Worker process that ends with the kernel at the latest."""

    def __init__(self, process: subprocess.Popen[bytes], queues: tuple[str, ...], name: str) -> None:
        self.process, self.queues, self.name = process, queues, name
        atexit.register(self.kill)

    def kill(self) -> None:
        """Kill it at once, whatever it does, as from the power switch."""
        self.process.kill()
        self.process.wait()
        atexit.unregister(self.kill)

    def stop(self) -> None:
        """Let it finish its job, then end it."""
        self.process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(GRACE)
        self.kill()

    def __repr__(self) -> str:
        state = "running" if self.process.poll() is None else "ended"
        return f"<worker {self.name} on {', '.join(self.queues)}: {state}>"


def start_worker(*queues: str, name: str = "mine", **overrides: Any) -> OwnWorker:
    """Start a worker beside the stack's, and wait until it listens.

    Args:
        queues: The queues that it serves, the most urgent first.
        name: What pages and logs call it.
        **overrides: Settings of this worker alone, e.g. ``beat=1``.

    Raises:
        StackError: It does not start; the text names its log.
    """
    settings = load_settings(worker_name=name, **overrides)
    print(f"Worker {name!r} starts, for {', '.join(queues)} …", flush=True)  # noqa: T201 - it takes some seconds
    log = settings.home / "logs" / "worker-own.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output, _not_interrupted() as interrupts:
        process = subprocess.Popen(  # noqa: S603 - our own command
            [sys.executable, "-m", "ingestlab.queue.worker", *queues],
            env=environment(settings),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,  # so that an interrupted cell does not interrupt the worker
        )
        worker = OwnWorker(process, queues, name)
    try:
        if interrupts:
            signal.raise_signal(signal.SIGINT)
        with stopwatch("Its start"):
            _wait_until_it_listens(worker, settings, log)
    except BaseException:  # whoever interrupts the start does not want the worker
        worker.kill()
        raise
    return worker


@contextmanager
def _not_interrupted() -> Iterator[list[int]]:
    """Defer interrupts. One that hits while a process is made would leave it to nobody."""
    numbers: list[int] = []
    if threading.current_thread() is not threading.main_thread():  # which alone is interrupted
        yield numbers
        return
    before = signal.signal(signal.SIGINT, lambda number, _frame: numbers.append(number))
    try:
        yield numbers
    finally:
        signal.signal(signal.SIGINT, before)


def _wait_until_it_listens(worker: OwnWorker, settings: Settings, log: Path) -> None:
    process, deadline = worker.process, time.monotonic() + PATIENCE
    with reaching(settings), connect(settings.redis) as client:
        while not any(listener.pid == process.pid for listener in broker(settings, client).listeners(worker.queues[0])):
            if process.poll() is not None or time.monotonic() > deadline:
                raise StackError(
                    "The worker does not listen",
                    expected=f"a worker on {', '.join(worker.queues)}",
                    got="none that listens",
                    fix=f"See {log}.",
                )
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.05)
