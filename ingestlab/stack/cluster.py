"""The embedded Dask cluster: a scheduler and its worker processes, in a child process of the stack.

Run as ``python -m ingestlab.stack.cluster``; it ends on SIGTERM.
"""

from __future__ import annotations

import argparse
import json
import signal
import threading
from pathlib import Path

import dask
from distributed import LocalCluster

from ingestlab.stack.state import write_private
from ingestlab.stack.valkey import HOST

CALM = {  # an idle cluster looks at itself 50 to 100 times a second, which takes a tenth of a core
    "distributed.admin.tick.interval": "200ms",
    "distributed.worker.profile.interval": "100ms",
}


def main(argv: list[str] | None = None) -> None:
    """Starts the cluster, writes its addresses to the ready file, and waits for the end."""
    args = _parser().parse_args(argv)
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    dask.config.set({"temporary_directory": str(args.temp), **CALM})
    with LocalCluster(
        n_workers=args.workers,
        threads_per_worker=1,  # one partition at a time: memory stays bounded, and pandas holds the GIL anyway
        processes=True,
        host=HOST,
        scheduler_port=args.port,
        dashboard_address=f"{HOST}:{args.dashboard_port}",
        preload=["ingestlab.stack.warm"],
    ) as cluster:
        addresses = {"scheduler": cluster.scheduler_address, "dashboard": cluster.dashboard_link}
        write_private(args.ready, json.dumps(addresses))
        ended.wait()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m ingestlab.stack.cluster")
    parser.add_argument("--workers", type=int, required=True)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--dashboard-port", type=int, default=0)
    parser.add_argument("--temp", type=Path, required=True, help="where workers spill to")
    parser.add_argument("--ready", type=Path, required=True, help="gets the addresses as JSON")
    return parser


if __name__ == "__main__":
    main()
