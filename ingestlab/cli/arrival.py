"""The commands by which files announce themselves: sync."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from ingestlab.cli.common import Home, Json, out
from ingestlab.cli.jobs import Queue
from ingestlab.core.settings import load_settings


def sync(
    folder: Annotated[str, typer.Argument(metavar="FOLDER", help="A local folder, s3://bucket/folder, gs://…")],
    match: Annotated[str, typer.Option(help="Pattern of the files' names; others are left alone.")] = "*",
    pipeline: Annotated[str | None, typer.Option("--pipeline", "-p", help="By file name if left out.")] = None,
    queue: Queue = None,
    tenant: Annotated[str | None, typer.Option(help="Whose tables.")] = None,
    table: Annotated[str | None, typer.Option(help="Table for files that no pipeline matches.")] = None,
    keep_vanished: Annotated[bool, typer.Option("--keep-vanished", help="Leave the rows of vanished files.")] = False,
    max_vanish_ratio: Annotated[
        float | None, typer.Option(min=0, max=1, help="Share of known files that may vanish at once; 1 lets all go.")
    ] = None,
    as_json: Json = False,
    home: Home = None,
) -> None:
    """Make tables agree with a folder: submit what is new or changed, take out what has vanished."""
    from ingestlab.queue import sync as make_agree  # noqa: PLC0415 - slow to import: --help must not wait for it

    report = make_agree(
        folder,
        match=match,
        pipeline=pipeline,
        table=table,
        tenant=tenant,
        queue=queue,
        keep_vanished=keep_vanished,
        max_vanish_ratio=max_vanish_ratio,
        settings=load_settings(home=home),
    )
    if as_json:
        out.print_json(json.dumps(report.to_dict()))
        return
    out.print(str(report))
    for deleted in report.deleted:
        out.print(f"  {deleted}")
    for run in report.runs:
        out.print(f"  Watch it with `ingestlab watch {run}`.")
