"""The command around error codes."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.table import Table

from ingestlab.cli.common import Json, out
from ingestlab.core.error_codes import CODES, markdown


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(errors)


def errors(
    as_json: Json = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Print docs/reference/errors.md.")] = False,
) -> None:
    """List the codes of all errors: what each means, what to do, and whether ingestlab tries again by itself."""
    if as_markdown:
        typer.echo(markdown(), nl=False)
        return
    if as_json:
        out.print_json(json.dumps({code: said._asdict() for code, said in sorted(CODES.items())}))
        return
    table = Table(box=None, padding=(0, 1), header_style="dim")
    for heading in ("code", "meaning", "what to do", "retried"):
        table.add_column(heading, no_wrap=heading == "code", overflow="fold")
    for code, said in sorted(CODES.items()):
        table.add_row(code, said.meaning, said.action, "yes" if said.retried else "")
    out.print(table)
