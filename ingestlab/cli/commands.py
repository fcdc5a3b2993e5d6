"""All commands: a command is a function that is listed here."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from ingestlab.cli import (
    aggregates,
    airbyte,
    arrival,
    audit,
    demo,
    errors,
    grade,
    history,
    jobs,
    lab,
    lake,
    notebook,
    profile,
    rows,
    scaffold,
    schedule,
    search,
    servers,
    stack,
    tenant,
    upkeep,
)
from ingestlab.cli.common import Commands, fit
from ingestlab.cli.complete import join_at_colons
from ingestlab.core.version import VERSION

GROUPS = {  # in the order of `--help`
    "Ingest files": (
        *(
            jobs.submit,
            arrival.listen,
            arrival.sync,
            arrival.webhook,
            jobs.watch,
            jobs.show,
            jobs.log,
            jobs.runs,
            jobs.failed,
        ),
        *(jobs.retry, jobs.cancel, jobs.forget, jobs.produce),
    ),
    "Write pipelines and notebooks": (scaffold.new, lake.check, lake.pipelines, notebook.notebook, grade.grade),
    "Read tables": (
        *(lake.tables, rows.head, rows.rows, rows.rejects, profile.profile, history.history, history.diff),
        *(aggregates.materialize, search.search),
    ),
    "Maintain tables": (
        *(upkeep.replay, upkeep.delete, history.undo, upkeep.compact),
        *(upkeep.rewrite, upkeep.reembed, lake.reconcile),
    ),
    "Run the system": (
        *(demo.demo, lab.lab, stack.up, stack.down, stack.status, stack.doctor, stack.scale, stack.env, audit.audit),
        *(stack.worker, servers.scheduler, servers.dask_worker, servers.init, errors.errors),
    ),
}
PASSED_ON = (servers.scheduler, servers.dask_worker, lab.lab)  # their other options are for the program that they run

app = typer.Typer(
    name="ingestlab",
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for group, commands in GROUPS.items():
    for command in commands:
        unknown = {"allow_extra_args": True, "ignore_unknown_options": True} if command in PASSED_ON else None
        pairs = notebook.Pairs if command is notebook.notebook else None
        name = command.__name__.replace("_", "-")
        app.command(name, cls=pairs, context_settings=unknown, rich_help_panel=group)(command)
app.add_typer(schedule.schedule, name="schedule", rich_help_panel="Ingest files")
app.add_typer(tenant.tenant, name="tenant", rich_help_panel="Run the system")
app.add_typer(airbyte.airbyte, name="airbyte", rich_help_panel="Write pipelines and notebooks")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"ingestlab {VERSION}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[  # noqa: ARG001 - its callback is all
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Queue-driven data ingestion on Redis, RQ and Dask, published exactly once."""
    fit()


def main() -> None:
    """Run the console script `ingestlab`."""
    join_at_colons(os.environ)
    app()
