"""The commands that look after tables: compact, rewrite, replay, reembed and delete."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer

from ingestlab.cli.common import Home, Json, many, out
from ingestlab.cli.jobs import Queue, follow
from ingestlab.core.settings import MB, load_settings

Table = Annotated[str, typer.Argument(metavar="TABLE", help="Its name; `ingestlab tables` lists them.")]
Tenant = Annotated[str | None, typer.Option(help="Whose table it is.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    for command in (compact, rewrite, replay, reembed, delete):
        app.command()(command)


def compact(
    table: Table,
    target_mb: Annotated[int, typer.Option(min=1, help="Megabytes of a merged part, about.")] = 256,
    sort: Annotated[list[str] | None, typer.Option(help="Column to sort merged parts by; may be repeated.")] = None,
    tenant: Tenant = None,
    as_json: Json = False,
    home: Home = None,
) -> None:
    """Merge the small parts of a table and its rejects. Ingestion goes on meanwhile."""
    from ingestlab.engine.services import Services  # noqa: PLC0415
    from ingestlab.maintenance.compact import compact as merge  # noqa: PLC0415 - slow to import: --help must not wait for it

    with Services.opened(load_settings(home=home)) as services:
        report = merge(table, services, tenant=tenant, target=target_mb * MB, sort=sort or ())
    if as_json:
        out.print_json(json.dumps(asdict(report)))
    else:
        out.print(str(report))


def rewrite(
    table: Table,
    types: Annotated[list[str] | None, typer.Option("--type", help="COLUMN=TYPE, e.g. v=double; repeatable.")] = None,
    tenant: Tenant = None,
    as_json: Json = False,
    home: Home = None,
) -> None:
    """Bring a table's parts to one schema and its pipeline's folders."""
    from ingestlab.engine.services import Services  # noqa: PLC0415 - likewise
    from ingestlab.maintenance.rewrite import rewrite as bring  # noqa: PLC0415

    asked = dict(_column_and_type(one) for one in types or ())
    with Services.opened(load_settings(home=home)) as services:
        report = bring(table, services, tenant=tenant, types=asked)
    out.print_json(json.dumps(asdict(report))) if as_json else out.print(str(report))


def _column_and_type(text: str) -> tuple[str, str]:
    column, equals, kind = text.rpartition("=")
    if not (equals and column):
        raise typer.BadParameter(f"expected COLUMN=TYPE, got '{text}'")
    return column, kind


def replay(
    table: Table,
    rule: Annotated[str | None, typer.Option(help="Only rejects of this rule, e.g. value:less_than.")] = None,
    run: Annotated[str | None, typer.Option(help="Only rejects that this run brought.")] = None,
    tenant: Tenant = None,
    queue: Queue = None,
    wait: Annotated[bool, typer.Option("--wait", "-w", help="Watch it; exit code 1 if a file fails.")] = False,
    as_json: Json = False,
    home: Home = None,
) -> None:
    """Feed rejects through the repaired pipeline again. What passes now is published and leaves the rejects."""
    from ingestlab.queue.replays import submit_replay  # noqa: PLC0415 - likewise

    found = submit_replay(table, rule=rule, run=run, tenant=tenant, queue=queue, settings=load_settings(home=home))
    if found is None:
        out.print_json("null") if as_json else out.print(f"No rejects in {table}: nothing to replay.")
    elif wait:
        follow(found, as_json=as_json)
    elif as_json:
        out.print_json(found.record.model_dump_json())
    else:
        out.print(f"Queued run {found.id}: the rejects of {many(found.record.files, 'file')} on {found.record.queue}.")
        out.print(f"Watch it with `ingestlab show {found.id} --wait`.")


def reembed(table: Table, tenant: Tenant = None, as_json: Json = False, home: Home = None) -> None:
    """Recompute a table's embeddings as its pipeline wants them now. Until all are there, the old ones are found."""
    from ingestlab.engine.services import Services  # noqa: PLC0415
    from ingestlab.maintenance.reembed import reembed as make  # noqa: PLC0415 - likewise

    with Services.opened(load_settings(home=home)) as services:
        report = make(table, services, tenant=tenant)
    out.print_json(json.dumps(asdict(report))) if as_json else out.print(str(report))


def delete(
    sources: Annotated[list[str], typer.Argument(metavar="SOURCE...", help="URIs, paths or quoted patterns of files.")],
    table: Annotated[str | None, typer.Option(help="Only out of this table; else out of all.")] = None,
    tenant: Tenant = None,
    as_json: Json = False,
    home: Home = None,
) -> None:
    """Take files out of tables: rows, rejects, aggregates and all else. Announced again, they are ingested again."""
    from ingestlab.engine.services import Services  # noqa: PLC0415
    from ingestlab.maintenance.delete import delete as take_out  # noqa: PLC0415 - likewise

    with Services.opened(load_settings(home=home)) as services:
        found = take_out(sources, services, table=table, tenant=tenant)
    if as_json:
        out.print_json(json.dumps([asdict(one) for one in found]))
    for one in () if as_json else found:
        out.print(str(one))
