"""The command that searches."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from ingestlab.cli.common import Home, Json, out
from ingestlab.core.archive_uri import label
from ingestlab.core.errors import TerminalError
from ingestlab.core.settings import load_settings

_OURS = ("score", "text", "source", "row", "chunk")


def search(
    collection: Annotated[str, typer.Argument(help="The collection: the table's name, if no other was given.")],
    text: Annotated[str | None, typer.Argument(help="What to look for.")] = None,
    image: Annotated[Path | None, typer.Option(metavar="FILE", help="An image to look for, instead.")] = None,
    limit: Annotated[int, typer.Option(help="How many rows.")] = 10,
    where: Annotated[
        str | None, typer.Option("--filter", metavar="EXPR", help="What columns must be, e.g. 'status >= 500'.")
    ] = None,
    distinct: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Show each value once, with its number of rows, e.g. text.")
    ] = None,
    tenant: Annotated[str | None, typer.Option(help="Whose rows; INGESTLAB_TENANT's, if not given.")] = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Find the rows of a collection nearest to a text or image."""
    if (text is None) == (image is None):
        problem, got = "The query is unclear", "neither" if text is None else "both"
        expected, fix = "a text, or --image with a file", 'E.g. ingestlab search documents "draw plots".'
        raise TerminalError(problem, expected=expected, got=got, fix=fix, code="argument_invalid")
    from ingestlab.sinks.milvus.search import search as find  # noqa: PLC0415 - slow to import: --help must not wait for it

    query = image if text is None else text
    settings = load_settings(home=home)
    hits = find(collection, query, settings, limit=limit, only=where, distinct=distinct, tenant=tenant)
    if as_json:
        out.print_json(hits.to_json(orient="records", double_precision=6))
        return
    for hit in hits.astype(object).where(hits.notna(), None).to_dict("records"):
        out.print(_lines(hit))
    if hits.empty:
        out.print("Nothing found.")


def _lines(hit: dict[Hashable, Any]) -> Text:
    """Show a hit: score, payload and place, and the beginning of its text below."""
    payload = "  ".join(f"{name} {_short(value)}" for name, value in hit.items() if name not in _OURS)
    place = f"{label(hit['source'])} row {hit['row']}"
    shown = Text.assemble((f"{hit['score']:.3f}", "bold"), f"  {payload}  ", (place, "dim"))
    return shown.append(f"\n       {_short(hit['text'], 160)}", "dim") if hit.get("text") else shown


def _short(value: Any, most: int = 60) -> str:
    """Write a value in one line."""
    text = "" if value is None else " ".join(str(value).split())
    return text if len(text) <= most else f"{text[: most - 1]}…"
