"""The pages of runs and tables beside Dask's own: HTML made on the server, read from Redis and the lake in threads.

Dask's scheduler serves them, for :mod:`ingestlab.stack.dashboard.preload` adds this module to its setting
``distributed.scheduler.http.routes``.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib.resources import files
from typing import Any, ParamSpec, TypeVar, get_args
from urllib.parse import urlencode

from distributed.http.utils import RequestHandler
from tornado.web import HTTPError, StaticFileHandler

from ingestlab.core.errors import IngestError
from ingestlab.core.templates import render
from ingestlab.stack.dashboard.runs import LIMITS, Kind, RunReader, RunRow, Search

P = ParamSpec("P")
T = TypeVar("T")
log = logging.getLogger("ingestlab.stack.dashboard")

FOLDER = "stack/dashboard/templates"
EVERY = {True: 2, False: 10}  # seconds between two looks of a browser: while something goes on, at rest
TASKS = 20  # of a run that are named
_NOTHING_ELSE = "default-src 'none'; form-action 'self'; base-uri 'none'"
POLICY = f"{_NOTHING_ELSE}; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'"


class Page(RequestHandler):
    """A page, or what is wrong with it."""

    root = ""  # leads from here to the root of the dashboard
    here = "runs"

    def set_default_headers(self) -> None:
        """Let a browser run nothing but our own script."""
        self.set_header("Content-Security-Policy", POLICY)
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("Referrer-Policy", "same-origin")
        self.set_header("Cache-Control", "no-store")

    async def read(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call in a thread: the scheduler's event loop never waits."""
        call = functools.partial(function, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(_threads(), call)

    def show(self, template: str, **values: Any) -> None:
        """Answer with a page."""
        self.finish(render(f"{FOLDER}/{template}", root=self.root, here=self.here, **values))

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Answer with what is wrong; the traceback is for the log."""
        error = kwargs.get("exc_info", (None, None))[1]
        if isinstance(error, IngestError):
            self.set_status(503)
        text = str(error) if isinstance(error, IngestError) else getattr(error, "log_message", "") or self._reason
        self.show("trouble.html", title="There is no such page" if status_code == 404 else "Not now", text=text)

    def log_exception(self, *exc_info: Any) -> None:
        """Write to the scheduler's log what nobody has foreseen."""
        if not isinstance(exc_info[1], IngestError | HTTPError):
            log.error("a page of the dashboard failed", exc_info=exc_info)


class RunsPage(Page):
    """The list of runs."""

    async def get(self) -> None:
        """Show the newest runs that the filters take."""
        search = _search(self.get_query_argument)
        runs = await self.read(reader().list, search)
        wider = replace(search, limit=LIMITS[-1]) if search.limit < LIMITS[-1] else None
        self.show(
            "runs.html",
            runs=runs,
            search=search,
            states=get_args(Kind),
            more=wider and "?" + urlencode(wider.query),
            every=EVERY[any(row.active for row in runs.rows)],
        )


class RunPage(Page):
    """One run."""

    root = "../"

    async def get(self, run: str) -> None:
        """Show all that is known of a run."""
        page = await self.read(reader().page, run)
        if page is None:
            raise HTTPError(404, f"Neither Redis nor the lake knows a run {run[:100]}")
        every = EVERY[True] if page.row.active else 0
        self.show("run.html", page=page, commands=commands(page.row), tasks=self._tasks(run), every=every)

    def _tasks(self, run: str) -> list[tuple[str, str]]:
        """List Dask tasks of a run that the scheduler has now."""
        tasks = [(str(key), str(task.state)) for key, task in self.server.tasks.items() if f"-{run}-" in str(key)]
        return sorted(tasks, key=lambda task: task[1] != "processing")[:TASKS]


class Asset(StaticFileHandler):
    """Style and script of the pages."""

    def set_default_headers(self) -> None:
        """Keep a browser from taking a file for anything else."""
        self.set_header("X-Content-Type-Options", "nosniff")


def commands(row: RunRow) -> list[tuple[str, str]]:
    """List the commands for what can be done about a run."""
    found = [(name, f"ingestlab {name} {row.id}") for name in ("watch", "cancel")] if row.active else []
    if row.failed and not row.active:
        found.append(("retry", f"ingestlab retry {row.id}"))
    if row.rejected and not row.active:
        found += [("replay", f"ingestlab replay {table} --run {row.id}") for table in row.tables]
    return [*found, ("show", f"ingestlab show {row.id} --files")]


@functools.cache
def reader() -> RunReader:
    """Give the one reader of this process."""
    return RunReader()


@functools.cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(2, thread_name_prefix="runs-page")


def _search(argument: Callable[..., str | None]) -> Search:
    limit = str(argument("limit", ""))
    return Search(
        text=str(argument("q", ""))[:200],
        state=str(argument("state", "")),
        table=str(argument("table", "")),
        tenant=str(argument("tenant", "")),
        limit=min(int(limit), LIMITS[-1]) if limit.isdecimal() and int(limit) else LIMITS[0],
    )


_ASSETS = {"path": str(files("ingestlab.stack.dashboard").joinpath("assets"))}
routes: list[tuple[str, type, dict[str, Any]]] = [
    (r"runs", RunsPage, {}),
    (r"individual-runs", RunsPage, {}),  # as JupyterLab's panes are called; Bokeh's list of pages names it
    (r"runs/([^/]+)", RunPage, {}),
    (r"ingest-assets/(runs\.css|runs\.js)", Asset, _ASSETS),
]
