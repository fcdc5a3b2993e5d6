"""The producer of notebook jobs: from a notebook's name to a run on the queue."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ingestlab.core.messages import NotebookRequest
from ingestlab.core.settings import Settings, load_settings
from ingestlab.lake.tenants import settings_for
from ingestlab.notebook.runner.source import find, name_of, read, roots, with_parameters
from ingestlab.queue.producer import new_run, start
from ingestlab.queue.results import RunRecord
from ingestlab.queue.run import Run


def submit_notebook(
    notebook: str | Path,
    parameters: Mapping[str, Any] | None = None,
    *,
    tenant: str | None = None,
    settings: Settings | None = None,
) -> Run:
    """Queue a notebook for a worker. Return at once.

    The same notebook with the same parameters is one job while it is queued or running: asking again gives the run
    that is at it. The executed notebook and its page are kept in the lake: ``run.result().kept`` says where.

    Args:
        notebook: A notebook in one of the folders that the settings name as `notebooks`.
        parameters: Values for the names that its cell of parameters assigns: None, booleans, numbers, texts, and
            lists and dicts of these.
        tenant: Whose notebook job it is, and whose tables the rows go to that it has ingested.
        settings: As found by :func:`ingestlab.load_settings` if not given.

    Raises:
        TerminalError: There is no such notebook, or it has no such parameter; nothing was queued.
        TransientError: Redis cannot be reached.
    """
    settings = settings or load_settings()
    tenant = tenant or settings.tenant
    settings = settings_for(tenant, settings)
    run, name, values = new_run(), name_of(notebook, settings), dict(parameters or {})
    request = NotebookRequest.decode({"run": run, "tenant": tenant, "notebook": name, "parameters": values})
    if roots(settings) and find_spec("nbformat"):  # else the worker alone can tell
        with_parameters(read(find(name, settings)), values)
    record = RunRecord(id=run, queue=settings.notebook_queue, tenant=tenant, pipeline=None, files=1, jobs=())
    return start([request], record, settings)
