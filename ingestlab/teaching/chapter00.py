"""Checks of ``00_start_here``: the parts of the stack, a run, a table."""

from __future__ import annotations

from typing import Any

from ingestlab import stack
from ingestlab.core.errors import StackError
from ingestlab.lake.locks import connect
from ingestlab.queue.broker import broker, reaching
from ingestlab.teaching.checks import Desk, a_good_run, a_number, exercise, expect, into

TABLE = "weblogs"
SECOND = "access-2017-10-24.log"


@exercise("00.1")
def workers(answer: Any, desk: Desk) -> str:
    """Accept the number of RQ workers on the queue."""
    number = a_number(answer, "how many RQ workers there are")
    parts = stack.running(desk.settings.home)
    if parts is None and not (desk.settings.redis_url or desk.settings.redis_host):
        raise StackError(
            f"There is not a running stack in {desk.settings.home}",
            fix="lab = Lab() starts it again.",
            code="stack_not_running",
        )
    with reaching(desk.settings), connect(desk.settings.redis) as client:
        there = len(broker(desk.settings, client).listeners(desk.settings.queue))
    all_of_them = number == len(parts.pids) if parts else False
    expect(not all_of_them or number == there, f"{number:g} is all parts of the stack; only some of them are workers.")
    expect(number == there, f"{number:g} is not what Redis says; count the parts whose name begins with 'worker'.")
    return f"Right: {there} workers listen on the queue '{desk.settings.queue}'."


@exercise("00.2")
def second_file(answer: Any, _desk: Desk) -> str:
    """Accept a run of the second log file alone."""
    result = a_good_run(answer)
    into(TABLE, result)
    names = [o.uri.rpartition("/")[2] for o in result.outcomes]
    expect(len(names) == 1, f"the run should be about one file; it is about {len(names)}.")
    expect(names[0] == SECOND, f"{names[0]} is not the second file, logs[1]: Python counts from 0.")
    t = result.outcomes[0].tally
    return f"{names[0]}: {t.rows_in} rows in, {t.accepted} published, {t.rejected} rejected. Nothing is lost."


@exercise("00.3")
def table_rows(answer: Any, desk: Desk) -> str:
    """Accept the row count of the table of log lines."""
    number = a_number(answer, "the number of rows of the table")
    table = desk.lake.table(TABLE)
    with_rejects = table.rows + len(desk.lake.rejects(TABLE))
    expect(number != with_rejects or number == table.rows, f"{number:g} counts the rejected rows, too.")
    text = f"{number:g} rows is not what the table has now. Did you open it before your last run?"
    expect(number == table.rows, text)
    return f"Right: {table.rows:,} rows from {len(table.parts)} Parquet parts."
