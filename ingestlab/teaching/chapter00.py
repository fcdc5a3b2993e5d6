"""Checks of ``00_start_here``: the parts of the stack, a run, a table."""

from __future__ import annotations

from typing import Any

from ingestlab.ledger import connect
from ingestlab.stack.listeners import listeners
from ingestlab.teaching.desk import Desk, a_good_run, a_number, exercise, expect


@exercise("00.1")
def workers(answer: Any, desk: Desk) -> str:
    """The number of RQ workers on the queue."""
    number = a_number(answer, "how many RQ workers there are")
    with connect(desk.settings.redis) as client:
        there = len(listeners(client, desk.settings.queue))
    expect(number == there, f"{number:g} is not what Redis says; count the parts whose name begins with 'worker'.")
    return f"Right: {there} workers listen on the queue '{desk.settings.queue}'."


@exercise("00.2")
def second_file(answer: Any, _desk: Desk) -> str:
    """A run of the second log file, and of it alone."""
    result = a_good_run(answer)
    names = [o.uri.rpartition("/")[2] for o in result.outcomes]
    expect(len(names) == 1, f"the run should be about one file; it is about {len(names)}.")
    expect(names[0].startswith("access-") and not names[0].endswith("23.log"), f"{names[0]} is not the second file.")
    t = result.outcomes[0].tally
    return f"{names[0]}: {t.rows_in} rows in, {t.accepted} published, {t.rejected} rejected. Nothing is lost."


@exercise("00.3")
def table_rows(answer: Any, desk: Desk) -> str:
    """The rows of the table of log lines."""
    number = a_number(answer, "the number of rows of the table")
    rows = desk.lake.table("weblogs").rows
    expect(number == rows, f"{number:g} rows is not what the table has now. Did you open it before your last run?")
    return f"Right: {rows:,} rows from {len(desk.lake.table('weblogs').parts)} Parquet parts."
