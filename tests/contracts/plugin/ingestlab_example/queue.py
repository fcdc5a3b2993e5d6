"""RQ with a list of what was asked: each request that is published is kept in a Redis stream as well."""

from __future__ import annotations

import json

import redis

from ingestlab.core.jobs import JobNotes
from ingestlab.core.messages import Request
from ingestlab.core.settings import Settings
from ingestlab.queue.rq.broker import RqQueue

STREAM = "example:published"


class AuditedQueue(RqQueue):
    """Carry jobs as RQ does, and remember them; chosen by ``INGESTLAB_BROKER=audited``."""

    def __init__(self, settings: Settings, client: redis.Redis) -> None:
        super().__init__(settings, client)
        self._redis = client

    def publish(self, queue: str, request: Request, notes: JobNotes | None = None) -> tuple[str, bool]:
        """Put a request on a queue; a new job is noted once."""
        job, new = super().publish(queue, request, notes)
        if new:
            self._redis.xadd(STREAM, {"queue": queue, "job": job, "request": json.dumps(request.to_dict())})
        return job, new
