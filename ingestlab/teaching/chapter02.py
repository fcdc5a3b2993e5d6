"""Checks of ``02_many_files``: packing, the order of queues, a cured run."""

from __future__ import annotations

from typing import Any

from ingestlab.lake.log import TransactionLog
from ingestlab.lake.storage.store import open_store
from ingestlab.queue import Run
from ingestlab.teaching.checks import Desk, NotYet, a, a_good_run, a_run, exercise, expect

TABLE = "bts_alarms"
RUNS = 4  # three of the night, and an urgent one


@exercise("02.1")
def packed(answer: Any, desk: Desk) -> str:
    """Accept a run of more files than one request takes."""
    one_each = isinstance(answer, list) and len(answer) > 0 and all(isinstance(item, Run) for item in answer)
    expect(not one_each, "those are many runs; give all paths to one lab.submit(), which packs them.")
    result = a_good_run(answer)
    run, limit = a_run(answer), desk.settings.request_files
    files, jobs = len(result.outcomes), len(run.record.jobs)
    expect(files > limit, f"{files} files fit in one request; give it more than {limit}.")
    expect(jobs > 1, f"{files} files were one job.")
    return f"{files} files made {jobs} jobs, of at most {limit} files each. Any worker may take any of them."


@exercise("02.2")
def order(answer: Any, desk: Desk) -> str:
    """Accept the ids of some runs in the order of publication."""
    runs = a(answer, (list, tuple), "a list of runs")
    expect(all(isinstance(run, Run | str) for run in runs), "give the runs themselves, or their ids.")
    ids = [run.id if isinstance(run, Run) else str(run) for run in runs]
    expect(len(ids) == RUNS, f"there are {RUNS} runs, three of the night and the urgent one; you give {len(ids)}.")
    expect(len(set(ids)) == RUNS, "a run is there twice; give every run once.")
    store = open_store(desk.settings.lake_url, desk.settings.storage_options)
    history = TransactionLog(store, desk.settings.tenant, TABLE).history()
    done = list(dict.fromkeys(m.run for m in history if m.run in ids))
    missing = set(ids) - set(done)
    expect(not missing, f"run {min(missing, default='')} has published nothing into {TABLE}.")
    if ids != done:
        place = next(i for i, (mine, true) in enumerate(zip(ids, done, strict=True)) if mine != true)
        raise NotYet(f"place {place + 1} is another run's. Look at when each was committed.")
    return "Right. The queue decides the order, not the clock of whoever asks."


@exercise("02.3")
def cured(answer: Any, _desk: Desk) -> str:
    """Accept a run that failed, and was retried with success."""
    expect(not isinstance(answer, int), "that is the number of jobs that retry() has queued; your answer is the run.")
    result = a_good_run(answer)
    expect(len(result.outcomes) > 1, "take the run that failed, not a new one.")
    late = [o for o in result.outcomes if "late" in o.uri]
    expect(late, "this is not the run with the file that came late.")
    return f"All {len(result.outcomes)} files are in. What was committed the first time was not touched again."
