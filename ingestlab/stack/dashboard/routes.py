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

from ingestlab.core.errors import IngestError, TransientError
from ingestlab.core.settings import load_settings
from ingestlab.core.templates import render
from ingestlab.stack.dashboard.actions import DAYS, Action, Guard, act, deeds, said
from ingestlab.stack.dashboard.runs import LIMITS, Kind, RunReader, Search
from ingestlab.stack.dashboard.tables import TableReader, View

P = ParamSpec("P")
T = TypeVar("T")
log = logging.getLogger("ingestlab.stack.dashboard")

FOLDER = "stack/dashboard/templates"
EVERY = {True: 2, False: 10}  # seconds between two looks of a browser: while something goes on, at rest
TASKS = 20  # of a run that are named
_NOTHING_ELSE = "default-src 'none'; form-action 'self'; base-uri 'none'"
AS_A_PICTURE = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; font-src data:"
TITLES = {403: "Not allowed", 404: "There is no such page", 409: "Not done"}
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
            self.set_status(status_code := 503 if isinstance(error, TransientError) else 409)
        text = str(error) if isinstance(error, IngestError) else getattr(error, "log_message", "") or self._reason
        self.show("trouble.html", title=TITLES.get(status_code, "Not now"), text=text)

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
            said=said(self.get_query_argument("done", ""), self.get_query_argument("count", "")),
            more=wider and "?" + urlencode(wider.query),
            every=EVERY[any(row.active for row in runs.rows)],
        )


class RunPage(Page):
    """One run, and what can be done about it."""

    root = "../"

    async def get(self, run: str) -> None:
        """Show all that is known of a run."""
        page = await self.read(reader().page, run)
        if page is None:
            raise HTTPError(404, f"Neither Redis nor the lake knows a run {run[:100]}")
        guard = await self._guard()
        stamp = "" if page.trouble else guard.stamp(self.get_cookie(guard.cookie))
        if stamp:  # nobody may lay another page over the buttons
            self.set_header("Content-Security-Policy", f"{POLICY}; frame-ancestors 'self'")
        self.show(
            "run.html",
            page=page,
            deeds=deeds(page.row),
            guarded=guard.active and not page.trouble,
            stamp=stamp,
            said=said(self.get_query_argument("done", ""), self.get_query_argument("count", "")),
            tasks=self._tasks(run),
            every=EVERY[True] if page.row.active else 0,
        )

    async def post(self, run: str) -> None:
        """Do what a button says, or begin a session; then show the page."""
        if self.request.headers.get("Sec-Fetch-Site", "same-origin") != "same-origin":
            raise HTTPError(403, "This form was on a page of another origin")
        guard, wish = await self._guard(), self.get_body_argument("do", "")
        if wish == "sign-in":
            return self._sign_in(guard, run)
        if not guard.admits(self.get_cookie(guard.cookie), self.get_body_argument("stamp", "")):
            raise HTTPError(403, "The session has ended. Open the run's page, and give the token again")
        if wish == "sign-out":
            self.clear_cookie(guard.cookie, path="")
            return self.redirect(run, status=303)
        action: Action | None = next((action for action in get_args(Action) if action == wish), None)
        if action is None:
            raise HTTPError(400, "There is no such button")
        row = await self.read(reader().row, run)
        if row is None:
            raise HTTPError(404, f"Nobody knows a run {run[:100]}")
        text = {name: self.get_body_argument(name, "")[:200] for name in ("table", "reason")}
        text["origin"] = str(self.request.remote_ip)
        count, then = await self.read(act, action, row, await self.read(load_settings), **text)
        log.info("%s of run %s by the Runs page, asked by %s: %d", action, run, self.request.remote_ip, count)
        query = urlencode({"done": action, "count": count})
        return self.redirect(f"{then}?{query}" if then else f"../runs?{query}", status=303)

    async def _guard(self) -> Guard:
        return Guard((await self.read(load_settings)).dashboard_token)

    def _sign_in(self, guard: Guard, run: str) -> None:
        session = guard.begin(self.get_body_argument("token", ""))
        if session is None:
            raise HTTPError(403, "That is not the token of INGESTLAB_DASHBOARD_TOKEN")
        safe = self.request.protocol == "https"
        # Without a path it is good for the folder of this address, behind any proxy.
        self.set_cookie(
            guard.cookie, session, path="", expires_days=DAYS, httponly=True, secure=safe, samesite="Strict"
        )
        self.redirect(run, status=303)

    def _tasks(self, run: str) -> list[tuple[str, str]]:
        """List Dask tasks of a run that the scheduler has now."""
        tasks = [(str(key), str(task.state)) for key, task in self.server.tasks.items() if f"-{run}-" in str(key)]
        return sorted(tasks, key=lambda task: task[1] != "processing")[:TASKS]


class NotebookPage(Page):
    """The page of a notebook that a run has executed. Whatever is in it, no script runs and nothing is fetched."""

    root = "../../"

    async def get(self, run: str) -> None:
        """Show a notebook as it ended."""
        text = await self.read(reader().notebook, run)
        if text is None:
            raise HTTPError(404, f"No notebook is kept of a run {run[:100]}")
        self.set_header("Content-Security-Policy", AS_A_PICTURE)
        self.finish(text)


class TablesPage(Page):
    """The list of tables."""

    here = "tables"

    async def get(self) -> None:
        """Show the tables of all tenants."""
        self.show("tables.html", rows=await self.read(tables().list))


class TablePage(Page):
    """One table."""

    root, here = "../../", "tables"

    async def get(self, tenant: str, name: str) -> None:
        """Show a table in the view that is asked for."""
        asked = self.get_query_argument("view", "preview")
        view: View = next((view for view in get_args(View) if view == asked), "preview")
        page = await self.read(tables().page, tenant, name, view)
        if page is None:
            raise HTTPError(404, f"There is no table {name[:100]} of tenant {tenant[:100]}")
        self.show("table.html", page=page, views=get_args(View))


class Asset(StaticFileHandler):
    """Style and script of the pages."""

    def set_default_headers(self) -> None:
        """Keep a browser from taking a file for anything else."""
        self.set_header("X-Content-Type-Options", "nosniff")


@functools.cache
def reader() -> RunReader:
    """Give the one reader of this process."""
    return RunReader()


@functools.cache
def tables() -> TableReader:
    """Give the one reader of tables of this process."""
    return TableReader()


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
    (r"runs/([^/]+)/notebook", NotebookPage, {}),
    (r"tables", TablesPage, {}),
    (r"tables/([^/]+)/([^/]+)", TablePage, {}),
    (r"ingest-assets/((?:colors|runs)\.css|(?:theme|runs)\.js)", Asset, _ASSETS),
]
