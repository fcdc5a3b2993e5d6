"""The commands that write pipelines: `new`, and `check` without one."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.syntax import Syntax

from ingestlab.cli.common import Home, many, out, show_notes
from ingestlab.cli.tables import frame_table
from ingestlab.core.settings import load_settings

if TYPE_CHECKING:
    from ingestlab.engine.scaffold.propose import Proposal


def new(
    name: Annotated[str, typer.Argument(help="The pipeline's name.")],
    source: Annotated[
        str,
        typer.Option("--from", metavar="FILE", help="Of its kind: a path, a URI, a pattern in quotes."),
    ],
    force: Annotated[bool, typer.Option("--force", help="Replace a pipeline of that name.")] = False,
    home: Home = None,
) -> None:
    """Write a pipeline for files of one kind, from some of them."""
    from ingestlab.engine.scaffold.propose import propose, write  # noqa: PLC0415 - slow to import: --help must not wait for it

    settings = load_settings(home=home)
    proposal = propose(source, settings, name)
    path = write(proposal, settings, force=force)
    show_notes(proposal.notes)
    out.print(f"Wrote {path}: {_counts(proposal)}.")
    out.print(f"Look at it, then: ingestlab check {shlex.quote(name)} {shlex.quote(source)}")


def show_proposal(file: str, rows: int, home: Path | None) -> None:
    """Propose a pipeline for a file, and show its effect on it."""
    from ingestlab.engine.scaffold.propose import propose  # noqa: PLC0415 - likewise

    settings = load_settings(home=home)
    if not {*"/*?["} & {*file} and not Path(file).exists():
        raise typer.BadParameter(f"'{file}' is no file here; a pipeline's name is followed by a file.")
    proposal = propose(file, settings)
    sample = proposal.trial.rows.drop(columns=["_source", "_row"], errors="ignore")
    out.print(Syntax("", "python").highlight(proposal.text))
    out.print(frame_table(sample, f"{proposal.trial.tally.out:,} clean rows", rows))
    show_notes(proposal.notes)
    out.print(_counts(proposal))
    out.print(f"Keep it with: ingestlab new {proposal.name} --from {shlex.quote(file)}")


def _counts(proposal: Proposal) -> str:
    tally = proposal.trial.tally
    return f"{many(tally.rows_in, 'row')} in, {tally.accepted:,} accepted, {tally.rejected:,} rejected"
