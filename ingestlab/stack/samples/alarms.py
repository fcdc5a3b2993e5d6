"""Hourly alarm files in the shape of the tutorial's base-station data, any number of any size.

What is known of a generated set is exact: which rows are dirty, and which rule of the pipeline
``bts_alarms`` each one breaks. The mix of alarms follows the real file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ingestlab.core.errors import TerminalError
from ingestlab.stack.samples.generated import Generated, make_folder

COLUMNS = ("id", "station_id", "alarm_id", "parameter_id", "start_time", "end_time", "value", "threshold")
BLOCK = 1 << 17  # rows made at a time: bounds the memory, whatever the size of a file

# Parameter, alarm, threshold, smallest value, how many half steps above it, how often in 192 rows.
# 999999 means not set; 999991 is what alarms write that only say "on".
KINDS = np.array(
    [
        (121, 308, 240, 241, 20, 52),  # grid voltage too high
        (121, 309, 200, 180, 39, 42),  # grid voltage too low
        (1, 323, 999_999, 999_999, 1, 36),
        (153, 319, 1, 999_991, 1, 34),  # motion
        (143, 312, 28, 28, 2, 10),
        (116, 303, 999_999, 999_999, 1, 6),  # battery temperature
        (152, 317, 0, 999_991, 1, 5),  # door
        (122, 310, 30, 31, 8, 4),  # grid load
        (114, 304, 40, 40, 9, 2),  # outdoor temperature
        (112, 303, 999_999, 999_999, 1, 1),  # temperature of air conditioner 1
    ]
)
STATIONS = np.concatenate([1_161_114_000 + np.arange(1, 76), 1_161_115_000 + np.arange(1, 41)])
FIRST_ID = 10_167_673
OPEN_SHARE = 32  # one alarm in so many has no end yet

# How a row is spoilt: the rule that it then breaks, the column, and the new text (None drops the field).
DIRT: tuple[tuple[str, int, str | None], ...] = (
    ("value:type", 6, "#ERR"),
    ("start_time:type", 4, "2017-13-45 25:61:00"),
    ("duration_s:not_negative", 5, "1999-12-31 23:59:59"),
    ("value:physical", 6, "-5000"),
    ("parameter_id:known", 3, "777"),
    ("station_id:not_nullable", 1, ""),
    ("columns", 7, None),
    ("columns", 7, "200,200"),
)

Ints = np.ndarray[Any, np.dtype[np.int64]]


class AlarmSet(Generated):
    """Alarm files, hour by hour, for the pipeline ``bts_alarms``."""

    __slots__ = ()


def alarm_files(
    folder: Path | str,
    files: int = 24,
    rows: int = 194,
    seed: int = 2017,
    dirty: float = 0.02,
    start: str = "2017-10-23",
) -> AlarmSet:
    """Write hourly files ``alarm-2017-10-23-00-vn.csv``, …, always alike for the same arguments.

    Args:
        folder: Where to write; made if missing, files of the same names are replaced.
        files: How many files, one an hour.
        rows: Records in each file (194 are about 15 KB).
        seed: Seeds numpy's random generator.
        dirty: Share of all records, 0 to 1, that break a rule: ``int(files * rows * dirty)`` of them, all
            kinds in turn.
        start: First hour, in ISO 8601.

    Raises:
        TerminalError: A number is out of its range, or `start` is no time.
    """
    folder = make_folder(folder, dirty, files=files, rows=rows)
    hours = _hours(start, files)
    paths = tuple(folder / f"alarm-{hour:%Y-%m-%d-%H}-vn.csv" for hour in hours.astype("M8[s]").tolist())
    for path in paths:
        path.write_text(",".join(COLUMNS) + "\n")
    broken: Counter[str] = Counter()
    if rows:
        rng = np.random.default_rng(seed)
        for first, lines in _blocks(rng, hours.astype("M8[s]").astype("i8"), rows, dirty, broken):
            _append(paths, rows, first, lines)
    return AlarmSet(folder, paths, files * rows, dict(broken))


def _hours(start: str, files: int) -> np.ndarray[Any, np.dtype[np.datetime64]]:
    try:
        return np.datetime64(start, "h") + np.arange(files)
    except ValueError as error:
        problem, fix = "Not the first hour as ISO 8601", "E.g. 2017-10-23 or 2017-10-23T12."
        raise TerminalError.wrap(error, problem, fix, code="argument_invalid") from error


def _blocks(
    rng: np.random.Generator, hours: Ints, rows: int, dirty: float, broken: Counter[str]
) -> Iterator[tuple[int, list[str]]]:
    """Yield blocks of lines with the number of the first. Dirty ones are counted."""
    total = len(hours) * rows
    ways = cycle(DIRT)
    for first in range(0, total, BLOCK):
        numbers = np.arange(first, min(first + BLOCK, total))
        lines = _lines(rng, numbers, hours[numbers // rows])
        last = first + len(lines)
        spoilt = rng.permutation(len(lines))[: int(last * dirty) - int(first * dirty)]
        for at, (rule, column, text) in zip(spoilt.tolist(), ways, strict=False):
            fields = lines[at].split(",")
            fields[column : column + 1] = [] if text is None else [text]
            lines[at] = ",".join(fields)
            broken[rule] += 1
        yield first, lines


def _lines(rng: np.random.Generator, numbers: Ints, hours: Ints) -> list[str]:
    """Make clean records as CSV text, one a number. `hours` are seconds since 1970."""
    size = len(numbers)
    parameter, alarm, threshold, lowest, steps, often = KINDS.T
    kind = np.repeat(np.arange(len(KINDS)), often)[rng.integers(often.sum(), size=size)]
    draw = rng.integers(0, 1 << 20, size=(4, size))
    # Squares and cubes skew the draw: few stations raise most alarms, and most alarms are short.
    station = STATIONS[(draw[0] * draw[0] * len(STATIONS)) >> 40]
    lasts = ((draw[1] ** 3 >> 30) * 1800) >> 30
    begins = hours + ((draw[2] * 3600) >> 20)
    columns = [
        pa.array(FIRST_ID + numbers),
        pa.array(station),
        pa.array(alarm[kind]),
        pa.array(parameter[kind]),
        pa.array(begins).cast(pa.timestamp("s")),
        pa.array(begins + lasts, mask=draw[3] % OPEN_SHARE == 0).cast(pa.timestamp("s")),
        pa.array(lowest[kind] + (draw[3] % steps[kind]) / 2),
        pa.array(threshold[kind]),
    ]
    texts = [pc.fill_null(column.cast(pa.string()), "") for column in columns]
    lines: list[str] = pc.binary_join_element_wise(*texts, ",").to_pylist()
    return lines


def _append(paths: tuple[Path, ...], rows: int, first: int, lines: list[str]) -> None:
    """Add lines, numbered from `first` over all files, to their files."""
    at = 0
    while at < len(lines):
        file, done = divmod(first + at, rows)
        take = lines[at : at + rows - done]
        with paths[file].open("a") as out:
            out.write("\n".join(take) + "\n")
        at += len(take)
