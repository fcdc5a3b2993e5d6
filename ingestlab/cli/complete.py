"""What the shell completes on Tab: runs, tables, pipelines and the rules of a table's rejects.

Where a server is away there is nothing to complete, and nobody to tell.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, MutableMapping
from contextlib import suppress

import typer

from ingestlab.cli.common import many
from ingestlab.core.errors import IngestError
from ingestlab.core.settings import Settings, load_settings

_RUNS = 50  # the latest of them
Words = list[tuple[str, str]]  # each with what some shells show beside
_VARIABLE = "_INGESTLAB_COMPLETE"  # in which a shell asks
_CUT_OFF = "_INGESTLAB_COMPLETE_CUT_OFF"  # what bash has before the part of a word that it replaces
Complete = Callable[[typer.Context, str], Words]


def _completing(*finders: Callable[[typer.Context], Iterable[tuple[str, str]]]) -> Complete:
    """Make what typer asks on Tab out of what finds all words."""

    def complete(ctx: typer.Context, incomplete: str) -> Words:
        words: Words = []
        cut_off = os.environ.get(_CUT_OFF, "")
        for find in finders:
            with suppress(IngestError):
                words += [word for word in find(ctx) if word[0].startswith(cut_off + incomplete)]
        return [(word.removeprefix(cut_off), text) for word, text in words]

    return complete


def join_at_colons(environ: MutableMapping[str, str]) -> None:
    """Join again what bash has cut at colons, as in ``n:less_than``. Of the last word it replaces what follows.

    Args:
        environ: What bash has asked with.
    """
    if not environ.get(_VARIABLE, "").endswith("_bash"):
        return
    words = environ["COMP_WORDS"].split("\n")
    typed, rest = words[: int(environ["COMP_CWORD"]) + 1], words[int(environ["COMP_CWORD"]) + 1 :]
    joined = re.sub(r"\n(?=:)|(?<=:)\n", "", "\n".join(typed)).split("\n")
    if joined != typed:
        place = joined[-1].rfind(":") + 1
        environ[_CUT_OFF], joined[-1] = joined[-1][:place], joined[-1][place:]
        environ.update({"COMP_WORDS": "\n".join([*joined, *rest]), "COMP_CWORD": str(len(joined) - 1)})


def _runs(ctx: typer.Context) -> Iterator[tuple[str, str]]:
    """Yield the ids of the latest runs."""
    from ingestlab.queue import recent_runs  # noqa: PLC0415 - slow to import: --help must not wait for it

    return ((run.id, many(run.record.files, "file")) for run in recent_runs(_settings(ctx), _RUNS))


def _tables(ctx: typer.Context) -> Iterator[tuple[str, str]]:
    """Yield the names of tables."""
    from ingestlab.analytics.lake import Lake  # noqa: PLC0415 - likewise

    lake = Lake(_settings(ctx), ctx.params.get("tenant"))
    return ((table.name, many(table.rows, "row")) for table in lake.tables())


def _pipelines(ctx: typer.Context) -> Iterator[tuple[str, str]]:
    """Yield the names of pipelines."""
    from ingestlab.pipeline.catalog import Catalog  # noqa: PLC0415 - likewise

    return ((name, source.origin) for name, source in Catalog.read(_settings(ctx)).sources.items())


def _rules(ctx: typer.Context) -> Iterator[tuple[str, str]]:
    """Yield the rules that rejected rows of the table named before."""
    from ingestlab.analytics.lake import Lake  # noqa: PLC0415 - likewise

    # an option that still lacks its value ends click's parsing, before the arguments have their names
    table = ctx.params.get("table") or ctx.params.get("name") or next(iter(ctx.args), None)
    counts = Lake(_settings(ctx), ctx.params.get("tenant")).rules(table) if table else {}
    return ((rule, many(count, "reject")) for rule, count in counts.items())


def _settings(ctx: typer.Context) -> Settings:
    return load_settings(home=ctx.params.get("home"))


runs = _completing(_runs)
tables = _completing(_tables)
tables_and_runs = _completing(_tables, _runs)
pipelines = _completing(_pipelines)
rules = _completing(_rules)
