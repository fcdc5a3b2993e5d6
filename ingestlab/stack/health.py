"""The health check of containers: ``python -m ingestlab.stack.health`` exits with 0 if all is well.

One question for all roles of the container image: it looks which of them runs here, and asks that one.
"""

from __future__ import annotations

import http.client
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from itertools import pairwise

import psutil
import redis

from ingestlab.core.errors import TerminalError
from ingestlab.core.settings import MISSED_BEATS, Settings, load_settings
from ingestlab.queue.broker import broker

PATIENCE = 3.0  # seconds that a server may take to answer

# By the words of a role's command line: the page of it that tells.
PAGES: Mapping[tuple[str, str], tuple[int, str]] = {
    ("dask", "scheduler"): (8787, "/health"),
    ("dask", "worker"): (8790, "/health"),
    ("-m", "jupyterlab"): (8888, "/api"),
}
WORKER = ("-m", "ingestlab.queue.worker")


def troubles(settings: Settings, first: int = 1) -> list[str]:
    """List what is wrong with the roles that run here. None running is wrong, too.

    Args:
        settings: Where Redis is.
        first: The process to look at, with its offspring; that of a container has the number 1.
    """
    seen, wrong = False, []
    for line in _command_lines(psutil.Process(first)):
        pairs = list(pairwise(line))
        if WORKER in pairs:
            seen = True
            wrong += _worker(settings, line[pairs.index(WORKER) + 2 :])
        for words, (port, path) in PAGES.items():
            if words in pairs:
                seen = True
                wrong += _page(port, path)
    return wrong if seen else ["None of ingestlab's roles runs here."]


def _command_lines(first: psutil.Process) -> Iterator[list[str]]:
    for process in (first, *first.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):  # it has just ended
            yield process.cmdline()


def _worker(settings: Settings, queues: list[str]) -> list[str]:
    """Tell what is wrong with a worker: nothing while Redis hears its heart."""
    queue = (queues or [settings.queue])[0]
    try:
        with redis.Redis.from_url(settings.redis, socket_timeout=PATIENCE, socket_connect_timeout=PATIENCE) as client:
            listeners = broker(settings, client).listeners(queue)
    except redis.RedisError as error:
        return [f"Redis at {settings.redis_shown} does not answer: {error}"]
    except TerminalError as error:  # no Redis is named
        return [str(error)]
    now = datetime.now(UTC)
    mine = [listener for listener in listeners if listener.host == socket.gethostname()]
    if any(listener.silence(now) < MISSED_BEATS * settings.beat for listener in mine):
        return []
    return [f"No worker of this machine is heard on the queue {queue}."]


def _page(port: int, path: str) -> list[str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request("GET", path)
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        return [f"Port {port} does not answer: {error}"]
    finally:
        connection.close()
    return [] if status == http.client.OK else [f"Port {port} answers {path} with {status}."]


def main() -> int:
    """Print what is wrong; give the exit code."""
    wrong = troubles(load_settings())
    for sentence in wrong:
        print(sentence)  # noqa: T201 - `docker inspect` shows it
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
