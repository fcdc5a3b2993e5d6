"""The embedded stack: real servers from PyPI packages, on loopback, under one home folder.

The names below load on first use: the stack's own processes, which live in this package too, do without them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ingestlab.stack.control import scale, start, stop
    from ingestlab.stack.state import StackState, running

__all__ = ["StackState", "running", "scale", "start", "stop"]

_HOMES = {"StackState": "state", "running": "state", "scale": "control", "start": "control", "stop": "control"}


if not TYPE_CHECKING:  # else type checkers would take any name for a public one

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module 'ingestlab.stack' has no attribute {name!r}")
        return getattr(import_module(f"ingestlab.stack.{_HOMES[name]}"), name)
