"""How runs, results and frames look in a terminal."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import groupby
from typing import TYPE_CHECKING, get_args

from rich.console import Group
from rich.filesize import decimal
from rich.live import Live
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar
from rich.text import Text

from ingestlab.cli.common import many, out
from ingestlab.cli.tables import Fitting, table
from ingestlab.core.archive_uri import label, without_name
from ingestlab.core.errors import IngestError
from ingestlab.core.models import OVER, Mood, Outcome, Progress, Status

if TYPE_CHECKING:  # slow to import: who calls a function here has them already
    from ingestlab.queue.results import RunResult

COLOURS: dict[Mood, str] = {"busy": "bold", "good": "green", "warn": "yellow", "bad": "red"}
MOST_ERRORS = 10  # files whose errors are shown in full, all codes together
MOST_ASSUMED = 3  # different ones that are shown below a result
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
        TextColumn("{task.fields[state]}", style="bold"), BarColumn(bar_width=24), TextColumn("{task.fields[times]}")
    )
    task = bar.add_task("run", total=1.0, state="queued", times="")
    counts, note = Text(style="dim"), Text(style="yellow")
    asked = [time.monotonic()]
    place = Text(f"Dask dashboard: {dashboard}" if dashboard else "", style="dim")
    with Live(Group(bar, counts, note, place), console=out, refresh_per_second=10, transient=not out.is_terminal):

        def show(p: Progress) -> None:
            done = max(bar.tasks[0].completed, p.share)  # a retry does not take back what one has seen
            now = time.time()
            bar.update(task, completed=done, state=f"[{COLOURS[p.mood]}]{p.said}[/]", times=_times(p, done, now))
            counts.plain = _counts(p, max(files, p.files), now)
            if p.state != "queued":
                note.plain = p.note
            elif time.monotonic() - asked[0] > PATIENCE:
                asked[0] = time.monotonic()
                note.plain = starving()

        yield show
        place.plain = ""


def _times(p: Progress, done: float, now: float) -> str:
    """Write how much is done, and the time taken and left."""
    seconds = p.seconds(now)
    if seconds is None:
        return ""
    parts = [f"{done:.0%}", duration(seconds)]
    if p.state not in (*OVER, "retrying") and 0.05 < done < 1 and seconds > 1:
        parts.append(f"about {duration(seconds * (1 - done) / done)} left")
    return ", ".join(parts)


def _counts(p: Progress, files: int, now: float) -> str:
    """Write what is done, without what is nothing."""
    seconds = p.seconds(now)
    rate = f" ({p.rows / seconds:,.0f}/s)" if seconds and p.rows else ""
    parts = [
        f"{p.partitions_done:,}/{many(p.partitions, 'partition')}" if p.partitions else "",
        f"{p.files_done:,}/{many(files, 'file')}",
        decimal(p.bytes) if p.bytes else "",
        f"{many(p.rows, 'row')}{rate}" if p.rows else "",
        f"{p.rejected:,} rejected" if p.rejected else "",
        f"{p.failed:,} failed" if p.failed else "",
    ]
    return ", ".join(filter(None, parts))


def duration(seconds: float) -> str:
    """Write seconds for people: ``0.8 s``, ``12 s``, ``3 min 20 s``, ``2 h 5 min``."""
    if seconds < 59.5:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


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
    if result.began:
        out.print(f"time: {duration(result.ended - result.began)}")
    for rule, count in sorted(result.rules.items(), key=lambda item: -item[1]):
        out.print(f"  {count:>8,}  {rule}")
    remarks = [(line, "dim") for line in _assumptions(result)] + [(s, "yellow") for s in of_result(result, "terminal")]
    for remark, style in remarks:
        out.print(Text(remark, style=style))
    if result.tables:
        out.print(f"tables: {', '.join(result.tables)}")
    for name, where in result.kept.items():
        out.print(Text(f"its {name}: {where}"))
    groups = result.by_code
    most = max(1, MOST_ERRORS // max(1, len(groups)))
    for code, outcomes in groups.items():
        out.print(Text.assemble((code, "bold red"), f": {many(len(outcomes), 'file')}"))
        for _, same in groupby(outcomes[:most], key=_reason):
            print_failure(*same)
        if len(outcomes) > most:
            out.print(f"… and {len(outcomes) - most:,} more failed files of this kind")


def _assumptions(result: RunResult) -> Iterator[str]:
    """Say what readers have assumed of the files, the commonest first."""
    groups: dict[str, list[Outcome]] = {}
    for outcome in result.outcomes:
        if outcome.assumed and outcome.status == "committed":
            groups.setdefault(outcome.assumed, []).append(outcome)
    for text, (first, *others) in sorted(groups.items(), key=lambda group: -len(group[1]))[:MOST_ASSUMED]:
        more = f" and {len(others):,} more" if others else ""
        yield f"assumed of {label(first.uri)}{more}: {text}"
    if len(groups) > MOST_ASSUMED:
        yield f"… and more of others: ingestlab show {result.run} --files"


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


def print_failure(*outcomes: Outcome) -> None:
    """Print why files failed, in three lines for all of them."""
    for outcome in outcomes:
        out.print(Text.assemble(("✗ ", "red"), outcome.uri))
    error, uri = outcomes[-1].exception(), outcomes[-1].uri
    if isinstance(error, IngestError):
        for name, text in error.lines():
            out.print(Text(f"  {name:>8}  {without_name(text, uri) if outcomes[1:] else text}", style="dim"))


def _reason(outcome: Outcome) -> list[str]:
    """Return why a file failed, without its name."""
    return [without_name(text, outcome.uri) for text in (outcome.error or {}).values()]
