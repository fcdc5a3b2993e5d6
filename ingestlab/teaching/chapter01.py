"""Checks of ``01_first_ingestion``: a run, the rejects, and the way back to the source."""

from __future__ import annotations

from typing import Any

import pandas as pd

from ingestlab.teaching.desk import Desk, a, a_good_run, exercise, expect

TABLE = "bts_alarms"


@exercise("01.1")
def own_run(answer: Any, desk: Desk) -> str:
    """A run of one alarm file other than the first; its rows are in the table or among the rejects."""
    result = a_good_run(answer)
    expect(len(result.outcomes) == 1, f"submit one file; this run is about {len(result.outcomes)}.")
    outcome = result.outcomes[0]
    expect(not outcome.uri.endswith("-00-vn.csv"), "that is the first file again; take files[1].")
    rows = desk.lake.table(TABLE).arrow(["_source"])["_source"].to_pylist().count(outcome.uri)
    kept = int((desk.lake.rejects(TABLE)["source"] == outcome.uri).sum())
    expect(rows + kept == outcome.tally.rows_in, f"{rows} rows and {kept} rejects are not {outcome.tally.rows_in}.")
    return f"{outcome.tally.rows_in} rows came in; {rows} are in the table, {kept} among the rejects."


@exercise("01.2")
def by_rule(answer: Any, desk: Desk) -> str:
    """Rejected rows by rule, the commonest first."""
    counts = a(answer, pd.Series, "a pandas Series with one number for each rule, as value_counts() gives it")
    truth = desk.lake.rejects(TABLE)["rule"].value_counts()
    unknown = set(counts.index) - set(truth.index)
    expect(not unknown, f"these are no rules: {', '.join(map(str, sorted(unknown, key=str)[:3]))}.")
    expect(len(counts) == len(truth), f"there are {len(truth)} rules among the rejects; you have {len(counts)}.")
    expect(int(counts.sum()) == int(truth.sum()), f"there are {truth.sum()} rejects; yours add up to {counts.sum()}.")
    expect(counts.is_monotonic_decreasing, "the commonest rule should come first.")
    return f"Right. '{counts.index[0]}' is the commonest: {counts.iloc[0]} of {counts.sum()} rejects."


@exercise("01.3")
def line_of_a_reject(answer: Any, desk: Desk) -> str:
    """A line of a source file, found by what a reject says of it."""
    line = a(answer, str, "the line, a str").rstrip("\r\n")
    expect(line and not line.startswith("id,station_id"), "that is the header; record 0 is the line after it.")
    rejects = desk.lake.rejects(TABLE)
    expect(line in set(rejects["raw"].dropna()), "no reject has this line; is it the wrong line, or the wrong file?")
    return "That is the record, word for word. You can send it back to whoever wrote the file."
