"""Loads, in the background of a fresh Dask worker, what its first task will need.

A Dask preload module, so that a worker which Dask restarts is warmed as well. A cold worker spends two
to three seconds on imports.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import threading
from typing import Any

from ingestlab.core.plugins import plugins

MODULES = ("pandas", "pyarrow.parquet", "pyarrow.csv", "pandera.pandas", "ingestlab.engine.task.process")
log = logging.getLogger(__name__)


_waiting: set[asyncio.Task[None]] = set()  # which nobody else holds on to


def dask_setup(worker: Any) -> None:
    """Import in the background of a starting Dask worker, which calls this."""
    task = asyncio.create_task(_when_at_work(worker))
    _waiting.add(task)
    task.add_done_callback(_waiting.discard)


async def _when_at_work(worker: Any) -> None:
    await worker  # imports beside its start would hold that up, and with it the start of the stack
    threading.Thread(target=import_all, args=(str(worker.name),), name="ingestlab-warm", daemon=True).start()


def import_all(worker: str) -> None:
    """Import the modules one by one, and load what is compiled. The task that needs a broken one will say so itself."""
    for name in (*MODULES, *(point.module for point in plugins("sinks").values())):
        try:
            importlib.import_module(name)
        except Exception as error:  # noqa: BLE001 - plug-ins are anybody's code
            log.warning("worker %s could not import %s: %s", worker, name, error)
    importlib.import_module("ingestlab.formats.compiled.loader").warm()  # the compiled loops
