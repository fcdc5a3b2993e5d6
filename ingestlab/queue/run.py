"""A submission and what becomes of it: read from Redis while that has it, from the lake's records after."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import redis

from ingestlab.core.errors import TerminalError, TransientError, did_you_mean
from ingestlab.core.jobs import ENDED, Job, JobNotes
from ingestlab.core.messages import decode
from ingestlab.core.models import NAME, OVER, IngestResult, Outcome, Progress
from ingestlab.core.settings import Settings, load_settings
from ingestlab.lake.audit import note, user
from ingestlab.lake.locks import connect
from ingestlab.lake.tenants import is_visible, narrowed, own
from ingestlab.queue.attempts import progress_of, sum_progress
from ingestlab.queue.broker import broker, reaching
from ingestlab.queue.results import (
    JobRef,
    RunRecord,
    RunResult,
    add_up,
    forget_in_lake,
    job_record,
    record_from_lake,
    result_of,
    runs_in_lake,
    unknown_result,
)
from ingestlab.queue.run_log import history_of

KEEP = 30 * 86400  # seconds that Redis remembers a run at most; the lake's records stay
_AT_ONCE = 10  # runs that are looked at when one comes in beyond the number that is kept
_RUNS = "ingestlab:runs"


class Run:
    """A submission: ask for its progress, wait for it, take its result.

    Examples:
        >>> from ingestlab import submit
        >>> run = submit("data/alarm-*.csv")
        >>> result = run.wait()
        >>> result.state, result.count("failed")
        ('finished', 0)
    """

    def __init__(self, record: RunRecord, settings: Settings, client: redis.Redis) -> None:
        self.record, self.settings, self.client = record, settings, client
        self._queue = broker(settings, client)
        self._results: dict[str, tuple[Any, IngestResult]] = {}  # of ended jobs, with when each ended

    @property
    def id(self) -> str:
        """Return the id. It goes with every log line, Dask task, data file, reject and log entry."""
        return self.record.id

    @classmethod
    def load(cls, run: str, settings: Settings, client: redis.Redis) -> Run | None:
        """Read a run by its id; None if nobody knows it.

        Args:
            run: Its id.
            settings: Lead to the lake and the queue.
            client: Of Redis.
        """
        if not re.fullmatch(NAME, run):
            return None
        data = client.get(f"ingestlab:run:{run}")
        record = RunRecord.model_validate_json(data) if data else record_from_lake(run, settings)
        if record is None or not is_visible(record.tenant, settings):
            return None
        return cls(record, narrowed(record.tenant, settings), client)

    def save(self) -> None:
        """Make the run findable by its id."""
        record = self.record.model_copy(update={"at": time.time()})
        with self.client.pipeline() as pipe:
            pipe.set(f"ingestlab:run:{self.id}", record.model_dump_json(), ex=KEEP)
            pipe.zadd(_RUNS, {self.id: record.at})
            pipe.zremrangebyscore(_RUNS, 0, record.at - KEEP)
            pipe.zcard(_RUNS)
            count = pipe.execute()[-1]
        if count > self.settings.keep_jobs:
            self._trim(count - self.settings.keep_jobs)

    def _trim(self, surplus: int) -> None:
        """Drop the oldest runs, a few at a time. Those of which Redis has jobs stay."""
        oldest: Any = self.client.zrange(_RUNS, 0, min(surplus, _AT_ONCE) - 1)
        for run in oldest:
            key = f"ingestlab:run:{run.decode()}"
            data: Any = self.client.get(key)
            if not data or not self._queue.jobs([j.id for j in RunRecord.model_validate_json(data).jobs]):
                self._drop(run.decode())

    def redis_jobs(self) -> list[Job | None]:
        """Return its jobs as Redis has them: None for one that only the lake knows."""
        with reaching(self.settings):
            return [job for _, job in self._jobs()]

    def progress(self) -> Progress:
        """Return where the run is, all of its jobs together."""
        with reaching(self.settings):
            states = [self._job_progress(ref, job) for ref, job in self._jobs()]
        return sum_progress(states, self.record.files)

    def failures(self) -> tuple[Outcome, ...]:
        """Return the sources that have failed so far. Of a job that still runs, these are the first ones."""
        with reaching(self.settings):
            outcomes = [
                self._job_result(ref, job).outcomes
                if job is None or _ended(job) or "result" in job.notes
                else self._job_progress(ref, job).failures
                for ref, job in self._jobs()
            ]
        return tuple(outcome for of_job in outcomes for outcome in of_job if outcome.status == "failed")

    def history(self) -> list[str]:
        """Tell each job's history: when it was queued, begun and done, by which worker, and what failed."""
        with reaching(self.settings):
            jobs = [(job, self._job_result(ref, job) if _ended(job) else None) for ref, job in self._jobs()]
            return [line for job, result in jobs for line in history_of(job, result, self._queue)]

    def wait(self, timeout: float | None = None, watch: Callable[[Progress], None] | None = None) -> RunResult:
        """Wait until all jobs have ended.

        Args:
            timeout: Seconds; None waits for as long as it takes.
            watch: Is shown the progress several times a second.

        Returns:
            How the run ended.

        Raises:
            TransientError: The time is over; the run goes on.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        seen: dict[str, str] = {}
        pending = {ref.id: ref for ref in self.record.jobs}
        look: Iterable[str] = pending
        with reaching(self.settings):
            while pending := self._without_ended(pending, look):
                if watch:
                    watch(self.progress())
                left = 1e9 if deadline is None else deadline - time.monotonic()
                if left <= 0:
                    state = self.progress().state
                    problem = f"Run {self.id} did not end within {timeout} s"
                    raise TransientError(problem, got=state, fix="It goes on.", code="run_not_ended")
                look = self._queue.wait(pending, seen, min(left, 0.2 if watch else 1.0)) or pending
        if watch:
            watch(self.progress())
        return self.result()

    def result(self) -> RunResult:
        """Return how the run ended.

        Raises:
            TransientError: It has not ended yet.
        """
        with reaching(self.settings):
            jobs = list(self._jobs())
            if any(not _ended(job) for _, job in jobs):
                fix = "Wait for it: run.watch() or run.wait()."
                problem = f"Run {self.id} has not ended"
                raise TransientError(problem, got=self.progress().state, fix=fix, code="run_not_ended")
            return add_up(self.id, [self._job_result(ref, job) for ref, job in jobs])

    def cancel(self, reason: str = "", by: str | None = None) -> int:
        """Take waiting jobs from the queue and have running ones stopped.

        A running job ends within seconds; what it has committed by then stays, and a commit that has begun is
        finished first. If its worker does not answer, it ends when that is replaced.

        Args:
            reason: What is shown with the run, beside who cancelled it.
            by: Who; the user of this process if not given.

        Returns:
            The number of jobs.
        """
        why = f"by {by or user()}" + (f": {reason}" if reason else "")
        note("cancel", self.record.tenant, [self.id], self.settings, reason=reason)
        with reaching(self.settings):
            jobs = [job for _, job in self._jobs() if job and job.status not in ENDED]
            return sum(self._queue.cancel(job.id, why) for job in sorted(jobs, key=lambda job: job.status == "running"))

    def retry(self) -> int:
        """Queue the jobs that failed, or left files behind, once more.

        Of a job that Redis has forgotten, the lake knows what it was asked; but not the signatures of URLs.

        Returns:
            The number of jobs.
        """
        with reaching(self.settings):
            ended = [(ref, job) for ref, job in self._jobs() if _ended(job)]
            failed = [(ref, job) for ref, job in ended if any(o.error for o in self._job_result(ref, job).outcomes)]
            if failed:
                note("retry", self.record.tenant, [self.id], self.settings)
            return sum(self._again(ref, job) for ref, job in failed)

    def forget(self) -> None:
        """Take the run off all lists, in Redis and in the lake. What it has published stays.

        Raises:
            TerminalError: It has not ended.
        """
        if (state := self.progress().state) not in OVER:
            fix = f"Wait for it, or cancel it: `ingestlab cancel {self.id}`."
            raise TerminalError(f"Run {self.id} has not ended", got=state, fix=fix, code="argument_invalid")
        note("forget", self.record.tenant, [self.id], self.settings)
        with reaching(self.settings):
            self._drop(self.id)
        forget_in_lake(self.id, self.settings)

    def _drop(self, run: str) -> None:
        with self.client.pipeline() as pipe:
            pipe.delete(f"ingestlab:run:{run}")
            pipe.zrem(_RUNS, run)
            pipe.execute()

    def _again(self, ref: JobRef, job: Job | None) -> bool:
        """Queue a job once more. What it has committed is unchanged by now, so that only the rest is tried."""
        if job is not None and job.status == "failed":
            self._queue.again(job.id)
            return True
        if job is not None:
            request = self._queue.request(job.id)
        elif record := job_record(ref, self.settings):
            request = decode(record["request"])
        else:
            return False
        notes: JobNotes = {"result": self._job_result(ref, job).to_dict()}
        _, new = self._queue.publish(self.record.queue, request, notes)
        self._results.pop(ref.id, None)
        return new

    def _jobs(self, refs: Sequence[JobRef] | None = None) -> Iterator[tuple[JobRef, Job | None]]:
        """Yield the jobs. One that is forgotten, or replaced by a later submission, is None."""
        refs = self.record.jobs if refs is None else refs
        jobs = self._queue.jobs([ref.id for ref in refs])
        for ref in refs:
            job = jobs.get(ref.id)
            yield ref, job if job is not None and job.notes.get("run", ref.run) == ref.run else None

    def _job_progress(self, ref: JobRef, job: Job | None) -> Progress:
        if job is None:
            return progress_of(self._job_result(ref, job))
        known = Progress.from_dict(job.notes.get("progress") or {"files": job.notes.get("files", 0)})
        if job.status in ENDED:  # else its worker had no chance to note the end
            final = known.state in OVER and job.status not in ("canceled", "stopped") and "attempt" not in job.notes
            return known if final else progress_of(self._job_result(ref, job))
        if job.status == "retrying":
            return known.model_copy(update={"state": "retrying"})
        return known if job.status == "running" else known.model_copy(update={"state": "queued"})

    def _job_result(self, ref: JobRef, job: Job | None) -> IngestResult:
        """Return how a job ended. It is read once for each end."""
        ended = (job.status, job.ended) if job is not None else None
        if ref.id in self._results and self._results[ref.id][0] == ended:
            return self._results[ref.id][1]
        if job is not None:
            result = result_of(job, self._queue)
        elif record := job_record(ref, self.settings):
            result = IngestResult.from_dict(record["result"])
        else:
            return unknown_result(ref)
        if job is None or (job.ended and _ended(job)):
            self._results[ref.id] = ended, result
        return result

    def _without_ended(self, pending: dict[str, JobRef], look: Iterable[str]) -> dict[str, JobRef]:
        """Return `pending` without those in `look` that have ended: to read them all each time takes long."""
        ended = {ref.id for ref, job in self._jobs([pending[name] for name in look]) if _ended(job)}
        return {name: ref for name, ref in pending.items() if name not in ended}


class ArchivedRun(Run):
    """A run as the lake's records tell of it. Redis is not asked, so that it can be away."""

    def __init__(self, record: RunRecord, settings: Settings) -> None:
        self.record, self.settings = record, settings
        self._results: dict[str, tuple[Any, IngestResult]] = {}

    def history(self) -> list[str]:
        """Tell how each job ended."""
        return [line for ref in self.record.jobs for line in history_of(None, self._job_result(ref, None), None)]

    def _jobs(self, refs: Sequence[JobRef] | None = None) -> Iterator[tuple[JobRef, Job | None]]:
        return ((ref, None) for ref in (self.record.jobs if refs is None else refs))


def archived_run(run: str, settings: Settings) -> ArchivedRun | None:
    """Read a run from the lake's records; None if unknown.

    Args:
        run: Its id.
        settings: Where the lake is.
    """
    record = record_from_lake(run, settings) if re.fullmatch(NAME, run) else None
    return ArchivedRun(record, settings) if record and is_visible(record.tenant, settings) else None


def archived_runs(settings: Settings, limit: int = 20) -> list[ArchivedRun]:
    """List the latest runs in the lake's records, newest first.

    Args:
        settings: Where the lake is.
        limit: How many at most.
    """
    runs = (run for name in islice(runs_in_lake(settings), limit) if (run := archived_run(name, settings)))
    return sorted(runs, key=lambda run: run.record.at, reverse=True)


def find_run(run: str, settings: Settings | None = None) -> Run:
    """Find a run, started anywhere, by its id.

    Args:
        run: Its id, as ``ingestlab runs`` lists them.
        settings: As found by :func:`ingestlab.load_settings` if not given.

    Raises:
        TerminalError: Neither Redis nor the lake knows it.
    """
    settings = own(settings or load_settings())
    with reaching(settings):
        loaded = Run.load(run, settings, connect(settings.redis))
    if loaded is None:
        latest = [recent.id for recent in recent_runs(settings)]
        fix = did_you_mean(run, latest, "Check the id.")
        problem = f"'{run}' is not the id of a run, as `ingestlab runs` lists them"
        raise TerminalError(problem, fix=fix, code="run_unknown")
    return loaded


def recent_runs(settings: Settings | None = None, limit: int = 20, client: redis.Redis | None = None) -> list[Run]:
    """List the latest runs, newest first. What Redis has forgotten comes from the lake's records.

    Args:
        settings: As found by :func:`ingestlab.load_settings` if not given.
        limit: How many at most.
        client: A connection to Redis, where there is one.
    """
    settings = own(settings or load_settings())
    with reaching(settings):
        client = client or connect(settings.redis)
        last = -1 if settings.tenant_token else limit - 1  # of all tenants' runs, a token's holder sees its own
        ids: Any = _names(client.zrevrange(_RUNS, 0, last))
        if settings.tenant_token:
            ids = list(islice((run for run in ids if Run.load(run, settings, client)), limit))
        if len(ids) < limit:
            known = set(ids)
            ids += islice((run for run in runs_in_lake(settings) if run not in known), limit - len(ids))
        runs = [run for i in ids if (run := Run.load(i, settings, client))]
    return sorted(runs, key=lambda run: run.record.at, reverse=True)  # the ids of one second are in no order


def _names(answer: Any) -> list[str]:
    return [name.decode() for name in answer]


def _ended(job: Job | None) -> bool:
    return job is None or job.status in ENDED
