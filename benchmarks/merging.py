"""What it costs to merge changed rows into a large table by key, beside deltalake, DuckDB and pandas.

Each file of changes is one commit: half of its keys are the table's, spread over all of it or next to each other; and
half are new. Every contender has the same files, and ends with the same rows.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from asking import asked
from measures import Measure, check
from rivals import PEERS, PYTHON, Rival
from stack import PATIENCE, stack

from ingestlab import submit
from ingestlab.analytics.lake import Lake

OURS, TENANT, TABLE = "ingestlab", "default", "merged"
RIVALS = (
    Rival("DuckDB", ("merging.py", "DuckDB"), ("duckdb",)),
    Rival("DuckDB-Parquet", ("merging.py", "DuckDB-Parquet"), ("duckdb", "pyarrow")),
    Rival("deltalake", ("merging.py", "deltalake"), ("deltalake", "pyarrow")),
    Rival("pandas", ("merging.py", "pandas"), ("pandas", "pyarrow"), slow=True),
)
PIPELINE = """
from ingestlab import Parquet, Pipeline

PIPELINE = Pipeline(table="merged", reader=Parquet(), write_disposition="merge", key=["id"], latest_by="stamp")
"""
NARROW, SLOW = 10, 10  # of so many commits, one is made narrow; one of so many by who is slow


@dataclass(frozen=True)
class Story:
    """A table, and the changes that are merged into it.

    Attributes:
        name: What kind of changes.
        base: The file that makes the table.
        changes: The files of the commits.
    """

    name: str
    base: Path
    changes: tuple[Path, ...]

    def totals(self, commits: int) -> list[int]:
        """Rows, sum of n and sum of stamp, after some commits."""
        rows = pq.read_table(self.base, columns=["id", "stamp", "n"])
        for path in self.changes[:commits]:
            new = pq.read_table(path, columns=["id", "stamp", "n"])
            rows = pa.concat_tables([rows.filter(pc.invert(pc.is_in(rows["id"], new["id"]))), new])
        return [rows.num_rows, pc.sum(rows["n"]).as_py(), pc.sum(rows["stamp"]).as_py()]


def measure(options: argparse.Namespace, home: Path) -> Iterator[Measure]:
    """Both kinds of changes, by all contenders."""
    few = max(1, options.merges // NARROW)
    for name, commits, changed in (("spread", options.merges, options.changed), ("narrow", few, options.changed // 10)):
        yield from _contest(_story(home / name, name, options.merged, commits, changed), options, home / name)


def _contest(story: Story, options: argparse.Namespace, home: Path) -> Iterator[Measure]:
    """Seconds a commit of each contender; then ours against the fastest one."""
    medians: dict[str, float] = {}
    for rival in RIVALS:
        if options.peers and rival.name not in options.peers:
            continue
        if absent := rival.absent():
            yield Measure(
                f"merge {story.name}, {rival.name}", None, "s", details={"absent": f"not installed: {absent}"}
            )
            continue
        commits = max(1, len(story.changes) // (SLOW if rival.slow else 1))
        seconds = _by_rival(rival, story, commits, home / rival.name)
        medians[rival.name] = statistics.median(seconds)
        yield _measured(story, rival.name, seconds)
    seconds = _by_us(story, home / OURS)
    yield _measured(story, OURS, seconds)
    ours = statistics.median(seconds)
    for name in dict.fromkeys([*sorted(medians, key=lambda name: medians[name])[:1], *medians]):
        target = 1.0 if name == min(medians, key=lambda other: medians[other]) else None
        yield Measure(f"merge {story.name}, as fast as {name}", round(medians[name] / ours, 2), "times", target)


def _measured(story: Story, who: str, seconds: list[float]) -> Measure:
    details = {"who": who, "commits": len(seconds), "total_s": round(sum(seconds), 2), "rounds": seconds[:10]}
    return Measure(f"merge {story.name}, {who}, a commit", round(statistics.median(seconds), 3), "s", details=details)


def _by_rival(rival: Rival, story: Story, commits: int, home: Path) -> list[float]:
    home.mkdir(parents=True)
    command = [PYTHON, str(PEERS / rival.script[0]), *rival.script[1:]]
    with asked(rival.name, command, home / "log") as program:
        program.ask({"do": "load", "path": str(story.base), "out": str(home)})
        wanted = [{"do": "merge", "path": str(path)} for path in story.changes[:commits]]
        seconds = [program.ask(one)["seconds"] for one in wanted]
        check((rival.name, program.ask({"do": "totals"})["totals"]), (rival.name, story.totals(commits)))
    shutil.rmtree(home)
    return seconds


def _by_us(story: Story, home: Path) -> list[float]:
    """Seconds of each commit, from the call to the result. Replaced files go at once, as they do elsewhere."""
    pipelines = home / "pipelines"
    pipelines.mkdir(parents=True)
    (pipelines / "merged.py").write_text(PIPELINE)
    own = {"pipelines": (str(pipelines),), "history_days": 0}
    with stack(home / "stack", [TENANT], workers=1, dask_workers=2, **own) as running:
        seconds = []
        for path in (story.base, *story.changes):
            began = time.perf_counter()
            result = submit([path.as_uri()], pipeline="merged", settings=running.settings).wait(PATIENCE)
            seconds.append(time.perf_counter() - began)
            check([outcome.status for outcome in result.outcomes], ["committed"])
        rows = Lake(running.settings).table(TABLE).arrow(columns=["n", "stamp"])
        totals = [rows.num_rows, pc.sum(rows["n"]).as_py(), pc.sum(rows["stamp"]).as_py()]
        check((OURS, totals), (OURS, story.totals(len(story.changes))))
    return seconds[1:]


def _story(folder: Path, name: str, size: int, commits: int, changed: int) -> Story:
    """Files of a story, the same in every run."""
    folder.mkdir(parents=True)
    random, half = np.random.default_rng(7), changed // 2
    base = _file(folder / "base.parquet", random.permutation(size) if name == "spread" else np.arange(size), 0, random)
    changes = []
    for commit in range(1, commits + 1):
        first = random.integers(0, size - half)
        known = random.choice(size, half, replace=False) if name == "spread" else np.arange(first, first + half)
        new = np.arange(size + (commit - 1) * half, size + commit * half)
        changes.append(_file(folder / f"c{commit}.parquet", np.concatenate([known, new]), commit, random))
    return Story(name, base, tuple(changes))


def _file(path: Path, ids: np.ndarray, at: int, random: np.random.Generator) -> Path:
    columns = {
        "id": pa.array(ids, pa.int64()),
        "stamp": pa.repeat(pa.scalar(at, pa.int64()), len(ids)),
        "n": pa.array(random.integers(0, 1 << 30, len(ids))),
        "name": pc.binary_join_element_wise("customer", pa.array(ids % 5000).cast(pa.string()), "-"),
        "price": pa.array(random.random(len(ids)) * 100),
    }
    pq.write_table(pa.table(columns), path)
    return path
