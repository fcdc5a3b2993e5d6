"""The command around error codes."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from ingestlab.cli.common import Json, out
from ingestlab.cli.tables import table
from ingestlab.core.error_codes import CODES, markdown


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
    rows = [(code, said.meaning, said.action, "yes" if said.retried else "") for code, said in sorted(CODES.items())]
    headings, folds = ("code", "meaning", "what to do", "retried"), ("meaning", "what to do")
    out.print(table(headings, rows, folds=folds, leaves_out=("retried", "meaning")))
