"""The command line: a command is a function that is listed here."""

from __future__ import annotations

import typer

from ingestlab.cli import (
    aggregates,
    demo,
    errors,
    jobs,
    lab,
    lake,
    notebook,
    profile,
    scaffold,
    search,
    servers,
    stack,
    upkeep,
)
from ingestlab.cli.common import Commands

COMMANDS = (
    *(stack.up, stack.down, stack.scale, stack.status, stack.env, stack.doctor, stack.worker),
    *(servers.scheduler, servers.dask_worker, servers.init, lab.lab),
    *(jobs.submit, jobs.produce, jobs.show, jobs.watch, jobs.runs, jobs.failed, jobs.cancel, jobs.retry),
    *(lake.pipelines, lake.check, lake.tables, lake.reconcile, search.search, profile.profile, scaffold.new),
    *(aggregates.materialize, upkeep.compact, upkeep.rewrite, upkeep.replay, upkeep.reembed, upkeep.delete),
    *(notebook.notebook, demo.demo, errors.errors),
)
PASSED_ON = (servers.scheduler, servers.dask_worker, lab.lab)  # their other options are for the program that they run

app = typer.Typer(
    name="ingestlab",
    cls=Commands,
    help="Queue-driven data ingestion on Redis, RQ and Dask, published exactly once.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in COMMANDS:
    unknown = {"allow_extra_args": True, "ignore_unknown_options": True} if command in PASSED_ON else None
    pairs = notebook.Pairs if command is notebook.notebook else None
    app.command(command.__name__.replace("_", "-"), cls=pairs, context_settings=unknown)(command)


def main() -> None:
    """Run the console script `ingestlab`."""
    app()
