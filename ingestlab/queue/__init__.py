"""Producers: announce files on a queue, and follow what becomes of them."""

from ingestlab.queue.run import Run, find_run, recent_runs
from ingestlab.queue.submit import submit

__all__ = ["BUILT_IN", "Run", "find_run", "recent_runs", "submit"]

BUILT_IN = {"rq": "ingestlab.queue.rq.broker:RqQueue"}
