"""Producers: announce files on a queue, and follow what becomes of them.

The names below load on first use: whoever only asks who listens does without the lake.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ingestlab.core.lazy import lazy

if TYPE_CHECKING:
    from ingestlab.queue.arrival.sync import Synced, sync
    from ingestlab.queue.producer import submit
    from ingestlab.queue.run import Run, find_run, recent_runs

__all__ = ["BUILT_IN", "Run", "Synced", "find_run", "recent_runs", "submit", "sync"]

BUILT_IN = {
    "rq": "ingestlab.queue.rq.broker:RqQueue",
    "celery": "ingestlab.queue.celery.broker:CeleryQueue",
    "sqs": "ingestlab.queue.sqs.broker:SqsQueue",
}
_HOMES = {
    "Run": "ingestlab.queue.run",
    "Synced": "ingestlab.queue.arrival.sync",
    "find_run": "ingestlab.queue.run",
    "recent_runs": "ingestlab.queue.run",
    "submit": "ingestlab.queue.producer",
    "sync": "ingestlab.queue.arrival.sync",
}


if not TYPE_CHECKING:  # else type checkers would take any name for a public one
    __getattr__ = lazy(__name__, _HOMES)
