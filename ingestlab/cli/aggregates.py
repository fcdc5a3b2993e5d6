"""The command around aggregates: materialize."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ingestlab.cli import complete
from ingestlab.cli.common import Home, out
from ingestlab.core.settings import load_settings


def materialize(
    table: Annotated[str, typer.Argument(autocompletion=complete.tables, help="The table.")],
    aggregate: Annotated[str | None, typer.Argument(help="One of its aggregates; all, if not given.")] = None,
    to: Annotated[
        str | None,
        typer.Option(metavar="PATH", help="A file or URL, or a folder for several; in the lake, if not given."),
    ] = None,
    home: Home = None,
) -> None:
    """Write a table's aggregates, merged, as plain Parquet files for other tools."""
    from ingestlab.analytics.lake import Lake  # noqa: PLC0415 - slow to import: --help must not wait for it

    lake = Lake(load_settings(home=home))
    for name in [aggregate] if aggregate else lake.aggregates(table):
        out.print(lake.materialize(table, name, _place(to, name, several=aggregate is None)))


def _place(to: str | None, name: str, *, several: bool) -> str | None:
    """Return the file for an aggregate; `to` may be its folder."""
    if to is None or not (several or to.endswith("/") or Path(to).is_dir()):
        return to
    return f"{to.rstrip('/')}/{name}.parquet"
