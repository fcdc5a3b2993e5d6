"""What has happened to a job, as lines for people: from what RQ and the worker have noted on it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from rq.job import Job, JobStatus

from ingestlab.members import label
from ingestlab.models import IngestResult


def chronicle(job: Job | None, result: IngestResult | None) -> Iterator[str]:
    """The lines of one job, oldest first.

    Args:
        job: As RQ has it; None if it has been forgotten.
        result: How it ended; None if it has not.
    """
    if job is not None:
        yield f"{_clock(job.enqueued_at)}  queued      {job.description or job.id}"
        if job.started_at:
            yield f"{_clock(job.started_at)}  begun       by worker {(job.worker_name or 'unknown')[:12]}"
        if result is None and (note := (job.meta.get("progress") or {}).get("note")):
            yield f"{_clock(None)}  retrying    {note}"
    if result is None:
        return
    counts = ", ".join(
        f"{n:,} {status}"
        for status in ("committed", "unchanged", "failed")
        if (n := sum(o.status == status for o in result.outcomes))
    )
    took = f" in {sum(result.seconds.values()):.1f} s" if result.seconds else ""
    state = job.get_status(refresh=False) if job is not None else JobStatus.FINISHED
    yield f"{_clock(job.ended_at if job is not None else None)}  {state.value:<10}  {counts}{took}"
    for outcome in result.outcomes:
        if error := outcome.exception():
            yield f"{_clock(None)}  failed      {label(outcome.uri)}: {error}"


def _clock(moment: datetime | None) -> str:
    """A time of day in this machine's zone; RQ's times are UTC, though they may not say so."""
    if moment is None:
        return " " * 8
    return moment.replace(tzinfo=moment.tzinfo or UTC).astimezone().strftime("%H:%M:%S")
