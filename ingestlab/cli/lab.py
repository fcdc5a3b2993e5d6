"""The command that opens JupyterLab on the stack: ``ingestlab lab``."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from ingestlab import stack
from ingestlab.cli.common import Home
from ingestlab.core.extras import missing_package
from ingestlab.core.settings import load_settings
from ingestlab.stack.jupyter import WORKSPACE, prepare
from ingestlab.stack.state import home_of

NOTEBOOK = Path("notebooks/00_start_here.ipynb")


def lab(
    context: typer.Context,
    notebook: Annotated[Path, typer.Argument(help="What to open at the left, below this folder.")] = NOTEBOOK,
    home: Home = None,
) -> None:
    """Open JupyterLab with the dashboard beside a notebook; starts the stack. What follows -- is for JupyterLab."""
    if find_spec("jupyterlab") is None:
        raise missing_package("jupyterlab", "lab", "`ingestlab lab`")
    options = context.args
    if str(notebook).startswith("-"):  # no notebook, but an option of JupyterLab
        notebook, options = NOTEBOOK, [str(notebook), *options]
    settings = load_settings(home=home)
    if not (settings.redis_url or settings.redis_host):
        settings = stack.start(settings)
    variables = prepare(settings, notebook.as_posix())
    as_root = ["--allow-root"] if hasattr(os, "getuid") and os.getuid() == 0 else []  # as in containers
    command = [sys.executable, "-m", "jupyterlab", "--ServerApp.root_dir=.", *as_root]
    address = f"--LabApp.default_url=/lab/workspaces/{WORKSPACE}/tree/{notebook.as_posix()}"
    here = {**os.environ, **variables, "INGESTLAB_HOME": str(home_of(settings))}
    os.execve(sys.executable, [*command, address, *options], here)  # noqa: S606 - no shell is wanted
