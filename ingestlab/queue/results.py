"""The record of a run, and what its jobs' ends mean."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import Any, Literal, get_args

from ingestlab.core.archive_uri import container
from ingestlab.core.errors import TerminalError, UndecodableJobError
from ingestlab.core.jobs import Job, JobNotes
from ingestlab.core.messages import NotebookRequest, Request, decode, subjects
from ingestlab.core.models import IngestResult, Outcome, Progress, State, Status, Tally, Value, by_code
from ingestlab.core.settings import Settings
from ingestlab.core.templates import render
from ingestlab.interfaces import Queue
from ingestlab.lake.run_records import RunRecords
from ingestlab.lake.storage.store import open_store

STATUSES: tuple[Status, ...] = get_args(Status)
_ORDER: tuple[State, ...] = ("committing", "processing", "fetching", "retrying", "queued")


class JobRef(Value):
    """A job of a run. `run` is the run that enqueued it, another one where this run joined it."""

    id: str
    run: str


class RunRecord(Value):
    """A submission as Redis remembers it."""

    id: str
    queue: str
    tenant: str
    pipeline: str | None
    files: int
    jobs: tuple[JobRef, ...]
    at: float = 0.0


class RunResult(Value):
    """How a run ended."""

    run: str
    state: Literal["finished", "failed"]
    outcomes: tuple[Outcome, ...]
    tally: Tally
    rules: dict[str, int]
    parquet_bytes: int
    tables: tuple[str, ...]
    seconds: dict[str, float]

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
            "run": f"{self.run} ({self.state})",
            "files": ", ".join(f"{n:,} {s}" for s in STATUSES if (n := self.count(s))),
            "rows": f"{t.rows_in:,} in, {t.out:,} published, {t.rejected:,} rejected",
            "failed by": ", ".join(f"{code} {len(outcomes):,}" for code, outcomes in self.by_code.items()),
            "rejected by": ", ".join(f"{rule} {n:,}" for rule, n in self.rules.items()),
            "tables": ", ".join(self.tables),
            **{f"its {name}": where for name, where in self.kept.items()},
        }
        return render("queue/templates/result.html", facts=facts)


def overall(states: list[Progress]) -> State:
    """Return the state of a run: that of the job which is furthest on, until all have ended."""
    for state in _ORDER:
        if any(p.state == state for p in states):
            return state
    return "failed" if all(p.state == "failed" for p in states) else "finished"


def share_of(p: Progress) -> float:
    """Estimate how much of a job is done, 0 to 1."""
    if p.state == "fetching":
        return 0.3 * p.files_done / max(1, p.files)
    if p.state == "processing":
        return 0.3 + 0.65 * p.partitions_done / max(1, p.partitions)
    return {"committing": 0.95, "finished": 1.0, "failed": 1.0}.get(p.state, 0.0)


def progress_of(result: IngestResult) -> Progress:
    """Return the progress of a job that has ended so."""
    total = sum((o.tally for o in result.outcomes if o.status == "committed"), Tally())
    failed = tuple(o for o in result.outcomes if o.status == "failed")
    return Progress(
        state="failed" if len(failed) == len(result.outcomes) else "finished",
        files=len(result.outcomes),
        files_done=len(result.outcomes),
        bytes=sum(o.size for o in result.outcomes),
        rows=total.rows_in,
        rejected=total.rejected,
        failed=len(failed),
        failures=failed,
    )


def result_of(ref: JobRef, job: Job, queue: Queue) -> IngestResult:
    """Return how the files of an ended job ended: each with the job's error, where nothing else is known."""
    ending = queue.ending(job.id)
    value = ending.result if job.status == "finished" else job.notes.get("result")
    if value:
        return IngestResult.from_dict(value)
    error = job.notes.get("error") or ending.error.to_dict()
    if job.status in ("canceled", "stopped") and not job.notes.get("error"):
        error = TerminalError(f"Job was {job.status}", fix="Submit it again.", code="job_stopped").to_dict()
    known = kept_of(job.notes) or IngestResult(run=ref.run, job=ref.id, outcomes=())
    return completed(known, subjects_of(lambda: queue.request(job.id)), error)


def kept_of(notes: JobNotes) -> IngestResult | None:
    """Return how files ended before their job failed as a whole."""
    kept = notes.get("kept")
    return IngestResult.from_dict(kept) if kept else None


def completed(result: IngestResult, uris: Iterable[str], error: dict[str, str]) -> IngestResult:
    """Complete a result with an outcome for each source: the error, where it has none."""
    done = [outcome for outcome in result.outcomes if outcome.status != "failed"]
    known = {outcome.uri for outcome in done} | {container(outcome.uri) for outcome in done}
    failed = [Outcome(uri=uri, status="failed", error=error) for uri in uris if uri not in known]
    return result.model_copy(update={"outcomes": (*done, *failed)})


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
    first = requests[0]
    return RunRecord(
        id=run,
        queue=records[0]["queue"],
        tenant=first.tenant,
        pipeline=None if isinstance(first, NotebookRequest) else first.pipeline,
        files=sum(len(subjects(r)) for r in requests),
        jobs=tuple(JobRef(id=r["result"]["job"], run=run) for r in records),
        at=min(datetime.fromisoformat(r["at"]).timestamp() for r in records),
    )


def runs_in_lake(settings: Settings) -> Iterator[str]:
    """Yield the ids of runs with records in the lake, newest first."""
    return _records(settings).newest()


def _records(settings: Settings) -> RunRecords:
    return RunRecords(open_store(settings.lake_url, settings.storage_options))
