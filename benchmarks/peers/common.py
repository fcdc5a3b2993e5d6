"""The work that all contenders do on one file of flights, CSV or JSON lines, and how the benchmark talks to them.

1. Parse 19 declared columns, "NA" being null; `time_hour` is a time with a zone.
2. Clean: trim and upper-case `carrier`; add `speed_mph` (distance / (air_time / 60)), `on_time` (arr_delay <= 15)
   and `date` (of year, month, day).
3. Split: a row that breaks a rule is bad, and gets the name of the first rule that it breaks, in this order:

       month:in_range           not from 1 to 12, or null
       origin:isin              not EWR, JFK or LGA, or null
       distance:greater_than    not above 0, or null
       dep_time:not_nullable    null: the flight was cancelled
       dep_delay:in_range       outside of EARLIEST to LATEST; null is none of it
       air_time:not_nullable    null: the flight was diverted
       speed_mph:in_range       outside of SLOWEST to FASTEST; null is none of it

4. Write good rows, and bad rows with the column `rule`, as Parquet, ZSTD at LEVEL, with statistics.
5. Group the good rows by carrier, origin and month: how many, sum of distance, mean of dep_delay.

Each peer is a script with one function ``work(csv, out)`` that the benchmark calls in a process of its own, first
on a small file. It times the call alone, and checks what lies in `out` afterwards.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass

EARLIEST, LATEST = -30, 720  # minutes
SLOWEST, FASTEST = 100, 550  # miles an hour
ORIGINS = ("EWR", "JFK", "LGA")
KEYS = ("carrier", "origin", "month")
NULL = "NA"
TIME_FORMAT = "%Y-%m-%dT%H:%M:%SZ"
LEVEL = 1  # of zstd
COLUMNS = {  # in the file's order; Arrow's names of types
    "year": "int16",
    "month": "int8",
    "day": "int8",
    "dep_time": "int16",
    "sched_dep_time": "int16",
    "dep_delay": "int16",
    "arr_time": "int16",
    "sched_arr_time": "int16",
    "arr_delay": "int16",
    "carrier": "string",
    "flight": "int16",
    "tailnum": "string",
    "origin": "string",
    "dest": "string",
    "air_time": "int16",
    "distance": "int16",
    "hour": "int8",
    "minute": "int8",
    "time_hour": "timestamp",
}


@dataclass(frozen=True)
class Done:
    """Where a peer has put its rows, and what it found.

    Attributes:
        good: A Parquet file, or a folder of them.
        bad: The same for the others; None for who only loads.
        groups: Carrier, origin, month, flights, miles and mean delay of each group.
    """

    good: str
    bad: str | None = None
    groups: list[list[object]] | None = None


def rows(groups: Iterable[Iterable[object]]) -> list[list[object]]:
    """Groups as plain lists."""
    return [list(row) for row in groups]


def serve(work: Callable[[str, str], Done]) -> None:
    """Does the work for each line of standard input, ``{"path": …, "out": …}``, and answers with seconds and Done."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints is no answer
    for line in sys.stdin:
        wanted = json.loads(line)
        began = time.perf_counter()
        done = work(wanted["path"], wanted["out"])
        seconds = time.perf_counter() - began
        print(json.dumps({"seconds": seconds, **asdict(done)}), file=answers, flush=True)
