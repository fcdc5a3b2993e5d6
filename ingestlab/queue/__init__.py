"""Producers: announce files on a queue, and follow what becomes of them.

The names below load on first use: whoever only asks who listens does without RQ.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ingestlab.queue.rq.producer import submit
    from ingestlab.queue.rq.run import Run, find_run, recent_runs

__all__ = ["Run", "find_run", "recent_runs", "submit"]


if not TYPE_CHECKING:  # else type checkers would take any name for a public one

    def __getattr__(name: str) -> Any:
        if name not in __all__:
            raise AttributeError(f"module 'ingestlab.queue' has no attribute {name!r}")
        return getattr(import_module(f"ingestlab.queue.rq.{'producer' if name == 'submit' else 'run'}"), name)
