"""What all commands share: the home option, the consoles, and how an error looks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text
from typer.core import TyperGroup

from ingestlab.core.errors import IngestError

Home = Annotated[
    Path | None, typer.Option("--home", metavar="DIR", help="Home of the stack; INGESTLAB_HOME, or .ingestlab.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)


class Commands(TyperGroup):
    """Commands that print an IngestError as three lines, with exit code 1."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was asked for."""
        try:
            return super().invoke(ctx)
        except IngestError as error:
            show_error(error)
            raise typer.Exit(1) from error


def table(headings: Iterable[str], rows: Iterable[Sequence[str | Text]], *, right: Iterable[str] = ()) -> Table:
    """Tabulate rows of texts without lines.

    Args:
        headings: One a column.
        rows: Of as many cells.
        right: The headings of columns of numbers.
    """
    made = Table(box=None, padding=(0, 1), header_style="dim")
    for heading in headings:
        made.add_column(heading, justify="right" if heading in right else "left", overflow="fold")
    for row in rows:
        made.add_row(*row)
    return made


def many(count: int, noun: str) -> str:
    """Count things: ``1 file``, ``1,000 files``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def show_error(error: IngestError) -> None:
    """Print the parts of an error to standard error."""
    for name, text in [*error.lines(), ("code", error.code)]:
        err.print(Text(f"{name:>8}  {text}", style="red"))
