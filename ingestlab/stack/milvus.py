"""The embedded Milvus: the gRPC server of the `milvus-lite` package, in a child process of the stack.

Run as ``python -m ingestlab.stack.milvus``; it ends on SIGTERM, and its data outlives a kill as well.
"""

from __future__ import annotations

import argparse
import signal
import socket
import sys
from importlib.util import find_spec
from pathlib import Path

from ingestlab.stack.valkey import HOST

# Milvus Lite does not guard a collection's log against two writers: what they write at once is lost in a
# restart. One thread is safe, and faster, since Python runs one at a time anyway.
THREADS = 1


def installed() -> bool:
    """Whether the packages are there."""
    return all(find_spec(name) is not None for name in ("milvus_lite", "pymilvus"))


def command(folder: Path, port: int) -> tuple[str, ...]:
    """What starts a server that keeps its data in a folder."""
    return (sys.executable, "-m", "ingestlab.stack.milvus", "--data", str(folder), "--port", str(port))


def url(port: int) -> str:
    """The address of a server of ours."""
    return f"http://{HOST}:{port}"


def listens(port: int) -> bool:
    """Whether the server takes calls, which it does as soon as it listens."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((HOST, port)) == 0


def main(argv: list[str] | None = None) -> None:
    """Serves until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="python -m ingestlab.stack.milvus")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    args = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # which the server takes as the wish to close its files
    from milvus_lite.adapter.grpc.server import run_server  # noqa: PLC0415 - an optional package, slow to import

    run_server(str(args.data), HOST, args.port, THREADS)


if __name__ == "__main__":
    main()
