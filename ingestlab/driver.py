"""Runs a notebook with parameters, as schedulers do, and keeps it with all outputs beside the run that it made.

The convention is that of papermill: one cell with the tag ``parameters`` holds the defaults, and a cell after it,
tagged ``injected-parameters``, what was given. So papermill runs the same notebooks.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ingestlab import layout
from ingestlab.errors import TerminalError
from ingestlab.jobs.producer import new_run
from ingestlab.settings import Settings
from ingestlab.stack.parts import environment
from ingestlab.stack.state import home_of
from ingestlab.storage import open_store

NotebookNode = Any  # of nbformat, which the extra `lab` has
RUN = "application/vnd.ingestlab.run+json"  # an output in which a notebook says which run it has made
PARAMETERS, INJECTED = "parameters", "injected-parameters"


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
    """Runs a notebook in a kernel of its own, and keeps it and its page in the lake, also if a cell fails.

    Args:
        path: The notebook; it stays as it is.
        parameters: Values for the names that its cell of parameters assigns.
        settings: What ``Lab()`` finds in it.
        timeout: Seconds that a cell may take; None for as long as it takes.

    Raises:
        TerminalError: There is no such notebook, it has no parameter of a name given, or Jupyter is missing.
    """
    try:
        from nbclient import NotebookClient  # noqa: PLC0415 - the extra `lab` has it
        from nbclient.exceptions import CellExecutionError  # noqa: PLC0415
    except ImportError as error:
        raise TerminalError.wrap(error, "Jupyter, to run notebooks", "pip install 'ingestlab[lab]'") from None
    notebook = with_parameters(read(path), parameters)
    client = NotebookClient(notebook, timeout=timeout, resources={"metadata": {"path": str(path.parent)}})
    failure = ""
    try:
        client.execute(env=environment(_absolute(settings)))
    except CellExecutionError as error:
        failure = f"{error.ename}: {error.evalue}"
    return _keep(path.stem, notebook, settings, failure)


def _absolute(settings: Settings) -> Settings:
    """The same places as seen from the notebook's folder, in which its kernel works."""
    pipelines = tuple(str(Path(folder).expanduser().resolve()) for folder in settings.pipelines)
    return settings.model_copy(update={"home": home_of(settings), "lake": settings.lake_url, "pipelines": pipelines})


def read(path: Path) -> NotebookNode:
    """A notebook from its file.

    Raises:
        TerminalError: It is not there, or it is no notebook.
    """
    import nbformat  # noqa: PLC0415 - the extra `lab` has it

    try:
        return nbformat.read(path, as_version=4)
    except FileNotFoundError:
        raise TerminalError("a notebook", f"nothing at {path}", "Check the path.") from None
    except nbformat.reader.NotJSONError:
        raise TerminalError("a notebook, which is JSON", f"something else in {path}", "Check the path.") from None


def with_parameters(notebook: NotebookNode, values: Mapping[str, Any]) -> NotebookNode:
    """The notebook with a cell that assigns the values, after the one with the defaults.

    Raises:
        TerminalError: No cell is tagged ``parameters``, or a name is not assigned in it.
    """
    from nbformat.v4 import new_code_cell  # noqa: PLC0415 - the extra `lab` has it

    cells = [c for c in notebook.cells if INJECTED not in c.metadata.get("tags", [])]
    places = [i for i, cell in enumerate(cells) if PARAMETERS in cell.metadata.get("tags", [])]
    if values:
        if not places:
            raise TerminalError("a cell with the tag 'parameters'", "none", "Tag the cell that assigns the defaults.")
        names = _assigned(cells[places[0]].source)
        for name in values:
            if name not in names:
                raise TerminalError(f"a parameter of the notebook ({', '.join(names)})", f"'{name}'", "Check its name.")
        lines = "\n".join(f"{name} = {value!r}" for name, value in values.items())
        cell = new_code_cell(f"# given\n{lines}", id=INJECTED, metadata={"tags": [INJECTED]})
        cells.insert(places[0] + 1, cell)
    notebook.cells = cells
    return notebook


def _assigned(code: str) -> list[str]:
    nodes = [t for n in ast.parse(code).body for t in (n.targets if isinstance(n, ast.Assign) else [])]
    return [node.id for node in nodes if isinstance(node, ast.Name)]


def _keep(name: str, notebook: NotebookNode, settings: Settings, failure: str) -> Executed:
    """Writes the notebook and its page to the lake; a page shows what the notebook shows."""
    import nbformat  # noqa: PLC0415 - the extra `lab` has it
    from nbconvert import HTMLExporter  # noqa: PLC0415 - slow to import

    run = _run_of(notebook) or new_run()
    page, _ = HTMLExporter().from_notebook_node(notebook, resources={"metadata": {"name": name}})
    store = open_store(settings.lake_url, settings.storage_options)
    places = [layout.executed(run, f"{name}.{suffix}") for suffix in ("ipynb", "html")]
    for place, text in zip(places, (nbformat.writes(notebook), page), strict=True):
        store.write(place, text.encode())
    return Executed(run, store.full(places[0]), store.full(places[1]), failure)


def _run_of(notebook: NotebookNode) -> str | None:
    outputs = [o for cell in notebook.cells for o in cell.get("outputs", [])]
    told = [o["data"][RUN]["run"] for o in outputs if RUN in o.get("data", {})]
    return str(told[-1]) if told else None
