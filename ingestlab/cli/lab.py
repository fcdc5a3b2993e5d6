"""The command that opens JupyterLab on the stack: ``ingestlab lab``."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from ingestlab import stack
from ingestlab.cli.common import Home, out
from ingestlab.core.errors import TerminalError, did_you_mean
from ingestlab.core.extras import missing_package
from ingestlab.core.settings import load_settings
from ingestlab.stack.jupyter import WORKSPACE, first_pipeline, prepare
from ingestlab.stack.state import home_of

COURSE = Path("notebooks/00_start_here.ipynb")
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def lab(
    context: typer.Context,
    notebook: Annotated[
        Path | None,
        typer.Argument(help="What to open at the left, below this folder; the course, or else a first pipeline."),
    ] = None,
    home: Home = None,
) -> None:
    """Open JupyterLab with the dashboard beside a notebook; starts the stack. What follows -- is for JupyterLab."""
    if find_spec("jupyterlab") is None:
        raise missing_package("jupyterlab", "lab", "`ingestlab lab`")
    options = context.args
    if str(notebook).startswith("-"):  # no notebook, but an option of JupyterLab
        notebook, options = None, [str(notebook), *options]
    opened = _notebook(notebook)
    settings = load_settings(home=home)
    folder = home_of(settings)
    ran, named = stack.running(folder) is not None, bool(settings.redis_url or settings.redis_host)
    begun = not ran and not named
    if not named:
        with out.status("Starting Redis, Dask and workers …"):
            settings = stack.start(settings, detach=False)  # tied to this process: it cannot be left behind
    variables = {**prepare(settings, opened.as_posix()), "INGESTLAB_HOME": str(folder)}
    _say(folder, begun=begun, elsewhere=not ran)
    try:
        code = _serve(opened, options, variables)
    finally:
        if begun:
            stack.stop(folder)
    out.print("Stopped JupyterLab and the stack." if begun else "Stopped JupyterLab.")
    raise typer.Exit(code)


def _notebook(notebook: Path | None) -> Path:
    """Choose what is opened. In a folder that is not the course a first notebook is written, once."""
    if notebook is None:
        return COURSE if COURSE.exists() else first_pipeline()
    if not notebook.exists():
        there = sorted(path.as_posix() for path in (*Path().glob("*.ipynb"), *Path().glob("notebooks/*.ipynb")))
        fix = did_you_mean(notebook.as_posix(), there, "Without a name, `ingestlab lab` opens one to begin with.")
        raise TerminalError(f"There is no notebook {notebook}", fix=fix, code="notebook_not_found")
    return notebook


def _say(folder: Path, *, begun: bool, elsewhere: bool) -> None:
    """Say in two lines what runs, and what stops it."""
    if begun:
        out.print(f"JupyterLab and a stack of its own (Redis, Dask, workers) run here; the data are in {folder}.")
        out.print("Ctrl-C stops both; queue and tables are kept for the next time.")
    else:
        place = "on the servers of your settings" if elsewhere else f"on the stack that runs in {folder}"
        out.print(f"JupyterLab runs here, {place}.")
        goes_on = "they go on" if elsewhere else "the stack goes on until `ingestlab down`"
        out.print(f"Ctrl-C stops JupyterLab; {goes_on}.")


def _serve(notebook: Path, options: Sequence[str], variables: Mapping[str, str]) -> int:
    """Run JupyterLab to its end, which a signal to this process is."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    address = f"--LabApp.default_url=/lab/workspaces/{WORKSPACE}/tree/{notebook.as_posix()}"
    quiet = "--log-level=WARN"  # else the two lines above drown
    as_root = ["--allow-root"] if os.getuid() == 0 else []  # as in containers
    command = [sys.executable, "-m", "jupyterlab", "--ServerApp.root_dir=.", quiet, *as_root, address, *options]
    asked: list[int] = []
    server: list[subprocess.Popen[bytes]] = []

    def end(number: int, _frame: FrameType | None) -> None:
        asked.append(number)
        for process in server:
            process.send_signal(signal.SIGTERM if len(asked) == 1 else signal.SIGKILL)

    for number in SIGNALS:
        signal.signal(number, end)
    # A group of its own: Ctrl-C comes to this process alone, and to JupyterLab as one SIGTERM, without a question.
    with subprocess.Popen(command, env={**os.environ, **variables, "PATH": path}, process_group=0) as process:  # noqa: S603 - our own command
        server.append(process)
        if asked:
            process.terminate()
        code = process.wait()
    return 0 if asked else code
