"""The state of a stack in its home folder: what runs, where, and who may start one.

A process is named by its id *and* its time of birth, so that an id that the system has given to somebody
else since is never taken for ours, let alone killed.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Self

import psutil
from pydantic import Field

from ingestlab.core.errors import StackError
from ingestlab.core.models import Value
from ingestlab.core.settings import STACK_FILE, Settings

STARTING_FILE = "starting.json"  # the same as STACK_FILE, until every part is ready
SCALE_FILE = "scale.json"  # how many workers of each kind somebody has asked for
SUPERVISOR = "supervisor"
SERVER = "redis"  # the one part that gets the time to close its files


class Proc(Value):
    """One process: its id and time of birth (seconds since the epoch)."""

    pid: int
    created: float

    @classmethod
    def of(cls, pid: int) -> Self:
        """Give the process that has this id now; raises psutil.NoSuchProcess."""
        return cls(pid=pid, created=psutil.Process(pid).create_time())

    def find(self) -> psutil.Process | None:
        """Find the living process. None if it has ended, as a zombie has."""
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(self.pid)
            if process.create_time() == self.created and not _ended(process):
                return process
        return None


class StackState(Value):
    """A stack as its supervisor writes it down."""

    settings: dict[str, Any]  # what clients need to find it; fields of Settings
    pids: dict[str, Proc]  # by part, and the supervisor's own
    started: str  # ISO 8601, UTC
    version: str
    given_up: tuple[str, ...] = ()  # parts that died too often to be started again
    size: dict[str, int] = Field(default_factory=dict)  # `workers` and `dask_workers`, as the spec counts them

    @property
    def alive(self) -> bool:
        """Whether the supervisor still runs."""
        return SUPERVISOR in self.pids and self.pids[SUPERVISOR].find() is not None

    def serves(self, settings: Settings) -> bool:
        """Tell whether the settings lead to this stack, not elsewhere."""
        return self.settings.get("redis_url") == settings.redis

    def connect(self, settings: Settings) -> Settings:
        """Give the settings with the addresses of this stack in them."""
        return Settings(**{**settings.model_dump(), **self.settings})


def home_of(settings: Settings) -> Path:
    """Give the home folder as an absolute path."""
    return settings.home.expanduser().resolve()


def write_private(path: Path, text: str) -> None:
    """Write a file for its owner alone, whole or not at all."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.new")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    temporary.replace(path)


def read_state(path: Path) -> StackState | None:
    """Read the state in a file. None if there is no valid one."""
    with suppress(FileNotFoundError, NotADirectoryError, json.JSONDecodeError, ValueError):
        return StackState.from_dict(json.loads(path.read_text()))
    return None


def running(home: Path, file: str = STACK_FILE) -> StackState | None:
    """Read the state of a home's running stack, or None.

    Args:
        home: Its folder. What a dead stack left there does not count.
        file: :data:`STARTING_FILE` finds one that is starting.
    """
    state = read_state(home / file)
    return state if state and state.alive else None


def try_lock(home: Path) -> IO[str] | None:
    """Lock a home for its one supervisor. None if it is taken; keep the lock open."""
    home.mkdir(parents=True, exist_ok=True)
    file = (home / "lock").open("a")  # the lock is held as long as this is open
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file


def acquire(home: Path, seconds: float = 60.0) -> IO[str] | None:
    """Lock a home, waiting while another stack starts or stops there.

    Args:
        home: Its folder.
        seconds: To wait at most.

    Returns:
        The open lock; None if a stack runs there.

    Raises:
        StackError: It still starts or stops when the seconds are over.
    """
    deadline = time.monotonic() + seconds
    while (lock := try_lock(home)) is None and not running(home):
        if time.monotonic() > deadline:
            problem = f"The stack in {home} is still starting or stopping"
            raise StackError(problem, got=f"no end of it in {seconds:.0f} s", fix="End it with `ingestlab down`.")
        time.sleep(0.05)  # for another process: there is nothing to wait on but its files
    return lock


def sweep(home: Path) -> list[str]:
    """End what a killed supervisor has left running, and forget it. Call it with the lock held.

    Returns:
        The names of the parts that were still there.
    """
    left: list[str] = []
    for file in (home / STACK_FILE, home / STARTING_FILE):
        if state := read_state(file):
            left += [name for name, proc in state.pids.items() if proc.find()]
            end(state.pids)
        file.unlink(missing_ok=True)
    return left


def end(procs: Mapping[str, Proc], grace: float = 5.0) -> None:
    """End processes and their children: the server politely and last, the others at once."""
    others = [process for name, proc in procs.items() if name != SERVER and (process := proc.find())]
    _each(psutil.Process.kill, [*others, *(child for process in others for child in _children(process))], grace)
    if SERVER in procs and (server := procs[SERVER].find()):
        _each(psutil.Process.kill, _each(psutil.Process.terminate, [server], grace), grace)


def wait(processes: Sequence[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Wait until processes have ended; give those that have not.

    A zombie has ended, though its id stays until its parent asks for it, which in a container may be never.
    """
    deadline = time.monotonic() + seconds
    while (left := [p for p in processes if not _ended(p)]) and time.monotonic() < deadline:
        psutil.wait_procs(left, timeout=0.05)
    return left


def _ended(process: psutil.Process) -> bool:
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def _children(process: psutil.Process) -> list[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        return process.children(recursive=True)
    return []


def _each(
    action: Callable[[psutil.Process], None], processes: Sequence[psutil.Process], grace: float
) -> list[psutil.Process]:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            action(process)
    return wait(processes, grace)
