"""What all commands share: the home option, the consoles, and how an error looks."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text
from typer.core import TyperGroup

from ingestlab.core.errors import IngestError, TerminalError

Home = Annotated[
    Path | None, typer.Option("--home", metavar="DIR", help="Home of the stack; INGESTLAB_HOME, or .ingestlab.")
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]

WHOLE = 10_000  # characters of a line where nobody's screen ends it: in a pipe or a file
out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)


def fit() -> None:
    """Give the output its terminal's width, or room for everything elsewhere."""
    columns = os.environ.get("COLUMNS", "")
    if columns.isdigit():
        out.width = int(columns)
    elif not out.is_terminal:
        out.width = WHOLE


class Commands(TyperGroup):
    """Commands that print an IngestError as three lines, with exit code 1."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was asked for."""
        try:
            return super().invoke(ctx)
        except IngestError as error:
            show_error(error)
            raise typer.Exit(1) from error


def confirm(question: str, *, yes: bool) -> None:
    """Ask before something is lost.

    Args:
        question: What is asked.
        yes: Whether the answer was given with the command.

    Raises:
        TerminalError: The answer is no, or nobody answers.
    """
    if yes:
        return
    with suppress(typer.Abort):  # the end of standard input, or Ctrl-C
        if typer.confirm(question, err=True):
            return
    raise TerminalError("Nothing was changed: not confirmed", fix="Answer y, or say --yes.", code="argument_invalid")


def many(count: int, noun: str) -> str:
    """Count things: ``1 file``, ``1,000 files``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def show_notes(notes: Iterable[str]) -> None:
    """Print what a person should know to standard error."""
    for note in notes:
        err.print(Text(f"note: {note}", style="yellow"))


def show_error(error: IngestError) -> None:
    """Print the parts of an error to standard error."""
    for name, text in [*error.lines(), ("code", error.code)]:
        err.print(Text(f"{name:>8}  {text}", style="red"))
