"""The history of a job as lines for people, from what broker and worker have noted of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import get_args

from ingestlab.core.archive_uri import label
from ingestlab.core.errors import IngestError
from ingestlab.core.jobs import Job
from ingestlab.core.models import Attempt, IngestResult, Outcome, Progress, Status
from ingestlab.interfaces import Queue
from ingestlab.queue.attempts import state_of
from ingestlab.queue.job_records import result_in


def history_of(job: Job | None, result: IngestResult | None, queue: Queue | None) -> Iterator[str]:
    """Yield the lines of a job's attempts, oldest first.

    Args:
        job: As the broker has it; None if it has been forgotten.
        result: How it ended; None if it has not.
        queue: Has the traceback of an unforeseen error; not needed for a forgotten job.
    """
    if job is not None:
        yield f"{_clock(job.queued)}  queued      {job.description}"
    attempts = result.attempts if result else result_in(job.notes, job.id).attempts if job else ()
    for attempt in attempts:
        yield from _attempt(attempt)
    if result is None and job is not None:
        if job.began:
            yield f"{_clock(job.began)}  begun       by worker {job.worker or 'unknown'}"
        yield from _so_far(job)
    if result is None:
        return
    if not attempts:  # it was cancelled before it began, or an older version has run it
        yield f"{_clock(job.ended if job else None)}  {state_of(result.outcomes):<10}  {_counts(result)}"
        yield from _failures(result.outcomes)
    elif len(attempts) > 1 or len(attempts[-1].failures) < _failed(result):
        yield f"{_clock(None)}  all in all  {_counts(result)}"
        yield from _failures(result.outcomes)
    if job is not None and queue is not None and (job.notes.get("error") or {}).get("code") == "unforeseen":
        own = queue.ending(job.id).traceback.partition("\nThe above exception")[0]
        yield from (f"{_clock(None)}  {line}" for line in own.strip().splitlines())


def _attempt(attempt: Attempt) -> Iterator[str]:
    """Tell of one attempt: by whom, how it ended, and what failed."""
    yield f"{_clock(attempt.began)}  begun       by worker {attempt.worker}"
    yield from (f"{_clock(None)}  {'':<10}  {line}" for line in attempt.told)
    counts = ", ".join(f"{n:,} {status}" for status, n in attempt.counts.items()) or "nothing new"
    took = f" in {attempt.ended - attempt.began:.1f} s" if attempt.ended else ""
    yield f"{_clock(attempt.ended)}  {attempt.state:<10}  {counts}{took}"
    yield from _failures(attempt.failures)
    if attempt.error and not attempt.failures:
        yield f"{_clock(None)}  {'':<10}  {IngestError.from_dict(attempt.error)}"


def _counts(result: IngestResult) -> str:
    numbers = {status: sum(o.status == status for o in result.outcomes) for status in get_args(Status)}
    return ", ".join(f"{n:,} {status}" for status, n in numbers.items() if n)


def _failed(result: IngestResult) -> int:
    return sum(outcome.status == "failed" for outcome in result.outcomes)


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


def _clock(moment: datetime | float | None) -> str:
    """Format a time of day in this machine's zone."""
    if not moment:
        return " " * 8
    return (
        (datetime.fromtimestamp(moment, UTC) if isinstance(moment, float) else moment).astimezone().strftime("%H:%M:%S")
    )
