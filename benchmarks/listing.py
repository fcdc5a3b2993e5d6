"""What `sync` needs in memory for many files: a listing that is made up, against an index of as many real records.

The records are a real commit's with other names, in the Redis server's index; the listing is S3's, without the network.
Of 1,000 files 998 are unchanged, one is new and is submitted, and one has vanished and is kept; in the first sync of a
bucket all are new. Each number of files is synced in a process of its own, after a small sync has loaded everything.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import measures
import redis
from measures import Measure

from ingestlab.core.models import IngestRequest, Source, SourceRecord
from ingestlab.core.settings import Settings
from ingestlab.engine.ingest import ingest
from ingestlab.engine.services import Services
from ingestlab.queue import sync
from ingestlab.sources.registry import source_of
from ingestlab.stack import valkey

FEW = 10_000  # files that all later numbers are compared with
BYTES = 40  # of a file more, at most
MOST = 100.0  # MB of the largest listing, beyond the loaded process
MOST_NEW = 200.0  # likewise where all files are new: 50,000 of them are one run
FOLDER, TENANT, TABLE = "s3://listed/in", "default", "listed"
WARM = 1000
CHUNK = 5000
PIPELINE = """
from ingestlab import Csv, Pipeline

PIPELINE = Pipeline(reader=Csv(columns={"n": "int64"}))
"""


def measure(options: argparse.Namespace, home: Path) -> Iterator[Measure]:
    """The peak of each number of files, and what a file more costs."""
    sizes = [size for size in (FEW, 10 * FEW, 100 * FEW) if size <= options.listed]
    peaks = {size: _measured(size, home / str(size)) for size in sizes}
    for size, peak in peaks.items():
        target = MOST if size == 100 * FEW else None
        yield Measure(f"listing, {size:,} files: peak memory", peak["mb"], "MB", target, "most", peak)
    for size in sizes[1:]:
        more = (peaks[size]["mb"] - peaks[FEW]["mb"]) * 1e6 / (size - FEW)
        yield Measure(f"listing, a file more, {size:,} files", round(more, 1), "B", BYTES, "most")
    new = _measured(sizes[-1] // 10, home / "new", filled=False)
    yield Measure(f"listing, {sizes[-1] // 10:,} new files: peak memory", new["mb"], "MB", MOST_NEW, "most", new)


def _measured(size: int, home: Path, *, filled: bool = True) -> dict[str, float]:
    """Fills an index, and has a process of its own sync against it."""
    (home / "pipelines").mkdir(parents=True)
    (home / f"pipelines/{TABLE}.py").write_text(PIPELINE)
    (home / "redis").mkdir()
    with valkey.serve(home / "redis") as url:
        settings = Settings(_env_file=None, home=home, redis_url=url, pipelines=(str(home / "pipelines"),))
        settings = settings.model_copy(update={"executor": "threads"})
        with Services.opened(settings) as services:
            _fill(services, home / "real.csv", size if filled else 0)
        command = [sys.executable, __file__, str(size), settings.model_dump_json()]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        with redis.Redis.from_url(url) as client:
            held = client.info("memory")["used_memory"]
    found: dict[str, float] = json.loads(done.stdout)
    counts = [size, size // 1000, size // 1000] if filled else [size, size, 0]
    measures.check([found[name] for name in ("listed", "new", "vanished")], counts)
    return {**found, "redis_mb": round(held / 1e6)}


def _fill(services: Services, file: Path, size: int) -> None:
    """Writes records to the index: those of the listing, but for each thousandth, which has another name."""
    file.write_text("n\n1\n")
    request = IngestRequest(run="r1", pipeline=TABLE, sources=(Source(uri=file.as_uri()),))
    result = ingest(request, services, lambda _progress: None)
    measures.check([outcome.status for outcome in result.outcomes], ["committed"])
    index = services.table(TENANT, TABLE).index
    (pattern,) = index.known([file.as_uri()]).values()
    for start in range(0, size, CHUNK):
        index.record(_record(n, pattern) for n in range(start, min(start + CHUNK, size)))


def _record(n: int, pattern: SourceRecord) -> SourceRecord:
    uri = f"{FOLDER}/gone/{n:09}.csv" if n % 1000 == 0 else _uri(n)
    return pattern.model_copy(update={"uri": uri, "version": _version(n)})


def _listed(size: int) -> Callable[[str, Settings], Iterator[Source]]:
    """A walk that is made up."""
    return lambda _folder, _settings: (Source(uri=_uri(n), size=4096, version=_version(n)) for n in range(size))


def _uri(n: int) -> str:
    return f"{FOLDER}/year={2000 + n % 20}/month={n % 12:02}/measurements-{n:09}.csv"


def _version(n: int) -> str:
    return f'"{n:032x}"'


def _sync(size: int, settings: Settings) -> dict[str, float]:
    """Syncs in this process; tells by how much its memory grew at most."""
    source = source_of("s3")
    source.walk = _listed(WARM)
    sync(f"{FOLDER}/warm", pipeline=TABLE, keep_vanished=True, settings=settings)
    source.walk = _listed(size)
    before, began = _reset_peak(), time.perf_counter()
    report = sync(FOLDER, pipeline=TABLE, keep_vanished=True, settings=settings)
    seconds = time.perf_counter() - began
    peak = (_memory("VmHWM") - before) / 1e6
    counts = {"listed": report.listed, "new": report.new, "vanished": len(report.vanished)}
    return {**counts, "mb": round(peak, 1), "seconds": round(seconds, 1), "loaded_mb": round(before / 1e6)}


def _reset_peak() -> int:
    """Forgets the peak so far; gives the resident memory."""
    Path("/proc/self/clear_refs").write_text("5")
    return _memory("VmRSS")


def _memory(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) * 1024


if __name__ == "__main__":
    print(json.dumps(_sync(int(sys.argv[1]), Settings.model_validate_json(sys.argv[2]))))
