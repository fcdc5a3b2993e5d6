"""Runs the tests that want a full Milvus: ``python tests/support/with_milvus.py [PYTEST ARGUMENTS]``.

The server is that of the PyPI package `milvus`, in an environment of its own (its dependencies are not ours) and,
where the system allows it, in a network namespace of its own: it listens on every address, and on fixed ports.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = "milvus==2.3.5"
VENV = ROOT / ".venv-milvus"
TOKEN = "root:Milvus"  # what a server with authorisation starts with
INSIDE = "INGESTLAB_TEST_NAMESPACE"
START_SECONDS = 120.0


def main(args: list[str]) -> int:
    """Makes the environment, enters a namespace, runs the tests against a fresh server."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # the server goes, too
    server = install()
    if INSIDE not in os.environ and (prefix := namespace()):
        os.environ[INSIDE] = "1"
        os.execvp(prefix[0], [*prefix, sys.executable, __file__, *args])
    if INSIDE in os.environ:
        loopback_up()
    else:
        sys.stderr.write("no network namespace is to be had here: the server is on this machine's own network\n")
    with serving(server) as uri:
        env = {**os.environ, "INGESTLAB_TEST_MILVUS": uri, "INGESTLAB_TEST_MILVUS_TOKEN": TOKEN}
        command = [sys.executable, "-m", "pytest", "-m", "milvus", *args]
        return subprocess.run(command, env=env, cwd=ROOT, check=False).returncode


def install() -> Path:
    """The server's program, in its own environment, which is made once."""
    program = VENV / "bin" / "milvus-server"
    if not program.exists():
        subprocess.run([sys.executable, "-m", "venv", VENV], check=True)
        subprocess.run([VENV / "bin" / "python", "-m", "pip", "install", "--quiet", PACKAGE], check=True)
    return program


def namespace() -> list[str]:
    """What starts a program in a network namespace: as root, else in a user namespace; empty if neither works."""
    for prefix in (["unshare", "--net", "--"], ["unshare", "--net", "--map-root-user", "--"]):
        if (
            shutil.which("unshare")
            and subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode == 0
        ):
            return prefix
    return []


def loopback_up() -> None:
    """Switches the loopback interface on, as `ip link set lo up` does."""
    get_flags, set_flags, up = 0x8913, 0x8914, 1
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        asked = struct.pack("16sh14x", b"lo", 0)
        (flags,) = struct.unpack_from("h", fcntl.ioctl(any_socket, get_flags, asked), 16)
        fcntl.ioctl(any_socket, set_flags, struct.pack("16sh14x", b"lo", flags | up))


@contextmanager
def serving(program: Path) -> Iterator[str]:
    """A server in a new folder, ready to work; gives its address."""
    with tempfile.TemporaryDirectory(prefix="milvus-") as folder, socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = 19530 if INSIDE in os.environ else probe.getsockname()[1]
        probe.close()
        command = [program, "--data", folder, "--proxy-port", str(port), "--authorization-enabled", "true"]
        with (Path(folder) / "server.log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        try:
            wait(process, port, Path(folder))
            yield f"http://127.0.0.1:{port}"
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def wait(process: subprocess.Popen[bytes], port: int, folder: Path) -> None:
    """Waits until the server does what it is for: it listens long before its parts have found each other."""
    from pymilvus import MilvusClient
    from pymilvus.exceptions import MilvusException

    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            MilvusClient(f"http://127.0.0.1:{port}", token=TOKEN, timeout=2, dedicated=True).list_collections(timeout=2)
        except MilvusException:
            if process.poll() is not None or time.monotonic() > deadline:
                sys.exit((folder / "server.log").read_text(errors="replace")[-3000:])
            time.sleep(0.5)
        else:
            return


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
