"""How a worker tells of a job while it is at it: by what it writes into the job's meta."""

from __future__ import annotations

import time

from rq.job import Job

from ingestlab.core.errors import IngestError
from ingestlab.core.models import IngestResult, Progress
from ingestlab.queue.rq.queueing import asked_to_stop

REPORT_EVERY = 0.2  # seconds between two reports within one state


class Reporter:
    """Writes a job's progress into its meta, at every change of state and a few times a second."""

    def __init__(self, job: Job) -> None:
        self._job, self._last = job, 0.0
        self._progress = Progress()

    def __call__(self, progress: Progress) -> None:
        """Takes note of where the job is."""
        now = time.monotonic()
        due = progress.state != self._progress.state or now - self._last >= REPORT_EVERY
        self._progress = progress
        if due:
            self._last = now
            self._save()

    def keep(self, result: IngestResult) -> None:
        """Takes note of how some files have ended, which stays true however the job does."""
        self._job.meta["kept"] = result.to_dict()
        self._job.save_meta()

    @property
    def committing(self) -> bool:
        """Whether the job is at its commit."""
        return self._progress.state == "committing"

    def stopped(self) -> bool:
        """Whether somebody has asked for the job to be stopped."""
        return asked_to_stop(self._job)

    def state(self, state: str, note: str = "") -> None:
        """Changes the state alone."""
        self._progress = self._progress.model_copy(update={"state": state, "note": note})
        self._save()

    def retrying(self, error: IngestError) -> None:
        """Says why the job will be tried again."""
        self._job.meta["error"] = error.to_dict()
        self.state("retrying", str(error))

    def failed(self, error: IngestError) -> None:
        """Says why the job has failed."""
        self._job.meta["error"] = error.to_dict()
        self.state("failed", str(error))

    def _save(self) -> None:
        self._job.meta["progress"] = self._progress.to_dict()
        self._job.save_meta()
