"""Checks of ``09_files_that_announce_themselves``: a folder that its table agrees with, and an announcement by HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ingestlab.core.errors import TerminalError
from ingestlab.core.models import OVER
from ingestlab.queue import Synced, find_run
from ingestlab.sources.listing import plain_path
from ingestlab.sources.walking import walk_local
from ingestlab.teaching.checks import Desk, NotYet, a, a_good_run, exercise, expect, into

TABLE = "inbox_alarms"
MISSED = "alarm-missed.csv"  # came while nobody listened


@exercise("09.1")
def agreed(answer: Any, desk: Desk) -> str:
    """Accept a sync, if table and folder have the same files."""
    report = a(answer, Synced, "the report of lab.sync()")
    folder = Path(plain_path(report.folder))
    there = {Path(path).as_uri() for path, _ in walk_local(str(folder))}
    missed = any(uri.endswith(f"/{MISSED}") for uri in there)
    expect(missed, f"that is another folder: the inbox has a file {MISSED}.")
    sources = desk.lake.table(TABLE).pandas(["_source"])["_source"].astype("string").unique()
    known = {uri for uri in sources if uri.startswith(f"{folder.as_uri()}/")}
    late = [run for run in report.runs if find_run(run, desk.settings).progress().state not in OVER]
    expect(not late, f"the run {''.join(late[:1])} goes on; wait for it with lab.run(id).watch().")
    left = _name(known - there)
    expect(not left, f"{left} has gone from the folder, and the table still has its rows: are vanished files kept?")
    absent = _name(there - known)
    expect(not absent, f"{absent} is in the folder, and {TABLE} has no row of it. Did you name the pipeline?")
    return f"{len(there)} files in the folder, and the same {len(known)} in the table. No event was needed."


def _name(uris: set[str]) -> str:
    """Give the name of the first of these files."""
    return min(uris, default="").rpartition("/")[2]


@exercise("09.2")
def announced(answer: Any, desk: Desk) -> str:
    """Accept what the web service says of a run that ended well."""
    said = a(answer, dict, "a dict, as response.json() gives it")
    expect("problem" not in said, f"the service has refused it: {said.get('problem')}. Is it the right token?")
    expect(not {"run", "url"} <= said.keys(), "that is the reply to the announcement; its url tells how the run fares.")
    expect({"run", "state"} <= said.keys(), "no run and no state are in it; what does the url of the reply say?")
    expect(said["state"] in OVER, f"the run is still {said['state']}; ask again until it has finished.")
    try:
        run = find_run(str(said["run"]), desk.settings)
    except TerminalError:
        raise NotYet(f"nobody knows a run {str(said['run'])[:60]!r}.") from None
    result = a_good_run(run)
    into("weblogs", result)
    t = result.tally
    rows = f"{t.rows_in:,} rows came in" if t.rows_in else "its rows were there already"
    return f"{result.outcomes[0].uri.rpartition('/')[2]}: {rows}. Whoever announced it knows neither Redis nor a table."
