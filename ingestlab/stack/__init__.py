"""The embedded stack: real servers from PyPI packages, on loopback, under one home folder."""

from ingestlab.stack.control import scale, start, stop
from ingestlab.stack.state import StackState, running

__all__ = ["StackState", "running", "scale", "start", "stop"]
