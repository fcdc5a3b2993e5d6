"""The commands by which files announce themselves: sync, listen and webhook."""

from __future__ import annotations

import json
from functools import partial
from typing import Annotated

import typer

from ingestlab.cli.common import Home, Json, many, out
from ingestlab.cli.jobs import Into, Pipeline, Queue, Tenant
from ingestlab.core.listening import ListenTo
from ingestlab.core.settings import load_settings

Folder = Annotated[str, typer.Argument(metavar="FOLDER", help="A local folder, s3://bucket/folder, gs://…")]
Match = Annotated[str, typer.Option(help="Pattern of the files' names; others are left alone.")]
KeepVanished = Annotated[bool, typer.Option("--keep-vanished", help="Leave the rows of vanished files.")]


def listen(
    address: Annotated[
        str,
        typer.Argument(
            metavar="ADDRESS",
            help="A folder, sqs://QUEUE, the URL of a queue of SQS, or pubsub://PROJECT/SUBSCRIPTION.",
        ),
    ],
    folders: Annotated[
        list[str] | None, typer.Option("--sync", help="Folder to sync at the start and every hour; may be repeated.")
    ] = None,
    pipeline: Pipeline = None,
    queue: Queue = None,
    tenant: Tenant = None,
    table: Into = None,
    home: Home = None,
) -> None:
    """Submit files as they arrive. What is removed leaves its tables. Ctrl-C ends it."""
    from ingestlab.queue.arrival.listener import run  # noqa: PLC0415 - slow to import: --help must not wait for it

    chosen = ListenTo(
        address=address,
        sync=tuple(folders) if folders else None,
        pipeline=pipeline,
        table=table,
        tenant=tenant,
        queue=queue,
    )
    heard = run(chosen, load_settings(home=home), partial(out.print, markup=False))
    out.print(f"{many(heard.submitted, 'file')} submitted, {heard.removed:,} taken out, {heard.refused:,} put aside.")


def webhook(
    host: Annotated[
        str, typer.Option(help="Address to listen at; others than this machine's own want TLS before it.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen at.")] = 8070,
    home: Home = None,
) -> None:
    """Serve POST /announce. Programs announce files by it. Ctrl-C ends it."""
    from ingestlab.queue.arrival.webhook import serve  # noqa: PLC0415 - slow to import: --help must not wait for it

    out.print(f"Announce files at http://{host}:{port}/announce; http://{host}:{port}/ says how. Ctrl-C ends it.")
    serve(load_settings(home=home), host, port)


def sync(
    folder: Folder,
    match: Match = "*",
    pipeline: Pipeline = None,
    queue: Queue = None,
    tenant: Tenant = None,
    table: Into = None,
    keep_vanished: KeepVanished = False,
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
