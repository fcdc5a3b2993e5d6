"""Runs a notebook here and now, as schedulers do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ingestlab.core.settings import Settings
from ingestlab.notebook.runner.archive import keep, run_made_by
from ingestlab.notebook.runner.kernel import Session, environment_of
from ingestlab.notebook.runner.source import read, with_parameters
from ingestlab.queue.producer import new_run


@dataclass(frozen=True)
class Executed:
    """A notebook that was run.

    Attributes:
        run: The run that it says it has made; an id of its own if it says nothing.
        notebook: Where it is kept with its outputs: a path, or a URL.
        page: Where it is kept as an HTML page.
        error: The error that ended it, as one line; empty if there was none.
    """

    run: str
    notebook: str
    page: str
    error: str = ""


def execute(path: Path, parameters: Mapping[str, Any], settings: Settings, timeout: float | None = None) -> Executed:
    """Run a notebook in its own kernel. Keep it in the lake, also after an error.

    Args:
        path: The notebook; it stays as it is.
        parameters: Values for the names that its cell of parameters assigns.
        settings: What ``Lab()`` finds in it.
        timeout: Seconds that a cell may take; None for as long as it takes.

    Raises:
        TerminalError: There is no such notebook, it has no parameter of a name given, or Jupyter is missing.
    """
    notebook = with_parameters(read(path), parameters)
    error = Session(notebook, path.parent, environment_of(settings), timeout).run()
    run = run_made_by(notebook) or new_run()
    kept = keep(path.stem, notebook, run, settings)
    return Executed(run, kept.notebook, kept.page, error)
