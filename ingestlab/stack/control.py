"""Running a stack in this process, and starting, scaling and stopping one in the background."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ingestlab.core.errors import IngestError, StackError, TerminalError
from ingestlab.core.settings import Settings
from ingestlab.stack.services import WORKER, Service, Spec, choose_ports, environment, locate, services
from ingestlab.stack.state import (
    SCALE_FILE,
    STARTING_FILE,
    SUPERVISOR,
    StackState,
    acquire,
    home_of,
    running,
    sweep,
    try_lock,
    wait,
    write_private,
)
from ingestlab.stack.supervisor import Supervisor

STOP_SECONDS = 40.0  # more than the grace periods of all parts together
SCALE_SECONDS = 30.0
MOST = 16  # workers of a kind, or four a core
log = logging.getLogger("ingestlab.stack")
_children: dict[Path, subprocess.Popen[bytes]] = {}  # the supervisors that this process has started, by home


def start(
    settings: Settings,
    *,
    workers: int = 2,
    dask_workers: int = 0,
    detach: bool = True,
    milvus: bool = True,
    worker_command: tuple[str, ...] = WORKER,
    tell: Callable[[str], None] = lambda _name: None,
) -> Settings:
    """Start a stack in the background, or find the running one.

    Args:
        settings: Where (`home`, `lake`) and what; the stack brings its own servers.
        workers: RQ workers.
        dask_workers: Processes of the Dask cluster; 0 means one a core, four at most.
        detach: Whether the stack outlives this process; if not, it stops when this process ends.
        milvus: Whether Milvus Lite is wanted, where it is installed.
        worker_command: What runs an RQ worker; the queue's name is added.
        tell: Is told the name of each service as soon as it serves.

    Returns:
        The settings with the stack's addresses in them.

    Raises:
        StackError: A part does not start; its name, last words and log are in the text.
    """
    home = home_of(settings)
    spec = Spec(
        workers=workers, dask_workers=dask_workers, worker_command=worker_command, tied=not detach, milvus=milvus
    )
    state = running(home) or _launch(settings.model_copy(update={"home": home}), spec, tell)
    return state.connect(settings)


def stop(home: Path, seconds: float = STOP_SECONDS) -> bool:
    """Stop the stack of a home, be it up or starting. Wait until all of it is gone.

    Args:
        home: Its home folder.
        seconds: How long it may take to end by itself; then it is killed.

    Returns:
        Whether there was anything to stop.
    """
    home = home.expanduser().resolve()
    state = running(home) or running(home, STARTING_FILE)
    process = state.pids[SUPERVISOR].find() if state else None
    if process is not None:
        process.terminate()
        for deaf in wait([process], seconds):
            deaf.kill()
    if child := _children.pop(home, None):
        child.communicate()  # so that it does not stay as a zombie
    return _sweep(home) or process is not None


def scale(
    home: Path, *, workers: int | None = None, dask_workers: int | None = None, seconds: float = SCALE_SECONDS
) -> StackState:
    """Scale a running stack, and wait until new workers listen.

    A worker that has to go finishes its job first, and is not waited for.

    Args:
        home: The home folder of the stack.
        workers: RQ workers; as many as there are, if not given.
        dask_workers: Processes of the Dask cluster, likewise.
        seconds: How long it may take.

    Raises:
        TerminalError: So many are not to be had.
        StackError: No stack runs there, or it did not get there in time.
    """
    home = home.expanduser().resolve()
    state = running(home)
    if state is None:
        problem, fix = f"There is not a running stack in {home}", "Start one with `ingestlab up`."
        raise StackError(problem, fix=fix, code="stack_not_running")
    asked = {"workers": workers, "dask_workers": dask_workers}
    size = {**state.size, **{name: count for name, count in asked.items() if count is not None}}
    for name, count in size.items():
        least, most = int(name == "dask_workers"), max(MOST, 4 * (os.cpu_count() or 1))
        if not least <= count <= most:
            problem, expected = f"Not that many {name}", f"{name} from {least} to {most}"
            fix = "They share one machine."
            raise TerminalError(problem, expected=expected, got=str(count), fix=fix, code="argument_invalid")
    if size != state.size:
        write_private(home / SCALE_FILE, json.dumps(size))
        os.kill(state.pids[SUPERVISOR].pid, signal.SIGUSR1)
    deadline = time.monotonic() + seconds
    while (now := running(home)) and now.size != size and time.monotonic() < deadline:
        time.sleep(0.05)  # for another process: there is nothing to wait on but its files
    if now is None or now.size != size:
        got = f"{now.size} after {seconds:.0f} s" if now else "the end of the stack"
        problem = "The stack did not change its size"
        fix = f"A leaving worker may be at its last job; see {home / 'logs'}."
        raise StackError(problem, expected=f"a stack of {size}", got=got, fix=fix)
    return now


def run(
    settings: Settings,
    spec: Spec,
    on_ready: Callable[[StackState], None],
    tell: Callable[[str], None] = lambda _name: None,
) -> None:
    """Run a stack until a signal. Call it in the main thread.

    Args:
        settings: Where and what; server addresses in them are not used, the stack has its own.
        spec: How many of what.
        on_ready: Called once when every part serves; at once, if a stack runs in this home already.
        tell: Is told the name of each service as soon as it serves.

    Raises:
        StackError: A part does not start; those that did are stopped again.
    """
    home = home_of(settings)
    lock = acquire(home)
    if lock is None:
        if (state := running(home)) is None:
            raise StackError(f"The stack in {home} has just ended", fix="Start it again.", code="stack_not_running")
        on_ready(state)
        return
    with lock:
        for name in sweep(home):
            log.warning("ended %s, which a killed stack had left running", name)
        for old in (home / "logs").glob("*.log"):
            if old.stem != SUPERVISOR:  # that one is open already
                old.replace(old.with_suffix(".log.1"))
        ports = choose_ports(home)
        counted = spec.counted()
        located = locate(settings, counted, ports)

        def plan(size: Mapping[str, int]) -> Sequence[Service]:
            return services(
                located, replace(counted, workers=size["workers"], dask_workers=size["dask_workers"]), ports
            )

        supervisor = Supervisor(located, services(located, counted, ports), counted.size(), plan, tell)
        asyncio.run(supervisor.live(on_ready, tied=spec.tied))


def _launch(settings: Settings, spec: Spec, tell: Callable[[str], None]) -> StackState:
    """Start a supervisor, and read from a pipe how it went. Its death closes the pipe."""
    home, log_file = settings.home, settings.home / "logs" / "supervisor.log"
    log_file.parent.mkdir(parents=True, exist_ok=True)
    reader, writer = os.pipe()
    with os.fdopen(reader) as answer, log_file.open("wb") as output:
        child = subprocess.Popen(  # noqa: S603 - our own command
            [sys.executable, "-m", "ingestlab.stack", spec.to_json(), str(writer)],
            env=environment(settings),
            stdin=subprocess.PIPE if spec.tied else subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=[writer],
            start_new_session=True,
        )
        os.close(writer)
        try:
            data = _last_line(answer, tell)
        except BaseException:  # whoever interrupts the start does not want the stack
            child.terminate()
            raise
    if "pids" in data:
        _children[home] = child
        return StackState.from_dict(data)
    child.communicate()
    if "error" in data:
        raise IngestError.from_dict(data["error"])
    got = f"an end with exit code {child.returncode}" if child.returncode else "a stop before it was ready"
    raise StackError(f"The stack in {home} did not start", got=got, fix=f"See {log_file}.")


def _last_line(lines: Iterable[str], tell: Callable[[str], None]) -> dict[str, Any]:
    """Read what a supervisor writes: who serves, and at last the state or the error; empty if it died."""
    data: dict[str, Any] = {}
    for line in lines:
        data = json.loads(line)
        if name := data.get("serves"):
            tell(name)
    return data


def _sweep(home: Path) -> bool:
    """Clear what a dead supervisor has left. A new one that runs already does that itself."""
    lock = try_lock(home) if home.exists() else None
    if lock is None:
        return False
    with lock:
        return bool(sweep(home))
