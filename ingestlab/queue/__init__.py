"""Producers: announce files on a queue, and follow what becomes of them."""

from ingestlab.queue.rq.producer import submit
from ingestlab.queue.rq.run import Run, find_run, recent_runs

__all__ = ["Run", "find_run", "recent_runs", "submit"]
