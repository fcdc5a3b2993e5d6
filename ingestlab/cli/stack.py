"""The commands around the embedded stack: up, down, scale, status, env, doctor, worker."""

from __future__ import annotations

import json
import logging
import os
import shlex
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import unquote, urlsplit

import typer
from rich.logging import RichHandler
from rich.table import Table
from rich.text import Text

from ingestlab import stack
from ingestlab.cli.common import Home, Json, err, many, out
from ingestlab.cli.tables import Fitting, table
from ingestlab.core.errors import IngestError
from ingestlab.core.listening import ListenTo
from ingestlab.core.settings import Settings, load_settings
from ingestlab.lake import layout
from ingestlab.queue.arrival.status import ListenerStatus, known_listeners
from ingestlab.queue.listeners import queue_summary
from ingestlab.stack.control import run
from ingestlab.stack.services import WORKER, Spec, environment
from ingestlab.stack.state import SUPERVISOR, home_of

LAKE_SECONDS = 3.0  # that `status` waits for an object store
MARKS = {"ok": ("✓", "green"), "warning": ("!", "yellow"), "error": ("✗", "red")}


def up(
    workers: Annotated[int, typer.Option(min=0, help="RQ workers.")] = 2,
    dask_workers: Annotated[int, typer.Option(min=0, help="Dask processes; 0: one a core, four at most.")] = 0,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Go on in the background.")] = False,
    milvus: Annotated[bool, typer.Option(help="With Milvus Lite, where it is installed.")] = True,
    home: Home = None,
) -> None:
    """Start the embedded stack: Redis, Dask, Milvus Lite, workers, and a server with sample files."""
    settings = load_settings(home=home)
    if state := stack.running(home_of(settings)):
        out.print("The stack is running already.")
        _card(state)
    elif detach:
        with _starting() as tell:
            stack.start(settings, workers=workers, dask_workers=dask_workers, milvus=milvus, tell=tell)
        if state := stack.running(home_of(settings)):
            _card(state)
    else:
        _run(settings, Spec(workers=workers, dask_workers=dask_workers, milvus=milvus))


def _run(settings: Settings, spec: Spec) -> None:
    """Run a stack in this process: first its start is shown, then its log."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=[RichHandler(console=err)])
    services = logging.getLogger("ingestlab.stack")
    services.setLevel(logging.WARNING)
    with ExitStack() as start:
        tell = start.enter_context(_starting())

        def ready(state: stack.StackState) -> None:
            start.close()
            services.setLevel(logging.NOTSET)
            _card(state)

        run(settings, spec, ready, tell)


@contextmanager
def _starting() -> Iterator[Callable[[str], None]]:
    """Show which services of a starting stack serve. Yields the function to tell it of one."""
    began = time.monotonic()

    def tell(name: str) -> None:
        out.print(Text.assemble(("✓ ", "green"), f"{name:<12}", (f"{time.monotonic() - began:5.1f} s", "dim")))

    with out.status("Starting …"):
        yield tell


def down(home: Home = None) -> None:
    """Stop the embedded stack; what is queued stays for the next one."""
    folder = home_of(load_settings(home=home))
    out.print(f"Stopped the stack in {folder}." if stack.stop(folder) else f"No stack runs in {folder}.")


def scale(
    workers: Annotated[int | None, typer.Option(help="RQ workers.")] = None,
    dask_workers: Annotated[int | None, typer.Option(help="Dask processes.")] = None,
    home: Home = None,
) -> None:
    """Change how many workers the running stack has. One that has to go finishes its job first."""
    state = stack.scale(home_of(load_settings(home=home)), workers=workers, dask_workers=dask_workers)
    out.print(f"{many(state.size['workers'], 'RQ worker')}, {many(state.size['dask_workers'], 'Dask worker')}.")


def status(home: Home = None, as_json: Json = False) -> None:
    """Show what runs, and catalogues that lack commits. The exit code is 1 if no stack runs, or a part is gone."""
    settings = load_settings(home=home)
    folder = home_of(settings)
    state = stack.running(folder)
    settings = Settings(**state.settings) if state else settings
    rows = _parts(state) if state else []
    named = settings.redis_url or settings.redis_host
    listeners = (known_listeners(settings) if named else None) or []
    behind = _catalogues_behind(settings)
    if as_json:
        queued = queue_summary(settings) if state else None
        heard = [{**listener.to_dict(), "gone": listener.gone} for listener in listeners]
        told = {"running": bool(state), "home": str(folder), "parts": rows, "queue": queued, "listeners": heard}
        told |= {"unregistered": [lag.to_dict() for lag in behind]}
        out.print_json(json.dumps(told))
    elif state:
        _card(state)
        out.print(_table(rows))
        out.print(_waiting(queue_summary(settings)))
    else:
        out.print(f"No stack runs in {folder}. Start one with `ingestlab up`.")
    if listeners and not as_json:
        out.print(_listeners(listeners))
    if not as_json:
        for lag in behind:
            out.print(Text(f"! {lag}", style="yellow"))
    raise typer.Exit(0 if state and all(row["alive"] for row in rows) else 1)


def _catalogues_behind(settings: Settings) -> list[Any]:
    """List the tables that lack commits, if the lake answers."""
    url, found = settings.lake_url, list[Any]()
    if "://" not in url and not Path(url, layout.unregistered("", "")).is_dir():
        return []

    def look() -> None:
        from ingestlab.lake.storage.store import open_store  # noqa: PLC0415 - slow to import, and seldom needed
        from ingestlab.sinks.catalogues.lag import lags  # noqa: PLC0415

        with suppress(IngestError):
            found.extend(lags(open_store(url, settings.storage_options)))

    looking = threading.Thread(target=look, daemon=True)  # an object store may be away
    looking.start()
    looking.join(LAKE_SECONDS)
    return found


def env(home: Home = None) -> None:
    """Print what stock tools need: eval "$(ingestlab env)"."""
    settings = load_settings(home=home)
    if state := stack.running(home_of(settings)):  # its addresses are newer than what an earlier eval has left
        settings = state.connect(settings)
    for name, value in exports(settings).items():
        print(f"export {name}={shlex.quote(value)}")


def doctor(home: Home = None, as_json: Json = False) -> None:
    """Say in plain words what is wrong. The exit code is 1 if anything is."""
    from ingestlab.stack.doctor import examine  # noqa: PLC0415 - Dask is slow to import, for this command alone

    findings = examine(load_settings(home=home))
    if as_json:
        out.print_json(json.dumps([asdict(finding) for finding in findings]))
    else:
        for finding in findings:
            mark, colour = MARKS[finding.level]
            out.print(Text.assemble((f"{mark} ", colour), finding.text))
            if finding.fix:
                out.print(Text(f"  → {finding.fix}", style="dim"))
    raise typer.Exit(any(finding.level == "error" for finding in findings))


def worker(
    queues: Annotated[
        list[str] | None, typer.Argument(metavar="QUEUE…", help="The first comes first; QUEUE_NAME, if left out.")
    ] = None,
    home: Home = None,
) -> None:
    """Run one worker of the queue backend on these queues until Ctrl-C."""
    settings = load_settings(home=home)  # as it is: a notebook submits to the settings' queue, whatever its worker's is
    command = [*WORKER, *(queues or [settings.queue])]
    os.execve(sys.executable, command, environment(settings))  # noqa: S606 - no shell is wanted


def exports(settings: Settings) -> dict[str, str]:
    """Collect the environment variables by which other tools find the servers."""
    address = urlsplit(settings.redis)
    values = {
        "REDIS_URL": settings.redis,
        "RQ_REDIS_URL": settings.redis,
        "REDIS_HOST": address.hostname,
        "REDIS_PORT": str(address.port or 6379),
        "REDIS_PASSWORD": unquote(address.password or ""),
        "RQ_WORKER_CLASS": "ingestlab.worker.IngestWorker",
        "QUEUE_NAME": settings.queue,
        "DASK_SCHEDULER_ADDRESS": settings.dask_scheduler,
        "MILVUS_URI": settings.milvus_uri,
        "MILVUS_TOKEN": settings.milvus_token,
        "INGESTLAB_MONGODB_URI": settings.mongodb_uri,
        "INGESTLAB_MONGODB_DATABASE": settings.mongodb_database,
        "INGESTLAB_HOME": str(home_of(settings)),
        "INGESTLAB_LAKE": settings.lake_url,
        "INGESTLAB_PIPELINES": ",".join(str(Path(p).expanduser().resolve()) for p in settings.pipelines),
        "INGESTLAB_NOTEBOOKS": ",".join(str(Path(p).expanduser().resolve()) for p in settings.notebooks),
        "INGESTLAB_SAMPLES": settings.samples,
        "INGESTLAB_REFERENCES": settings.references,
    }
    return {name: value for name, value in values.items() if value}


def _card(state: stack.StackState) -> None:
    """Print where everything is, and how to stop it."""
    settings = Settings(**state.settings)
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold")
    for name, value in (
        ("redis", settings.redis_shown),
        ("dask", settings.dask_scheduler),
        ("dashboard", settings.dask_dashboard),
        ("milvus", settings.milvus_shown),
        ("mongodb", settings.mongodb_shown),
        ("samples", settings.samples),
        ("queue", settings.queue),
        ("lake", settings.lake_url),
        *(("listens to", _heard(chosen)) for chosen in settings.listen),
        ("home", str(settings.home)),
    ):
        if value:
            grid.add_row(name, Text(str(value), overflow="fold"))
    out.print(grid)
    foreground = os.getpid() == state.pids[SUPERVISOR].pid
    flag = f" --home {shlex.quote(str(settings.home))}" if settings.home != home_of(Settings()) else ""
    out.print(f"Stop it with {'Ctrl-C, or ' if foreground else ''}`ingestlab down{flag}`.")
    elsewhere = Settings()
    if (elsewhere.redis_url or elsewhere.redis_host) and elsewhere.redis != settings.redis:
        out.print(
            f"[yellow]Note:[/] your environment names the Redis at {elsewhere.redis_shown}: other commands use that "
            f'one, not this stack. eval "$(ingestlab env{flag})" changes it.'
        )


def _heard(chosen: ListenTo) -> str:
    return chosen.address if chosen.folders else f"{chosen.address} (nothing is synced: name its folder in `sync`)"


def _parts(state: stack.StackState) -> list[dict[str, Any]]:
    return [
        {"part": name, "pid": proc.pid, "alive": proc.find() is not None, "given_up": name in state.given_up}
        for name, proc in state.pids.items()
    ]


def _table(rows: list[dict[str, Any]]) -> Fitting:
    states = [("runs", "green") if r["alive"] else ("given up" if r["given_up"] else "gone", "red") for r in rows]
    cells = [(r["part"], str(r["pid"]), Text(*state)) for r, state in zip(rows, states, strict=True)]
    return table(("part", "pid", "state"), cells, right=("pid",))


def _listeners(listeners: list[ListenerStatus]) -> Fitting:
    """Show what is listened to: messages that wait, what was done, and what is wrong."""
    rows: list[Sequence[str | Text]] = []
    for listener in listeners:
        state = ": ".join(text for text in (listener.said(), listener.trouble) if text)
        waiting = "" if listener.waiting is None else f"{listener.waiting:,}"
        counts = (f"{count:,}" for count in (listener.submitted, listener.removed, listener.refused))
        sync = listener.sync if listener.folders else "no folder is named"
        colour = "red" if listener.gone or listener.trouble else "green"
        rows.append((listener.name, listener.address, waiting, *counts, sync, Text(state, colour)))
    headings = ("listener", "address", "waiting", "submitted", "taken out", "put aside", "last sync", "state")
    numbers = headings[2:6]
    leaves_out = ("last sync", "taken out", "put aside", "submitted", "listener")
    return table(headings, rows, right=numbers, folds=("last sync", "state"), leaves_out=leaves_out)


def _waiting(queue: dict[str, Any]) -> str:
    waiting = (
        "unknown: Redis does not answer" if queue["waiting"] is None else f"{many(queue['waiting'], 'job')} waiting"
    )
    return f"queue {queue['name']}: {waiting}; workers that listen: {queue['workers']}"
