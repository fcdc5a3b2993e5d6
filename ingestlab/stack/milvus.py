"""The embedded Milvus: the gRPC server of the package `milvus-lite`, on loopback, in a child process of the stack.

Run as ``python -m ingestlab.stack.milvus``; it ends on SIGTERM, and what it has answered outlives a kill as well.
"""

from __future__ import annotations

import argparse
import signal
import socket
import sys
from importlib.util import find_spec
from pathlib import Path

HOST = "127.0.0.1"  # said again: the server's process does without the client that `valkey` imports
# Milvus Lite does not guard its log against two writers: what they write at once is there until the
# server is killed, and cannot be read back then. One thread is safe, and no slower where Python runs one at a time.
THREADS = 1


def installed() -> bool:
    """Tell whether the packages are there."""
    return all(find_spec(name) is not None for name in ("milvus_lite", "pymilvus"))


def command(folder: Path, port: int) -> tuple[str, ...]:
    """Tell what starts a server that keeps its data in a folder."""
    return (sys.executable, "-m", "ingestlab.stack.milvus", "--data", str(folder), "--port", str(port))


def url(port: int) -> str:
    """Give the address of a server of ours."""
    return f"http://{HOST}:{port}"


def listens(port: int) -> bool:
    """Tell whether the server listens. It takes calls from then on."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((HOST, port)) == 0


def main(argv: list[str] | None = None) -> None:
    """Serve until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="python -m ingestlab.stack.milvus")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    args = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # which the server takes as the wish to close its files
    from milvus_lite.adapter.grpc.server import run_server  # noqa: PLC0415 - an optional package, slow to import

    run_server(str(args.data), HOST, args.port, THREADS)


if __name__ == "__main__":
    main()
