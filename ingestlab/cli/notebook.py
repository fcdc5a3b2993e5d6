"""The command that runs a notebook with parameters, here or as a job: ``ingestlab notebook NB -p NAME VALUE``."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text
from typer.core import TyperCommand

from ingestlab.cli.common import Home, Json, out
from ingestlab.cli.jobs import announce
from ingestlab.core.settings import load_settings


class Pairs(TyperCommand):
    """Command with papermill's option ``-p NAME VALUE``. ``-p name=value`` is understood, too."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Join the words of each pair for typer's one-word options."""
        words, rest = [], iter(args)
        for word in rest:
            words.append(word)
            if word == "-p" and (name := next(rest, None)) is not None:
                value = "" if "=" in name else "=" + next(rest, "")
                words.append(name + value)
        return super().parse_args(ctx, words)


def notebook(
    path: Annotated[Path, typer.Argument(metavar="NOTEBOOK", help="The notebook; it stays as it is.")],
    parameters: Annotated[
        list[str] | None, typer.Option("-p", metavar="NAME VALUE", help="A parameter; JSON, or else a text.")
    ] = None,
    enqueue: Annotated[
        bool, typer.Option("--enqueue", help="Have a worker run it: by its name in the worker's notebooks folder.")
    ] = False,
    wait: Annotated[bool, typer.Option("--wait", "-w", help="Watch a notebook that is enqueued.")] = False,
    as_json: Json = False,
    home: Home = None,
) -> None:
    """Run a notebook with parameters. It is kept with its outputs beside the run that it makes."""
    from ingestlab.notebook.runner import execute, submit_notebook  # noqa: PLC0415 - slow to import: --help must not wait for it

    if wait and not enqueue:
        raise typer.BadParameter("--wait goes with --enqueue: without it the notebook is run here, and waited for.")
    pairs = (pair.partition("=") for pair in parameters or [])
    values = {name: _value(text) for name, _, text in pairs}
    settings = load_settings(home=home)
    if enqueue:
        announce(submit_notebook(path, values, settings=settings), f"notebook {path.name}", wait=wait, as_json=as_json)
        return
    done = execute(path, values, settings)
    if as_json:
        out.print_json(json.dumps(asdict(done)))
    else:
        state = Text("failed", style="red") if done.error else Text("finished", style="green")
        out.print(Text.assemble(f"run {done.run} ", state))
        for line in (done.error, done.notebook, done.page):
            if line:
                out.print(Text(f"  {line}"))
    raise typer.Exit(1 if done.error else 0)


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text
