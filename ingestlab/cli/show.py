"""How runs, results and frames look in a terminal."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, get_args

from rich.console import Group
from rich.filesize import decimal
from rich.live import Live
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.text import Text

from ingestlab.cli.common import many, out
from ingestlab.cli.tables import Fitting, table
from ingestlab.core.archive_uri import label
from ingestlab.core.errors import IngestError
from ingestlab.core.models import Mood, Outcome, Progress, Status

if TYPE_CHECKING:  # slow to import: who calls a function here has them already
    from ingestlab.queue.results import RunResult

COLOURS: dict[Mood, str] = {"busy": "bold", "good": "green", "warn": "yellow", "bad": "red"}
MOST_ERRORS = 10  # files whose errors are shown in full, all codes together
PATIENCE = 2.0  # seconds of a job in its queue before one asks whether anybody listens


@contextmanager
def watching(
    files: int, dashboard: str | None = None, starving: Callable[[], str] = lambda: ""
) -> Iterator[Callable[[Progress], None]]:
    """Show live progress in place; yields the function to update it.

    Args:
        files: How many the run has.
        dashboard: Address of the Dask dashboard, shown beside; it goes at the end, as the dashboard may.
        starving: Says what is missing, while nothing happens; empty if nothing is.
    """
    bar = Bar(
        TextColumn("{task.fields[state]}", style="bold"),
        BarColumn(bar_width=24),
        TextColumn("{task.completed}/{task.total} files, {task.fields[size]}"),
        TimeElapsedColumn(),
        TextColumn("left", style="dim"),
        TimeRemainingColumn(),
    )
    task = bar.add_task("run", total=files, state="queued", size="")
    counts, note = Text(style="dim"), Text(style="yellow")
    began = time.monotonic()
    asked = [began]
    place = Text(f"Dask dashboard: {dashboard}" if dashboard else "", style="dim")
    with Live(Group(bar, counts, note, place), console=out, refresh_per_second=10, transient=not out.is_terminal):

        def show(p: Progress) -> None:
            bar.update(task, total=max(files, p.files), completed=p.files_done, state=p.state, size=decimal(p.bytes))
            rate = p.rows / max(time.monotonic() - began, 1e-3)
            counts.plain = (
                f"{p.partitions_done}/{p.partitions} partitions, {p.rows:,} rows ({rate:,.0f}/s), "
                f"{p.rejected:,} rejected, {p.failed:,} files failed"
            )
            if p.state != "queued":
                note.plain = p.note
            elif time.monotonic() - asked[-1] > PATIENCE:
                asked.append(time.monotonic())
                note.plain = starving()

        yield show
        place.plain = ""


@contextmanager
def counting(things: str) -> Iterator[Callable[[str, int, int], None]]:
    """Show a progress bar that goes away. Yields the function to update it."""
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), TextColumn("{task.completed}/{task.total}"))
    hidden = not out.is_terminal
    with Bar(*columns, TextColumn(things), TimeElapsedColumn(), console=out, transient=True, disable=hidden) as bar:
        task = bar.add_task("the lake", total=None)
        yield lambda what, done, total: bar.update(task, description=what, completed=done, total=total)


def print_result(result: RunResult) -> None:
    """Print a run's counts, reasons, and first failures by code."""
    from ingestlab.queue.advice import of_result  # noqa: PLC0415 - slow to import: whoever has a result has it already

    counts = ", ".join(f"{n:,} {s}" for s in get_args(Status) if (n := result.count(s)))
    out.print(Text.assemble("run ", (result.run, "bold"), " ", (result.said, COLOURS[result.mood]), f": {counts}"))
    if result.tally.rows_in:
        t = result.tally
        out.print(f"rows: {t.rows_in:,} in, {t.out:,} published, {t.rejected:,} rejected")
    for rule, count in sorted(result.rules.items(), key=lambda item: -item[1]):
        out.print(f"  {count:>8,}  {rule}")
    for warning in of_result(result, "terminal"):
        out.print(Text(warning, style="yellow"))
    if result.tables:
        out.print(f"tables: {', '.join(result.tables)}")
    for name, where in result.kept.items():
        out.print(Text(f"its {name}: {where}"))
    groups = result.by_code
    most = max(1, MOST_ERRORS // max(1, len(groups)))
    for code, outcomes in groups.items():
        out.print(Text.assemble((code, "bold red"), f": {many(len(outcomes), 'file')}"))
        for outcome in outcomes[:most]:
            print_failure(outcome)
        if len(outcomes) > most:
            out.print(f"… and {len(outcomes) - most:,} more failed files of this kind")


def files_table(result: RunResult) -> Fitting:
    """Tabulate how each file ended, and what its reader found out."""
    facts = {name: [o.facts.get(name, "") for o in result.outcomes] for name in ("encoding", "compression")}
    facts["assumed"] = [o.assumed for o in result.outcomes]
    noted = {name: values for name, values in facts.items() if any(values)}
    numbers = ("rows", "published", "rejected")
    rows: list[tuple[str | Text, ...]] = [
        (
            Text(label(o.uri)),
            Text(o.status, style="red" if o.status == "failed" else ""),
            *(f"{count:,}" for count in (o.tally.rows_in, o.tally.out, o.tally.rejected)),
            *(Text(values[place]) for values in noted.values()),
        )
        for place, o in enumerate(result.outcomes)
    ]
    leaves_out = [*reversed(noted), "rows"]
    return table(
        ("file", "status", *numbers, *noted), rows, right=numbers, folds=("file", "assumed"), leaves_out=leaves_out
    )


def print_failure(outcome: Outcome) -> None:
    """Print why a file failed, in three lines."""
    out.print(Text.assemble(("✗ ", "red"), outcome.uri))
    error = outcome.exception()
    if isinstance(error, IngestError):
        for name, text in error.lines():
            out.print(Text(f"  {name:>8}  {text}", style="dim"))
