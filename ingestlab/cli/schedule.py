"""The commands of schedules: ``ingestlab schedule add``, ``list`` and ``remove``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from ingestlab.cli.arrival import Folder, KeepVanished, Match
from ingestlab.cli.common import Home, Json, out
from ingestlab.cli.jobs import Into, Pipeline, Queue, Tenant
from ingestlab.cli.tables import table
from ingestlab.core.errors import TerminalError
from ingestlab.core.settings import Settings, load_settings

schedule = typer.Typer(help="Sync folders by the clock: of all workers one runs what is due.", no_args_is_help=True)


@schedule.command()
def add(
    cron: Annotated[str, typer.Argument(metavar="TIMES", help="As cron's, in quotes: '0 * * * *' is every hour.")],
    what: Annotated[str, typer.Argument(metavar="sync", help="What is run.")],
    folder: Folder,
    zone: Annotated[str, typer.Option(help="Time zone that the times are meant in, e.g. Europe/Berlin.")] = "UTC",
    match: Match = "*",
    pipeline: Pipeline = None,
    queue: Queue = None,
    tenant: Tenant = None,
    into: Into = None,
    keep_vanished: KeepVanished = False,
    home: Home = None,
) -> None:
    """Sync a folder at certain times."""
    from ingestlab.lake.tenants import settings_for  # noqa: PLC0415 - slow to import: --help must not wait for it
    from ingestlab.queue.arrival import schedules  # noqa: PLC0415 - likewise

    if what != "sync":
        raise typer.BadParameter("what can be scheduled is: sync FOLDER")
    wanted = schedules.Schedule(
        cron=cron,
        zone=zone,
        folder=folder,
        match=match,
        pipeline=pipeline,
        table=into,
        tenant=tenant,
        queue=queue,
        keep_vanished=keep_vanished,
    )
    with _redis(home) as (settings, client):
        if settings.tenant_token:
            wanted = wanted.model_copy(update={"tenant": settings_for(tenant or settings.tenant, settings).tenant})
        kept = schedules.add(wanted, client)
    out.print(f"Schedule {kept.schedule.id}: sync {kept.schedule.folder}, next at {_moment(kept.due)}.")


@schedule.command("list")
def list_(as_json: Json = False, home: Home = None) -> None:
    """List schedules, with when each is due and how it ended last."""
    from ingestlab.lake.tenants import is_visible, own  # noqa: PLC0415 - likewise
    from ingestlab.queue.arrival import schedules  # noqa: PLC0415

    with _redis(home) as (settings, client):
        known = [s for s in schedules.schedules(client) if is_visible(s.schedule.tenant or "", own(settings))]
    if as_json:
        out.print_json(json.dumps([{"id": s.schedule.id, **s.model_dump(mode="json")} for s in known]))
        return
    rows = [(s.schedule.id, s.schedule.cron, s.schedule.zone, _moment(s.due), s.schedule.folder, s.last) for s in known]
    headings = ("schedule", "times", "zone", "next", "folder", "last")
    none = "No schedules. `ingestlab schedule add` makes one."
    out.print(table(headings, rows, leaves_out=("zone", "last")) if rows else none)


@schedule.command()
def remove(
    name: Annotated[str, typer.Argument(metavar="SCHEDULE", help="Its id; `ingestlab schedule list` shows them.")],
    home: Home = None,
) -> None:
    """Forget a schedule. What it has brought stays."""
    from ingestlab.lake.tenants import is_visible, own  # noqa: PLC0415 - likewise
    from ingestlab.queue.arrival import schedules  # noqa: PLC0415

    with _redis(home) as (settings, client):
        mine = own(settings)
        if any(
            s.schedule.id == name and not is_visible(s.schedule.tenant or "", mine) for s in schedules.schedules(client)
        ):
            problem, fix = f"There is no schedule '{name}'", "`ingestlab schedule list` shows them."
            raise TerminalError(problem, fix=fix, code="argument_invalid")
        schedules.remove(name, client)
    out.print(f"Forgot schedule {name}.")


@contextmanager
def _redis(home: Path | None) -> Iterator[tuple[Settings, Any]]:
    """Connect to the Redis that keeps the schedules."""
    from ingestlab.lake.locks import connect  # noqa: PLC0415 - slow to import: --help must not wait for it
    from ingestlab.queue.broker import reaching  # noqa: PLC0415 - likewise

    settings = load_settings(home=home)
    with reaching(settings):
        yield settings, connect(settings.redis)


def _moment(at: float) -> str:
    return datetime.fromtimestamp(at).astimezone().strftime("%d %b %H:%M %Z")
