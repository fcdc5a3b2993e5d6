"""The record of a job in Redis: what its worker notes while it runs, whatever the broker.

A note is a field of a Redis hash that the broker names, so that notes live as long as the job. Those of RQ jobs that
an older version has run are in the job's meta; what is noted since comes before them.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, cast

import redis

from ingestlab.core.errors import IngestError
from ingestlab.core.jobs import JobNotes
from ingestlab.core.models import IngestResult, Progress
from ingestlab.interfaces import Delivery

NOTES = ("progress", "error", "kept", "result", "assumed", "deaths")  # those of workers
REPORT_EVERY = 0.2  # seconds between two reports within one state
_PREFIX = "ingestlab:"
FIELDS = tuple(_PREFIX + name for name in NOTES)


def write_notes(client: redis.Redis, key: str, notes: JobNotes) -> None:
    """Write notes of a job. Others stay as they are.

    Args:
        client: Of the Redis that has the job.
        key: Of the hash that the broker keeps for it.
        notes: None takes one back, in an older version's place, too.
    """
    client.hset(key, mapping={_PREFIX + name: json.dumps(value) for name, value in notes.items()})


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
    """Note the progress of a try. Each change of state is written, and a few reports a second."""

    def __init__(self, delivery: Delivery) -> None:
        self._delivery, self._last = delivery, 0.0
        self._progress = Progress()

    def __call__(self, progress: Progress) -> None:
        """Take note of where the job is."""
        now = time.monotonic()
        due = progress.state != self._progress.state or now - self._last >= REPORT_EVERY
        self._progress = progress
        if due:
            self._last = now
            self._delivery.note({"progress": progress.to_dict()})

    def keep(self, result: IngestResult) -> None:
        """Note how some files have ended, whatever becomes of the job."""
        self._delivery.note({"kept": result.to_dict()})

    @property
    def committing(self) -> bool:
        """Whether the job is at its commit."""
        return self._progress.state == "committing"

    def stopped(self) -> bool:
        """Whether somebody has asked for the job to be stopped."""
        return self._delivery.stopped()

    def retrying(self, error: IngestError, **notes: Any) -> None:
        """Note why the job will be tried again, with other notes.

        Args:
            error: Why this try has failed.
            **notes: What else to note on the job.
        """
        self._end("retrying", error, notes)

    def failed(self, error: IngestError, **notes: Any) -> None:
        """Note why the job has failed, with other notes.

        Args:
            error: Why the job has failed.
            **notes: What else to note on the job.
        """
        self._end("failed", error, notes)

    def finished(self, **notes: Any) -> None:
        """Note a good end, in place of earlier tries' errors."""
        self._end("finished", None, {"result": None, "kept": None, **notes})

    def _end(self, state: str, error: IngestError | None, notes: Mapping[str, Any]) -> None:
        self._progress = self._progress.model_copy(update={"state": state, "note": str(error or "")})
        written = {**notes, "error": error and error.to_dict(), "progress": self._progress.to_dict()}
        self._delivery.note(cast("JobNotes", written))
