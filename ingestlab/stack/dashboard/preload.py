"""How our pages get into Dask's dashboard.

Runs and tables are routes, which Dask takes by its setting ``distributed.scheduler.http.routes``. For a page of
Bokeh's, and for the navigation bar, it has no public way, so this leans on insides of
``distributed.dashboard.scheduler``: the dict `applications`, and the list of pages that `template_variables` remembers
for each scheduler. The tests pin both. Where a distributed differs, the Ingest page is missing and the log says so; the
scheduler runs on.
"""

from __future__ import annotations

import logging
from typing import Any

import dask

PAGES = ("ingest", "runs", "tables")
INGEST = ("/ingest", "/individual-ingest")
RUNS = "/individual-runs"
MODULE = "ingestlab.stack.dashboard.routes"
SETTING = "distributed.scheduler.http.routes"
AFTER = "status"  # its neighbour in the navigation bar
log = logging.getLogger("ingestlab.stack.dashboard")


def register() -> bool:
    """Add the pages to those that schedulers of this process will serve. Say whether that went well."""
    import distributed  # noqa: F401, PLC0415 - brings its settings

    routes = dask.config.get(SETTING)
    if MODULE not in routes:
        dask.config.set({SETTING: [*routes, MODULE]})
    try:
        from distributed.dashboard import scheduler as dask_pages  # noqa: PLC0415 - needs bokeh

        from ingestlab.stack.dashboard.page import ingest_doc, pane_doc  # noqa: PLC0415 - likewise

        dask_pages.applications.update(zip(INGEST, (ingest_doc, pane_doc), strict=True))
        dask_pages.applications[RUNS] = pane_doc  # to be named among the panes: the route of this name comes first
    except (ImportError, AttributeError, TypeError) as error:
        return _without(error)
    return True


def dask_setup(scheduler: Any) -> None:
    """Dask calls this when a scheduler starts: adds the pages to its navigation bar."""
    try:
        from distributed.dashboard.scheduler import template_variables  # noqa: PLC0415 - needs bokeh

        pages = template_variables(scheduler)["pages"]  # it gives the same list each time, which the pages show
        if not set(PAGES) & set(pages):
            at = pages.index(AFTER) + 1 if AFTER in pages else 0
            pages[at:at] = PAGES
        if not set(PAGES) <= set(template_variables(scheduler)["pages"]):
            _without(TypeError("its navigation bar cannot be added to"))
    except (ImportError, AttributeError, KeyError, TypeError) as error:
        _without(error)


def dask_teardown(scheduler: Any) -> None:  # noqa: ARG001 - Dask's signature
    """Dask calls this when a scheduler ends."""
    from ingestlab.stack.dashboard.collect import shared  # noqa: PLC0415 - a broken page must not keep Dask from ending

    shared().close()


def _without(error: Exception) -> bool:
    import distributed  # noqa: PLC0415 - only for its version

    log.warning(
        "The Ingest page is missing: the dashboard of distributed %s takes no other page (%s: %s). "
        "Everything else works.",
        getattr(distributed, "__version__", "?"),
        type(error).__name__,
        error,
    )
    return False
