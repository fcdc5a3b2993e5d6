"""Checks of ``07_how_fast_how_far``: a rate, partitions, and the size of a frame."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from ingestlab.jobs import Run
from ingestlab.teaching.desk import Desk, a, a_good_run, a_number, exercise, expect

TABLE = "bts_alarms"
PARTS = 8


@exercise("07.1")
def rate(answer: Any, _desk: Desk) -> str:
    """Rows a second of a run, all stages counted."""
    run, number = a(answer, tuple, "the pair of the run and its rows per second")
    result, number = a_good_run(run), a_number(number, "rows per second")
    seconds, rows = sum(result.seconds.values()), result.tally.rows_in
    expect(rows and seconds, "this run found its file unchanged, so there is no rate; use force=True.")
    truth = rows / seconds
    near = f"{number:,.0f} rows/s is {'too fast' if number > truth else 'too slow'}"
    expect(abs(number / truth - 1) < 0.02, f"{near}: {rows:,} rows came in, and the stages add up to {seconds:.2f} s.")
    return f"{truth:,.0f} rows/s. Of the time, {result.seconds.get('processing', 0) / seconds:.0%} was processing."


@exercise("07.2")
def partitions(answer: Any, desk: Desk) -> str:
    """A run that made eight parts or more of its one file."""
    result = a_good_run(answer)
    run = a(answer, Run, "a run")
    expect(result.tally.rows_in, "this run found its file unchanged and did nothing; use force=True.")
    parts = [p for m in desk.lake.table(TABLE).manifests if m.run == run.id for p in m.parts]
    mine = [p for p in parts if set(p.sources) & {o.uri for o in result.outcomes}]
    expect(
        len(mine) >= PARTS, f"it made {len(mine)} parts; make the partitions smaller (partition_bytes of the worker)."
    )
    return f"{len(mine)} parts, of {sum(p.rows for p in mine) // len(mine):,} rows on average."


@exercise("07.3")
def growth(answer: Any, _desk: Desk) -> str:
    """How many times as large as its file a frame is."""
    path, ratio = a(answer, tuple, "the pair of the file's path and the ratio")
    path, ratio = Path(path), a_number(ratio, "the ratio")
    expect(path.is_file(), f"there is no file {path}.")
    frame = pd.read_csv(path, on_bad_lines="skip", low_memory=False)
    truth = float(frame.memory_usage(deep=True, index=False).sum() / path.stat().st_size)
    flat = float(frame.memory_usage(deep=False, index=False).sum() / path.stat().st_size)
    expect(abs(ratio / flat - 1) > 0.02 or abs(truth / flat - 1) < 0.02, "without deep=True the texts are not counted.")
    expect(abs(ratio / truth - 1) < 0.05, f"{ratio:.2f} is not what I find: bytes of the frame by bytes of the file.")
    return f"{truth:.1f} times the file. So a partition of 32 MB would need some {32 * truth:.0f} MB, before any work."
