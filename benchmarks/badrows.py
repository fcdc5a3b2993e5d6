"""What rejects cost: values that are not of their column's type in 2, 20 and all of 100 rows."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import contest
from contest import OURS, Contest
from flightfiles import month_files, rows_of, rules_of
from measures import Measure, check
from rivals import Rival

COPIES = 3  # of a year of flights: 94 MB
SHARES = (0, 2, 20, 100)  # percent of the rows
LINEAR = 1.25  # a reject among many, against one among few
RULE, COLUMN = "distance:type", 15
PEERS = (
    Rival("DuckDB", ("rejects.py", "DuckDB"), ("duckdb",)),
    Rival("Polars", ("rejects.py", "Polars"), ("polars", "duckdb")),
)


def measure(options: argparse.Namespace, home: Path) -> Iterator[Measure]:
    """Each share; then what one reject costs among few and among many."""
    copies = 1 if options.quick else COPIES
    works = [bad_flights(options.cache, copies, share) for share in SHARES]
    contests = [
        Contest(f"{share} % rejects", works[1], work, "flights_types", _able(share), target=1.0 if share else None)
        for share, work in zip(SHARES, works, strict=True)
    ]
    seconds: dict[str, list[float]] = {}
    for result in contest.measure(options, home, contests):
        if result.value is not None and "who" in result.details:
            seconds.setdefault(result.details["who"], []).append(result.value)
        yield result
    for name, times in seconds.items():
        if len(times) == len(SHARES):
            yield _linear(name, times, works)


def _able(share: int) -> tuple[Rival, ...]:
    """Who reads such a file right: behind a long stretch of rejects DuckDB loses rows and rejects.

    Seen with 2.0.1: findings/duckdb_store_rejects_ends_the_file.sh.
    """
    return tuple(peer for peer in PEERS if share < 100 or peer.name != "DuckDB")


def _linear(name: str, times: list[float], works: list[BadFlights]) -> Measure:
    """A reject among all rows, against one of the first fifth: 1 is linear, more is a blow-up."""
    none, _, some, all_ = zip(times, (work.bad for work in works), strict=True)
    early = (some[0] - none[0]) / (some[1] - none[1])
    late = (all_[0] - some[0]) / (all_[1] - some[1])
    details = {"us_per_reject": [round(early * 1e6, 2), round(late * 1e6, 2)]}
    value = round(late / early, 2) if early > 0 else None
    target = LINEAR if name == OURS else None
    absent = {"absent": "20 % of rejects cost no time that can be told"}
    return Measure(f"a reject among many against few, {name}", value, "times", target, "most", details | absent)


@dataclass(frozen=True)
class BadFlights:
    """A CSV file of flights, some of whose distances are no numbers."""

    path: Path
    good: int
    bad: int

    @property
    def rules(self) -> Mapping[str, int]:
        return {RULE: self.bad} if self.bad else {}

    def check(self, name: str, answer: Mapping[str, Any]) -> None:
        """Ends the benchmark where a peer's answer is not what is in the file."""
        check((name, rows_of(answer["good"]), rules_of(answer["bad"])), (name, self.good, dict(self.rules)))


def bad_flights(cache: Path, copies: int, share: int) -> BadFlights:
    """A file in which so many percent of the rows are bad, evenly spread; made once and kept."""
    path = cache / f"flights-x{copies}-bad{share}.csv"
    lines = [line for month in month_files(cache) for line in month.read_bytes().splitlines()[1:]]
    spoilt = [(n * share) // 100 != ((n + 1) * share) // 100 for n in range(len(lines))]
    if not path.exists():
        header = month_files(cache)[0].open("rb").readline()
        year = b"".join(_spoil(line) if bad else line + b"\n" for line, bad in zip(lines, spoilt, strict=True))
        unfinished = path.with_suffix(".new")
        with unfinished.open("wb") as file:
            file.write(header)
            for _ in range(copies):
                file.write(year)
        unfinished.replace(path)
    os.sync()
    return BadFlights(path, (len(lines) - sum(spoilt)) * copies, sum(spoilt) * copies)


def _spoil(line: bytes) -> bytes:
    fields = line.split(b",")
    fields[COLUMN] += b" mi"
    return b",".join(fields) + b"\n"
