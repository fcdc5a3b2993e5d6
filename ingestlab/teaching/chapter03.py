"""Checks of ``03_clean_and_check``: a function on partitions, and a contract that is mended."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd

from ingestlab.pipeline.catalog import Catalog, load
from ingestlab.queue import Run
from ingestlab.teaching.checks import Desk, a, a_good_run, doubled, exercise, expect, outcome_of

TABLE = "my_alarms"


def _sample() -> pd.DataFrame:
    """Make three alarms, with a placeholder and an open end. The index is no range, as in a partition."""
    times = pd.array(["2017-10-23 12:00:00"] * 3, dtype="timestamp[s][pyarrow]")
    ends = pd.array(["2017-10-23 12:00:30", None, "2017-10-23 12:02:00"], dtype="timestamp[s][pyarrow]")
    values = pd.array([241.0, 999_999.0, 28.5], dtype="double[pyarrow]")
    return pd.DataFrame({"start_time": times, "end_time": ends, "value": values}, index=[7, 40, 41])


@exercise("03.1")
def pure_function(answer: Any, _desk: Desk) -> str:
    """Accept a pure `clean` that empties 999999 and adds `duration_s`."""
    expect(callable(answer), "give the function itself, without brackets: check('03.1', clean).")
    given, before = _sample(), _sample()
    made = _cleaned(answer, given)
    expect(given.equals(before), "it changes the frame that it is given; use assign(), which makes a new one.")
    expect(list(made.index) == [7, 40, 41], f"the index is {list(made.index)}, and was [7, 40, 41]: keep it.")
    expect("duration_s" in made, "the column 'duration_s' is missing.")
    _check_seconds(made["duration_s"])
    expect("value" in made, "the column 'value' is gone.")
    expect(pd.isna(made["value"].iloc[1]), "999999 means 'not set': 'value' should be null there.")
    expect(made["value"].iloc[0] == 241.0 and made["value"].iloc[2] == 28.5, "it changes values that are good.")
    pieces = pd.concat([_cleaned(answer, _sample().iloc[:1]), _cleaned(answer, _sample().iloc[1:])])
    expect(pieces.equals(made), "two pieces give something else than the whole: a row must not depend on others.")
    return "Right. Cut the data as you like: the rows come out the same, and each can be traced to its source."


def _cleaned(clean: Callable[[pd.DataFrame], Any], frame: pd.DataFrame) -> pd.DataFrame:
    made = outcome_of(clean, frame)
    expect(made is not None, "your function gives nothing back; does it end with return?")
    return a(made, pd.DataFrame, "a function that gives a frame back")


def _check_seconds(durations: pd.Series[Any]) -> None:
    expect(durations.dtype.kind != "m", "'duration_s' should be numbers; .dt.total_seconds() makes them.")
    seconds = [None if pd.isna(s) else float(s) for s in durations]
    shown = ["nothing" if s is None else f"{s:g}" for s in seconds]
    text = f"'duration_s' should be 30, nothing, 120 seconds here; it is {', '.join(shown)}."
    expect(seconds == [30.0, None, 120.0], text)


@exercise("03.2")
def replayed(answer: Any, desk: Desk) -> str:
    """Accept a replay that clears the rejected grid voltages, with nothing twice."""
    run = a(answer, Run, "a run, as lab.replay() gives it (it gives None if there was nothing to replay)")
    a_good_run(run)
    table, left = desk.lake.table(TABLE), desk.lake.rejects(TABLE)
    first = any(m.run == run.id and m.kind == "ingest" for m in table.manifests)
    expect(not first, "that is the run that brought the files; your answer is the run of lab.replay().")
    contract = load(Catalog.read(desk.settings).named(TABLE)).contract
    expect(contract is not None, "the pipeline has lost its contract; mend it.")
    still = int(((left["column"] == "value") & (left["rule"] != "type")).sum())
    expect(not still, f"{still} rows are still rejected for their value. Is the file written anew, and replayed after?")
    rows = table.pandas(["_source", "_row"])
    expect(not doubled(rows), f"{doubled(rows)} source rows are published twice.")
    both = set(zip(rows["_source"], rows["_row"], strict=True)) & set(zip(left["source"], left["row"], strict=True))
    expect(not both, f"{len(both)} source rows are published and rejected.")
    return f"{len(rows):,} rows are published, {len(left)} are still rejected, none is in both places."
