"""The embedded stack: real servers from PyPI packages, on loopback, under one home folder.

The names below load on first use: the stack's own processes, which live in this package too, do without them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ingestlab.core.lazy import lazy

if TYPE_CHECKING:
    from ingestlab.stack.control import scale, start, stop
    from ingestlab.stack.state import StackState, running

__all__ = ["StackState", "running", "scale", "start", "stop"]

_HOMES = {
    "StackState": "ingestlab.stack.state",
    "running": "ingestlab.stack.state",
    "scale": "ingestlab.stack.control",
    "start": "ingestlab.stack.control",
    "stop": "ingestlab.stack.control",
}


if not TYPE_CHECKING:  # else type checkers would take any name for a public one
    __getattr__ = lazy(__name__, _HOMES)
