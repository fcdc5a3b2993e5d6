"""The running parts of one stack: started side by side, kept alive, stopped in order.

Every child lives in a session of its own, so that a Ctrl-C reaches the supervisor alone, and on Linux the
kernel ends it when the supervisor dies.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import logging
import os
import signal
import sys
import time
from asyncio.subprocess import Process
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import psutil
import redis

from ingestlab.core.errors import IngestError, StackError
from ingestlab.core.settings import STACK_FILE, Settings
from ingestlab.core.version import VERSION
from ingestlab.stack.services import DASK, Part
from ingestlab.stack.state import SERVER, STARTING_FILE, SUPERVISOR, WISH_FILE, Proc, StackState, write_private

START_SECONDS = 40.0  # for one part to become ready
ASK_SECONDS = 1.0  # between two looks whether there is work for a part that is not always needed
LOOK_SECONDS = 0.05  # between two looks at a part that is starting: a server does not call when it listens
QUICK_SECONDS = 10.0  # a part that lives shorter has died at once
DELAYS = (0.2, 1.0, 3.0, 10.0)  # before it is started again; one such death more, and it is given up
PR_SET_PDEATHSIG = 1
log = logging.getLogger("ingestlab.stack")


class Crew:
    """The running parts of one stack.

    Args:
        settings: Located: all paths in them are absolute.
        members: The parts.
        size: How many workers of each kind that is, as in :attr:`StackState.size`.
        plan: All parts of a stack of another size. On SIGUSR1 the crew changes to what :data:`WISH_FILE` says.
    """

    def __init__(
        self,
        settings: Settings,
        members: Sequence[Part],
        size: Mapping[str, int] | None = None,
        plan: Callable[[Mapping[str, int]], Sequence[Part]] | None = None,
    ) -> None:
        self._home, self._plan, self._patience = settings.home, plan, float(settings.job_timeout)
        self._parts = {part.name: part for part in members}
        self._leaving: dict[str, Part] = {}
        self._keepers: dict[str, asyncio.Task[None]] = {}
        self._asked = asyncio.Event()
        self._file = self._home / STARTING_FILE
        self._up: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self._processes: dict[str, Process] = {}
        self._state = StackState(
            settings=settings.model_dump(mode="json", include=_told(settings)),
            pids={SUPERVISOR: Proc.of(os.getpid())},
            started=datetime.now(UTC).isoformat(timespec="seconds"),
            version=VERSION,
            size=dict(size or {}),
        )

    async def live(self, on_ready: Callable[[StackState], None], *, tied: bool = False) -> None:
        """Starts all parts, keeps them up, and stops them when a signal comes or a part will not start.

        Args:
            on_ready: Called once, when every part serves.
            tied: Whether the end of standard input is a signal too.

        Raises:
            StackError: A part does not start.
        """
        loop = asyncio.get_running_loop()
        work = asyncio.create_task(self._work(on_ready))
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, work.cancel)
        loop.add_signal_handler(signal.SIGUSR1, self._asked.set)
        if tied:
            loop.add_reader(sys.stdin, lambda: (loop.remove_reader(sys.stdin), work.cancel()))
        try:
            await work
        except asyncio.CancelledError:
            log.info("stopping")
        finally:
            await self._stop()

    async def _work(self, on_ready: Callable[[StackState], None]) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                for part in self._parts.values():
                    if part.needed is None:
                        group.create_task(self._start(part))
        except* IngestError as failed:
            raise failed.exceptions[0] from None
        (self._home / STARTING_FILE).rename(self._home / STACK_FILE)
        self._file = self._home / STACK_FILE
        on_ready(self._state)
        async with asyncio.TaskGroup() as group:
            for name, part in self._parts.items():
                self._keepers[name] = group.create_task(self._attend(part) if part.needed else self._keep(name))
            while self._plan:
                await self._asked.wait()
                self._asked.clear()
                try:
                    wish = json.loads((self._home / WISH_FILE).read_text())
                    size = {name: int(wish[name]) for name in self._state.size}
                except (OSError, ValueError, TypeError, KeyError) as error:
                    log.warning("a wish that cannot be read: %r", error)
                else:
                    await self._change(size, self._plan, group)

    async def _change(
        self, size: Mapping[str, int], plan: Callable[[Mapping[str, int]], Sequence[Part]], group: asyncio.TaskGroup
    ) -> None:
        """Brings the crew to another size; who leaves finishes its job first, and is not waited for."""
        wanted = {part.name: part for part in plan(size)}
        for name in [name for name in self._parts if name not in wanted]:
            self._keepers.pop(name).cancel()
            self._leaving[name] = self._parts.pop(name)
            self._keepers[name] = group.create_task(self._dismiss(self._leaving[name]))
        new = [part for name, part in wanted.items() if name not in self._parts]
        dask, before = wanted[DASK], self._parts[DASK]
        self._parts = wanted  # a part that dies is started again as it is wanted now
        await asyncio.gather(*map(self._join, new), *([self._rescale(dask)] if dask.command != before.command else []))
        for part in new:
            self._keepers[part.name] = group.create_task(self._keep(part.name))
        self._state = self._state.model_copy(update={"size": dict(size)})
        self._save()

    async def _join(self, part: Part) -> None:
        """Starts a part that is new; `_keep` tries again what did not work."""
        if part.name in self._leaving:  # one of its name is not gone yet, and processes are known by their names
            await asyncio.wait({self._keepers[part.name]})
        try:
            await self._start(part)
        except StackError as error:
            log.warning("%s", error)
            await self._end(part, grace=0)

    async def _attend(self, part: Part) -> None:
        """Starts a part when there is work for it, and keeps it from then on."""
        while part.needed and not await asyncio.to_thread(part.needed):  # noqa: ASYNC110 - Redis calls nobody
            await asyncio.sleep(ASK_SECONDS)
        await self._join(part)
        await self._keep(part.name)

    async def _rescale(self, dask: Part) -> None:
        """Has the Dask cluster read the wish, and waits until it has what is wanted; one that dies of it comes back."""
        assert dask.sign is not None
        dask.sign.unlink(missing_ok=True)
        with suppress(ProcessLookupError):
            self._processes[DASK].send_signal(signal.SIGUSR1)
        deadline = time.monotonic() + START_SECONDS
        while not dask.ready(self._processes[DASK].pid) and time.monotonic() < deadline:
            await asyncio.wait({self._keepers[DASK]}, timeout=LOOK_SECONDS)

    async def _dismiss(self, part: Part) -> None:
        await self._end(part, grace=self._patience)
        del self._leaving[part.name]
        pids = {name: proc for name, proc in self._state.pids.items() if name != part.name}
        given_up = tuple(name for name in self._state.given_up if name != part.name)
        self._state = self._state.model_copy(update={"pids": pids, "given_up": given_up})
        self._save()

    async def _start(self, part: Part) -> None:
        """Starts a part and waits until it serves; raises StackError with its last words."""
        if part.after:
            await self._up[part.after].wait()
        process = await self._spawn(part)
        died = asyncio.ensure_future(process.wait())
        deadline = time.monotonic() + START_SECONDS
        try:
            while not _serves(part, process.pid):
                if died.done():
                    raise self._failure(part, f"an end with exit code {process.returncode}")
                if time.monotonic() > deadline:
                    raise self._failure(part, f"nothing for {START_SECONDS:.0f} s")
                await asyncio.wait({died}, timeout=LOOK_SECONDS)
        finally:
            died.cancel()
        log.info("%s serves", part.name)
        self._up[part.name].set()

    async def _keep(self, name: str) -> None:
        """Starts a part again whenever it ends, and gives it up when that is of no use."""
        deaths, born = 0, time.monotonic()
        while True:
            code = await self._processes[name].wait()
            part = self._parts[name]  # as it is wanted by now
            deaths = deaths + 1 if time.monotonic() - born < QUICK_SECONDS else 1
            if deaths > len(DELAYS):
                break
            log.warning("%s ended with exit code %s; starting it again in %s s", part.name, code, DELAYS[deaths - 1])
            await asyncio.sleep(DELAYS[deaths - 1])
            born = time.monotonic()
            try:
                await self._start(part)
            except StackError as error:
                log.warning("%s", error)
                await self._end(part, grace=0)
            else:
                log.info("%s is back", part.name)
        log.error("giving up: %s", self._failure(part, f"an end at once, {deaths} times"))
        self._state = self._state.model_copy(update={"given_up": (*self._state.given_up, part.name)})
        self._save()

    async def _spawn(self, part: Part) -> Process:
        if part.sign:
            part.sign.unlink(missing_ok=True)
        try:
            with self._log(part).open("ab") as output:
                process = await asyncio.create_subprocess_exec(
                    *part.command,
                    env=dict(part.env),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                    preexec_fn=_end_with_parent(signal.SIGTERM if part.name == SERVER else signal.SIGKILL),
                )
        except OSError as error:
            raise StackError.wrap(error, f"{part.name} to start", f"Check {part.command[0]}.") from error
        self._processes[part.name] = process
        with suppress(psutil.NoSuchProcess):  # it has died already, which whoever waits for it will see
            born = Proc.of(process.pid)
            self._state = self._state.model_copy(update={"pids": {**self._state.pids, part.name: born}})
            self._save()
        return process

    async def _stop(self) -> None:
        """Stops the parts wave by wave, the server last."""
        everyone = [*self._parts.values(), *self._leaving.values()]
        for wave in sorted({part.wave for part in everyone}):
            await asyncio.gather(*(self._end(part, part.grace) for part in everyone if part.wave == wave))
        for name in (STACK_FILE, STARTING_FILE):
            (self._home / name).unlink(missing_ok=True)

    async def _end(self, part: Part, grace: float) -> None:
        process = self._processes.get(part.name)
        if process is None or process.returncode is not None:
            return
        with suppress(ProcessLookupError):
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), grace)
        except TimeoutError:
            log.warning("%s did not end within %s s: killed", part.name, grace)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # with all that it has started
            await process.wait()

    def _failure(self, part: Part, got: str) -> StackError:
        words = self._log(part).read_text(errors="replace").strip().splitlines()[-1:]
        return StackError(f"{part.name} to start", "; its last words: ".join([got, *words]), f"See {self._log(part)}.")

    def _log(self, part: Part) -> Path:
        return self._home / "logs" / f"{part.name}.log"

    def _save(self) -> None:
        write_private(self._file, json.dumps(self._state.to_dict(), indent=1))


def _serves(part: Part, pid: int) -> bool:
    try:
        return part.ready(pid)
    except redis.AuthenticationError as error:
        raise StackError.wrap(error, f"{part.name} to know our password", "End what took its port.") from error


def _end_with_parent(number: int) -> Callable[[], None] | None:
    """What a child does before its program starts, so that it does not outlive a killed supervisor."""
    if sys.platform != "linux":
        return None  # there the next `up` sweeps
    parent, prctl = os.getpid(), ctypes.CDLL(None).prctl

    def arrange() -> None:
        prctl(PR_SET_PDEATHSIG, number)
        if os.getppid() != parent:  # it died before we asked
            os._exit(1)

    return arrange


def _told(settings: Settings) -> set[str]:
    """The settings that clients take from the stack: all that are not at their default."""
    fields = Settings.model_fields.items()
    return {name for name, f in fields if getattr(settings, name) != f.get_default(call_default_factory=True)}
