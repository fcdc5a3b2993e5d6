"""The demonstration: the whole system on real input, from an empty folder to tables."""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from ingestlab import stack
from ingestlab.cli.common import out
from ingestlab.cli.show import print_failure, watching
from ingestlab.cli.tables import frame_table
from ingestlab.core.errors import StackError
from ingestlab.core.models import Tally
from ingestlab.core.settings import Settings, load_settings

if TYPE_CHECKING:
    from ingestlab.queue import Run
    from ingestlab.queue.results import RunResult

HOME = Path(".ingestlab/demo")
MARK = "demo"  # a file in the home of a demonstration: all of it may go
FOLDERS = {"bts": "bts_alarms", "flights": "flights"}  # of sample files, and the pipelines that take them


def demo(
    home: Annotated[
        Path, typer.Option(metavar="DIR", help="Home: an empty folder, or that of an earlier demo.")
    ] = HOME,
) -> None:
    """Ingest alarm files and a year of flights on a temporary stack. Shows what came out."""
    from ingestlab.pipeline.catalog import Catalog  # noqa: PLC0415 - slow to import: --help must not wait for it
    from ingestlab.queue import submit as submit_uris  # noqa: PLC0415

    pipelines = Catalog.read(load_settings(home=home))
    for name in FOLDERS.values():
        pipelines.named(name)
    with _fresh_stack(home) as settings:
        began = time.perf_counter()
        runs = [submit_uris(sample_uris(folder, settings), settings=settings) for folder in FOLDERS]
        results = [_watch(run) for run in runs]
        seconds = time.perf_counter() - began
        _print_totals(results, seconds)
        _print_tables(settings)
    out.print("Everything is stopped again; the tables stay. To look at the system at work: [bold]ingestlab lab[/]")
    if any(result.failed for result in results):
        raise typer.Exit(1)


def sample_uris(folder: str, settings: Settings) -> list[str]:
    """List sample files of one kind, as the file server serves them."""
    from ingestlab.stack.samples import ensure_samples  # noqa: PLC0415 - likewise

    if not settings.samples:
        problem, fix = "There is no embedded stack with its file server", "Start it with `ingestlab up`."
        raise StackError(problem, fix=fix, code="stack_not_running")
    files = ensure_samples(settings.home / "samples") / folder
    return [f"{settings.samples.rstrip('/')}/{folder}/{file.name}" for file in sorted(files.glob("*.csv"))]


@contextmanager
def _fresh_stack(home: Path) -> Iterator[Settings]:
    if stack.running(home):
        raise StackError(f"A stack is running already in {home}", fix=f"Stop it: ingestlab down --home {home}")
    _clear(home)
    with out.status("Starting Redis, Dask, workers and a file server …"):
        settings = stack.start(load_settings(home=home, redis_url=None), workers=2)
    try:
        yield settings
    finally:
        with out.status("Stopping everything …"):
            stack.stop(home)


def _clear(home: Path) -> None:
    """Remove what an earlier demonstration left; anything else stays, with an error."""
    own = home == HOME or (home / MARK).is_file()
    if home.exists() and any(home.iterdir()) and not own:
        problem, fix = f"The folder {home} has other things in it", "Name a folder that is empty or not there yet."
        raise StackError(problem, fix=fix, code="argument_invalid")
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    (home / MARK).touch()


def _watch(run: Run) -> RunResult:
    with watching(run.record.files, run.settings.dask_dashboard) as watch:
        return run.wait(watch=watch)


def _print_totals(results: list[RunResult], seconds: float) -> None:
    total = sum((r.tally for r in results), Tally())
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold")
    grid.add_row("files", f"{sum(len(r.outcomes) for r in results):,}")
    for name, count in (("rows in", total.rows_in), ("rows out", total.out), ("rejected", total.rejected)):
        grid.add_row(name, f"{count:,}")
    for rule, count in sum((Counter(result.rules) for result in results), Counter[str]()).most_common():
        grid.add_row("", f"{count:>8,}  {rule}")
    grid.add_row("Parquet", f"{sum(r.parquet_bytes for r in results):,} bytes")
    grid.add_row("time", f"{seconds:.1f} s, {total.rows_in / seconds:,.0f} rows/s")
    out.print(grid)
    for result in results:
        for outcome in result.failed:
            print_failure(outcome)


def _print_tables(settings: Settings) -> None:
    from ingestlab.analytics.lake import Lake  # noqa: PLC0415 - likewise

    lake = Lake(settings)
    for table in lake.tables():
        out.print(f"[bold]{table.name}[/]  {table.rows:,} rows in {table.path}")
    flights = lake.table("flights").pandas(["carrier", "arr_delay", "distance"])
    by_carrier = flights.groupby("carrier").agg(
        flights=("distance", "size"), mean_arrival_delay=("arr_delay", "mean"), miles=("distance", "sum")
    )
    top = by_carrier.sort_values("flights", ascending=False).head(5).round(1).reset_index()
    out.print(frame_table(top, "Flights from New York in 2013, the five largest carriers"))
