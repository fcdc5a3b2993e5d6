"""The command `profile`: what a table's columns look like, and which of them have moved."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from ingestlab.cli import complete
from ingestlab.cli.common import Home, Json, many, out
from ingestlab.cli.tables import Fitting, short, table
from ingestlab.core.settings import load_settings

if TYPE_CHECKING:  # slow to import
    from ingestlab.analytics.profiles.report import TableProfile

_WIDE = 150  # characters of a terminal with room for more runs
_RUNS = {True: 20, False: 10}  # that are plotted: in a wide terminal, in others
_STEPS = "▁▂▃▄▅▆▇█"
_EIGHTHS = " ▏▎▍▌▋▊▉█"


def profile(
    name: Annotated[str, typer.Argument(metavar="TABLE", autocompletion=complete.tables, help="The table.")],
    run: Annotated[
        str | None,
        typer.Option(autocompletion=complete.runs, help="The run to compare with those before it; else the last."),
    ] = None,
    tenant: Annotated[str | None, typer.Option(help="Whose table it is.")] = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Show a table's columns and their drift: nulls, ranges, commonest values, and how the last run differs."""
    from ingestlab.analytics.lake import Lake  # noqa: PLC0415 - slow to import: --help must not wait for it

    seen = Lake(load_settings(home=home), tenant).profile(name, run)
    if as_json:
        out.print_json(json.dumps(_plain(seen)))
        return
    out.print(_headline(seen))
    out.print(_columns(seen))
    for column in seen.moved:
        out.print(Text.assemble(("moved  ", "yellow"), (column, "bold"), f"  {seen.drift[column].what}"))


def spark(values: list[float | None]) -> str:
    """Draw numbers as a line of blocks: ``▁▃█``; a gap where there is none."""
    known = [v for v in values if v is not None]
    if len(known) < 2:
        return ""
    low, high = min(known), max(known)
    if low == high:
        return "".join(" " if v is None else _STEPS[3] for v in values)
    return "".join(" " if v is None else _STEPS[round((v - low) / (high - low) * 7)] for v in values)


def bar(part: float, width: int = 6) -> str:
    """Draw a share from 0 to 1 as blocks. More than nothing is seen."""
    eighths = min(8 * width, max(1 if part > 0 else 0, round(part * 8 * width)))
    return ("█" * (eighths // 8) + _EIGHTHS[eighths % 8]).ljust(width)[:width]


def _headline(seen: TableProfile) -> Text:
    line = Text.assemble((seen.table, "bold"), f": {many(seen.now['rows'], 'row')}")
    if seen.runs:
        earlier = many(len(seen.runs) - 1, "earlier run")
        line.append(f"; last run {seen.last.run}: {many(seen.last.profile['rows'], 'row')}", "dim")
        line.append(f"; {earlier}: {many(seen.earlier['rows'], 'row')}" if len(seen.runs) > 1 else "", "dim")
    if seen.now["omitted"]:
        line.append(f"; {seen.now['omitted']:,} more columns have no profile", "yellow")
    return line


def _columns(seen: TableProfile) -> Fitting:
    """Tabulate one line a column; a narrow terminal gets fewer facts."""
    headings = ("column", "kind", "nulls", "distinct", "min", "max", "mean", "commonest", "share", "runs", "drift")
    leaves_out = ("mean", "min", "max", "kind", "share", "commonest", "runs", "distinct", "nulls")
    rows = [_cells(seen, name, state) for name, state in seen.now["columns"].items()]
    return table(headings, rows, right=("nulls", "distinct", "mean", "drift"), leaves_out=leaves_out)


def _cells(seen: TableProfile, name: str, state: dict[str, Any]) -> list[Text | str]:
    from ingestlab.analytics.profiles.drift import share, top_of  # noqa: PLC0415 - slow to import
    from ingestlab.analytics.profiles.kinds import to_text  # noqa: PLC0415
    from ingestlab.analytics.profiles.merging import distinct, mean  # noqa: PLC0415

    kind, rows, drift = state["kind"], seen.now["rows"], seen.drift.get(name)
    value, count = next(iter(top_of(state)), (None, 0))
    return [
        Text(name, "bold"),
        Text(kind, "dim"),
        share(rows - state["count"], rows) if state["count"] < rows else "",
        "" if kind in ("other", "null") else f"{'≈' if 'hll' in state else ''}{distinct(state):,}",
        *(Text(short(to_text(v, kind))) for v in (state.get("min"), state.get("max"), mean(state))),
        Text(short(to_text(value, kind))) if count else "",
        Text(f"{bar(count / state['count'])} {share(count, state['count'])}", "cyan") if count else "",
        Text(spark(seen.history(name)[-_RUNS[out.width >= _WIDE] :]), "blue"),
        Text(f"{drift.score:.2f}", "bold yellow" if drift.moved else "dim") if drift else "",
    ]


def _plain(seen: TableProfile) -> dict[str, Any]:
    """Convert the profile to plain data: no NaN or infinity, which JSON lacks."""
    frame = seen.frame().astype(object)
    columns = frame.where(frame.notna(), None).to_dict("records")
    columns = [{k: str(v) if v in (float("inf"), float("-inf")) else v for k, v in c.items()} for c in columns]
    runs = [{"run": r.run, "at": r.at, "rows": r.profile["rows"]} for r in seen.runs]
    return {"table": seen.table, "rows": seen.now["rows"], "runs": runs, "moved": seen.moved, "columns": columns}
