"""The command that reads the audit log: ``ingestlab audit``."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from ingestlab.cli.common import Home, Json, out
from ingestlab.cli.tables import table
from ingestlab.core.settings import load_settings

if TYPE_CHECKING:
    from ingestlab.core.settings import Settings
    from ingestlab.lake.audit import Entry

_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def audit(
    since: Annotated[str, typer.Option(metavar="TIME", help="How far back: 30m, 12h, 7d, 4w, or a date.")] = "7d",
    tenant: Annotated[str | None, typer.Option(help="Only what is about this tenant's data.")] = None,
    action: Annotated[str | None, typer.Option(help="Only this: submit, delete, undo, tenant …")] = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Show who has submitted, deleted, undone and changed tenants. INGESTLAB_AUDIT=true writes it down."""
    settings = load_settings(home=home)
    found = [e for e in _entries(settings, _moment(since), tenant) if action in (None, e.action)]
    if as_json:
        out.print_json(json.dumps([entry.to_dict() for entry in found]))
        return
    rows = [
        (
            *(datetime.fromisoformat(e.at).astimezone().strftime("%d %b %H:%M:%S"), e.who, e.tenant, e.action),
            ", ".join([*e.subjects[:2], *([f"{e.count - 2:,} more"] if e.count > 2 else [])]),
            e.origin,
        )
        for e in found
    ]
    none = "Nothing is noted." if settings.audit else "Nothing is noted: INGESTLAB_AUDIT is not set."
    headings = ("when", "who", "tenant", "what", "about", "from")
    out.print(table(headings, rows, folds=("about",), leaves_out=("from", "about")) if rows else none)


def _entries(settings: Settings, since: datetime, tenant: str | None) -> Iterator[Entry]:
    """Read the shared lake, and those of tenants with their own."""
    from ingestlab.lake import audit as log  # noqa: PLC0415 - slow to import: --help must not wait for it
    from ingestlab.lake.storage.store import open_store  # noqa: PLC0415
    from ingestlab.lake.tenants import entries, settings_for  # noqa: PLC0415
    from ingestlab.queue.broker import reaching  # noqa: PLC0415

    with reaching(settings):
        if tenant is None and settings.tenant_token:
            tenant = settings.tenant
        chosen = [settings_for(tenant, settings)] if tenant else [settings]
        if tenant is None:
            chosen += [entry.settings(settings) for entry in entries(settings).values() if entry.lake]
    lakes = {one.lake_url: one for one in chosen}
    found = [
        e for one in lakes.values() for e in log.entries(open_store(one.lake_url, one.storage_options), since, tenant)
    ]
    yield from sorted(found, key=lambda entry: entry.at)


def _moment(text: str) -> datetime:
    if match := re.fullmatch(r"(\d+)([mhdw])", text):
        return datetime.now(UTC) - timedelta(**{_UNITS[match[2]]: int(match[1])})
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter("a time is 30m, 12h, 7d, 4w, or a date such as 2026-11-29") from None
    return moment if moment.tzinfo else moment.astimezone()
