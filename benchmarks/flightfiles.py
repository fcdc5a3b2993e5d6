"""The big files, and what must come out of them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from measures import check

from ingestlab.stack.samples import flight_months

Group = tuple[str, str, int]  # carrier, origin, month
Found = Mapping[Group, tuple[int, int, float]]  # flights, miles, mean delay


@dataclass(frozen=True)
class Truth:
    """What is in the flights of one year, computed row by row from the rules' words in ``peers/common.py``."""

    rows: int
    rules: Mapping[str, int]
    groups: Found

    def times(self, copies: int) -> Truth:
        """The same of so many years."""
        return Truth(
            self.rows * copies,
            {rule: count * copies for rule, count in self.rules.items()},
            {key: (flights * copies, miles * copies, delay) for key, (flights, miles, delay) in self.groups.items()},
        )

    @property
    def bad(self) -> int:
        """Rows that break a rule."""
        return sum(self.rules.values())


@dataclass(frozen=True)
class Flights:
    """A file of so many copies of the year, its size in bytes, and what is in it."""

    path: Path
    copies: int
    size: int
    truth: Truth

    @property
    def megabytes(self) -> float:
        return self.size / 1e6

    def check(self, name: str, answer: Mapping[str, Any]) -> None:
        """Ends the benchmark where a peer's answer is not what is in the file."""
        truth, good, bad = self.truth, rows_of(answer["good"]), answer["bad"]
        if bad is None:  # it only loads
            check((name, good), (name, truth.rows))
            return
        check((name, good, rules_of(bad)), (name, truth.rows - truth.bad, dict(truth.rules)))
        check((name, groups_of(answer["groups"])), (name, dict(truth.groups)))


def flights(cache_folder: Path, copies: int) -> Flights:
    """The year so many times, one header on top; made once and kept."""
    path = cache_folder / f"flights-x{copies}.csv"
    months = month_files(cache_folder)
    if not path.exists():
        unfinished = path.with_suffix(".new")
        header, body = months[0].open("rb").readline(), b"".join(_body(month) for month in months)
        with unfinished.open("wb") as file:
            file.write(header)
            for _ in range(copies):
                file.write(body)
        unfinished.replace(path)
    os.sync()  # else the disk is still busy with it when the clock runs
    return Flights(path, copies, path.stat().st_size, _truth(months).times(copies))


def room_for(cache_folder: Path, copies: int) -> bool:
    """Whether the disk has room for a file of so many copies, its raw copy, its Parquet, and as much again."""
    size = copies * sum(month.stat().st_size for month in month_files(cache_folder))
    made = (cache_folder / f"flights-x{copies}.csv").exists()
    return shutil.disk_usage(cache_folder).free > size * (2.5 if made else 3.5)


def groups_of(table: pd.DataFrame | Sequence[Sequence[object]]) -> dict[Group, tuple[int, int, float]]:
    """Groups as peers and aggregates tell them, to compare; the mean as exact as a double of a sum of doubles is."""
    rows = table.itertuples(index=False) if isinstance(table, pd.DataFrame) else table
    return {(str(c), str(o), int(m)): (int(n), int(miles), round(float(mean), 6)) for c, o, m, n, miles, mean in rows}


def rows_of(path: str) -> int:
    """Rows of a Parquet file, or of all in a folder; all of them must be of the agreed codec."""
    files = [Path(path)] if Path(path).is_file() else sorted(Path(path).rglob("*.parquet"))
    footers = [pq.read_metadata(file) for file in files]
    codecs = {m.row_group(g).column(0).compression for m in footers for g in range(m.num_row_groups)}
    check(codecs | {"ZSTD"}, {"ZSTD"})  # there are none where there is no row
    return sum(m.num_rows for m in footers)


def rules_of(rejects: str | Path) -> dict[str, int]:
    """How many rows in some Parquet have which value of `rule`."""
    counts = ds.dataset(rejects, format="parquet").to_table(columns=["rule"])["rule"].value_counts()
    return {row["values"]: row["counts"] for row in counts.to_pylist()}


def month_files(cache_folder: Path) -> tuple[Path, ...]:
    """The twelve months of the year; made once and kept."""
    folder = cache_folder / "months"
    made = tuple(sorted(folder.glob("*.csv"))) if folder.exists() else ()
    return made if len(made) == 12 else flight_months(folder).files


def _body(month: Path) -> bytes:
    return month.read_bytes().partition(b"\n")[2]


@cache
def _truth(months: tuple[Path, ...]) -> Truth:
    years = (pd.read_csv(month, na_values=["NA"], keep_default_na=False) for month in months)
    df = pd.concat(years, ignore_index=True)
    speed = df["distance"] / (df["air_time"] / 60)
    broken = {
        "month:in_range": ~df["month"].between(1, 12),
        "origin:isin": ~df["origin"].isin(["EWR", "JFK", "LGA"]),
        "distance:greater_than": ~(df["distance"] > 0),
        "dep_time:not_nullable": df["dep_time"].isna(),
        "dep_delay:in_range": (df["dep_delay"] < -30) | (df["dep_delay"] > 720),
        "air_time:not_nullable": df["air_time"].isna(),
        "speed_mph:in_range": (speed < 100) | (speed > 550),
    }
    rule = pd.Series(None, index=df.index, dtype="object")
    for name, rows in reversed(broken.items()):
        rule = rule.mask(rows, name)
    good = df.assign(carrier=df["carrier"].str.strip().str.upper())[rule.isna()]
    keys = ["carrier", "origin", "month"]
    groups = good.groupby(keys).agg(n=("distance", "size"), miles=("distance", "sum"), mean=("dep_delay", "mean"))
    return Truth(len(df), rule.value_counts().to_dict(), groups_of(groups.reset_index()))
