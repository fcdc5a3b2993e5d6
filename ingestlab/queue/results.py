"""The record of a run, and what its jobs' ends mean."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Any, Literal, get_args

from ingestlab.core.errors import TerminalError, UndecodableJobError
from ingestlab.core.jobs import Job
from ingestlab.core.messages import NotebookRequest, Request, decode, subjects
from ingestlab.core.models import (
    Attempt,
    IngestResult,
    Mood,
    Outcome,
    Status,
    Tally,
    Value,
    by_code,
    mood_of,
    say_state,
)
from ingestlab.core.settings import Settings
from ingestlab.core.templates import render
from ingestlab.interfaces import Queue
from ingestlab.lake.run_records import RunRecords
from ingestlab.lake.storage.store import open_store
from ingestlab.queue.attempts import began_of, close, committed, completed, ended_of, merge, state_of, total
from ingestlab.queue.job_records import kept_in, opened_in, result_in, stop_error

STATUSES: tuple[Status, ...] = get_args(Status)


class JobRef(Value):
    """A job of a run. `run` is the run that enqueued it, another one where this run joined it."""

    id: str
    run: str


Kind = Literal["files", "replay", "notebook"]
Via = Literal["submit", "sync", "listener", "webhook"]


class RunRecord(Value):
    """A submission as Redis remembers it.

    Attributes:
        id: The run's.
        queue: On which its jobs are.
        tenant: Whose tables its rows go to.
        pipeline: As it was named; None if each file's name decides.
        files: How many were submitted.
        jobs: With these.
        at: When, in seconds since the epoch. What only the lake remembers counts from its first attempt.
        kind: What was asked for.
        table: Where files go that no pipeline matches, or the table that is replayed.
        first: The first file, or the notebook, as it is shown.
        by: Who has submitted it, ``ann@lab-7``; empty if nobody knows.
        notes: What whoever submits it should know.
        via: What has submitted it.
    """

    id: str
    queue: str
    tenant: str
    pipeline: str | None
    files: int
    jobs: tuple[JobRef, ...]
    at: float = 0.0
    kind: Kind = "files"
    table: str = ""
    first: str = ""
    by: str = ""
    notes: tuple[str, ...] = ()
    via: Via = "submit"


class RunResult(Value):
    """How a run ended, over all attempts at its jobs."""

    run: str
    state: Literal["finished", "failed", "cancelled"]
    outcomes: tuple[Outcome, ...]
    tally: Tally
    rules: dict[str, int]
    parquet_bytes: int
    tables: tuple[str, ...]
    seconds: dict[str, float]
    attempts: tuple[Attempt, ...] = ()  # of all jobs, oldest first
    began: float = 0.0  # when the first attempt began, in seconds since the epoch; 0 if none has
    ended: float = 0.0  # when the last one ended

    @property
    def said(self) -> str:
        """Return the state in words, ``finished, 1 of 2 failed``."""
        return say_state(self.state, len(self.failed), len(self.outcomes))

    @property
    def mood(self) -> Mood:
        """Return how good the state is."""
        return mood_of(self.state, len(self.failed))

    @property
    def failed(self) -> tuple[Outcome, ...]:
        """Return the sources that failed."""
        return tuple(o for o in self.outcomes if o.status == "failed")

    @property
    def by_code(self) -> dict[str, list[Outcome]]:
        """Group the sources that failed by the error's code, the commonest first."""
        return by_code(self.failed)

    @property
    def kept(self) -> dict[str, str]:
        """Return where a notebook is kept: `notebook` with outputs, its HTML `page`, the `run` it made."""
        facts = self.outcomes[0].facts if self.outcomes else {}
        return {name: facts[name] for name in ("notebook", "page", "run") if name in facts}

    def count(self, status: str) -> int:
        """Count the sources that ended in a status."""
        return sum(o.status == status for o in self.outcomes)

    def _repr_html_(self) -> str:
        t = self.tally
        facts = {
            "run": f"{self.run} ({self.said})",
            "files": ", ".join(f"{n:,} {s}" for s in STATUSES if (n := self.count(s))),
            "rows": f"{t.rows_in:,} in, {t.out:,} published, {t.rejected:,} rejected",
            "failed by": ", ".join(f"{code} {len(outcomes):,}" for code, outcomes in self.by_code.items()),
            "rejected by": ", ".join(f"{rule} {n:,}" for rule, n in self.rules.items()),
            "tables": ", ".join(self.tables),
            **{f"its {name}": where for name, where in self.kept.items()},
        }
        return render("queue/templates/result.html", facts=facts)


def result_of(job: Job, queue: Queue) -> IngestResult:
    """Return how the files of an ended job ended, over all attempts.

    Args:
        job: As its broker has it. Its error is that of files of which no more is known.
        queue: Has the rest of it.
    """
    ending, notes = queue.ending(job.id), job.notes
    if job.status == "finished" and ending.result:
        return IngestResult.from_dict(ending.result)
    stopped = job.status in ("canceled", "stopped")
    error = stop_error(notes.get("cancelled")).to_dict() if stopped else notes.get("error") or ending.error.to_dict()
    before, opened = result_in(notes, job.id), opened_in(notes)
    whole = not (stopped or opened) and len(before.outcomes) >= job.files
    uris = () if whole else subjects_of(lambda: queue.request(job.id))
    if opened:
        return close(opened, before, completed(kept_in(notes, job.id), uris, error), "lost", error)
    if stopped:
        nothing = before.model_copy(update={"outcomes": (), "seconds": {}, "attempts": ()})
        return merge(before, completed(nothing, uris, error))
    return completed(before, uris, error)


def add_up(run: str, jobs: Sequence[IngestResult]) -> RunResult:
    """Add up how the jobs of a run ended."""
    outcomes = tuple(o for r in jobs for o in r.outcomes)
    return RunResult(
        run=run,
        state=state_of(outcomes),
        outcomes=outcomes,
        tally=committed(outcomes),
        rules=total(r.rules for r in jobs),
        parquet_bytes=sum(r.parquet_bytes for r in jobs),
        tables=tuple(sorted({t for r in jobs for t in r.tables})),
        seconds=total(r.seconds for r in jobs),
        attempts=(attempts := tuple(sorted((a for r in jobs for a in r.attempts), key=lambda a: a.began))),
        began=began_of(attempts),
        ended=ended_of(attempts),
    )


def job_record(ref: JobRef, settings: Settings) -> dict[str, Any] | None:
    """Read an ended job's request and result from the lake, or None."""
    return _records(settings).read(ref.run, ref.id)


def unknown_result(ref: JobRef) -> IngestResult:
    """Make the outcome of a job that nobody remembers."""
    error = TerminalError(f"Job {ref.id} has no record left in Redis or the lake", code="run_unknown").to_dict()
    return IngestResult(run=ref.run, job=ref.id, outcomes=(Outcome(uri="?", status="failed", error=error),))


def subjects_of(read: Callable[[], Request]) -> tuple[str, ...]:
    """List what a request is about. A question mark stands for one that cannot be read."""
    try:
        return subjects(read())
    except UndecodableJobError:
        return ("?",)


def record_from_lake(run: str, settings: Settings) -> RunRecord | None:
    """Read a forgotten run from the lake's records, or None."""
    records = _records(settings).read_run(run)
    if not records:
        return None
    requests = [decode(r["request"]) for r in records]
    began = [began_of(IngestResult.from_dict(r["result"]).attempts) for r in records]
    known = RunRecord(
        id=run,
        queue=records[0]["queue"],
        tenant=requests[0].tenant,
        pipeline=None,
        files=sum(len(subjects(r)) for r in requests),
        jobs=tuple(JobRef(id=r["result"]["job"], run=run) for r in records),
        at=min(t or datetime.fromisoformat(r["at"]).timestamp() for t, r in zip(began, records, strict=True)),
    )
    return described(known, requests[0])


def described(record: RunRecord, request: Request) -> RunRecord:
    """Add to a run's record what its first request tells."""
    changes: dict[str, Any] = {"first": next(iter(subjects(request)), "")}
    if isinstance(request, NotebookRequest):
        changes |= {"kind": "notebook"}
    else:
        kind = "replay" if request.replay else "files"
        changes |= {"kind": kind, "table": request.table, "pipeline": request.pipeline}
    return record.model_copy(update=changes)


def runs_in_lake(settings: Settings) -> Iterator[str]:
    """Yield the ids of runs with records in the lake, newest first."""
    return _records(settings).newest()


def forget_in_lake(run: str, settings: Settings) -> None:
    """Remove a run's records from the lake."""
    _records(settings).delete(run)


def _records(settings: Settings) -> RunRecords:
    return RunRecords(open_store(settings.lake_url, settings.storage_options))
