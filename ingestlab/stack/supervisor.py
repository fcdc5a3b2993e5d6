"""The supervisor of one stack: starts its services side by side, keeps them alive, stops them in order.

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
from typing import Any

import psutil
import redis

from ingestlab.core.errors import IngestError, StackError
from ingestlab.core.settings import STACK_FILE, Settings
from ingestlab.core.version import VERSION
from ingestlab.stack.services import DASK, Service
from ingestlab.stack.state import SCALE_FILE, SERVER, STARTING_FILE, SUPERVISOR, Proc, StackState, write_private

START_SECONDS = 120.0  # for one service to become ready, on a cold or busy machine; an end is noticed at once
ASK_SECONDS = 1.0  # between two looks whether there is work for a service that is not always needed
LOOK_SECONDS = 0.05  # between two looks at a service that is starting: a server does not call when it listens
QUICK_SECONDS = 10.0  # a service that lives shorter has died at once
DELAYS = (0.2, 1.0, 3.0, 10.0)  # before it is started again; one such death more, and it is given up
PR_SET_PDEATHSIG = 1
log = logging.getLogger("ingestlab.stack")


class Supervisor:
    """Run the services of one stack.

    Args:
        settings: Located: all paths in them are absolute.
        services: What runs.
        size: How many workers of each kind that is, as in :attr:`StackState.size`.
        plan: All services of a stack of another size. On SIGUSR1 the stack changes to what :data:`SCALE_FILE` says.
        tell: Is told the name of each service that serves now.
    """

    def __init__(
        self,
        settings: Settings,
        services: Sequence[Service],
        size: Mapping[str, int] | None = None,
        plan: Callable[[Mapping[str, int]], Sequence[Service]] | None = None,
        tell: Callable[[str], None] = lambda _name: None,
    ) -> None:
        self._tell = tell
        self._home, self._plan, self._patience = settings.home, plan, float(settings.job_timeout)
        self._services = {service.name: service for service in services}
        self._leaving: dict[str, Service] = {}
        self._monitors: dict[str, asyncio.Task[None]] = {}
        self._scale_asked = asyncio.Event()
        self._file = self._home / STARTING_FILE
        self._up: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self._processes: dict[str, Process] = {}
        self._state = StackState(
            settings=settings.model_dump(mode="json", include=_changed(settings)),
            pids={SUPERVISOR: Proc.of(os.getpid())},
            started=datetime.now(UTC).isoformat(timespec="seconds"),
            version=VERSION,
            size=dict(size or {}),
        )

    async def live(self, on_ready: Callable[[StackState], None], *, tied: bool = False) -> None:
        """Run all services until a signal, or until one fails to start.

        Args:
            on_ready: Called once, when every service serves.
            tied: Whether the end of standard input is a signal too.

        Raises:
            StackError: A service does not start.
        """
        loop = asyncio.get_running_loop()
        work = asyncio.create_task(self._work(on_ready))
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, work.cancel)
        loop.add_signal_handler(signal.SIGUSR1, self._scale_asked.set)
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
                for service in self._services.values():
                    if service.needed is None:
                        group.create_task(self._start(service))
        except* IngestError as failed:
            raise failed.exceptions[0] from None
        (self._home / STARTING_FILE).rename(self._home / STACK_FILE)
        self._file = self._home / STACK_FILE
        on_ready(self._state)
        async with asyncio.TaskGroup() as group:
            for name, service in self._services.items():
                self._monitors[name] = group.create_task(
                    self._start_when_needed(service) if service.needed else self._monitor(name)
                )
            while self._plan:
                await self._scale_asked.wait()
                self._scale_asked.clear()
                try:
                    request = json.loads((self._home / SCALE_FILE).read_text())
                    size = {name: int(request[name]) for name in self._state.size}
                except (OSError, ValueError, TypeError, KeyError) as error:
                    log.warning("a request for another size that cannot be read: %r", error)
                else:
                    await self._change(size, self._plan, group)

    async def _change(
        self, size: Mapping[str, int], plan: Callable[[Mapping[str, int]], Sequence[Service]], group: asyncio.TaskGroup
    ) -> None:
        """Scale to `size`; removed workers finish their current job in the background."""
        wanted = {service.name: service for service in plan(size)}
        for name in [name for name in self._services if name not in wanted]:
            self._monitors.pop(name).cancel()
            self._leaving[name] = self._services.pop(name)
            self._monitors[name] = group.create_task(self._retire(self._leaving[name]))
        new = [service for name, service in wanted.items() if name not in self._services]
        dask, before = wanted[DASK], self._services[DASK]
        self._services = wanted  # a service that dies is started again as it is wanted now
        await asyncio.gather(*map(self._join, new), *([self._rescale(dask)] if dask.command != before.command else []))
        for service in new:
            self._monitors[service.name] = group.create_task(self._monitor(service.name))
        self._save(size=dict(size))

    async def _join(self, service: Service) -> None:
        """Start a new service; `_monitor` tries a failed start again."""
        if service.name in self._leaving:  # one of its name is not gone yet, and processes are known by their names
            await asyncio.wait({self._monitors[service.name]})
        try:
            await self._start(service)
        except StackError as error:
            log.warning("%s", error)
            await self._end(service, grace=0)

    async def _start_when_needed(self, service: Service) -> None:
        """Start and monitor a service once there is work for it."""
        while service.needed and not await asyncio.to_thread(service.needed):  # noqa: ASYNC110 - Redis calls nobody
            await asyncio.sleep(ASK_SECONDS)
        await self._join(service)
        await self._monitor(service.name)

    async def _rescale(self, dask: Service) -> None:
        """Have the Dask cluster scale, and wait. A cluster that dies comes back."""
        assert dask.sign is not None
        dask.sign.unlink(missing_ok=True)
        with suppress(ProcessLookupError):
            self._processes[DASK].send_signal(signal.SIGUSR1)
        deadline = time.monotonic() + START_SECONDS
        while not dask.ready(self._processes[DASK].pid) and time.monotonic() < deadline:
            await asyncio.wait({self._monitors[DASK]}, timeout=LOOK_SECONDS)

    async def _retire(self, service: Service) -> None:
        await self._end(service, grace=self._patience)
        del self._leaving[service.name]
        pids = {name: proc for name, proc in self._state.pids.items() if name != service.name}
        given_up = tuple(name for name in self._state.given_up if name != service.name)
        self._save(pids=pids, given_up=given_up)

    async def _start(self, service: Service) -> None:
        """Start a service and wait until it serves. Raise StackError with its last words."""
        if service.after:
            await self._up[service.after].wait()
        process = await self._spawn(service)
        died = asyncio.ensure_future(process.wait())
        deadline = time.monotonic() + START_SECONDS
        try:
            while not _serves(service, process.pid):
                if died.done():
                    raise self._failure(service, f"an end with exit code {process.returncode}")
                if time.monotonic() > deadline:
                    raise self._failure(service, f"nothing for {START_SECONDS:.0f} s")
                await asyncio.wait({died}, timeout=LOOK_SECONDS)
        finally:
            died.cancel()
        log.info("%s serves", service.name)
        self._tell(service.name)
        self._up[service.name].set()

    async def _monitor(self, name: str) -> None:
        """Restart a service whenever it ends. Give it up when that is useless."""
        deaths, born = 0, time.monotonic()
        while True:
            code = await self._processes[name].wait()
            service = self._services[name]  # as it is wanted by now
            deaths = deaths + 1 if time.monotonic() - born < QUICK_SECONDS else 1
            if deaths > len(DELAYS):
                break
            log.warning("%s ended with exit code %s; starting it again in %s s", service.name, code, DELAYS[deaths - 1])
            await asyncio.sleep(DELAYS[deaths - 1])
            born = time.monotonic()
            try:
                await self._start(service)
            except StackError as error:
                log.warning("%s", error)
                await self._end(service, grace=0)
            else:
                log.info("%s is back", service.name)
        log.error("giving up: %s", self._failure(service, f"an end at once, {deaths} times"))
        self._save(given_up=(*self._state.given_up, service.name))

    async def _spawn(self, service: Service) -> Process:
        if service.sign:
            service.sign.unlink(missing_ok=True)
        try:
            with self._log(service).open("ab") as output:
                process = await asyncio.create_subprocess_exec(
                    *service.command,
                    env=dict(service.env),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                    preexec_fn=_end_with_parent(signal.SIGTERM if service.name == SERVER else signal.SIGKILL),
                )
        except OSError as error:
            raise StackError.wrap(error, f"{service.name} did not start", f"Check {service.command[0]}.") from error
        self._processes[service.name] = process
        with suppress(psutil.NoSuchProcess):  # it has died already, which whoever waits for it will see
            born = Proc.of(process.pid)
            self._save(pids={**self._state.pids, service.name: born})
        return process

    async def _stop(self) -> None:
        """Stop the services wave by wave, the server last."""
        everyone = [*self._services.values(), *self._leaving.values()]
        for wave in sorted({service.wave for service in everyone}):
            await asyncio.gather(*(self._end(service, service.grace) for service in everyone if service.wave == wave))
        for name in (STACK_FILE, STARTING_FILE):
            (self._home / name).unlink(missing_ok=True)

    async def _end(self, service: Service, grace: float) -> None:
        process = self._processes.get(service.name)
        if process is None or process.returncode is not None:
            return
        with suppress(ProcessLookupError):
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), grace)
        except TimeoutError:
            log.warning("%s did not end within %s s: killed", service.name, grace)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # with all that it has started
            await process.wait()

    def _failure(self, service: Service, got: str) -> StackError:
        words = self._log(service).read_text(errors="replace").strip().splitlines()[-1:]
        return StackError(
            f"{service.name} did not start",
            got="; its last words: ".join([got, *words]),
            fix=f"See {self._log(service)}.",
        )

    def _log(self, service: Service) -> Path:
        return self._home / "logs" / f"{service.name}.log"

    def _save(self, **changes: Any) -> None:
        self._state = self._state.model_copy(update=changes)
        write_private(self._file, json.dumps(self._state.to_dict(), indent=1))


def _serves(service: Service, pid: int) -> bool:
    try:
        return service.ready(pid)
    except redis.AuthenticationError as error:
        raise StackError.wrap(error, f"{service.name} does not know our password", "End what took its port.") from error


def _end_with_parent(number: int) -> Callable[[], None] | None:
    """Tie a child's life to the supervisor's."""
    if sys.platform != "linux":
        return None  # there the next `up` sweeps
    parent, prctl = os.getpid(), ctypes.CDLL(None).prctl

    def arrange() -> None:
        prctl(PR_SET_PDEATHSIG, number)
        if os.getppid() != parent:  # it died before we asked
            os._exit(1)

    return arrange


def _changed(settings: Settings) -> set[str]:
    """Give the settings that clients take from the stack: all that are not at their default, but for secret ones."""
    fields = Settings.model_fields.items()
    changed = {name for name, f in fields if getattr(settings, name) != f.get_default(call_default_factory=True)}
    return changed - {"announce_tokens"}  # they would be written as asterisks
