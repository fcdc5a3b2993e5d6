"""Executed notebooks in the lake, and what they say of themselves."""

from __future__ import annotations

from dataclasses import dataclass

from ingestlab.core.settings import Settings
from ingestlab.lake import layout
from ingestlab.lake.storage.store import open_store
from ingestlab.notebook.runner.source import NotebookNode

RUN = "application/vnd.ingestlab.run+json"  # an output in which a notebook says which run it has made


@dataclass(frozen=True)
class Kept:
    """Where a notebook is kept.

    Attributes:
        notebook: With its outputs: a path, or a URL.
        page: As an HTML page.
    """

    notebook: str
    page: str


def keep(name: str, notebook: NotebookNode, run: str, settings: Settings) -> Kept:
    """Write the notebook and its page to the lake, beside a run. A page shows what the notebook shows."""
    import nbformat  # noqa: PLC0415 - the extra `lab` has it
    from nbconvert import HTMLExporter  # noqa: PLC0415 - slow to import

    page, _ = HTMLExporter().from_notebook_node(notebook, resources={"metadata": {"name": name}})
    store = open_store(settings.lake_url, settings.storage_options)
    places = [layout.executed(run, f"{name}.{suffix}") for suffix in ("ipynb", "html")]
    for place, text in zip(places, (nbformat.writes(notebook), page), strict=True):
        store.write(place, text.encode(errors="backslashreplace"))  # half of a character is kept as its number
    return Kept(*map(store.full, places))


def run_made_by(notebook: NotebookNode) -> str:
    """Give the run that a notebook says it has made. Empty if it says nothing."""
    outputs = [o for cell in notebook.cells for o in cell.get("outputs", [])]
    runs = [o["data"][RUN]["run"] for o in outputs if RUN in o.get("data", {})]
    return str(runs[-1]) if runs else ""
