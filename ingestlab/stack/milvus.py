"""The embedded Milvus: how the server of the package `milvus-lite` is started, and whether it is there."""

from __future__ import annotations

import socket
import sys
from importlib.util import find_spec
from pathlib import Path

from ingestlab.stack.valkey import HOST


def installed() -> bool:
    """Whether the packages are there."""
    return all(find_spec(name) is not None for name in ("milvus_lite", "pymilvus"))


def command(folder: Path, port: int) -> tuple[str, ...]:
    """What starts a server that keeps its data in a folder."""
    return (sys.executable, "-m", "ingestlab.stack.lite", "--data", str(folder), "--port", str(port))


def url(port: int) -> str:
    """The address of a server of ours."""
    return f"http://{HOST}:{port}"


def listens(port: int) -> bool:
    """Whether the server takes calls, which it does as soon as it listens."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((HOST, port)) == 0
