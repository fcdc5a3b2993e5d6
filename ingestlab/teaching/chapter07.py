"""Checks of ``07_how_fast_how_far``: a rate, partitions, and the size of a frame."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from ingestlab.teaching.checks import Desk, a, a_good_run, a_number, a_pair, a_run, exercise, expect, into

TABLE = "bts_alarms"
PARTS = 8
UNCHANGED = "this run found its file unchanged and did nothing; use force=True."


@exercise("07.1")
def rate(answer: Any, _desk: Desk) -> str:
    """Accept the rows per second of a run, all stages counted."""
    run, number = a_pair(answer, "the pair of the run and its rows per second")
    result, number = a_good_run(run), a_number(number, "rows per second")
    seconds, rows = sum(result.seconds.values()), result.tally.rows_in
    expect(rows and seconds, UNCHANGED)
    truth, alone = rows / seconds, rows / result.seconds.get("processing", seconds)
    one_stage = abs(number / alone - 1) < 1e-3 < abs(alone / truth - 1)
    expect(not one_stage, "you count the time of processing alone; add up all stages.")
    near = f"{number:,.0f} rows/s is {'too fast' if number > truth else 'too slow'}"
    expect(abs(number / truth - 1) < 0.02, f"{near}: {rows:,} rows came in, and the stages add up to {seconds:.2f} s.")
    return f"{truth:,.0f} rows/s. Of the time, {result.seconds.get('processing', 0) / seconds:.0%} was processing."


@exercise("07.2")
def partitions(answer: Any, desk: Desk) -> str:
    """Accept a run that made eight parts or more of one file."""
    result = a_good_run(answer)
    run = a_run(answer)
    into(TABLE, result)
    expect(len(result.outcomes) == 1, f"ingest the one big file; this run is about {len(result.outcomes)} files.")
    expect(result.tally.rows_in, UNCHANGED)
    parts = [p for m in desk.lake.table(TABLE).manifests if m.run == run.id for p in m.parts]
    mine = [p for p in parts if set(p.sources) & {o.uri for o in result.outcomes}]
    cure = "the partitions are too large, or the worker was not yours (queue=…)."
    expect(len(mine) >= PARTS, f"it made {len(mine)} of {PARTS} parts: {cure}")
    return f"{len(mine)} parts, of {sum(p.rows for p in mine) // len(mine):,} rows on average."


@exercise("07.3")
def growth(answer: Any, _desk: Desk) -> str:
    """Accept how many times as large as its file a frame is."""
    path, ratio = a_pair(answer, "the pair of the file's path and the ratio")
    path, ratio = Path(str(a(path, (str, Path), "the file's path first"))), a_number(ratio, "the ratio")
    expect(path.is_file() and path.stat().st_size, f"there is no file {path} with anything in it.")
    frame, size = pd.read_csv(path, on_bad_lines="skip", low_memory=False), path.stat().st_size
    truth = float(frame.memory_usage(deep=True, index=False).sum() / size)
    flat = float(frame.memory_usage(deep=False, index=False).sum() / size)
    expect(not _near(ratio, flat) or _near(truth, flat), "without deep=True the texts are not counted.")
    expect(not _near(ratio * truth, 1) or _near(truth, 1), "that is the file by the frame; turn it round.")
    expect(not _near(ratio, truth * size), "those are the frame's bytes; divide them by the file's.")
    expect(_near(ratio, truth), f"{ratio:.2f} is not what I find: bytes of the frame by bytes of the file.")
    return f"{truth:.1f} times the file. So a partition of 32 MB would need some {32 * truth:.0f} MB, before any work."


def _near(left: float, right: float) -> bool:
    return abs(left / right - 1) < 0.05
