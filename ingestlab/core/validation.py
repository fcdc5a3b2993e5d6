"""What pydantic found wrong, for the texts of errors."""

from __future__ import annotations

from typing import Any, NamedTuple

from pydantic import ValidationError


class Fault(NamedTuple):
    """The first field that does not fit."""

    field: str  # with dots between levels; empty for the whole
    value: Any
    problem: str


def first_fault(error: ValidationError) -> Fault:
    """Name the first field that does not fit, its value, and why."""
    first = error.errors()[0]
    return Fault(".".join(map(str, first["loc"])), first["input"], first["msg"])
