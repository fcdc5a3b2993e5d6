"""The yardstick: the queue-based ingestion tutorial's worker, as stock RQ runs it.

One job a file. Each job downloads its file with the standard library into a temporary file, reads it with
pandas, computes one aggregate with Dask, and forgets the rows: nothing is cleaned, checked or stored.

To be fair to it, its workers are RQ's SimpleWorker, which spares it a fork and the import of pandas for
every file (try ``--worker-class rq.Worker`` for RQ's default), all jobs are queued beforehand, and the clock
runs from the start of the first job that does not pay for imports to the end of the last one.

    python benchmarks/baseline_tutorial.py --redis URL URI...
    python benchmarks/baseline_tutorial.py --redis URL --list FILE    # one URI a line
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import urllib.request
import uuid
from collections.abc import Sequence
from pathlib import Path

import redis
from rq import Queue
from rq.job import Job

KEEP = 3600  # seconds that RQ remembers a job: longer than the benchmark runs


def ingest(uri: str) -> dict[str, float]:
    """The tutorial's job: the mean value of each parameter in one file."""
    import dask  # noqa: PLC0415 - as in the tutorial, where only the worker has them
    import pandas as pd  # noqa: PLC0415

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "data.csv")
        urllib.request.urlretrieve(uri, path)
        frame = dask.delayed(pd.read_csv)(path, on_bad_lines="skip")
        (means,) = dask.compute(dask.delayed(_means)(frame))
    return {str(parameter): float(mean) for parameter, mean in means.items()}


def _means(frame: object) -> object:
    import pandas as pd  # noqa: PLC0415

    assert isinstance(frame, pd.DataFrame)
    return pd.to_numeric(frame["value"], errors="coerce").groupby(frame["parameter_id"]).mean()


def measure(
    uris: Sequence[str], redis_url: str, workers: int = 2, worker_class: str = "rq.SimpleWorker"
) -> dict[str, object]:
    """Ingests the files the tutorial's way.

    Args:
        uris: Files over HTTP.
        redis_url: The server to queue on; the queue has a name of its own and is removed afterwards.
        workers: How many worker processes.
        worker_class: RQ's SimpleWorker or, with a fork for each job, its Worker.

    Returns:
        Files, failed files, seconds and files per second.
    """
    with redis.Redis.from_url(redis_url) as connection:
        queue = Queue(f"baseline-{uuid.uuid4().hex[:8]}", connection=connection)
        jobs = [Queue.prepare_data("baseline_tutorial.ingest", (uri,), result_ttl=KEEP) for uri in uris]
        ids = [job.id for job in queue.enqueue_many(jobs)]
        try:
            _work(queue.name, redis_url, workers, worker_class)
            done = [job for job in Job.fetch_many(ids, connection) if job]
            return _figures(done, workers, worker_class)
        finally:
            for job in Job.fetch_many(ids, connection):
                if job:
                    job.delete()
            queue.delete()


def _work(queue: str, redis_url: str, workers: int, worker_class: str) -> None:
    """Runs stock workers until the queue is empty."""
    here = str(Path(__file__).parent)
    command = [sys.executable, "-m", "rq.cli", "worker", "--burst", "--quiet", "-P", here, "-w", worker_class, queue]
    environment = {**os.environ, "RQ_REDIS_URL": redis_url}  # not an argument: it holds the password
    crew = [subprocess.Popen(command, env=environment) for _ in range(workers)]
    codes = [worker.wait() for worker in crew]
    if any(codes):
        raise SystemExit("a worker of the baseline failed: see above")


def _figures(jobs: Sequence[Job], workers: int, worker_class: str) -> dict[str, object]:
    ended = sorted(job.ended_at for job in jobs if job.ended_at)
    begun = sorted(job.started_at for job in jobs if job.started_at)
    warm = begun[min(workers, len(begun) - 1)]  # each worker's first job pays for its imports
    counted = sum(job.started_at is not None and job.started_at >= warm for job in jobs)
    seconds = (ended[-1] - warm).total_seconds()
    return {
        "files": len(jobs),
        "failed": sum(job.is_failed for job in jobs),
        "workers": workers,
        "worker_class": worker_class,
        "seconds": round(seconds, 3),
        "files_per_second": round(counted / seconds, 1),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the figures as JSON."""
    parser = argparse.ArgumentParser(description="Measure the tutorial's worker: files per second.")
    parser.add_argument("uris", nargs="*", metavar="URI")
    parser.add_argument("--list", type=Path, help="file with one URI a line")
    parser.add_argument("--redis", default=os.environ.get("REDIS_URL"), help="Redis URL; default: REDIS_URL")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--worker-class", default="rq.SimpleWorker")
    arguments = parser.parse_args(argv)
    uris = [*arguments.uris, *(arguments.list.read_text().split() if arguments.list else ())]
    if not uris or not arguments.redis:
        parser.error("URIs and a Redis URL are needed")
    print(json.dumps(measure(uris, arguments.redis, arguments.workers, arguments.worker_class), indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
