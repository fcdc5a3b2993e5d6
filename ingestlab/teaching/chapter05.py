"""Checks of ``05_exactly_once``: nothing twice, a replaced file, and what lies in the folder."""

from __future__ import annotations

from typing import Any

from ingestlab.teaching.checks import Desk, a_good_run, a_number, a_run, doubled, exercise, expect, into

TABLE = "slow_alarms"


@exercise("05.1")
def nothing_twice(answer: Any, desk: Desk) -> str:
    """Accept how often the most frequent source row occurs."""
    number = a_number(answer, "how often the most frequent pair occurs")
    rows = desk.lake.table(TABLE).pandas(["_source", "_row"])
    expect(not doubled(rows), f"{doubled(rows)} source rows are published twice: that must never be. Please report it.")
    expect(number != len(rows), "that is the number of rows; how often does the most frequent pair occur?")
    expect(number == 1, f"{number:g} is not it. Group by both columns: each file has a row 0.")
    return f"Once. {len(rows):,} rows, each a different one, though two workers were at it."


@exercise("05.2")
def replaced(answer: Any, desk: Desk) -> str:
    """Accept a run that replaced the rows of one grown file alone."""
    result = a_good_run(answer)
    run, states = a_run(answer), {o.uri: o for o in result.outcomes}
    into(TABLE, result)
    new = [o for o in states.values() if o.status == "committed"]
    expect(len(states) > 1, "submit the whole folder, not one file.")
    expect(new, "no file had changed. Did you append to the file, and close it, before you submitted?")
    expect(len(new) == 1, f"{len(new)} files were taken as new; only the first one should have changed.")
    table = desk.lake.table(TABLE)
    rows = table.pandas(["_source", "_row"])
    mine = int((rows["_source"] == new[0].uri).sum())
    expect(mine == new[0].tally.out, f"the table has {mine} rows of this file; the run published {new[0].tally.out}.")
    expect(not doubled(rows), f"{doubled(rows)} source rows are there twice.")
    old = [target for m in table.manifests if m.run == run.id for target in m.replaced]
    expect(old, "the run has replaced nothing; has it ingested this file before?")
    name, others = new[0].uri.rpartition("/")[2], len(states) - 1
    return f"{name}: {new[0].tally.rows_in} rows came in and replaced those of before; {others} files were unchanged."


@exercise("05.3")
def folder(answer: Any, desk: Desk) -> str:
    """Accept the row count of the folder, read without manifests."""
    number = a_number(answer, "a number of rows")
    rows = desk.lake.table(TABLE).rows
    way = "more" if rows > number else "fewer"
    expect(number == rows, f"{number:g} is not it: the files in the folder of {TABLE} hold {way} rows.")
    return f"The same {rows:,}. Between commits, the folder holds what the manifests name, and nothing else."
