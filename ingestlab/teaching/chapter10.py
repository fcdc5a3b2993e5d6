"""Checks of ``10_complex_analysis_with_spark``: a join, a window, and a frame that became a table."""

from __future__ import annotations

from typing import Any

import pandas as pd

from ingestlab.teaching.checks import Desk, a, a_good_run, a_number, exercise, expect, into

PLACE = ["tailnum", "month", "day", "dep_time"]  # no two flights of a plane share one
LATE = 15  # minutes
ANSWER = "lateness"


@exercise("10.1")
def unknown(answer: Any, desk: Desk) -> str:
    """Accept the number of planes that are in no list."""
    number = a_number(answer, "how many planes")
    flown, listed = _flights(desk)["tailnum"], _planes(desk)["tailnum"]
    missing = flown[~flown.isin(listed)]
    truth = missing.nunique()
    expect(number != len(missing), f"{len(missing):,} is the number of their flights; count each plane once.")
    expect(
        number != flown[flown.isin(listed)].nunique(), "those are the planes that are known; left_anti keeps others."
    )
    unflown = (~listed.isin(flown)).sum()
    expect(number != unflown, "those are listed and did not fly; which frame should be on the left?")
    expect(number == truth, f"{number:g} is not what the tables say. Does each plane count, and only once?")
    return f"{truth} planes with {len(missing):,} flights are in no list. An inner join would drop them without a word."


@exercise("10.2")
def previous(answer: Any, desk: Desk) -> str:
    """Accept the flights with the delay of each plane's flight before."""
    found = _frame(answer, [*PLACE, "previous"])
    flights = _flights(desk).sort_values(PLACE)
    expect(len(found) == len(flights), f"your frame has {len(found):,} rows; there are {len(flights):,} flights.")
    delays = flights.groupby("tailnum")["dep_delay"]
    both = flights.assign(before=delays.shift(), next=delays.shift(-1)).merge(found, on=PLACE, how="left")
    expect(len(both) == len(flights), "a flight is in your frame twice.")
    first = both["previous"].isna().sum()
    planes = flights["tailnum"].nunique()
    expect(
        first >= planes, f"{planes:,} planes have a first flight, {first:,} rows have no previous: partition by plane."
    )
    expect(not _same(both["previous"], both["next"]), "that is the flight after it; lag looks back, lead looks ahead.")
    wrong = ~(both["previous"].eq(both["before"]) | (both["previous"].isna() & both["before"].isna()))
    order = "order the window by month, day and dep_time."
    expect(not wrong.any(), f"{wrong.sum():,} flights have another one before them: {order}")
    return f"{len(found) - first:,} flights know the one before; {planes:,} planes have a first flight."


@exercise("10.3")
def published(answer: Any, desk: Desk) -> str:
    """Accept a run that published the mean delays by maker."""
    result = a_good_run(answer)
    into(ANSWER, result)
    uri = result.outcomes[0].uri
    expect(uri.startswith("frame://"), f"{uri} is a file; publish your frame with lab.publish(frame, '{ANSWER}').")
    rows = _rows(desk, ANSWER)
    rows = rows[rows["_source"] == uri]
    wanted = _lateness(desk)
    _has(rows.columns, wanted.columns)
    expect(set(rows["after"]) <= {"late", "on time"}, "the column after says 'late' or 'on time', and nothing else.")
    text = f"your table has {len(rows)} rows; by maker and after there are {len(wanted)}."
    expect(len(rows) == len(wanted), f"{text} Are flights without a previous one or without a known plane in it?")
    both = wanted.merge(rows, on=["manufacturer", "after"], suffixes=("", "_found"))
    expect(len(both) == len(wanted), "its makers are not those of the table my_planes.")
    for column in ("flights", "mean_delay"):
        near = (both[column] - both[f"{column}_found"]).abs().lt(1e-6)
        expect(near.all(), f"{column!r} is not what the rows say, e.g. for {both.loc[~near, 'manufacturer'].min()}.")
    return f"{len(rows)} rows, once, as {uri.rpartition('/')[2]}. It can be undone by its run."


def _lateness(desk: Desk) -> pd.DataFrame:
    """Compute the answer with pandas."""
    flights = _flights(desk).sort_values(PLACE)
    before = flights.groupby("tailnum")["dep_delay"].shift()
    after = before.gt(LATE).map({True: "late", False: "on time"})
    known = flights.assign(after=after)[before.notna()].merge(_planes(desk), on="tailnum")
    groups = known.groupby(["manufacturer", "after"], dropna=False)["dep_delay"]
    return groups.agg(flights="size", mean_delay="mean").reset_index()


def _flights(desk: Desk) -> pd.DataFrame:
    return _rows(desk, "flights", [*PLACE, "dep_delay"])


def _planes(desk: Desk) -> pd.DataFrame:
    return _rows(desk, "my_planes", ["tailnum", "manufacturer"])


def _rows(desk: Desk, table: str, columns: list[str] | None = None) -> pd.DataFrame:
    """Read a table with pandas' own types."""
    frame: pd.DataFrame = desk.lake.table(table).arrow(columns).to_pandas()
    return frame


def _frame(answer: Any, columns: list[str]) -> pd.DataFrame:
    """Fetch these columns of a Spark frame."""
    kinds: tuple[type, ...] = (type(answer),) if hasattr(type(answer), "toArrow") else ()
    found: Any = a(answer, kinds, "a Spark frame")
    _has(found.columns, columns)
    frame: pd.DataFrame = found.select(*columns).toArrow().to_pandas()
    return frame


def _has(there: Any, wanted: Any) -> None:
    missing = ", ".join(name for name in wanted if name not in set(there))
    expect(not missing, f"these columns are missing: {missing}.")


def _same(left: pd.Series, right: pd.Series) -> bool:
    return bool((left.eq(right) | (left.isna() & right.isna())).all())
