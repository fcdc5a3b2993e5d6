"""Checks of ``03_clean_and_check``: a function on partitions, and a contract that is mended."""

from __future__ import annotations

from typing import Any

import pandas as pd

from ingestlab.jobs import Run
from ingestlab.teaching.desk import Desk, NotYet, a, a_good_run, doubled, exercise, expect

TABLE = "my_alarms"


def _sample() -> pd.DataFrame:
    """Three alarms: one with a placeholder, one that is open; the index is no range, as in a partition."""
    times = pd.array(["2017-10-23 12:00:00"] * 3, dtype="timestamp[s][pyarrow]")
    ends = pd.array(["2017-10-23 12:00:30", None, "2017-10-23 12:02:00"], dtype="timestamp[s][pyarrow]")
    values = pd.array([241.0, 999_999.0, 28.5], dtype="double[pyarrow]")
    return pd.DataFrame({"start_time": times, "end_time": ends, "value": values}, index=[7, 40, 41])


@exercise("03.1")
def pure_function(answer: Any, _desk: Desk) -> str:
    """A `clean` that empties 999999, adds `duration_s`, keeps the index and leaves its argument alone."""
    expect(callable(answer), "give the function itself, without brackets: check('03.1', clean).")
    given, before = _sample(), _sample()
    made = a(answer(given), pd.DataFrame, "a function that returns a frame; yours")
    expect(given.equals(before), "it changes the frame that it is given; use assign(), which makes a new one.")
    expect(list(made.index) == [7, 40, 41], f"the index is {list(made.index)}, and was [7, 40, 41]: keep it.")
    expect("duration_s" in made, "the column 'duration_s' is missing.")
    seconds = [None if pd.isna(s) else float(s) for s in made["duration_s"]]
    expect(seconds == [30.0, None, 120.0], f"'duration_s' should be 30, nothing, 120 seconds here; it is {seconds}.")
    expect(pd.isna(made["value"].iloc[1]), "999999 means 'not set': 'value' should be null there.")
    expect(made["value"].iloc[0] == 241.0, "it changes values that are good.")
    try:
        pieces = pd.concat([answer(_sample().iloc[:1]), answer(_sample().iloc[1:])])
    except ValueError as error:
        raise NotYet(f"on a piece of one row it fails: {error}") from error
    expect(pieces.equals(made), "two pieces give something else than the whole: a row must not depend on others.")
    return "Right. Cut the data as you like: the rows come out the same, and each can be traced to its source."


@exercise("03.2")
def replayed(answer: Any, desk: Desk) -> str:
    """A replay after which no grid voltage is rejected any more, and nothing is there twice."""
    run = a(answer, Run, "a run, as lab.replay() gives it (it gives None if there was nothing to replay)")
    a_good_run(run)
    left = desk.lake.rejects(TABLE)
    still = int(((left["column"] == "value") & (left["rule"] != "type")).sum())
    expect(not still, f"{still} rows are still rejected for their value. Is the file of the pipeline written anew?")
    rows = desk.lake.table(TABLE).pandas(["_source", "_row"])
    expect(not doubled(rows), f"{doubled(rows)} source rows are published twice.")
    both = set(zip(rows["_source"], rows["_row"], strict=True)) & set(zip(left["source"], left["row"], strict=True))
    expect(not both, f"{len(both)} source rows are published and rejected.")
    return f"{len(rows):,} rows are published, {len(left)} are still rejected, none is in both places."
