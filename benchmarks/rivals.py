"""The peers: which there are, whether they are installed, and their processes."""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import measures
import psutil
from asking import Asked, asked

PEERS = Path(__file__).parent / "peers"
OWN = PEERS.parents[1] / ".venv-bench" / "bin" / "python"  # where PySpark is, pandera loads half of it: not in ours
PYTHON = str(OWN) if OWN.exists() else sys.executable
LACKS = "import sys, importlib.util as u; print(*(n for n in sys.argv[1:] if u.find_spec(n) is None))"


class Work(Protocol):
    """A file, and what must come of it."""

    @property
    def path(self) -> Path: ...

    def check(self, name: str, answer: Mapping[str, Any]) -> None:
        """Ends the benchmark where a peer's answer, a ``Done`` as plain data, is not what must come out."""


@dataclass(frozen=True, slots=True)
class Rival:
    """One peer.

    Attributes:
        name: As people know it.
        script: Its file in ``peers/``, and what that is called with.
        needs: The packages that it imports.
        slow: Whether one round must do.
        programs: What else it needs on the path.
        does: What it does less than all of the work.
    """

    name: str
    script: tuple[str, ...]
    needs: tuple[str, ...]
    slow: bool = False
    programs: tuple[str, ...] = ()
    does: str = ""

    def absent(self) -> str:
        """What is not installed, or nothing."""
        packages = subprocess.run([PYTHON, "-c", LACKS, *self.needs], capture_output=True, text=True, check=True)
        programs = [name for name in self.programs if shutil.which(name) is None]
        return ", ".join([*packages.stdout.split(), *programs])


LIMIT = Rival("limit", ("limit.py",), ("pyarrow",), does="parse and write alone")
RIVALS = (
    Rival("DuckDB", ("duckdb_sql.py",), ("duckdb",)),
    Rival("Polars", ("polars_streaming.py",), ("polars",)),
    Rival("pandas", ("pandas_pyarrow.py",), ("pandas", "pyarrow"), slow=True),
    Rival("dask.dataframe", ("dask_dataframe.py",), ("dask", "distributed"), slow=True),
    Rival("PySpark", ("pyspark_local.py",), ("pyspark",), slow=True, programs=("java",)),
    Rival("dlt", ("dlt_load.py",), ("dlt",), slow=True, does="load alone"),
)


@dataclass(frozen=True, slots=True)
class Lap:
    """One timed round: seconds by the clock, and seconds of processor time in all processes of the contender."""

    seconds: float
    cpu: float


def told(megabytes: float, laps: Sequence[Lap]) -> dict[str, Any]:
    """What is told of a contender's rounds: seconds of each, processor time, and GB a second that a core gets done."""
    cpu = statistics.median(lap.cpu for lap in laps)
    return {
        "rounds": [round(lap.seconds, 2) for lap in laps],
        "cpu_s": round(cpu, 2),
        "gb_core_s": round(megabytes / 1000 / cpu, 3),
    }


class Process:
    """A rival's warm process."""

    def __init__(self, rival: Rival, program: Asked, scratch: Path) -> None:
        self._rival, self._program, self._scratch, self._rounds = rival, program, scratch, 0

    def run(self, work: Work) -> Lap:
        """Does the work on a file once, and checks what came out."""
        self._rounds += 1
        out = self._scratch / f"{self._rival.name}-{self._rounds}"
        out.mkdir(parents=True)
        os.sync()
        process = psutil.Process(self._program.pid)
        before = measures.cpu(process, children=True)
        answer = self._program.ask({"path": str(work.path), "out": str(out)})
        lap = Lap(answer["seconds"], measures.cpu(process, children=True) - before)
        work.check(self._rival.name, answer)
        shutil.rmtree(out)
        return lap


@contextmanager
def process(rival: Rival, small: Work, scratch: Path) -> Iterator[Process]:
    """A rival's process, warmed up on a small file, for as long as the block lasts."""
    scratch.mkdir(parents=True, exist_ok=True)
    command = [PYTHON, str(PEERS / rival.script[0]), *rival.script[1:]]
    with asked(rival.name, command, scratch / f"{rival.name}.log") as program:
        warm = Process(rival, program, scratch)
        warm.run(small)
        yield warm


def chosen(names: Sequence[str] | None) -> tuple[Rival, ...]:
    """The rivals of these names, or all."""
    if names is None:
        return RIVALS
    unknown = set(names) - {rival.name for rival in RIVALS}
    if unknown:
        raise SystemExit(f"no such peer: {', '.join(sorted(unknown))}; there are {', '.join(r.name for r in RIVALS)}")
    return tuple(rival for rival in RIVALS if rival.name in names)
