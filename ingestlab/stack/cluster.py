"""The embedded Dask cluster: a scheduler and its worker processes, in a child process of the stack.

Run as ``python -m ingestlab.stack.cluster``; it ends on SIGTERM.
"""

from __future__ import annotations

import argparse
import json
import signal
from pathlib import Path
from queue import Empty, SimpleQueue

import dask
from distributed import LocalCluster

from ingestlab.stack.services import CALM
from ingestlab.stack.state import write_private
from ingestlab.stack.valkey import HOST

LOOK_EVERY = 5.0  # seconds between two looks whether all workers are there


def main(argv: list[str] | None = None) -> None:
    """Run the cluster until a signal. Write its addresses to the ready file."""
    args = _parser().parse_args(argv)
    calls: SimpleQueue[int] = SimpleQueue()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
        signal.signal(number, lambda number, _frame: calls.put(number))
    dask.config.set({"temporary_directory": str(args.temp), **CALM})
    with LocalCluster(
        n_workers=args.workers,
        threads_per_worker=1,  # one partition at a time: memory stays bounded, and pandas holds the GIL anyway
        processes=True,
        host=HOST,
        scheduler_port=args.port,
        dashboard_address=f"{HOST}:{args.dashboard_port}",
        preload=["ingestlab.stack.preload"],
        scheduler_kwargs={"preload": ["ingestlab.stack.dashboard"]},
    ) as cluster:
        addresses = {"scheduler": cluster.scheduler_address, "dashboard": cluster.dashboard_link}
        write_private(args.ready, json.dumps(addresses))
        wanted = args.workers
        while (call := _next(calls)) in (None, signal.SIGUSR1):
            if call is None:
                cluster.scale(wanted)  # a worker whose nanny has ended with it is started again
                continue
            wanted = json.loads(args.scale_file.read_text())["dask_workers"]
            scale(cluster, wanted)
            write_private(args.ready, json.dumps(addresses))


def _next(calls: SimpleQueue[int]) -> int | None:
    """Give the next signal; None where there was none for a while."""
    try:
        return calls.get(timeout=LOOK_EVERY)
    except Empty:
        return None


def scale(cluster: LocalCluster, workers: int) -> None:
    """Scale, and wait for it. What a retired worker held goes to others."""
    cluster.scale(workers)
    cluster.sync(_settle, cluster)


async def _settle(cluster: LocalCluster) -> None:
    await cluster  # until all that are wanted have started, and all that are not are closed


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m ingestlab.stack.cluster")
    parser.add_argument("--workers", type=int, required=True)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--dashboard-port", type=int, default=0)
    parser.add_argument("--temp", type=Path, required=True, help="where workers spill to")
    parser.add_argument("--ready", type=Path, required=True, help="gets the addresses as JSON")
    parser.add_argument("--scale-file", type=Path, help="says, when SIGUSR1 comes, how many workers are wanted")
    return parser


if __name__ == "__main__":
    main()
