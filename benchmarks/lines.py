"""JSON lines and web logs: ours against DuckDB, Polars and pandas, with the same rules."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import contest
import pandas as pd
from contest import Contest
from flightfiles import Flights, flights, month_files, rows_of, rules_of
from measures import Measure, check
from rivals import RIVALS, Rival

from ingestlab.stack.samples import weblog_files

COPIES = 3  # of a year of flights, some 110 MB as JSON lines
LOG_ROWS, LOG_COPIES = 50_000, 40  # some 7.6 MB each
FLIGHT_RIVALS = tuple(rival for rival in RIVALS if rival.name in ("DuckDB", "Polars", "pandas"))
LOG_RIVALS = (
    Rival("DuckDB", ("weblogs.py", "DuckDB"), ("duckdb",)),
    Rival("Polars", ("weblogs.py", "Polars"), ("polars",)),
    Rival("pandas", ("weblogs.py", "pandas"), ("pandas", "pyarrow"), slow=True),
)


def measure(options: argparse.Namespace, home: Path) -> Iterator[Measure]:
    """Both formats."""
    few = 1 if options.quick else COPIES
    more = 2 if options.quick else LOG_COPIES
    contests = (
        Contest(
            "JSON lines",
            json_flights(options.cache, 1),
            json_flights(options.cache, few),
            "flights_json",
            FLIGHT_RIVALS,
        ),
        Contest("web logs", weblogs(options.cache, 2), weblogs(options.cache, more), "weblogs_flat", LOG_RIVALS),
    )
    return contest.measure(options, home, contests)


@dataclass(frozen=True)
class JsonFlights:
    """Flights as JSON lines, and the CSV file that they were made of."""

    path: Path
    csv: Flights

    @property
    def good(self) -> int:
        return self.csv.truth.rows - self.csv.truth.bad

    @property
    def rules(self) -> Mapping[str, int]:
        return self.csv.truth.rules

    def check(self, name: str, answer: Mapping[str, Any]) -> None:
        """Ends the benchmark where a peer's answer is not what is in the file."""
        self.csv.check(name, answer)


def json_flights(cache: Path, copies: int) -> JsonFlights:
    """The year so many times, made once and kept."""
    path = cache / f"flights-x{copies}.jsonl"
    if not path.exists():
        frames = (
            pd.read_csv(m, na_values=["NA"], keep_default_na=False, dtype_backend="pyarrow") for m in month_files(cache)
        )
        year = "".join(frame.to_json(orient="records", lines=True) for frame in frames)
        unfinished = path.with_suffix(".new")
        with unfinished.open("w") as file:
            for _ in range(copies):
                file.write(year)
        unfinished.replace(path)
    os.sync()
    return JsonFlights(path, flights(cache, copies))


@dataclass(frozen=True)
class WebLogs:
    """An access log, its good lines, and the others by rule."""

    path: Path
    good: int
    rules: Mapping[str, int]

    def check(self, name: str, answer: Mapping[str, Any]) -> None:
        """Ends the benchmark where a peer's answer is not what is in the file."""
        check((name, rows_of(answer["good"]), rules_of(answer["bad"])), (name, self.good, dict(self.rules)))


def weblogs(cache: Path, copies: int) -> WebLogs:
    """A day so many times, made once and kept."""
    day = weblog_files(cache / "weblogs", files=1, rows=LOG_ROWS)
    path = cache / f"access-x{copies}.log"
    if not path.exists():
        unfinished, text = path.with_suffix(".new"), day.files[0].read_bytes()
        with unfinished.open("wb") as file:
            for _ in range(copies):
                file.write(text)
        unfinished.replace(path)
    os.sync()
    return WebLogs(path, day.clean * copies, {rule: count * copies for rule, count in day.dirty.items()})
