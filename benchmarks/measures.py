"""What a measured number is, and what happens to a wrong count."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import psutil

Unit = Literal["files/s", "texts/s", "rows/s", "ms", "s", "s/GB", "MB", "B", "times", "share", "%"]
Bound = Literal["least", "most"]


@dataclass(frozen=True, slots=True)
class Measure:
    """One measured number.

    Attributes:
        name: What was measured.
        value: The number; None where it could not be measured, and then `details` has the reason as ``absent``.
        unit: Its unit.
        target: What it is to be.
        bound: Whether the target is the least or the most that it may be.
        details: More numbers, for the report.
    """

    name: str
    value: float | None
    unit: Unit
    target: float | None = None
    bound: Bound = "least"
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def met(self) -> bool | None:
        """Whether the target was met; None where there is none, or nothing was measured."""
        if self.target is None or self.value is None:
            return None
        return self.value >= self.target if self.bound == "least" else self.value <= self.target


def check(got: object, wanted: object) -> None:
    """Ends the benchmark where a count that is known beforehand comes out otherwise: it would measure nothing."""
    if got != wanted:
        raise SystemExit(f"wrong counts: expected {wanted}, got {got}")


def busy() -> float:
    """Seconds that all cores together have not been idle so far."""
    times = psutil.cpu_times()
    return float(sum(times[:8]) - times.idle - getattr(times, "iowait", 0.0))


def cpu(process: psutil.Process, *, children: bool = False) -> float:
    """Seconds of processor time that a process has used so far, and on demand all that it has started."""
    every = [process, *(process.children(recursive=True) if children else ())]
    return sum(sum(one.cpu_times()[:2]) for one in every)
