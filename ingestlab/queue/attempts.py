"""What a job and a run have done over all attempts: the one fold that notebook, terminal, pages and JSON read.

A job is tried again after a passing failure, after the death of its worker, and by `ingestlab retry`. Each attempt
tells of itself alone. The fold keeps what earlier ones have done: what is committed never becomes failed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import TypeVar

from ingestlab.core.archive_uri import container
from ingestlab.core.error_codes import Code
from ingestlab.core.models import (
    FIRST_FAILURES,
    OVER,
    Attempt,
    AttemptState,
    IngestResult,
    Outcome,
    Progress,
    Published,
    State,
    Tally,
    Value,
)

N = TypeVar("N", int, float)
STOPPED: Code = "job_stopped"  # the code of what a cancelled job leaves undone
_ORDER: tuple[State, ...] = ("committing", "processing", "fetching", "retrying", "queued")  # the furthest on first
_OWN = {"committed", "executed"}  # statuses that say what the run itself has done


class Opened(Value):
    """An attempt that has not ended."""

    began: float  # seconds since the epoch
    worker: str
    waits: bool = False  # for a busy source: the next try of the job goes on with this attempt


def merge(before: IngestResult, after: IngestResult) -> IngestResult:
    """Add what a later attempt has done.

    Args:
        before: The attempts so far.
        after: Those that came after them.

    Returns:
        A result with the last that is known of each source, or the best: what was committed stays so.
    """
    outcomes = _outcomes(before.outcomes, after.outcomes)
    named, live = {o.batch for o in before.outcomes}, {o.batch for o in outcomes}
    earlier = {name: batch for name, batch in _batches(before).items() if name in live or name not in named}
    batches = {**earlier, **_batches(after)}
    return IngestResult(
        run=after.run,
        job=after.job,
        outcomes=outcomes,
        rules=total(b.rules for b in batches.values()),
        parquet_bytes=sum(b.parquet_bytes for b in batches.values()),
        tables=tuple(sorted({*before.tables, *after.tables})),
        seconds=total((before.seconds, after.seconds)),
        batches=batches,
        attempts=(*before.attempts, *after.attempts),
    )


def close(
    opened: Opened,
    before: IngestResult,
    after: IngestResult,
    state: AttemptState,
    error: Mapping[str, str] | None = None,
    ended: float | None = None,
) -> IngestResult:
    """Add an attempt that has ended to those before.

    Args:
        opened: When it began, and where.
        before: What the earlier ones had done.
        after: What it has done, or found done, itself.
        state: How it ended.
        error: Why it ended so.
        ended: When, in seconds since the epoch; None if its worker has died.
    """
    known = {outcome.uri: outcome for outcome in before.outcomes}
    news = [o for o in after.outcomes if o != known.get(o.uri) and _better(known.get(o.uri), o) is o]
    tally = committed(news)
    attempt = Attempt(
        job=after.job,
        state=state,
        began=opened.began,
        ended=ended,
        worker=opened.worker,
        counts=dict(Counter(o.status for o in news)),
        rows=tally.rows_in,
        rejected=tally.rejected,
        error=dict(error) if error else None,
        failures=tuple(islice((o for o in news if o.status == "failed"), FIRST_FAILURES)),
        told=after.told,
    )
    return merge(before, after.model_copy(update={"attempts": (attempt,)}))


def completed(result: IngestResult, uris: Iterable[str], error: Mapping[str, str]) -> IngestResult:
    """Complete a result with an outcome for each source: the error, where it has none."""
    known = {outcome.uri for outcome in result.outcomes} | {container(outcome.uri) for outcome in result.outcomes}
    failed = [Outcome(uri=uri, status="failed", error=dict(error)) for uri in uris if uri not in known]
    return result.model_copy(update={"outcomes": (*result.outcomes, *failed)})


def state_of(outcomes: Sequence[Outcome]) -> State:
    """Name the end of what has ended so."""
    failed = [outcome for outcome in outcomes if outcome.status == "failed"]
    if any((outcome.error or {}).get("code") == STOPPED for outcome in failed):
        return "cancelled"
    return "failed" if len(failed) == len(outcomes) else "finished"


def progress_of(result: IngestResult) -> Progress:
    """Return the progress of a job that has ended so."""
    tally = committed(result.outcomes)
    failed = tuple(o for o in result.outcomes if o.status == "failed")
    return Progress(
        state=state_of(result.outcomes),
        files=len(result.outcomes),
        files_done=len(result.outcomes),
        bytes=sum(o.size for o in result.outcomes),
        rows=tally.rows_in,
        rejected=tally.rejected,
        failed=len(failed),
        failures=failed[:FIRST_FAILURES],
        began=began_of(result.attempts),
        ended=ended_of(result.attempts),
    )


def brought_in(result: IngestResult) -> IngestResult:
    """Leave out what a next attempt is to try again."""
    return result.model_copy(update={"outcomes": tuple(o for o in result.outcomes if o.status != "failed")})


def add_progress(before: Progress, now: Progress) -> Progress:
    """Add what an attempt reports to what the earlier ones have done.

    Args:
        before: Of the files that they have brought in, by :func:`progress_of`.
        now: Of the attempt alone.
    """
    return now.model_copy(
        update={
            "files": max(before.files, now.files),
            "files_done": max(before.files_done, now.files_done),
            **{name: getattr(before, name) + getattr(now, name) for name in ("bytes", "rows", "rejected")},
        }
    )


def overall(states: Sequence[Progress]) -> State:
    """Return the state of a run: that of the job which is furthest on, until all have ended."""
    for state in _ORDER:
        if any(p.state == state for p in states):
            return state
    if any(p.state == "cancelled" for p in states):
        return "cancelled"
    return "failed" if all(p.state == "failed" for p in states) else "finished"


def share_of(p: Progress) -> float:
    """Estimate how much of a job is done, 0 to 1."""
    if p.state == "fetching":
        return 0.3 * p.share
    if p.state == "processing":
        return 0.3 + 0.65 * p.partitions_done / max(1, p.partitions)
    return 1.0 if p.state in OVER else 0.95 if p.state == "committing" else 0.0


def sum_progress(jobs: Sequence[Progress], files: int) -> Progress:
    """Return where a run is, all of its jobs together.

    Args:
        jobs: Where each of them is.
        files: That were submitted. There are more where archives are among them.
    """
    names = ("files", "files_done", "bytes", "partitions", "partitions_done", "rows", "rejected", "failed")
    counts = {name: sum(getattr(p, name) for p in jobs) for name in names}
    counts["files"] = max(counts["files"], files)
    return Progress(
        **counts,
        state=(state := overall(jobs)),
        note=next((p.note for p in jobs if p.note), ""),
        share=sum(share_of(p) * p.files for p in jobs) / max(1, sum(p.files for p in jobs)),
        failures=tuple(islice((o for p in jobs for o in p.failures), FIRST_FAILURES)),
        began=min((p.began for p in jobs if p.began), default=0.0),
        ended=max((p.ended for p in jobs), default=0.0) if state in OVER else 0.0,
    )


def total(counts: Iterable[Mapping[str, N]]) -> dict[str, N]:
    """Add up numbers by name."""
    totals: dict[str, N] = {}
    for some in counts:
        for name, number in some.items():
            totals[name] = totals[name] + number if name in totals else number
    return totals


def began_of(attempts: Iterable[Attempt]) -> float:
    """Return when the first attempt began, in seconds since the epoch."""
    return min((attempt.began for attempt in attempts), default=0.0)


def ended_of(attempts: Iterable[Attempt]) -> float:
    """Return when the last attempt ended, or began, in seconds since 1970."""
    return max((attempt.ended or attempt.began for attempt in attempts), default=0.0)


def committed(outcomes: Iterable[Outcome]) -> Tally:
    """Count the rows of the sources that a run itself has committed."""
    return sum((outcome.tally for outcome in outcomes if outcome.status == "committed"), Tally())


def _batches(result: IngestResult) -> dict[str, Published]:
    """Return what each commit has published. Versions before 0.2 tell only of all together."""
    if result.batches or not (result.rules or result.parquet_bytes):
        return result.batches
    return {"": Published(rules=result.rules, parquet_bytes=result.parquet_bytes)}


def _outcomes(before: Sequence[Outcome], after: Sequence[Outcome]) -> tuple[Outcome, ...]:
    ends = {outcome.uri: outcome for outcome in before}
    for outcome in after:
        ends[outcome.uri] = _better(ends.get(outcome.uri), outcome)
    for archive in _opened(after) | (_opened(before) - {container(o.uri) for o in after if container(o.uri) != o.uri}):
        if archive in ends and ends[archive].status == "failed":
            del ends[archive]
    return tuple(ends.values())


def _opened(outcomes: Sequence[Outcome]) -> set[str]:
    """Find the archives of which the members alone tell."""
    uris = {outcome.uri for outcome in outcomes}
    return {container(uri) for uri in uris} - uris


def _better(old: Outcome | None, new: Outcome) -> Outcome:
    """Choose between what two attempts say of a source."""
    if old is None or old.status == "failed":
        return new
    return old if new.status == "failed" or (old.status in _OWN and new.status == "unchanged") else new
