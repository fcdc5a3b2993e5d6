"""Producers: announce files on a queue, and follow what becomes of them.

The names below load on first use: whoever only asks who listens does without the lake.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ingestlab.queue.producer import submit
    from ingestlab.queue.run import Run, find_run, recent_runs

__all__ = ["BUILT_IN", "Run", "find_run", "recent_runs", "submit"]

BUILT_IN = {"rq": "ingestlab.queue.rq.broker:RqQueue"}
_HOMES = {"Run": "run", "find_run": "run", "recent_runs": "run", "submit": "producer"}


if not TYPE_CHECKING:  # else type checkers would take any name for a public one

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module 'ingestlab.queue' has no attribute {name!r}")
        return getattr(import_module(f"ingestlab.queue.{_HOMES[name]}"), name)
