"""Checks of ``02_many_files``: packing, the order of queues, a cured run."""

from __future__ import annotations

from typing import Any

from ingestlab.history import manifests
from ingestlab.jobs import Run
from ingestlab.storage import open_store
from ingestlab.teaching.desk import Desk, NotYet, a, a_good_run, exercise, expect


@exercise("02.1")
def packed(answer: Any, desk: Desk) -> str:
    """A run of more files than one request takes."""
    result = a_good_run(answer)
    run, limit = a(answer, Run, "a run"), desk.settings.request_files
    files, jobs = len(result.outcomes), len(run.record.jobs)
    expect(files > limit, f"{files} files fit in one request; give it more than {limit}.")
    expect(jobs > 1, f"{files} files were one job.")
    return f"{files} files made {jobs} jobs, of at most {limit} files each. Any worker may take any of them."


@exercise("02.2")
def order(answer: Any, desk: Desk) -> str:
    """The ids of some runs, in the order in which they were published."""
    ids = [one.id if isinstance(one, Run) else str(one) for one in a(answer, list, "a list of runs")]
    expect(len(set(ids)) == len(ids) > 1, "give every run once, and all of them.")
    store = open_store(desk.settings.lake_url, desk.settings.storage_options)
    done = [m.run for m in manifests(store, desk.settings.tenant, "bts_alarms") if m.run in ids]
    missing = set(ids) - set(done)
    expect(not missing, f"run {min(missing, default='')} has published nothing into bts_alarms.")
    if ids != done:
        place = next(i for i, (mine, true) in enumerate(zip(ids, done, strict=False)) if mine != true)
        raise NotYet(f"place {place + 1} is another run's. Look at when each was committed.")
    return "Right. The queue decides the order, not the clock of whoever asks."


@exercise("02.3")
def cured(answer: Any, _desk: Desk) -> str:
    """A run that failed, and was retried with success."""
    result = a_good_run(answer)
    expect(len(result.outcomes) > 1, "take the run that failed, not a new one.")
    late = [o for o in result.outcomes if "late" in o.uri]
    expect(late, "this is not the run with the file that came late.")
    return f"All {len(result.outcomes)} files are in. What was committed the first time was not touched again."
