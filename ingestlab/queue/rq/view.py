"""Jobs of RQ as values, read from its Redis keys in few and bounded round trips."""

from __future__ import annotations

import json
import zlib
from base64 import b64decode
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import redis

from ingestlab.core.errors import TerminalError, UndecodableJobError
from ingestlab.core.jobs import Job, JobEnding, JobStatus
from ingestlab.queue.job_records import FIELDS, error_in, read_notes
from ingestlab.queue.reading import ask_each
from ingestlab.queue.rq.serializer import REFUSAL, WORKER_CLASS, JobSerializer

_FIELDS = ("status", "meta", "origin", "description", "enqueued_at", "started_at", "ended_at", "worker_name")
_STATUS: dict[str, JobStatus] = {
    "started": "running",
    "scheduled": "retrying",
    "finished": "finished",
    "failed": "failed",
    "stopped": "stopped",
    "canceled": "canceled",
}


def read_jobs(client: redis.Redis, ids: Sequence[str]) -> dict[str, Job]:
    """Read the jobs that Redis still has, by id."""
    answers = ask_each(client, ids, lambda pipe, job: pipe.hmget(f"rq:job:{job}", (*_FIELDS, *FIELDS)))
    return {job: _job(job, values) for job, (values,) in zip(ids, answers, strict=True) if values[0]}


def _job(job: str, values: Sequence[bytes | None]) -> Job:
    status, meta, queue, description, queued, began, ended, worker = values[: len(_FIELDS)]
    return Job(
        id=job,
        queue=text(queue or b""),
        status=_STATUS.get(text(status or b""), "queued"),
        description=text(description or b"") or job,
        notes=read_notes(dict(zip(map(str.encode, FIELDS), values[len(_FIELDS) :], strict=True)), plain(meta)),
        queued=_time(queued),
        began=_time(began),
        ended=_time(ended),
        worker=text(worker or b""),
    )


def read_ending(client: redis.Redis, job: str) -> JobEnding:
    """Read how a job's last try ended; empty where it has not."""
    entries: Any = client.xrevrange(f"rq:results:{job}", count=1)
    fields = dict(entries[0][1]) if entries else {}
    packed = fields.get(b"exc_string", b"")
    traceback = zlib.decompress(b64decode(packed)).decode(errors="replace").strip() if packed else ""
    result = plain(b64decode(fields.get(b"return_value", b"")))
    return JobEnding(result=result, traceback=traceback, error=_error(traceback))


def _error(traceback: str) -> TerminalError:
    if REFUSAL in traceback:
        fix = f"Set RQ_WORKER_CLASS={WORKER_CLASS}; retry the run."
        return TerminalError("A plain RQ worker took the job and refused it unread", fix=fix, code="job_refused")
    return error_in(traceback)


def plain(data: bytes | None) -> dict[str, Any]:
    """Read a dict that our serializer wrote; empty for anything else."""
    try:
        value = JobSerializer.loads(data) if data else {}
    except (UndecodableJobError, UnicodeDecodeError, json.JSONDecodeError):
        return {}
    return value if isinstance(value, dict) else {}


def _time(value: bytes | None) -> datetime | None:
    if not value:
        return None
    moment = datetime.fromisoformat(text(value))
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def text(value: bytes | str) -> str:
    """Decode what Redis gives, whatever others have written there."""
    return value.decode(errors="replace") if isinstance(value, bytes) else value
