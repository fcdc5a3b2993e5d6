"""What all commands share: the home option, the consoles, and how an error looks."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.cells import cell_len
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


class Screen(Console):
    """A console that breaks lines between words. Paths and addresses stay whole, so that they can be copied."""

    def print(self, *objects: Any, **options: Any) -> None:
        """Print as rich does, breaking texts between words."""
        if self.is_terminal and not options and len(objects) == 1 and isinstance(objects[0], str | Text):
            text = self.render_str(objects[0]) if isinstance(objects[0], str) else objects[0]
            objects = (Text("\n").join(part for line in text.split("\n") for part in broken(line, self.width)),)
        super().print(*objects, **options)

    def print_json(self, json: str | None = None, **options: Any) -> None:
        """Print JSON as rich does. It has no colours in a pipe, whatever the environment asks for."""
        super().print_json(json, **{"highlight": self.file.isatty(), **options})


def broken(line: Text, width: int) -> Iterator[Text]:
    """Break a line between words. What follows begins beneath the text, not beneath its label.

    Args:
        line: One line.
        width: Cells that a part may take; a longer word takes more.
    """
    label = _LABEL.match(line.plain)
    hang = " " * label.end() if label and label.end() * 2 < width else ""
    first, place = 0, 0  # of this part, and the cells that it takes
    for word in _WORD.finditer(line.plain):
        cells = cell_len(word[0].rstrip())
        if first < word.start() and place + cells > width and word.start() > len(hang):
            yield _part(line, first, word.start(), hang)
            first, place = word.start(), len(hang)
        place += cell_len(word[0])
    yield _part(line, first, len(line), hang)


def _part(line: Text, first: int, end: int, hang: str) -> Text:
    part = line[first:end]
    part.rstrip()
    return Text(hang if first else "").append_text(part)


_LABEL = re.compile(r" *(?:\S+ {2,})?")
_WORD = re.compile(r"\S+\s*|\s+")
out = Screen(highlight=False, soft_wrap=True)
err = Screen(stderr=True, highlight=False, soft_wrap=True)


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
