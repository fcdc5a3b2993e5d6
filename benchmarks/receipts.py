"""What the tasks of a run say about their time: read off the Dask workers, as it is kept nowhere else."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import cloudpickle
from distributed import Client, WorkerPlugin

from ingestlab import Settings

NAME = "receipts"
cloudpickle.register_pickle_by_value(sys.modules[__name__])  # the Dask workers cannot import this module


class Collector(WorkerPlugin):
    """Adds up the seconds by step that the receipts of finished tasks name."""

    name = NAME

    def setup(self, worker: Any) -> None:
        self.worker, self.seconds, self.tasks = worker, Counter[str](), 0

    def transition(self, key: Any, start: str, finish: str, **_: Any) -> None:
        answer = self.worker.data.get(key) if start == "executing" and finish == "memory" else None
        for receipt in answer if isinstance(answer, list) else [answer]:  # several small partitions may share a task
            if isinstance(receipt, dict) and "seconds" in receipt:
                self.seconds.update(receipt["seconds"])
                self.tasks += 1


def _take(dask_worker: Any) -> dict[str, Any]:
    """What one Dask worker has collected since it was last asked."""
    plugin = dask_worker.plugins[NAME]
    taken = {"tasks": plugin.tasks, "seconds": dict(plugin.seconds)}
    plugin.seconds, plugin.tasks = type(plugin.seconds)(), 0
    return taken


class Receipts:
    """The collectors on all workers of a cluster."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def take(self) -> tuple[int, dict[str, float]]:
        """How many tasks there were since the last call, and their seconds by step."""
        tasks, seconds = 0, Counter[str]()
        for taken in self._client.run(_take).values():
            tasks += taken["tasks"]
            seconds.update(taken["seconds"])
        return tasks, {step: round(spent, 3) for step, spent in seconds.items()}


@contextmanager
def receipts(settings: Settings) -> Iterator[Receipts]:
    """Collects on the cluster of a stack, for as long as the block lasts."""
    with Client(settings.dask_scheduler, set_as_default=False) as client:
        client.register_plugin(Collector())
        yield Receipts(client)
