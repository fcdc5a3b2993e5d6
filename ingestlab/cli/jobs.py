"""The commands of producers: submit, produce, and everything about runs."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Collection, Iterator, Sequence
from datetime import datetime, timedelta
from itertools import islice, takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from ingestlab.cli import complete
from ingestlab.cli.common import Home, Json, many, out, show_notes
from ingestlab.cli.show import COLOURS, duration, files_table, print_result, watching
from ingestlab.cli.tables import Fitting, table
from ingestlab.core.errors import TerminalError
from ingestlab.core.models import OVER, State, by_code
from ingestlab.core.settings import Settings, load_settings

if TYPE_CHECKING:
    from ingestlab.core.models import Progress
    from ingestlab.queue import Run
    from ingestlab.queue.arrival.refusals import Refused

_FEW = 10  # refused messages below the runs that failed
_BEGINNING = 80  # characters of a message
LOOK_BACK = 1000  # runs among which `failed` and `retry --all` look
Queue = Annotated[str | None, typer.Option("--queue", "-q", help="Queue; QUEUE_NAME, or 'ingest'.")]
Pipeline = Annotated[
    str | None,
    typer.Option("--pipeline", "-p", autocompletion=complete.pipelines, help="By file name if left out."),
]
Tenant = Annotated[str | None, typer.Option(help="Whose tables the rows go to.")]
Into = Annotated[
    str | None,
    typer.Option("--table", autocompletion=complete.tables, help="Table for files that no pipeline matches."),
]
RunId = Annotated[
    str,
    typer.Argument(metavar="RUN", autocompletion=complete.runs, help="The id of a run; `ingestlab runs` lists them."),
]
Latest = Annotated[
    str | None, typer.Argument(metavar="RUN", autocompletion=complete.runs, help="The id of a run; else the latest.")
]


def submit(
    uris: Annotated[
        list[str], typer.Argument(metavar="URI…", help="http(s), files, s3://…; patterns in quotes; rest://PIPELINE.")
    ],
    pipeline: Pipeline = None,
    queue: Queue = None,
    tenant: Tenant = None,
    table: Into = None,
    force: Annotated[bool, typer.Option("--force", help="Ingest unchanged files again, replacing their rows.")] = False,
    glob: Annotated[bool, typer.Option("--glob", help="Patterns, though files of exactly these names exist.")] = False,
    first: Annotated[
        str | None, typer.Option("--from", metavar="DAY", help="Windows of a record source, from then.")
    ] = None,
    last: Annotated[str | None, typer.Option("--to", metavar="DAY", help="The day after the last window.")] = None,
    step: Annotated[str, typer.Option("--step", help="Length of a window: 6h, 1d, 1w, 1mo.")] = "1d",
    wait: Annotated[bool, typer.Option("--wait", "-w", help="Watch the run; exit code 1 if a file fails.")] = False,
    as_json: Json = False,
    home: Home = None,
) -> None:
    """Announce files, or records of a source, to be ingested."""
    if first or last:
        uris = [window for uri in uris for window in _windows(uri, first, last, step)]
    run = _submit(uris, home, pipeline=pipeline, queue=queue, tenant=tenant, table=table, force=force, glob=glob)
    what = f"{many(run.record.files, 'file')} in {many(len(run.record.jobs), 'job')}"
    announce(run, what, wait=wait, as_json=as_json)


def _windows(uri: str, first: str | None, last: str | None, step: str) -> list[str]:
    """Cut a record source into windows, each a job of its own."""
    from ingestlab.sources.records import windows  # noqa: PLC0415 - slow to import: --help must not wait for it

    if not first or not last:
        raise typer.BadParameter("--from and --to belong together.")
    return windows(uri, first, last, step)


def produce(
    uri: Annotated[list[str], typer.Option("--uri", help="File to announce; may be given several times.")],
    queuename: Annotated[str | None, typer.Option("--queuename", help="Queue to announce it on.")] = None,
    home: Home = None,
) -> None:
    """Announce files the way the tutorial's producer does."""
    run = _submit(uri, home, queue=queuename)
    out.print(f"Queued run {run.id} on {run.record.queue}.")


def _moment(text: str) -> datetime:
    """Read a time: so long ago (``90m``, ``2h``, ``3d``), or ISO 8601 in this machine's zone."""
    if ago := re.fullmatch(r"(\d+)([smhdw])", text):
        units = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
        return datetime.now().astimezone() - timedelta(**{units[ago[2]]: int(ago[1])})
    try:
        return datetime.fromisoformat(text).astimezone()
    except ValueError:
        raise typer.BadParameter(f"'{text}' is no time such as 2h, 3d or 2024-05-31T18:00.") from None


def show(
    run: Latest = None,
    wait: Annotated[bool, typer.Option("--wait", "-w", help="Watch it to its end.")] = False,
    files: Annotated[bool, typer.Option("--files", help="List its files, how each ended, and what was found.")] = False,
    as_json: Json = False,
    home: Home = None,
) -> None:
    """Show where a run is or how it ended. Every failed file is listed with its error."""
    handle = _find(run, home)
    progress = handle.progress()
    if wait or progress.state in OVER:
        follow(handle, as_json=as_json, files=files)
    elif as_json:
        out.print_json(progress.model_dump_json())
    else:
        state = Text(progress.said, style=COLOURS[progress.mood])
        counts = f"{progress.files_done:,}/{many(progress.files, 'file')}, {many(progress.rows, 'row')}"
        if (seconds := progress.seconds(time.time())) is not None:
            counts += f", {duration(seconds)}"
        out.print(Text.assemble(f"run {handle.id} ", state, f": {counts}"))
        if progress.note:
            out.print(Text(f"  {progress.note}", style="dim"))


def watch(run: Latest = None, as_json: Json = False, home: Home = None) -> None:
    """Watch a run to its end. The exit code is 1 if a file fails."""
    follow(_find(run, home), as_json=as_json)


def log(run: Latest = None, home: Home = None) -> None:
    """Tell the history of a run: when its jobs were queued, begun and done, by whom, and what failed."""
    handle = _find(run, home)
    out.print(Text(f"run {handle.id}", style="bold"))
    for line in handle.history():
        out.print(Text(line))


def runs(
    limit: Annotated[int, typer.Option(min=1, help="How many.")] = 20,
    state: Annotated[State | None, typer.Option(help="Only those in this state.")] = None,
    table: Annotated[
        str | None, typer.Option(autocompletion=complete.tables, help="Only those that brought rows of this table.")
    ] = None,
    since: Annotated[
        datetime | None,
        typer.Option(
            parser=_moment, metavar="TIME", help="Only those since then: 2h, 3d, 2024-05-31, 2024-05-31T18:00."
        ),
    ] = None,
    as_json: Json = False,
    home: Home = None,
) -> None:
    """List the latest runs."""
    wanted = since or state or table
    recent = takewhile(lambda pair: since is None or pair[0].record.at >= since.timestamp(), _recent(home, LOOK_BACK))
    chosen = (pair for pair in recent if state in (None, pair[1].state) and (not table or table in _tables_of(*pair)))
    none = "No such runs." if wanted else "No runs yet. `ingestlab submit` starts one."
    _list(list(islice(chosen, limit)), none, as_json=as_json)


def failed(
    messages: Annotated[
        bool, typer.Option("--messages", help="The messages that listeners have put aside, and no runs.")
    ] = False,
    as_json: Json = False,
    home: Home = None,
) -> None:
    """List the runs with jobs or files that failed. `ingestlab show` tells why, `ingestlab retry` tries again.

    Messages that listeners could do nothing with are listed below them.
    """
    from ingestlab.queue.arrival.refusals import recent_refusals  # noqa: PLC0415 - as below

    settings = load_settings(home=home)
    if not messages:
        _list(_failed(home), "Nothing has failed.", as_json=as_json)
        if as_json:
            return
    count, refused = recent_refusals(settings) if messages else recent_refusals(settings, _FEW)
    if as_json:
        out.print_json(json.dumps([message.to_dict() for message in refused]))
    elif refused:
        out.print(_refused_table(refused))
        if count > len(refused):
            out.print(f"The last {len(refused):,} of {count:,} messages; `ingestlab failed --messages` lists all.")
    elif messages:
        out.print("No message was put aside.")


def _refused_table(refused: Sequence[Refused]) -> Fitting:
    """Show messages that were put aside: the files that they name, else how they begin."""
    rows = [
        (
            datetime.fromtimestamp(m.at).astimezone().strftime("%d %b %H:%M"),
            m.address,
            m.reason,
            ", ".join(m.files) or " ".join(m.body.split())[:_BEGINNING],
        )
        for m in refused
    ]
    headings = ("when", "listener", "why", "message")
    title = "Messages that listeners have put aside"
    return Fitting(headings, rows, folds=("why", "message"), leaves_out=("message", "when"), title=title)


def _list(entries: list[tuple[Run, Progress]], none: str, *, as_json: bool) -> None:
    if as_json:
        out.print_json(json.dumps([{"run": run.id, **progress.to_dict()} for run, progress in entries]))
        return
    numbers = ("files", "rows", "rejected")
    rows: list[tuple[str | Text, ...]] = [
        (
            run.id,
            datetime.fromtimestamp(run.record.at).astimezone().strftime("%d %b %H:%M"),
            run.record.queue,
            Text(p.said, style=COLOURS[p.mood]),
            *(f"{n:,}" for n in (p.files, p.rows, p.rejected)),
            ", ".join(by_code(p.failures)),
        )
        for run, p in entries
    ]
    headings = ("run", "when", "queue", "state", *numbers, "errors")
    leaves_out = ("queue", "errors", "when", "rejected")
    out.print(table(headings, rows, right=numbers, leaves_out=leaves_out) if entries else none)


def cancel(
    run: RunId,
    reason: Annotated[str, typer.Option("--reason", help="Shown with the run, beside who cancelled it.")] = "",
    home: Home = None,
) -> None:
    """Stop a run. Its jobs are taken from the queue, and a running one ends; what it has committed stays."""
    handle = _find(run, home)
    if count := handle.cancel(reason):
        out.print(f"Cancelled {many(count, 'job')}.")
    else:
        out.print(f"Cancelled 0 jobs: run {handle.id} has ended already ({handle.progress().said}).")


def forget(run: RunId, home: Home = None) -> None:
    """Take a run that has ended off all lists. What it has published stays."""
    _find(run, home).forget()
    out.print(f"Forgot run {run}. Its rows stay where they are.")


def retry(
    run: Annotated[
        str | None, typer.Argument(metavar="RUN", autocompletion=complete.runs, help="The id of a run.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="All runs of which something failed.")] = False,
    home: Home = None,
) -> None:
    """Queue once more what failed of a run, or of all."""
    if (run is None) != everything:
        raise typer.BadParameter("Name a run, or say --all.")
    chosen = [_find(run, home)] if run else [handle for handle, _ in _failed(home)]
    if count := sum(handle.retry() for handle in chosen):
        out.print(f"Queued {many(count, 'job')} again.")
    elif run is None:
        out.print("Queued 0 jobs again: no run has failed files that are not queued already.")
    else:
        out.print(f"Queued 0 jobs again: {_why_not(chosen[0])}")


def _why_not(run: Run) -> str:
    """Tell why there was nothing to retry."""
    progress = run.progress()
    if progress.state not in OVER:
        return f"run {run.id} is {progress.state}; what fails is tried again when it has ended."
    if not progress.failed:
        return f"no file of run {run.id} has failed."
    return f"another run has the same files queued, or nothing is known any more of what run {run.id} asked."


def _recent(home: Path | None, limit: int) -> Iterator[tuple[Run, Progress]]:
    from ingestlab.queue import recent_runs  # noqa: PLC0415 - as below

    return ((run, run.progress()) for run in recent_runs(load_settings(home=home), limit))


def _tables_of(run: Run, progress: Progress) -> Collection[str]:
    """Return the tables of a run that has ended."""
    return run.result().tables if progress.state in OVER else ()


def _failed(home: Path | None) -> list[tuple[Run, Progress]]:
    return [(run, p) for run, p in _recent(home, LOOK_BACK) if p.failed or p.state in ("failed", "cancelled")]


def _submit(uris: list[str], home: Path | None, **options: Any) -> Run:
    from ingestlab.queue import submit as submit_uris  # noqa: PLC0415 - slow to import: --help must not wait for it

    run = submit_uris(uris, settings=load_settings(home=home), **options)
    show_notes(run.record.notes)
    return run


def _find(run: str | None, home: Path | None) -> Run:
    return find(run, load_settings(home=home))


def find(run: str | None, settings: Settings) -> Run:
    """Find a run by its id; the latest without one."""
    from ingestlab.queue import find_run, recent_runs  # noqa: PLC0415 - likewise

    if run is not None:
        return find_run(run, settings)
    if latest := recent_runs(settings, 1):
        return latest[0]
    raise TerminalError("There are no runs yet", fix="`ingestlab submit` starts one.", code="run_unknown")


def announce(run: Run, what: str, *, wait: bool, as_json: bool) -> None:
    """Print that a run is queued, or watch it to its end."""
    if wait:
        follow(run, as_json=as_json)
    elif as_json:
        out.print_json(run.record.model_dump_json())
    else:
        out.print(f"Queued run {run.id}: {what} on {run.record.queue}.")
        out.print(f"Watch it with `ingestlab watch {run.id}`.")


def follow(run: Run, *, as_json: bool, files: bool = False) -> None:
    """Watch a run to its end, and print how it ended."""
    if as_json:
        result = run.wait()
        out.print_json(result.model_dump_json())
    else:
        with watching(run.record.files, run.settings.dask_dashboard, lambda: _missing(run)) as watch:
            result = run.wait(watch=watch)
        if files:
            out.print(files_table(result))
        print_result(result)
    raise typer.Exit(1 if result.failed else 0)


def _missing(run: Run) -> str:
    from ingestlab.notebook.run import starving  # noqa: PLC0415 - slow to import, for jobs that nobody begins

    return starving(run.settings, run.record.queue)
