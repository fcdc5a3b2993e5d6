"""The record of a job in Redis: what its worker notes while it runs, whatever the broker.

A note is a field of a Redis hash that the broker names, so that notes live as long as the job. Those of RQ jobs that
an older version has run are in the job's meta; what is noted since comes before them.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any, TypeVar, cast

import redis
from pydantic import ValidationError

from ingestlab.core.access import shown
from ingestlab.core.errors import IngestError, TerminalError, TransientError, in_a_line
from ingestlab.core.jobs import JobNotes
from ingestlab.core.messages import NotebookRequest, Request, cost_of, subjects
from ingestlab.core.models import AttemptState, IngestResult, Progress, Value, to_json
from ingestlab.interfaces import Delivery
from ingestlab.queue.attempts import (
    STOPPED,
    Opened,
    add_progress,
    began_of,
    brought_in,
    close,
    completed,
    progress_of,
)

NOTES = ("progress", "error", "kept", "result", "attempt", "cancelled", "assumed", "deaths")
REPORT_EVERY = 0.2  # seconds between two reports within one state
DIED = TransientError("Worker died at the job", fix="Another worker takes it over.", code="worker_lost")
V = TypeVar("V", bound=Value)
_PREFIX = "ingestlab:"
FIELDS = tuple(_PREFIX + name for name in NOTES)


def write_notes(client: redis.Redis, key: str, notes: JobNotes) -> None:
    """Write notes of a job. Others stay as they are.

    Args:
        client: Of the Redis that has the job.
        key: Of the hash that the broker keeps for it.
        notes: None takes one back, in an older version's place, too.
    """
    client.hset(key, mapping=fields_of(notes))


def fields_of(notes: JobNotes) -> dict[Any, Any]:
    """Return notes as the fields of a job's hash."""
    return {_PREFIX + name: to_json(value) for name, value in notes.items()}


def read_notes(fields: Mapping[bytes, bytes | None], older: Any) -> JobNotes:
    """Read the notes of a job.

    Args:
        fields: Of the hash; others than :data:`FIELDS` are left alone.
        older: What producers and older versions have noted; anything but a mapping is left alone.
    """
    notes = dict(older) if isinstance(older, Mapping) else {}
    for name, field in zip(NOTES, FIELDS, strict=True):
        if (data := fields.get(field.encode())) is not None:
            with suppress(ValueError):  # somebody else's
                notes[name] = json.loads(data)
    return cast("JobNotes", {name: value for name, value in notes.items() if value is not None})


class Reporter:
    """Note an attempt at a job: its progress, and how it ended, added to what earlier attempts have done.

    Each change of state is written, and a few reports a second.

    Args:
        delivery: Of the job.
        worker: As it is named; empty for host and process.
    """

    def __init__(self, delivery: Delivery, worker: str = "") -> None:
        self._delivery, self._last = delivery, 0.0
        before, kept = result_in(delivery.notes, delivery.id), kept_in(delivery.notes, delivery.id)
        opened, empty = opened_in(delivery.notes), _nothing(delivery.notes, delivery.id)
        waited = opened is not None and opened.waits
        began, name = time.time(), worker or f"{socket.gethostname()}-{os.getpid()}"
        self._opened = Opened(began=opened.began if opened and waited else began, worker=name)
        self._before = close(opened, before, kept, "lost", DIED.to_dict()) if opened and not waited else before
        self._kept = kept if waited else empty
        self._brought = progress_of(brought_in(self._before))
        self._progress = Progress()
        notes: JobNotes = {"attempt": self._opened.to_dict()}
        if self._before is not before:
            notes |= {"result": self._before.to_dict(), "kept": None}
        delivery.note(notes)

    def __call__(self, progress: Progress) -> None:
        """Take note of where the attempt is."""
        now = time.monotonic()
        due = progress.state != self._progress.state or now - self._last >= REPORT_EVERY
        self._progress = add_progress(self._brought, progress).model_copy(update={"began": self._began})
        if due:
            self._last = now
            self._delivery.note({"progress": self._progress.to_dict()})

    def keep(self, result: IngestResult) -> None:
        """Note how some files have ended, whatever becomes of the attempt."""
        self._kept = result
        self._delivery.note({"kept": result.to_dict()})

    @property
    def committing(self) -> bool:
        """Whether the job is at its commit."""
        return self._progress.state == "committing"

    def stopped(self) -> str | None:
        """Give who wants the job stopped, and why; None if nobody."""
        return self._delivery.stopped()

    def close(self, result: IngestResult, error: IngestError | None = None) -> IngestResult:
        """Give the result over all attempts, noting nothing.

        Args:
            result: Of this attempt alone.
            error: Why it has failed, if it has.
        """
        state: AttemptState = "finished" if error is None else "cancelled" if error.code == STOPPED else "failed"
        why = None if error is None else error.to_dict()
        return close(self._opened, self._before, result, state, why, time.time())

    def close_failed(self, uris: Iterable[str], error: IngestError) -> IngestResult:
        """Give the result over all attempts, after an error of the job.

        Args:
            uris: What the job is about.
            error: Why this attempt ended for those of which no more was kept.
        """
        return self.close(completed(self._kept, uris, error.to_dict()), error)

    def waits(self, error: IngestError) -> None:
        """Note that the job waits. Its next try goes on with this attempt.

        Args:
            error: Says for which source.
        """
        self._progress = self._progress.model_copy(update={"state": "retrying", "note": str(error)})
        opened = self._opened.model_copy(update={"waits": True})
        notes: JobNotes = {"attempt": opened.to_dict(), "error": error.to_dict(), "progress": self._progress.to_dict()}
        self._delivery.note(notes)

    def retrying(self, error: IngestError, result: IngestResult | None = None) -> None:
        """Note why the job will be tried again.

        Args:
            error: The reason.
            result: Of this attempt; what was kept of it, if there is none.
        """
        whole = close(self._opened, self._before, result or self._kept, "retrying", error.to_dict(), time.time())
        progress = progress_of(whole) if result else self._progress
        self._end(progress.model_copy(update={"state": "retrying", "ended": 0.0}), error, {"result": whole.to_dict()})

    def failed(self, error: IngestError, whole: IngestResult) -> None:
        """Note why the job has failed.

        Args:
            error: The reason.
            whole: The result over all attempts.
        """
        self._end(progress_of(whole), error, {"result": whole.to_dict()})

    def finished(self, whole: IngestResult, **notes: Any) -> None:
        """Note a good end in place of errors. The broker has the result.

        Args:
            whole: The result over all attempts.
            **notes: What else to note on the job.
        """
        self._end(progress_of(whole), None, {"result": None, **notes})

    @property
    def _began(self) -> float:
        return began_of(self._before.attempts) or self._opened.began

    def _end(self, progress: Progress, error: IngestError | None, notes: Mapping[str, Any]) -> None:
        tasks = {name: getattr(self._progress, name) for name in ("partitions", "partitions_done")}
        self._progress = progress.model_copy(update={"began": self._began, "note": str(error or ""), **tasks})
        written = {**notes, "error": error and error.to_dict(), "progress": self._progress.to_dict()}
        self._delivery.note(cast("JobNotes", {"attempt": None, "kept": None, **written}))


def notes_of(request: Request) -> JobNotes:
    """Return what a request tells of its job."""
    return {"run": request.run, "tenant": request.tenant, "files": len(subjects(request)), "cost": cost_of(request)}


def describe(request: Request) -> str:
    """Describe a request in one line for people."""
    if isinstance(request, NotebookRequest):
        return f"notebook {request.notebook}"
    name = f"replay of {request.table}" if request.replay else request.pipeline or "by name"
    more = f" and {len(request.sources) - 1} more" if len(request.sources) > 1 else ""
    return f"{name}: {shown(request.sources[0].uri)}{more}"


def error_in(traceback: str) -> TerminalError:
    """Make the error of a job that has noted none."""
    lines = traceback.splitlines() or ["its worker left no message"]
    name, colon, words = lines[-1].partition(": ")
    got = in_a_line(name, words) if colon else name
    return TerminalError("Job failed", got=got, fix="See the worker's log; retry the run.", code="unforeseen")


def stop_error(why: str | None) -> TerminalError:
    """Return the error of a job that someone asked to stop.

    Args:
        why: Who, and for which reason, as :meth:`ingestlab.queue.run.Run.cancel` writes it.
    """
    problem = " ".join(("Job was cancelled", why or "")).strip()
    return TerminalError(problem, fix="`ingestlab retry` runs it again.", code=STOPPED)


def result_in(notes: JobNotes, job: str) -> IngestResult:
    """Read what the ended attempts have done; empty without any."""
    return _noted(IngestResult, notes.get("result")) or _nothing(notes, job)


def kept_in(notes: JobNotes, job: str) -> IngestResult:
    """Read what the open attempt has brought in so far."""
    return _noted(IngestResult, notes.get("kept")) or _nothing(notes, job)


def opened_in(notes: JobNotes) -> Opened | None:
    """Read the open attempt, if there is one."""
    return _noted(Opened, notes.get("attempt"))


def _noted(kind: type[V], data: Any) -> V | None:
    """Read a value of a worker; None for what others have noted."""
    try:
        return kind.from_dict(data) if data else None
    except ValidationError:
        return None


def _nothing(notes: JobNotes, job: str) -> IngestResult:
    return IngestResult(run=str(notes.get("run") or ""), job=job, outcomes=())
