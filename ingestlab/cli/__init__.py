"""The command line: one module a group of commands, each with a ``register(app)``."""

from __future__ import annotations

import typer

from ingestlab.cli import aggregates, demo, errors, jobs, lab, lake, notebook, profile, search, servers, stack, upkeep
from ingestlab.cli import scaffold as propose
from ingestlab.cli.common import Commands

app = typer.Typer(
    name="ingestlab",
    cls=Commands,
    help="Queue-driven data ingestion on Redis, RQ and Dask, published exactly once.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for module in (stack, servers, lab, jobs, lake, search, profile, propose, aggregates, upkeep, notebook, demo, errors):
    module.register(app)


def main() -> None:
    """Run the console script `ingestlab`."""
    app()
