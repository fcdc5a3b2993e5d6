"""Debian's RabbitMQ as a child process: on loopback, with all that it writes in a folder of its own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ingestlab.stack.valkey import free_port
from support.workers import until

PROGRAM = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")  # the one on the PATH changes to a user of its own
CONFIG = "[{{rabbit, [{{consumer_timeout, {}}}, {{channel_tick_interval, 1000}}, {{disk_free_limit, 1000000}}]}}].\n"


@contextmanager
def serve(folder: Path, consumer_timeout: float = 1800, port: int | None = None) -> Iterator[str]:
    """Runs a server; gives its URL.

    Args:
        folder: With its data; those of a server that was killed are taken up again, on the same port.
        consumer_timeout: Seconds after which it takes a message back that nobody has acknowledged.
        port: A free one, if not given.
    """
    from amqp import Connection

    port, dist, names = port or free_port(), free_port(), free_port()
    (folder / "advanced.config").write_text(CONFIG.format(int(consumer_timeout * 1000)))
    (folder / "plugins").write_text("[].")
    env = {
        **os.environ,
        "HOME": str(folder),  # of the cookie
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "ERL_EPMD_PORT": str(names),
        "RABBITMQ_NODENAME": f"test{port}@localhost",
        "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODE_PORT": str(port),
        "RABBITMQ_DIST_PORT": str(dist),
        "RABBITMQ_MNESIA_BASE": str(folder / "data"),
        "RABBITMQ_LOG_BASE": str(folder / "logs"),
        "RABBITMQ_PID_FILE": str(folder / "pid"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
        "RABBITMQ_CONFIG_FILE": str(folder / "none"),
        "RABBITMQ_ADVANCED_CONFIG_FILE": str(folder / "advanced.config"),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1} +S 1:1 +sbwt none",
    }

    def answers() -> bool:
        assert process.poll() is None, (folder / "out.txt").read_text()[-3000:]
        try:
            with Connection(f"127.0.0.1:{port}", connect_timeout=2):
                return True
        except OSError:
            return False

    with (folder / "out.txt").open("wb") as out:
        process = subprocess.Popen(
            [PROGRAM], env=env, cwd=folder, stdout=out, stderr=out, stdin=subprocess.DEVNULL, start_new_session=True
        )
    try:
        until(answers, 60, "RabbitMQ that answers")
        yield f"amqp://guest:guest@127.0.0.1:{port}//"
    finally:
        process.terminate()
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # its script and all that it has started
            process.wait()
        if names_server := shutil.which("epmd"):  # it refuses to end before it has noticed that the node has
            kill = [names_server, "-port", str(names), "-kill"]
            until(lambda: not subprocess.run(kill, capture_output=True, env=env, check=False).returncode, 5, "its end")


def url_or_skip(folder: Path) -> Iterator[str]:
    """For a fixture: a server, where it is installed. It must be where INGESTLAB_RABBITMQ is `required`."""
    if not PROGRAM.exists():
        reason = "RabbitMQ is not installed: apt-get install rabbitmq-server"
        assert os.environ.get("INGESTLAB_RABBITMQ") != "required", reason
        pytest.skip(reason)
    with serve(folder) as url:
        yield url


def forget(url: str, *queues: str) -> None:
    """Deletes queues, with what is refused from them."""
    from kombu import Connection

    with Connection(url) as connection:
        for name in queues:
            for each in (name, f"{name}.dead"):
                connection.default_channel.queue_delete(each)


def count(url: str, queue: str) -> int:
    """Counts the messages that nobody has."""
    from kombu import Connection

    with Connection(url) as connection:
        return connection.default_channel.queue_declare(queue, passive=True).message_count
