"""The commands that run one part of the system on a machine of its own, or prepare its servers: see also `worker`."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer
from rich.text import Text

from ingestlab.cli.common import many, out
from ingestlab.core.errors import TerminalError
from ingestlab.core.settings import load_settings
from ingestlab.stack.services import CALM, ONE_HEAP, ONE_THREAD, environment

WORKER_PAGE = ":8790"  # of a Dask worker: ingestlab.stack.health asks it


def scheduler(context: typer.Context) -> None:
    """Run a Dask scheduler that has the Ingest page. Options are those of `dask scheduler`."""
    _dask("scheduler", "--preload", "ingestlab.stack.dashboard", *context.args)


def dask_worker(context: typer.Context) -> None:
    """Run a Dask worker for DASK_SCHEDULER_ADDRESS. Options are those of `dask worker`."""
    address = load_settings().dask_scheduler
    if not address:
        fix = "Set DASK_SCHEDULER_ADDRESS, e.g. to tcp://host:8786."
        raise TerminalError("There is no scheduler's address", fix=fix, code="setting_missing")
    page = [] if "--dashboard-address" in context.args else ["--dashboard-address", WORKER_PAGE]
    # One partition at a time: memory stays bounded, and pandas holds the GIL anyway.
    threads, memory = ([], {}) if "--nthreads" in context.args else (["--nthreads", "1"], ONE_HEAP)
    _dask("worker", address, *threads, *page, "--preload", "ingestlab.stack.preload", *context.args, **memory)


def init(
    samples: Annotated[bool, typer.Option(help="Put sample files where INGESTLAB_SAMPLES says, too.")] = False,
) -> None:
    """Create the lake's bucket or folder; harmless to repeat."""
    from ingestlab.stack.bootstrap import make_place, put_samples  # noqa: PLC0415 - fsspec is slow to import

    settings = load_settings()
    make_place(settings.lake_url, settings)
    out.print(Text(f"The lake is at {settings.lake_url}."))
    if samples:
        sets = put_samples(settings)
        out.print(Text(f"{many(len(sets), 'set')} of samples copied to {settings.samples}."))


def _dask(role: str, *arguments: str, **variables: str) -> None:
    """Become a `dask` command with the settings of the embedded stack. `variables` join its environment."""
    calm = {f"DASK_{name.upper().replace('.', '__')}": str(value) for name, value in CALM.items()}
    here = {**calm, **environment(load_settings()), **ONE_THREAD, **variables}
    os.execve(sys.executable, [sys.executable, "-m", "dask", role, *arguments], here)  # noqa: S606 - no shell is wanted
