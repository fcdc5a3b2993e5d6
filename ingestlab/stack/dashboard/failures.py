"""Failures of the jobs that have ended, with their reasons, and rejected rows by rule."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ingestlab.core.access import shown
from ingestlab.core.errors import IngestError, TerminalError
from ingestlab.core.jobs import Job
from ingestlab.core.models import OVER
from ingestlab.queue.rates import SPAN

KEPT = 2000  # jobs
OF_ONE = 5  # failures of one job that are listed
SHOWN = 20
_SILENT = TerminalError("Job failed", got="its worker left no message", fix="See the worker's log.", code="unforeseen")


@dataclass(frozen=True)
class Failure:
    """Files of one job that failed with one code."""

    at: float
    run: str
    queue: str
    tenant: str
    what: str  # a file, or the job's description
    more: int  # other files with the same code
    code: str  # a key of errors.CODES
    reason: str
    fix: str


@dataclass(frozen=True)
class Assumption:
    """What was taken for granted when a file was read."""

    at: float
    run: str
    what: str
    text: str


@dataclass(frozen=True)
class Ended:
    """A job in which something went wrong. `explained` once it is known what."""

    job: Job
    at: float
    files: int  # that failed
    failures: tuple[Failure, ...] = ()
    rules: Mapping[str, int] | None = None
    explained: bool = False


class Endings:
    """The last jobs that ended with failures or rejects. Of a job that ends again, only the last end counts."""

    def __init__(self) -> None:
        self._jobs: OrderedDict[str, Ended] = OrderedDict()
        self._assumed: OrderedDict[str, tuple[Assumption, ...]] = OrderedDict()  # by job

    def note(self, job: Job) -> None:
        """Take note of a job that has ended. Being told the same twice changes nothing."""
        known, at = self._jobs.get(job.id), _moment(job)
        if job.ended is None or (known and known.at == at):
            return
        self._jobs.pop(job.id, None)
        self._assume(job)
        if job.status == "finished" and not (job.number("rejected") or job.number("failed")):
            return
        counted = job.status == "finished" or job.progress.get("state") in OVER  # else it had no chance to count
        self._jobs[job.id] = Ended(job, at, job.number("failed") if counted else job.files)
        result, error = job.notes.get("result"), job.notes.get("error")
        if job.status != "finished" and isinstance(result, dict):
            self.explain(job.id, result, _SILENT.to_dict())
        elif job.status != "finished" and isinstance(error, dict):
            failures = (_failure(job, job.description, 0, error),)
            self._jobs[job.id] = replace(self._jobs[job.id], failures=failures, explained=True)
        while len(self._jobs) > KEPT:
            self._jobs.popitem(last=False)

    def unexplained(self) -> list[str]:
        """List jobs with results yet to be read, newest first."""
        return sorted((n for n, e in self._jobs.items() if not e.explained), key=lambda n: -self._jobs[n].at)

    def explain(self, job: str, result: Mapping[str, Any], error: Mapping[str, Any]) -> None:
        """Add a job's result, or the error that it has left."""
        ended = self._jobs[job]
        failures = tuple(_of_files(ended.job, result.get("outcomes", ())))
        if not failures and ended.job.status != "finished":
            failures = (_failure(ended.job, ended.job.description, 0, error),)
        self._jobs[job] = replace(ended, failures=failures, rules=result.get("rules") or {}, explained=True)

    def failures(self) -> tuple[Failure, ...]:
        """List failures, the newest first."""
        newest = sorted(self._jobs.values(), key=lambda ended: -ended.at)
        return tuple(failure for ended in newest for failure in ended.failures)[:SHOWN]

    def assumptions(self) -> tuple[Assumption, ...]:
        """List assumptions, the newest first."""
        newest = sorted(self._assumed.values(), key=lambda assumptions: -assumptions[0].at)
        return tuple(assumption for assumptions in newest for assumption in assumptions)[:SHOWN]

    def _assume(self, job: Job) -> None:
        """Take note of what a job's meta says of assumptions."""
        noted, run = job.notes.get("assumed"), str(job.notes.get("run", ""))
        pairs = [pair for pair in noted if isinstance(pair, list) and len(pair) == 2] if isinstance(noted, list) else []
        if pairs:
            assumptions = (Assumption(_moment(job), run, shown(str(what)), str(text)) for what, text in pairs)
            self._assumed[job.id] = tuple(assumptions)[:OF_ONE]
            while len(self._assumed) > SHOWN:
                self._assumed.popitem(last=False)

    def failed(self, now: float) -> int:
        """Count the files that failed in the last :data:`SPAN` seconds."""
        return sum(ended.files for ended in self._jobs.values() if ended.at > now - SPAN)

    def codes(self, now: float) -> dict[str, int]:
        """Count those files by the error's code, the commonest first."""
        total: Counter[str] = Counter()
        for ended in self._jobs.values():
            if ended.at > now - SPAN:
                total.update({failure.code: failure.more + 1 for failure in ended.failures})
        return dict(total.most_common())

    def rules(self, now: float) -> dict[str, int]:
        """Count rejected rows by rule over the last :data:`SPAN` seconds. The commonest first."""
        total: Counter[str] = Counter()
        for ended in self._jobs.values():
            if ended.rules and ended.at > now - SPAN:
                total.update(ended.rules)
        return dict(total.most_common())


def _moment(job: Job) -> float:
    return job.ended.timestamp() if job.ended else 0.0


def _of_files(job: Job, outcomes: Iterable[Mapping[str, Any]]) -> list[Failure]:
    """Group the failed files of a job by their errors' codes."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for outcome in outcomes:
        if error := outcome.get("error"):
            known = IngestError.from_dict(error)
            groups.setdefault(str(known) if known.code == "unknown" else known.code, []).append(outcome)
    listed = list(groups.values())[:OF_ONE]
    return [_failure(job, shown(str(g[0]["uri"])), len(g) - 1, g[0]["error"]) for g in listed]


def _failure(job: Job, what: str, more: int, error: Mapping[str, Any]) -> Failure:
    known = IngestError.from_dict(error)
    return Failure(
        at=_moment(job),
        run=str(job.notes.get("run", "")),
        queue=job.queue,
        tenant=str(job.notes.get("tenant", "")),
        what=what,
        more=more,
        code=known.code,
        reason=known.reason,
        fix=known.fix,
    )
