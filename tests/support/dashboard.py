"""A Dask scheduler with our pages, as one starts it on a cluster of one's own."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ingestlab.stack.valkey import free_port
from support.workers import PATIENCE, environment, until


@contextmanager
def scheduler(folder: Path, port: int = 0, **env: str) -> Iterator[str]:
    """A scheduler as one starts it on a cluster of one's own; gives the address of its dashboard."""
    port = port or free_port()
    program = [sys.executable, "-m", "distributed.cli.dask_scheduler"]
    where = ["--host", "127.0.0.1", "--port", "0", "--dashboard-address", f"127.0.0.1:{port}"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [*program, "--preload", "ingestlab.stack.dashboard", *where], cwd=folder, env=environment(**env), stderr=log
        )

    def listens() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    try:
        until(lambda: process.poll() is not None or listens(), 30, "a scheduler")
        assert process.poll() is None, (folder / "log").read_text()
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        assert process.wait(timeout=PATIENCE) in (0, -15)
