"""The peers: which there are, whether they are installed, and their processes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import measures
import psutil
import pyarrow.parquet as pq
from flightfiles import Flights, groups_of, rules_of
from measures import check

PEERS = Path(__file__).parent / "peers"
OWN = PEERS.parents[1] / ".venv-bench" / "bin" / "python"  # where PySpark is, pandera loads half of it: not in ours
PYTHON = str(OWN) if OWN.exists() else sys.executable
LACKS = "import sys, importlib.util as u; print(*(n for n in sys.argv[1:] if u.find_spec(n) is None))"


@dataclass(frozen=True, slots=True)
class Rival:
    """One peer.

    Attributes:
        name: As people know it.
        script: Its file in ``peers/``.
        needs: The packages that it imports.
        slow: Whether one round must do.
        programs: What else it needs on the path.
        does: What it does less than all of the work.
    """

    name: str
    script: str
    needs: tuple[str, ...]
    slow: bool = False
    programs: tuple[str, ...] = ()
    does: str = ""

    def absent(self) -> str:
        """What is not installed, or nothing."""
        packages = subprocess.run([PYTHON, "-c", LACKS, *self.needs], capture_output=True, text=True, check=True)
        programs = [name for name in self.programs if shutil.which(name) is None]
        return ", ".join([*packages.stdout.split(), *programs])


LIMIT = Rival("limit", "limit.py", ("pyarrow",), does="parse and write alone")
RIVALS = (
    Rival("DuckDB", "duckdb_sql.py", ("duckdb",)),
    Rival("Polars", "polars_streaming.py", ("polars",)),
    Rival("pandas", "pandas_pyarrow.py", ("pandas", "pyarrow"), slow=True),
    Rival("dask.dataframe", "dask_dataframe.py", ("dask", "distributed"), slow=True),
    Rival("PySpark", "pyspark_local.py", ("pyspark",), slow=True, programs=("java",)),
    Rival("dlt", "dlt_load.py", ("dlt",), slow=True, does="load alone"),
)


@dataclass(frozen=True, slots=True)
class Lap:
    """One timed round: seconds by the clock, and seconds of processor time in all processes of the contender."""

    seconds: float
    cpu: float


class Process:
    """A rival's warm process."""

    def __init__(self, rival: Rival, popen: subprocess.Popen[str], scratch: Path) -> None:
        self._rival, self._popen, self._scratch, self._rounds = rival, popen, scratch, 0

    def run(self, flights: Flights) -> Lap:
        """Does the work on a file once, and checks what came out."""
        self._rounds += 1
        out = self._scratch / f"{self._rival.script[:-3]}-{self._rounds}"
        out.mkdir(parents=True)
        os.sync()
        process = psutil.Process(self._popen.pid)
        before = measures.cpu(process, children=True)
        answer = self._ask({"csv": str(flights.path), "out": str(out)})
        lap = Lap(answer["seconds"], measures.cpu(process, children=True) - before)
        self._check(answer, flights)
        shutil.rmtree(out)
        return lap

    def _ask(self, wanted: dict[str, str]) -> dict[str, Any]:
        assert self._popen.stdin is not None
        assert self._popen.stdout is not None
        self._popen.stdin.write(json.dumps(wanted) + "\n")
        self._popen.stdin.flush()
        line = self._popen.stdout.readline()
        if not line:
            raise SystemExit(f"{self._rival.name} has failed: see {self._scratch / self._rival.script}.log")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _check(self, answer: dict[str, Any], flights: Flights) -> None:
        truth, good, bad = flights.truth, _rows(answer["good"]), answer["bad"]
        if bad is None:  # it only loads
            check((self._rival.name, good), (self._rival.name, truth.rows))
            return
        check((self._rival.name, good, rules_of(bad)), (self._rival.name, truth.rows - truth.bad, dict(truth.rules)))
        check((self._rival.name, groups_of(answer["groups"])), (self._rival.name, dict(truth.groups)))


@contextmanager
def process(rival: Rival, small: Flights, scratch: Path) -> Iterator[Process]:
    """A rival's process, warmed up on a small file, for as long as the block lasts."""
    scratch.mkdir(parents=True, exist_ok=True)
    command = [PYTHON, str(PEERS / rival.script)]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with (scratch / f"{rival.script}.log").open("w") as log, subprocess.Popen(command, stderr=log, **pipes) as popen:
        try:
            warm = Process(rival, popen, scratch)
            warm.run(small)
            yield warm
        finally:
            assert popen.stdin is not None
            popen.stdin.close()  # it ends at the end of its input


def chosen(names: Sequence[str] | None) -> tuple[Rival, ...]:
    """The rivals of these names, or all."""
    if names is None:
        return RIVALS
    unknown = set(names) - {rival.name for rival in RIVALS}
    if unknown:
        raise SystemExit(f"no such peer: {', '.join(sorted(unknown))}; there are {', '.join(r.name for r in RIVALS)}")
    return tuple(rival for rival in RIVALS if rival.name in names)


def _rows(path: str) -> int:
    """Rows of a Parquet file, or of all in a folder; all of them must be of the agreed codec."""
    files = [Path(path)] if Path(path).is_file() else sorted(Path(path).rglob("*.parquet"))
    found = [pq.read_metadata(file) for file in files]
    codecs = {m.row_group(g).column(0).compression for m in found for g in range(m.num_row_groups)}
    check(codecs, {"ZSTD"})
    return sum(m.num_rows for m in found)
