"""Checks of ``11_an_api_as_a_source``: pages by hand, a pull, and a second one that brings what is new."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any

import pandas as pd

from ingestlab.queue import Run
from ingestlab.teaching.checks import Desk, a_good_run, a_number, a_run, exercise, expect, into

TABLE = "my_observations"
URI = f"rest://{TABLE}"
ORIGIN = "JFK"
JANUARY, FEBRUARY = date(2013, 1, 31), date(2013, 2, 28)


@exercise("11.1")
def coldest(answer: Any, desk: Desk) -> str:
    """Accept the lowest temperature of January."""
    number = a_number(answer, "a temperature")
    there = _served(desk, JANUARY)
    truth = there["temp"].min()
    first = there["temp"].head(500).min()
    expect(number != first or first == truth, f"{first:g} is the coldest of the first page; ask for the others, too.")
    expect(abs(number - truth) < 1e-6, f"{number:g} is not the lowest temp of January's {len(there)} hours at JFK.")
    return f"{truth:g} °F, of {len(there)} hours on {-(-len(there) // 500)} pages."


@exercise("11.2")
def pulled(answer: Any, desk: Desk) -> str:
    """Accept a run that brought January from the API."""
    _pull(answer)
    there = _served(desk, JANUARY)
    _agree(_rows(desk), there)
    return f"{len(there)} hours of January, each once. The token is in no file, no address and no log."


@exercise("11.3")
def renewed(answer: Any, desk: Desk) -> str:
    """Accept a run that brought February alone."""
    tally = _pull(answer)
    there = _served(desk, FEBRUARY)
    rows = _rows(desk)
    late = "is the pipeline written with the day 2013-02-28?"
    expect(len(rows) > len(_served(desk, JANUARY)), f"the table still ends in January; {late}")
    _agree(rows, there)
    expect(tally < len(there), f"the run brought all {tally} hours again; without force only what is new comes.")
    return f"{len(there)} hours, each once; this run brought {tally} of them."


def _pull(answer: Any) -> int:
    """Return the rows that a good run brought from the API."""
    run: Run = a_run(answer)
    result = a_good_run(run)
    into(TABLE, result)
    others = [outcome.uri for outcome in result.outcomes if outcome.uri != URI]
    expect(not others, f"submit '{URI}'; this run is about {''.join(others[:1])}.")
    return int(result.tally.rows_in)


def _agree(rows: pd.DataFrame, there: pd.DataFrame) -> None:
    """Require each hour of the API once."""
    twice = len(rows) - rows["at"].nunique()
    expect(not twice, f"{twice} hours are in the table twice.")
    missing = set(there["at"]) - set(rows["at"])
    expect(not missing, f"{len(missing)} hours are missing in the table, the first is {min(missing, default='')}.")


def _rows(desk: Desk) -> pd.DataFrame:
    """Read the hours that the table has."""
    times = desk.lake.table(TABLE).arrow(["at"])["at"].to_pylist()
    return _hours([str(time) for time in times])


def _hours(times: Sequence[str]) -> pd.DataFrame:
    return pd.DataFrame({"at": [time[:13].replace("T", " ") for time in times]})


def _served(desk: Desk, today: date) -> pd.DataFrame:
    """Read what the API has up to a day: it serves the samples of this home."""
    frame = pd.read_csv(f"{desk.settings.samples}/references/weather.csv", usecols=["origin", "time_hour", "temp"])
    frame = frame[(frame["origin"] == ORIGIN) & (frame["time_hour"].str[:10] <= today.isoformat())]
    return frame.sort_values("time_hour").assign(at=_hours(list(frame["time_hour"]))["at"].to_numpy())
