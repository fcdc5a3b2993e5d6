"""Today's build beside the one before it got faster: the same work in turns, each in an environment of its own."""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from asking import Asked, asked
from measures import Measure, Unit

COMMIT = "888091a566eaceeaab99d8173146c34c22d8a549"
ROOT = Path(__file__).parents[1]
DRIVER = Path(__file__).with_name("build.py")


@dataclass(frozen=True)
class Number:
    """One number of a group, and how much of it the build before should have taken, at least."""

    name: str
    unit: Unit
    target: float | None = None


GROUPS: Mapping[str, Mapping[str, Number]] = {
    "big": {
        "seconds": Number("big file", "s", 2.0),
        "cpu": Number("big file, processor time", "s"),
        "peak": Number("big file, largest Dask worker", "MB", 1 / 0.8),
    },
    "files": {
        "clean": Number("a new file, processor time", "ms", 1 / 0.65),
        "dirty": Number("a dirty file, processor time", "ms", 1 / 0.65),
        "unchanged": Number("an unchanged file, processor time", "ms", 1 / 0.7),
        "single": Number("one file, idle stack, p50", "ms", 1 / 0.8),
    },
    "tiny": {
        "tiny": Number("a tiny partition", "ms", 2.0),
        "tiny_cpu": Number("a tiny partition, processor time", "ms"),
    },
}


def measure(options: argparse.Namespace, home: Path) -> Iterator[Measure]:
    """All groups, builds in turns, round by round."""
    before = _environment(options.cache / f"before-{COMMIT[:7]}")
    builds = {
        "before": (before / ".venv/bin/python", before / "benchmarks"),
        "now": (Path(sys.executable), ROOT / "benchmarks"),
    }
    for group, numbers in GROUPS.items():
        with ExitStack() as opened:
            asked = {
                name: opened.enter_context(_build(*build, group, home / group / name, options))
                for name, build in builds.items()
            }
            rounds = [{name: build.ask({}) for name, build in asked.items()} for _ in range(options.rounds)]
        for key, number in numbers.items():
            yield from _compared(number, [(pair["before"][key], pair["now"][key]) for pair in rounds])


def _compared(number: Number, pairs: Sequence[tuple[float, float]]) -> Iterator[Measure]:
    for name, values in zip(("before", "now"), zip(*pairs, strict=True), strict=True):
        details = {"rounds": [round(value, 2) for value in values]}
        yield Measure(f"{number.name}, {name}", round(statistics.median(values), 3), number.unit, details=details)
    ratio = statistics.median(before / now for before, now in pairs)
    yield Measure("  before, against now", round(ratio, 2), "times", number.target and round(number.target, 2))


@contextmanager
def _build(python: Path, benchmarks: Path, group: str, home: Path, options: argparse.Namespace) -> Iterator[Asked]:
    """A build that is warm, for as long as the block lasts."""
    home.mkdir(parents=True)
    size = [options.cache, options.copies, options.files]
    command = [str(word) for word in (python, DRIVER, benchmarks, group, home / "stack", *size)]
    with asked(f"the build in {benchmarks.parent}", command, home / "log", benchmarks.parent) as build:
        build.answer()  # it is ready
        yield build


def _environment(folder: Path) -> Path:
    """The build before, checked out and installed; made once and kept."""
    if (folder / ".venv/.installed").exists():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    run = lambda *command: subprocess.run([str(word) for word in command], check=True)  # noqa: E731
    run("git", "clone", "--quiet", "--no-checkout", ROOT, folder)
    run("git", "-C", folder, "checkout", "--quiet", COMMIT)
    run(sys.executable, "-m", "venv", folder / ".venv")
    python = folder / ".venv/bin/python"
    run(
        python,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--constraint",
        folder / "requirements.lock",
        "--editable",
        f"{folder}[all]",
    )
    (folder / ".venv/.installed").touch()
    return folder
