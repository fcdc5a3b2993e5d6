"""Starting and stopping a stack from another process: the CLI, a notebook, a test."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from ingestlab.core.errors import IngestError, StackError, TerminalError
from ingestlab.core.settings import Settings
from ingestlab.stack.services import WORKER, Spec, environment
from ingestlab.stack.state import (
    SUPERVISOR,
    WISH_FILE,
    StackState,
    home_of,
    running,
    starting,
    sweep,
    try_lock,
    wait,
    write_private,
)

STOP_SECONDS = 40.0  # more than the grace periods of all parts together
SCALE_SECONDS = 30.0
MOST = 16  # workers of a kind, or four a core
_children: dict[Path, subprocess.Popen[bytes]] = {}  # the supervisors that this process has started, by home


def start(
    settings: Settings,
    *,
    workers: int = 2,
    dask_workers: int = 0,
    detach: bool = True,
    milvus: bool = True,
    worker_command: tuple[str, ...] = WORKER,
) -> Settings:
    """Starts a stack in the background, or finds the one that runs in this home, and waits until it serves.

    Args:
        settings: Where (`home`, `lake`) and what; the stack brings its own servers.
        workers: RQ workers.
        dask_workers: Processes of the Dask cluster; 0 means one a core, four at most.
        detach: Whether the stack outlives this process; if not, it stops when this process ends.
        milvus: Whether Milvus Lite is wanted, where it is installed.
        worker_command: What runs an RQ worker; the queue's name is added.

    Returns:
        The settings with the stack's addresses in them.

    Raises:
        StackError: A part does not start; its name, last words and log are in the text.
    """
    home = home_of(settings)
    spec = Spec(
        workers=workers, dask_workers=dask_workers, worker_command=worker_command, tied=not detach, milvus=milvus
    )
    state = running(home) or _launch(settings.model_copy(update={"home": home}), spec)
    return state.connect(settings)


def stop(home: Path, seconds: float = STOP_SECONDS) -> bool:
    """Stops the stack of a home, be it up or starting, and waits until all of it is gone.

    Args:
        home: Its home folder.
        seconds: How long it may take to end by itself; then it is killed.

    Returns:
        Whether there was anything to stop.
    """
    home = home.expanduser().resolve()
    state = running(home) or starting(home)
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
    """Changes how many workers a running stack has, and waits until the new ones are at work.

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
        raise StackError(f"a running stack in {home}", "none", "Start one with `ingestlab up`.")
    asked = {"workers": workers, "dask_workers": dask_workers}
    wish = {**state.size, **{name: count for name, count in asked.items() if count is not None}}
    for name, count in wish.items():
        least, most = int(name == "dask_workers"), max(MOST, 4 * (os.cpu_count() or 1))
        if not least <= count <= most:
            raise TerminalError(f"{name} from {least} to {most}", str(count), "They share one machine.")
    if wish != state.size:
        write_private(home / WISH_FILE, json.dumps(wish))
        os.kill(state.pids[SUPERVISOR].pid, signal.SIGUSR1)
    deadline = time.monotonic() + seconds
    while (now := running(home)) and now.size != wish and time.monotonic() < deadline:
        time.sleep(0.05)  # another process is at work: there is nothing to wait on but its files
    if now is None or now.size != wish:
        got = f"{now.size} after {seconds:.0f} s" if now else "the end of the stack"
        raise StackError(f"a stack of {wish}", got, f"A leaving worker may be at its last job; see {home / 'logs'}.")
    return now


def _launch(settings: Settings, spec: Spec) -> StackState:
    """Starts a supervisor, and reads from a pipe how it went; its death closes the pipe."""
    home, log = settings.home, settings.home / "logs" / "supervisor.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    reader, writer = os.pipe()
    with os.fdopen(reader) as answer, log.open("wb") as output:
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
            text = answer.read()
        except BaseException:  # whoever interrupts the start does not want the stack
            child.terminate()
            raise
    data = json.loads(text or "{}")
    if "pids" in data:
        _children[home] = child
        return StackState.from_dict(data)
    child.communicate()
    if "error" in data:
        raise IngestError.from_dict(data["error"])
    got = f"an end with exit code {child.returncode}" if child.returncode else "a stop before it was ready"
    raise StackError(f"the stack in {home} to start", got, f"See {log}.")


def _sweep(home: Path) -> bool:
    """Clears what a dead supervisor has left; where a new one is at work already, it does that itself."""
    lock = try_lock(home) if home.exists() else None
    if lock is None:
        return False
    with lock:
        return bool(sweep(home))
