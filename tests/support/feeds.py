"""A listener at work in a thread, and what it has queued."""

from __future__ import annotations

import threading

from ingestlab.queue.arrival.listening import Target, listen
from ingestlab.queue.arrival.opening import feed_of
from ingestlab.queue.rq.queueing import open_queue
from support.lake import World
from support.workers import PATIENCE


class Listening:
    """A feed at work in a thread."""

    def __init__(self, address: str, world: World, *folders: str) -> None:
        self._stop = threading.Event()
        self._feed = feed_of(address, world.settings)
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(world, folders))

    def _run(self, world: World, folders: tuple[str, ...]) -> None:
        self.heard = listen(self._feed, world.context(), Target(pipeline="small"), self._stop, folders)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()


def queued(world: World) -> list[str]:
    """What waits for workers."""
    jobs = open_queue(world.redis, world.settings.queue).jobs
    return sorted({source["uri"] for job in jobs for source in job.args[0]["sources"]})
