"""How a job is written on the queue: JSON, with a notice in front for workers that expect pickle.

A plain RQ worker unpickles a job before it runs it. The notice is one pickle instruction that names a module
which does not exist, so such a worker fails the job at once with the notice as the error's text, runs
nothing, and the job keeps its retries or waits in the failed registry for `rq requeue`.
"""

from __future__ import annotations

import json
from typing import Any

from ingestlab.core.errors import UndecodableJobError

JOB_FUNCTION = "ingestlab.worker.ingest_job"
NOTEBOOK_FUNCTION = "ingestlab.driver.job.notebook_job"
ALLOWED = frozenset({JOB_FUNCTION, NOTEBOOK_FUNCTION})
WORKER_CLASS = "ingestlab.worker.IngestWorker"
REFUSAL = "This job is JSON for ingestlab, not for a plain RQ worker: set RQ_WORKER_CLASS as `ingestlab doctor` says"
NOTICE = f"c{REFUSAL}\nrefused\n.".encode()


class JobSerializer:
    """RQ's serializer protocol: plain data only, so that writing to Redis is no way to run code here."""

    @staticmethod
    def dumps(data: Any) -> bytes:
        """Write plain data; raises TypeError for anything else."""
        return NOTICE + json.dumps(data, separators=(",", ":")).encode()

    @staticmethod
    def loads(data: bytes) -> Any:
        """Read what `dumps` wrote, or bare JSON from producers in other languages.

        Raises:
            UndecodableJobError: The bytes are no JSON, e.g. a pickle.
        """
        try:
            return json.loads(data.removeprefix(NOTICE))
        except ValueError:
            raise UndecodableJobError(
                "Job is not in JSON",
                got=f"bytes that start with {data[:12]!r}",
                fix="Enqueue with `ingestlab submit`, not pickle.",
            ) from None
