"""Runs one stack in this process: plans it, and hands it to its crew."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from ingestlab.core.errors import StackError
from ingestlab.core.settings import Settings
from ingestlab.stack.crew import Crew
from ingestlab.stack.services import Part, Spec, choose_ports, locate, parts
from ingestlab.stack.state import SUPERVISOR, StackState, acquire, home_of, running, sweep

log = logging.getLogger("ingestlab.stack")


def run(settings: Settings, spec: Spec, on_ready: Callable[[StackState], None]) -> None:
    """Runs a stack until SIGINT, SIGTERM or SIGHUP; call it in the main thread.

    Args:
        settings: Where and what; server addresses in them are not used, the stack has its own.
        spec: How many of what.
        on_ready: Called once when every part serves; at once, if a stack runs in this home already.

    Raises:
        StackError: A part does not start; those that did are stopped again.
    """
    home = home_of(settings)
    lock = acquire(home)
    if lock is None:
        if (state := running(home)) is None:
            raise StackError(f"a stack in {home}", "one that has just ended", "Start it again.")
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

        def plan(size: Mapping[str, int]) -> Sequence[Part]:
            return parts(located, replace(counted, workers=size["workers"], dask_workers=size["dask_workers"]), ports)

        crew = Crew(located, parts(located, counted, ports), counted.size(), plan)
        asyncio.run(crew.live(on_ready, tied=spec.tied))
