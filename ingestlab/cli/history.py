"""The commands about earlier states of tables: `history`, `diff` and `undo`."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from ingestlab.cli import complete
from ingestlab.cli.common import Home, Json, Yes, confirm, out
from ingestlab.cli.tables import Fitting, frame_table, table
from ingestlab.core.settings import load_settings

if TYPE_CHECKING:
    from ingestlab.maintenance.history import Commit
    from ingestlab.maintenance.undo import Undone

TableName = Annotated[
    str,
    typer.Argument(metavar="TABLE", autocompletion=complete.tables, help="Its name; `ingestlab tables` lists them."),
]
Tenant = Annotated[str | None, typer.Option(help="Whose table it is.")]


def history(
    name: TableName,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="How many commits, the newest.")] = 20,
    tenant: Tenant = None,
    as_json: Json = False,
    home: Home = None,
) -> None:
    """List the commits of a table: what each changed, and until when it can be read or undone."""
    from ingestlab.lake.storage.store import open_store  # noqa: PLC0415 - slow to import: --help must not wait for it
    from ingestlab.maintenance.history import read_history  # noqa: PLC0415

    settings = load_settings(home=home)
    store = open_store(settings.lake_url, settings.storage_options)
    found = read_history(name, store, settings, tenant=tenant, limit=limit)
    if as_json:
        out.print_json(json.dumps(asdict(found)))
        return
    out.print(_commits(found.commits))
    out.print(Text(str(found), style="dim"))


def _commits(commits: tuple[Commit, ...]) -> Fitting:
    rows = [
        (
            str(c.number),
            _when(c.at),
            c.run,
            f"{c.kind}, undone" if c.undone_by else c.kind,
            _change(c.added, c.removed),
            _change(c.rejects_added, c.rejects_removed),
            f"{c.sources:,}" if c.sources else "",
            c.pipeline,
            (_when(c.undoable_until) if c.undoable_until else "yes") if c.undoable else "",
            (_when(c.readable_until) if c.readable_until else "yes") if c.readable else "no",
        )
        for c in commits
    ]
    headings = ("no", "when", "run", "kind", "rows", "rejects", "files", "pipeline", "undo until", "read until")
    leaves_out = ("pipeline", "files", "read until", "rejects", "when", "undo until")
    return table(headings, rows, right=("no", "rows", "rejects", "files"), leaves_out=leaves_out)


def _change(added: int | None, removed: int | None) -> str:
    """Write what came and went: ``+1,000 -20``."""
    if added is None or removed is None:
        return "?"
    return " ".join(f"{sign}{count:,}" for sign, count in (("+", added), ("-", removed)) if count)


def _when(moment: str) -> str:
    return datetime.fromisoformat(moment).astimezone().strftime("%d %b %H:%M")


def diff(
    name: TableName,
    old: Annotated[str, typer.Argument(metavar="OLD", help="A run, a time, or a number that `history` lists.")],
    new: Annotated[str | None, typer.Argument(metavar="NEW", help="Likewise; left out, the state of now.")] = None,
    key: Annotated[list[str] | None, typer.Option(help="Column that tells rows apart; may be repeated.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="How many rows of each kind.")] = 10,
    tenant: Tenant = None,
    as_json: Json = False,
    home: Home = None,
) -> None:
    """Show which rows of a table came, went or changed between states."""
    from ingestlab.maintenance.diff import diff as compare  # noqa: PLC0415 - slow to import, likewise

    found = compare(name, old, new, load_settings(home=home), tenant=tenant, key=key or (), limit=limit)
    if as_json:
        sys.stdout.write(found.to_json() + "\n")
        return
    out.print(Text(str(found)))
    if len(found.rows):
        out.print(frame_table(found.rows, "", len(found.rows)))
    if found.more:
        out.print(Text(" and more: --limit shows them", "dim"))


def undo(
    run: Annotated[
        str, typer.Argument(metavar="RUN", autocompletion=complete.runs, help="Its id, as `history` has it.")
    ],
    yes: Yes = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would change, and change nothing.")] = False,
    tenant: Tenant = None,
    as_json: Json = False,
    home: Home = None,
) -> None:
    """Undo a run: its rows go, and what it replaced comes back.

    A deletion is a run, and so is an undo.
    """
    from ingestlab.engine.services import Services  # noqa: PLC0415 - likewise
    from ingestlab.maintenance import undo as undoing  # noqa: PLC0415

    with Services.opened(load_settings(home=home)) as services:
        if dry_run or not yes:
            previews = undoing.preview(run, services, tenant=tenant)
            if dry_run or not any(report.sources for report in previews) or not as_json:
                _print_reports(previews, as_json=as_json)
            if dry_run or not any(report.sources for report in previews):
                return
            confirm(f"Undo run {run}?", yes=False)
        _print_reports(undoing.undo(run, services, tenant=tenant), as_json=as_json)


def _print_reports(reports: Sequence[Undone], *, as_json: bool) -> None:
    if as_json:
        out.print_json(json.dumps([asdict(report) for report in reports]))
    for report in () if as_json else reports:
        out.print(Text(str(report)))
