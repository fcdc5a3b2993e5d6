"""Processes of one's own, which a notebook may start, stop and kill: a worker, a listener, a webhook."""

from __future__ import annotations

import atexit
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from ingestlab.core.errors import StackError
from ingestlab.core.settings import Settings, load_settings
from ingestlab.lake.locks import connect
from ingestlab.notebook.stopwatch import stopwatch
from ingestlab.queue.arrival.status import listeners
from ingestlab.queue.broker import broker, reaching
from ingestlab.stack.services import environment
from ingestlab.stack.valkey import HOST, free_port

PATIENCE = 60.0  # seconds for a process to be ready: it imports a lot
GRACE = 10.0  # seconds for it to end when it is asked


class OwnProcess:
    """Process that ends with the kernel at the latest."""

    def __init__(self, process: subprocess.Popen[bytes], name: str) -> None:
        self.process, self.name = process, name
        atexit.register(self.kill)

    def kill(self) -> None:
        """Kill it at once, whatever it does, as from the power switch."""
        self.process.kill()
        self.process.wait()
        atexit.unregister(self.kill)

    def stop(self) -> None:
        """Let it finish what it has begun, then end it."""
        self.process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(GRACE)
        self.kill()

    def __repr__(self) -> str:
        return f"<{self.name}: {'running' if self.process.poll() is None else 'ended'}>"


class OwnWebhook(OwnProcess):
    """Web service for announcements.

    Attributes:
        url: Its address.
        token: Of the student's tenant.
    """

    url: str
    token: str

    def __repr__(self) -> str:
        return f"{super().__repr__()}\nurl   {self.url}\ntoken {self.token}"


P = TypeVar("P", bound=OwnProcess)


def start_worker(*queues: str, name: str = "mine", **overrides: Any) -> OwnProcess:
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

    def listens(own: OwnProcess) -> bool:
        known = broker(settings, client).listeners(queues[0])
        return any(listener.pid == own.process.pid for listener in known)

    with reaching(settings), connect(settings.redis) as client:
        about = f"worker {name} on {', '.join(queues)}"
        return _start(OwnProcess, about, ["-m", "ingestlab.queue.worker", *queues], settings, listens)


def start_listener(
    folder: str | Path, *, pipeline: str | None = None, name: str = "mine", **overrides: Any
) -> OwnProcess:
    """Start a listener to a folder, and wait until it hears.

    Args:
        folder: Whose files it submits.
        pipeline: That takes them; found by their names if not given.
        name: What pages and logs call it.
        **overrides: Settings of this listener alone, e.g. ``rest_seconds=1``.

    Raises:
        StackError: It does not start; the text names its log.
    """
    settings = load_settings(worker_name=name, **overrides)
    words = ["listen", str(folder), *(["--pipeline", pipeline] if pipeline else [])]
    print(f"ingestlab {' '.join(words)} …", flush=True)  # noqa: T201 - as one would type it

    def hears(own: OwnProcess) -> bool:
        return any(listener.pid == own.process.pid and listener.synced for listener in listeners(client))

    with reaching(settings), connect(settings.redis) as client:
        return _start(OwnProcess, f"listener {name} to {folder}", ["-m", "ingestlab", *words], settings, hears)


def start_webhook() -> OwnWebhook:
    """Start a web service for announcements, and wait until it answers.

    Raises:
        StackError: It does not start; the text names its log.
    """
    token, port = secrets.token_urlsafe(16), free_port()
    settings = load_settings(announce_tokens={load_settings().tenant: token})
    print(f"ingestlab webhook --port {port} …", flush=True)  # noqa: T201 - as one would type it

    def answers(_own: OwnProcess) -> bool:
        with socket.socket() as probe:
            probe.settimeout(1)
            return probe.connect_ex((HOST, port)) == 0

    own = _start(OwnWebhook, "webhook", ["-m", "ingestlab", "webhook", "--port", str(port)], settings, answers)
    own.url, own.token = f"http://{HOST}:{port}", token
    return own


def _start(
    kind: type[P], name: str, words: Sequence[str], settings: Settings, ready: Callable[[OwnProcess], bool]
) -> P:
    """Start a process of Python, and wait until it is ready."""
    log = _log(settings, name)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output, _not_interrupted() as interrupts:
        process = subprocess.Popen(  # noqa: S603 - our own command
            [sys.executable, "-u", *words],
            env=environment(settings),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,  # so that an interrupted cell does not interrupt it
        )
        own = kind(process, name)
    try:
        if interrupts:
            signal.raise_signal(signal.SIGINT)
        with stopwatch("Its start"):
            _wait(own, ready, log)
    except BaseException:  # whoever interrupts the start does not want the process
        own.kill()
        raise
    return own


def _log(settings: Settings, name: str) -> Path:
    return settings.home / "logs" / f"{name.partition(' ')[0]}-own.log"


def _wait(own: OwnProcess, ready: Callable[[OwnProcess], bool], log: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while not ready(own):
        if own.process.poll() is not None or time.monotonic() > deadline:
            got = "it has ended" if own.process.poll() is not None else f"nothing within {PATIENCE:.0f} s"
            raise StackError(
                "The process does not start", expected=f"a {own.name} that is ready", got=got, fix=f"See {log}."
            )
        with suppress(subprocess.TimeoutExpired):
            own.process.wait(0.05)


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
