"""The card of a Lab: what it is connected to, and whether that answers."""

from __future__ import annotations

import json
import socket
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, TypeVar
from urllib.parse import urljoin, urlsplit

from ingestlab import stack
from ingestlab.analytics.lake import Lake
from ingestlab.core.errors import IngestError
from ingestlab.core.jobs import QueueState
from ingestlab.core.mongodb import about, server_of
from ingestlab.core.settings import Settings
from ingestlab.core.templates import render
from ingestlab.notebook import page
from ingestlab.notebook.links import reachable
from ingestlab.queue.arrival.status import ListenerStatus, known_listeners
from ingestlab.queue.listeners import queues
from ingestlab.stack.state import home_of

_SECONDS = 1.0  # for each server to answer
_MILVUS_PORT = 19530
_BAD = ("does not answer", "cannot be read")  # notes that are red, as are those that begin with
_BAD_BEGINNINGS = ("gone since", "trouble since")
_PAGE = "ingest"  # of the dashboard, if its scheduler has loaded ours
T = TypeVar("T")


@dataclass(frozen=True)
class Card:
    """What a Lab is connected to at one moment.

    Attributes:
        settings: Where everything should be.
        embedded: Whether that is the stack in the home folder, and it runs.
        queues: None if Redis does not answer.
        dask_workers: None if the dashboard does not answer, or there is none.
        milvus: Whether it listens; None if none is named.
        tables: How many there are; None if the lake cannot be read.
        dashboard: Its address for the browser.
        ingest: Likewise, of its Ingest page; None if there is none.
        listeners: That hear of files, and those that died lately.
        mongodb: Whether it answers; None if none is named, or it does not.
    """

    settings: Settings
    embedded: bool
    queues: tuple[QueueState, ...] | None
    dask_workers: int | None
    milvus: bool | None
    tables: int | None
    dashboard: str | None
    ingest: str | None
    listeners: tuple[ListenerStatus, ...] = ()
    mongodb: bool | None = None

    @property
    def trouble(self) -> str:
        """What to do, if something is wrong; empty if all is well."""
        if self.queues is None:
            return "Redis does not answer. lab = Lab() starts a stopped stack again; what was queued is kept."
        if not self.queues[0].workers:
            cure = "lab.scale(workers=2)" if self.embedded else "`ingestlab worker`"
            return f"No worker listens on {self.queues[0].name}: jobs wait until {cure} starts one."
        return ""

    def plain(self) -> str:
        """Give the card as text."""
        rows = [f"  {name:<10}{value}{' - ' + note if note else ''}" for name, value, note in self._rows()]
        if address := self.settings.dask_dashboard:
            rows.append(f"  {'dashboard':<10}{address}")
            rows += [f"  {'':<10}{urljoin(address, _PAGE)}"] if self.ingest else []
        rows += [f"  ! {self.trouble}"] if self.trouble else []
        return "\n".join(["ingestlab", *rows])

    def html(self) -> str:
        """Give the card as HTML."""
        rows = [
            (name, value, note, note in _BAD or note.endswith("no worker") or note.startswith(_BAD_BEGINNINGS))
            for name, value, note in self._rows()
        ]
        pages = {"Ingest": self.ingest, "Dask dashboard": self.dashboard}
        return render("notebook/templates/card.html", card=self, pages=pages, rows=rows)

    def _rows(self) -> list[tuple[str, str, str]]:
        """Name, value, and what is to be said about it."""
        s = self.settings
        dask = "does not answer" if self.dask_workers is None else page.many(self.dask_workers, "worker")
        rows = [("redis", s.redis_shown, "does not answer" if self.queues is None else "answers")]
        for queue in self.queues or ():
            workers = page.many(queue.workers, "worker") if queue.workers else "no worker"
            rows.append(
                (_free("queue", rows), queue.name, f"{queue.waiting:,} waiting, {queue.running:,} running, {workers}")
            )
        for listener in self.listeners:
            rows.append((_free("listener", rows), listener.address, listener.said()))
        if s.dask_scheduler:
            rows.append(("dask", s.dask_scheduler, dask if s.dask_dashboard else ""))
        else:
            rows.append(("dask", "threads of each worker", ""))
        tables = "cannot be read" if self.tables is None else page.many(self.tables, "table")
        rows.append(("lake", s.lake_url, tables))
        if s.milvus_uri:
            rows.append(("milvus", s.milvus_shown, "answers" if self.milvus else "does not answer"))
        if s.mongodb_uri:
            rows.append(("mongodb", s.mongodb_shown, "answers" if self.mongodb else "does not answer"))
        return [*rows, *([("tenant", s.tenant, "")] if s.tenant != "default" else [])]


def look(settings: Settings) -> Card:
    """Ask everything at once how it is."""
    state = stack.running(home_of(settings))
    embedded = state is not None and state.serves(settings)
    with ThreadPoolExecutor(7) as pool:
        answer = pool.submit(queues, settings, _SECONDS)
        heard = pool.submit(known_listeners, settings, _SECONDS)
        address = settings.dask_dashboard or ""
        workers = pool.submit(_or_none, lambda: int(_asked(address, "json/counts.json")["workers"]))
        plots = pool.submit(_or_none, lambda: _asked(address, "individual-plots.json"))
        tables = pool.submit(_or_none, lambda: len(Lake(settings).tables()))
        listens = pool.submit(_or_none, lambda: _listens(settings.milvus_uri or ""))
        stored = pool.submit(_or_none, lambda: bool(about(replace(server_of(settings), timeout=_SECONDS))))
        dashboard = reachable(address, hosts=settings.proxied_hosts) if address else None
        has_page = f"/individual-{_PAGE}" in (plots.result() or {}).values()
        waiting = answer.result()
        return Card(
            settings=settings,
            embedded=embedded,
            queues=tuple(waiting) if waiting is not None else None,
            dask_workers=workers.result(),
            milvus=listens.result(),
            mongodb=stored.result(),
            tables=tables.result(),
            dashboard=dashboard,
            ingest=urljoin(dashboard, _PAGE) if dashboard and has_page else None,
            listeners=tuple(heard.result() or ()),
        )


def _free(name: str, rows: list[tuple[str, str, str]]) -> str:
    """Blank a repeated row name. Rows of one name differ by spaces."""
    return name if all(row[0].strip() != name for row in rows) else " " * len(rows)


def _or_none(ask: Callable[[], T]) -> T | None:
    try:
        return ask()
    except (OSError, ValueError, IngestError):  # away, or not what it should be: the card says that it does not answer
        return None


def _asked(dashboard: str, what: str) -> dict[str, Any]:
    """Tell what the scheduler says of itself on the dashboard's port."""
    with urllib.request.urlopen(urljoin(dashboard, what), timeout=_SECONDS) as answer:  # noqa: S310
        return dict(json.load(answer))


def _listens(uri: str) -> bool | None:
    if "://" not in uri:
        return bool(uri) or None  # a file
    parts = urlsplit(uri)
    socket.create_connection((parts.hostname or "", parts.port or _MILVUS_PORT), timeout=_SECONDS).close()
    return True
