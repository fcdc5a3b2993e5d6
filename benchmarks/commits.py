"""What a long log costs: the same five things in a table of few commits and in one of many, ours against ours.

Both tables are written by one fast writer, which takes a real commit for its pattern and writes what commits write:
an entry of the log, a data file, a source, a record of the run, and checkpoints. A commit replaces what the one of
`--live` commits before has published, so that both tables have as much that is live; what costs are the commits.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import measures
from measures import Measure
from stack import PATIENCE, Stack, stack

from ingestlab import submit
from ingestlab.analytics.lake import Lake
from ingestlab.core.models import Manifest, digest
from ingestlab.engine.services import Services
from ingestlab.lake import layout
from ingestlab.lake.log import TransactionLog
from ingestlab.maintenance.reconcile import reconcile
from ingestlab.queue import recent_runs

FEW = 20
MOST, MEMORY = 1.5, 1.2  # times what it takes, and what a worker needs, with few commits
TENANT, TABLE = "default", "logged"
CHECKPOINTS = 10  # that are written on the way: each has all that is live
PIPELINE = """
from ingestlab import Csv, Pipeline

PIPELINE = Pipeline(
    table="logged", reader=Csv(columns={{"n": "int64", "word": "string"}}), write_disposition="{disposition}"
)
"""


@dataclass(frozen=True)
class Filled:
    """A stack whose lake has a table with some commits."""

    running: Stack
    sources: Path

    def file(self, name: str, rows: int) -> str:
        """Writes a source."""
        path = self.sources / name
        path.write_text("n,word\n" + "".join(f"{i},w{i}\n" for i in range(rows)))
        return path.as_uri()

    def ingest(self, uri: str, pipeline: str) -> float:
        """Seconds from the call to the result; the counts of it are checked."""
        began = time.perf_counter()
        result = submit([uri], pipeline=pipeline, settings=self.running.settings).wait(PATIENCE)
        seconds = time.perf_counter() - began
        measures.check([o.status for o in result.outcomes], ["committed"])
        return seconds


def measure(options: argparse.Namespace, home: Path) -> Iterator[Measure]:
    """The five operations in both lakes, and the memory of their workers."""
    few = _numbers(home / "few", FEW, options)
    many = _numbers(home / "many", options.commits, options)
    for name in ("open", "submit", "replace", "runs", "reconcile"):
        least, most = few[name], many[name]
        details = {"few_s": least, "many_s": most, "commits": [FEW, options.commits]}
        ratio = statistics.median(most) / statistics.median(least)
        if name == "reconcile":
            details["live_files"] = [few["live"], many["live"]]
            ratio *= few["live"][0] / many["live"][0]
        yield Measure(f"log, {name}", round(ratio, 2), "times", MOST, "most", details)
    ratio = many["memory"][0] / few["memory"][0]
    details = {"few_mb": few["memory"], "many_mb": many["memory"]}
    yield Measure("log, peak memory of a worker", round(ratio, 2), "times", MEMORY, "most", details)


def _numbers(home: Path, commits: int, options: argparse.Namespace) -> dict[str, list[float]]:
    """Seconds of each operation, in each round; MB of the largest worker; and how many files are live."""
    pipelines, sources = home / "pipelines", home / "sources"
    for folder in (pipelines, sources):
        folder.mkdir(parents=True)
    for name, disposition in (("adding", "append"), ("replacing", "replace")):
        (pipelines / f"{name}.py").write_text(PIPELINE.format(disposition=disposition))
    own = {"pipelines": (str(pipelines),)}
    with stack(home / "stack", [TENANT], workers=1, dask_workers=1, **own) as running:
        filled = Filled(running, sources)
        filled.ingest(filled.file("f0.csv", 3), "adding")
        began = time.perf_counter()
        write(filled, commits - 1, options.live)
        print(f"{commits:,} commits written in {time.perf_counter() - began:.0f} s", flush=True)
        return _measured(filled, min(commits, options.live), options.rounds)


def _measured(filled: Filled, files: int, rounds: int) -> dict[str, list[float]]:
    settings = filled.running.settings
    with Services.opened(settings) as context:
        context.lake.index(TENANT, TABLE).forget()
        for name in ("adding", "replacing"):  # builds the index, and warms everything up
            filled.ingest(filled.file("f2.csv", 4 + len(name)), name)
        with filled.running.watched() as peaks:
            figures = {
                "open": [_seconds(lambda: repr(Lake(settings).table(TABLE))) for _ in range(5 * rounds)],
                "submit": [filled.ingest(filled.file(f"new{n}.csv", 3), "adding") for n in range(rounds)],
                "replace": [filled.ingest(filled.file(f"f{n + 3}.csv", 9), "replacing") for n in range(rounds)],
                "runs": [_seconds(lambda: [r.progress() for r in recent_runs(settings)]) for _ in range(rounds)],
            }
        reports = []
        figures["reconcile"] = [_seconds(lambda: reports.append(reconcile(context.lake))) for _ in range(rounds)]
        measures.check([r.clean for r in reports], [True] * rounds)
        live = len(Lake(settings).table(TABLE).parts)
    measures.check(live, files + rounds)
    return {**figures, "live": [live], "memory": [max(n for name, n in peaks.items() if "worker" in name) / 1e6]}


def _seconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def write(filled: Filled, commits: int, live: int) -> None:
    """Commits that differ from the last real one in their names alone, of other files, written without a job."""
    with Services.opened(filled.running.settings) as context:
        log = TransactionLog(context.store, TENANT, TABLE)
        (pattern,) = log.history()
        root = Path(context.store.full(""))
        record = next((root / layout.run_records(pattern.run)).iterdir())
        began = datetime.now(UTC) - timedelta(days=1)
        text, notes = pattern.model_dump_json(), record.read_text()
        written = [[part.target for part in pattern.parts]]
        sample = shutil.copyfile(root / written[0][0], filled.sources / "sample.parquet")
        for n in range(1, commits + 1):
            run, names = _names(pattern, n, filled.sources / f"f{n % live}.csv", began + timedelta(seconds=n))
            targets = [_named(part.target, names) for part in pattern.parts]
            for new in targets:
                shutil.copyfile(sample, root / new)
            written.append(targets)
            gone = written.pop(0) if len(written) > live else []
            for old in gone:
                (root / old).unlink()
            path = root / layout.entry(TENANT, TABLE, n + 1)
            path.parent.mkdir(parents=True, exist_ok=True)
            body = _named(text, names).replace('"sequence":1,', f'"sequence":{n + 1},')
            path.write_text(body.replace('"replaced":[]', f'"replaced":{json.dumps(gone)}'))
            folder = root / layout.run_records(run)
            folder.mkdir(parents=True)
            (folder / record.name).write_text(notes.replace(pattern.run, run))
            if n % max(1, commits // CHECKPOINTS) == 0:
                log.fold()


def _names(pattern: Manifest, n: int, source: Path, at: datetime) -> tuple[str, dict[str, str]]:
    """The run of commit `n`, and what is written in it instead of the pattern's names."""
    run = f"{at:%Y%m%d-%H%M%S}-{n:06x}"
    return run, {
        pattern.batch: digest([pattern.batch, n])[: len(pattern.batch)],
        pattern.run: run,
        pattern.sources[0].uri: source.as_uri(),
        pattern.committed_at: at.isoformat(timespec="milliseconds"),
    }


def _named(text: str, names: dict[str, str]) -> str:
    for old, new in names.items():
        text = text.replace(old, new)
    return text
