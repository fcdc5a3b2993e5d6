"""Checks of ``01_first_ingestion``: a run, the rejects, and the way back to the source."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from ingestlab.teaching.checks import Desk, a, a_good_run, a_number, exercise, expect, into

TABLE = "bts_alarms"


@exercise("01.1")
def own_run(answer: Any, desk: Desk) -> str:
    """Accept a run of one alarm file other than the first. Its rows are in the table or among the rejects."""
    result = a_good_run(answer)
    expect(len(result.outcomes) == 1, f"submit one file; this run is about {len(result.outcomes)}.")
    into(TABLE, result)
    outcome = result.outcomes[0]
    expect(not outcome.uri.endswith("-00-vn.csv"), "that is the first file again; take files[1].")
    rows = desk.lake.table(TABLE).arrow(["_source"])["_source"].to_pylist().count(outcome.uri)
    kept = int((desk.lake.rejects(TABLE)["source"] == outcome.uri).sum())
    expect(rows + kept == outcome.tally.rows_in, f"{rows} rows and {kept} rejects are not {outcome.tally.rows_in}.")
    return f"{outcome.tally.rows_in} rows came in; {rows} are in the table, {kept} among the rejects."


@exercise("01.2")
def by_rule(answer: Any, desk: Desk) -> str:
    """Accept rejected rows by rule, the commonest first."""
    counts = a(answer, pd.Series, "a pandas Series with one number for each rule, as value_counts() gives it")
    rejects = desk.lake.rejects(TABLE)
    truth = rejects["rule"].value_counts()
    expect(not set(counts.index) & set(rejects["column"].dropna()), "those are columns; count the rules.")
    expect(not counts.index.equals(rejects.index), "that is the column itself; count how often each rule is in it.")
    unknown = set(counts.index) - set(truth.index)
    expect(not unknown, f"these are no rules: {', '.join(map(str, sorted(unknown, key=str)[:3]))}.")
    expect(counts.index.is_unique, "a rule is there twice; each should have one number.")
    expect(len(counts) == len(truth), f"there are {len(truth)} rules among the rejects; you have {len(counts)}.")
    numbers = {rule: a_number(number, f"how often the rule '{rule}' was broken") for rule, number in counts.items()}
    shares = len(rejects) > 1 and math.isclose(sum(numbers.values()), 1)
    expect(not shares, "those are shares; how many rows are they?")
    for rule, number in truth.items():
        expect(numbers[rule] == number, f"'{rule}' was broken by {number} rows; you have {numbers[rule]:g}.")
    expect(counts.is_monotonic_decreasing, "the commonest rule should come first.")
    return f"Right. '{counts.index[0]}' is the commonest: {counts.iloc[0]} of {counts.sum()} rejects."


@exercise("01.3")
def line_of_a_reject(answer: Any, desk: Desk) -> str:
    """Accept a line of a source file, found through a reject."""
    line = a(answer, str, "the line, a str").rstrip("\r\n")
    expect(line, "that is an empty line.")
    expect("\n" not in line, f"that is {line.count(chr(10)) + 1} lines; which of them is it?")
    expect(not line.startswith("id,station_id"), "that is the header; record 0 is the line after it.")
    rejects = desk.lake.rejects(TABLE)
    near = "no reject has this line. Record 0 is the line after the header; and is it the file of this very reject?"
    expect(line in set(rejects["raw"].dropna()), near)
    return "That is the record, word for word. You can send it back to whoever wrote the file."
