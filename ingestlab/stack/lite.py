"""Milvus Lite's gRPC server, on loopback, in a child process of the stack.

Run as ``python -m ingestlab.stack.lite``; it ends on SIGTERM, and what it has answered outlives a kill as well.
"""

from __future__ import annotations

import argparse
import signal
from pathlib import Path

HOST = "127.0.0.1"
# Milvus Lite does not guard a collection's log against two writers: what they write at once is there until the
# server is killed, and cannot be read back then. One thread is safe, and no slower where Python runs one at a time.
THREADS = 1


def main(argv: list[str] | None = None) -> None:
    """Serves until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="python -m ingestlab.stack.lite")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    args = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # which the server takes as the wish to close its files
    from milvus_lite.adapter.grpc.server import run_server  # noqa: PLC0415 - an optional package, slow to import

    run_server(str(args.data), HOST, args.port, THREADS)


if __name__ == "__main__":
    main()
