"""The commands that look after tables: compact, rewrite, replay, reembed and delete."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from ingestlab.cli import complete
from ingestlab.cli.common import Home, Json, Yes, confirm, many, out
from ingestlab.cli.jobs import Queue, announce
from ingestlab.core.settings import MB, load_settings

if TYPE_CHECKING:
    from ingestlab.engine.services import Services
    from ingestlab.maintenance.delete import Deleted

_SOURCES = 10  # of a table that are shown before they are deleted

Table = Annotated[
    str,
    typer.Argument(metavar="TABLE", autocompletion=complete.tables, help="Its name; `ingestlab tables` lists them."),
]
Tenant = Annotated[str | None, typer.Option(help="Whose table it is.")]


@contextmanager
def _services(home: Path | None) -> Iterator[Services]:
    from ingestlab.engine.services import Services  # noqa: PLC0415 - slow to import: --help must not wait for it

    with Services.opened(load_settings(home=home)) as services:
        yield services


def _print(report: Any, *, as_json: bool) -> None:
    out.print_json(json.dumps(asdict(report))) if as_json else out.print(str(report))


def compact(
    table: Table,
    target_mb: Annotated[int, typer.Option(min=1, help="Megabytes of a merged part, about.")] = 256,
    sort: Annotated[list[str] | None, typer.Option(help="Column to sort merged parts by; may be repeated.")] = None,
    tenant: Tenant = None,
    as_json: Json = False,
    home: Home = None,
) -> None:
    """Merge the small parts of a table and its rejects. Ingestion goes on meanwhile."""
    from ingestlab.maintenance.compact import compact as merge  # noqa: PLC0415 - likewise

    with _services(home) as services:
        report = merge(table, services, tenant=tenant, target=target_mb * MB, sort=sort or ())
    _print(report, as_json=as_json)


def rewrite(
    table: Table,
    types: Annotated[list[str] | None, typer.Option("--type", help="COLUMN=TYPE, e.g. v=double; repeatable.")] = None,
    tenant: Tenant = None,
    as_json: Json = False,
    home: Home = None,
) -> None:
    """Bring a table's parts to one schema and its pipeline's folders."""
    from ingestlab.maintenance.rewrite import rewrite as unify  # noqa: PLC0415 - likewise

    with _services(home) as services:
        report = unify(table, services, tenant=tenant, types=dict(map(_column_and_type, types or ())))
    _print(report, as_json=as_json)


def _column_and_type(text: str) -> tuple[str, str]:
    column, equals, kind = text.rpartition("=")
    if not (equals and column):
        raise typer.BadParameter(f"expected COLUMN=TYPE, got '{text}'")
    return column, kind


def replay(
    table: Table,
    rule: Annotated[
        str | None, typer.Option(autocompletion=complete.rules, help="Only rejects of this rule, e.g. value:less_than.")
    ] = None,
    run: Annotated[
        str | None, typer.Option(autocompletion=complete.runs, help="Only rejects that this run brought.")
    ] = None,
    tenant: Tenant = None,
    queue: Queue = None,
    wait: Annotated[bool, typer.Option("--wait", "-w", help="Watch it; exit code 1 if a file fails.")] = False,
    as_json: Json = False,
    home: Home = None,
) -> None:
    """Feed rejects through the repaired pipeline again. What passes now is published and leaves the rejects."""
    from ingestlab.queue.replays import submit_replay  # noqa: PLC0415 - likewise

    new = submit_replay(table, rule=rule, run=run, tenant=tenant, queue=queue, settings=load_settings(home=home))
    if new is None:
        out.print_json("null") if as_json else out.print(
            f"No rejects in {table}{f' that run {run} brought' if run else ''}: nothing to replay."
        )
    else:
        announce(new, f"the rejects of {many(new.record.files, 'file')}", wait=wait, as_json=as_json)


def reembed(table: Table, tenant: Tenant = None, as_json: Json = False, home: Home = None) -> None:
    """Recompute a table's embeddings as its pipeline wants them now. Until all are there, the old ones are found."""
    from ingestlab.maintenance.reembed import reembed as recompute  # noqa: PLC0415 - likewise

    with _services(home) as services:
        report = recompute(table, services, tenant=tenant)
    _print(report, as_json=as_json)


def delete(
    sources: Annotated[list[str], typer.Argument(metavar="SOURCE...", help="URIs, paths or quoted patterns of files.")],
    table: Annotated[
        str | None, typer.Option(autocompletion=complete.tables, help="Only out of this table; else out of all.")
    ] = None,
    yes: Yes = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would go, and take nothing.")] = False,
    tenant: Tenant = None,
    as_json: Json = False,
    home: Home = None,
) -> None:
    """Take files out of tables: rows, rejects, aggregates and all else. Announced again, they are ingested again."""
    from ingestlab.maintenance import delete as deleting  # noqa: PLC0415 - likewise

    with _services(home) as services:
        if dry_run or not yes:
            previews = deleting.preview(sources, services, table=table, tenant=tenant)
            if not as_json:
                _print_preview(previews)
            elif dry_run:
                out.print_json(json.dumps([asdict(report) for report in previews]))
            if dry_run or not any(report.sources for report in previews):
                return
            counts = f"{sum(r.rows for r in previews):,} rows and {sum(r.rejects for r in previews):,} rejects"
            confirm(f"Delete {counts}?", yes=False)
        reports = deleting.delete(sources, services, table=table, tenant=tenant)
    if as_json:
        out.print_json(json.dumps([asdict(report) for report in reports]))
    for report in () if as_json else reports:
        out.print(str(report))


def _print_preview(reports: Sequence[Deleted]) -> None:
    """Print what would be deleted: of each table the first sources."""
    for report in reports:
        counts = f"{report.rows:,} rows, {report.rejects:,} rejects"
        out.print(Text(f"{report.table}: {counts} of {many(len(report.sources), 'source')}"))
        for uri in report.sources[:_SOURCES]:
            out.print(Text(f"  {uri}", style="dim"))
        if (more := len(report.sources) - _SOURCES) > 0:
            out.print(Text(f"  and {more:,} more", style="dim"))
