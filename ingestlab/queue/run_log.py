"""The history of a job as lines for people, from what broker and worker have noted of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import get_args

from ingestlab.core.archive_uri import label
from ingestlab.core.jobs import Job
from ingestlab.core.models import IngestResult, Outcome, Progress, Status
from ingestlab.interfaces import Queue


def history_of(job: Job | None, result: IngestResult | None, queue: Queue) -> Iterator[str]:
    """Yield the lines of one job, oldest first.

    Args:
        job: As the broker has it; None if it has been forgotten.
        result: How it ended; None if it has not.
        queue: Has the traceback of an unforeseen error.
    """
    if job is not None:
        yield f"{_clock(job.queued)}  queued      {job.description}"
        if job.began:
            yield f"{_clock(job.began)}  begun       by worker {job.worker or 'unknown'}"
        if result is None:
            yield from _so_far(job)
    if result is None:
        return
    counts = ", ".join(
        f"{n:,} {status}" for status in get_args(Status) if (n := sum(o.status == status for o in result.outcomes))
    )
    took = f" in {sum(result.seconds.values()):.1f} s" if result.seconds else ""
    state = job.status if job is not None else "finished"
    yield f"{_clock(job.ended if job is not None else None)}  {state:<10}  {counts}{took}"
    yield from _failures(result.outcomes)
    if job is not None and (job.notes.get("error") or {}).get("code") == "unforeseen":
        own = queue.ending(job.id).traceback.partition("\nThe above exception")[0]
        yield from (f"{_clock(None)}  {line}" for line in own.strip().splitlines())


def _so_far(job: Job) -> Iterator[str]:
    """Tell where a job is that has begun and not ended."""
    p = Progress.from_dict(job.notes.get("progress") or {})
    if p.state == "queued":
        return
    partitions = f", {p.partitions_done:,} of {p.partitions:,} partitions, {p.rows:,} rows" if p.partitions else ""
    done = p.note or f"{p.files_done:,} of {p.files:,} files{partitions}"
    yield f"{_clock(None)}  {p.state:<10}  {done}"
    yield from _failures(p.failures)


def _failures(outcomes: Iterable[Outcome]) -> Iterator[str]:
    for outcome in outcomes:
        if error := outcome.exception():
            yield f"{_clock(None)}  failed      {label(outcome.uri)}: {error}"


def _clock(moment: datetime | None) -> str:
    """Format a time of day in this machine's zone."""
    return moment.astimezone().strftime("%H:%M:%S") if moment else " " * 8
