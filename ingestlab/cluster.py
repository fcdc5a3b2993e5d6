"""The Dask client of this process."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from distributed import CancelledError, Client, LocalCluster, as_completed
from distributed.comm.core import CommClosedError
from distributed.scheduler import KilledWorker, NoValidWorkerError

from ingestlab.errors import IngestError, TransientError
from ingestlab.settings import Settings

# The cluster's fault, not the task's.
LOST = (KilledWorker, NoValidWorkerError, CommClosedError, CancelledError, TimeoutError)


class Cluster:
    """Runs tasks on the scheduler that the settings name, or on threads of this process if none is named.

    The connection is made on first use, kept, and made again when it is lost.
    """

    def __init__(self, settings: Settings) -> None:
        self._address, self._timeout = settings.dask_scheduler, settings.connect_timeout
        self._client: Client | None = None
        self._local: LocalCluster | None = None
        self._lock = threading.Lock()

    def client(self) -> Client:
        """A connected client.

        Raises:
            TransientError: The scheduler cannot be reached.
        """
        with self._lock:
            if self._client is None or self._client.status != "running":
                self._client = self._connect()
            return self._client

    def map(
        self,
        function: Callable[..., Any],
        calls: Sequence[tuple[Any, ...]],
        keys: Sequence[str],
        resources: Mapping[str, float] | None = None,
    ) -> Iterator[tuple[int, Any]]:
        """Runs ``function(*call)`` for every call and yields (position, result) as they finish.

        Args:
            function: Importable on the workers.
            calls: Arguments that are plain data.
            keys: Names of the tasks, as the dashboard shows them.
            resources: What a worker should declare to run them, e.g. ``{"GPU": 1}``; where none declares all of
                it, any worker does.

        Raises:
            TransientError: Dask workers were lost, or the scheduler was.
        """
        client = self.client()
        futures: list[Any] = []
        try:
            placed = {"pure": False, "resources": _declared(client, resources)}
            futures += [client.submit(function, *c, key=k, **placed) for c, k in zip(calls, keys, strict=True)]
            places = {future.key: i for i, future in enumerate(futures)}
            for future in as_completed(futures, loop=client.loop):
                yield places[future.key], future.result()
        except IngestError:
            raise
        except LOST as error:
            fix = "See the Dask dashboard."
            if isinstance(error, KilledWorker):
                fix = "Was there memory enough? Smaller partitions take less: INGESTLAB_PARTITION_BYTES of the worker."
            raise TransientError.wrap(error, "Dask workers to finish the tasks", fix) from error
        finally:
            for future in futures:  # a task that failed is run anew in the job's next try, whose keys are the same
                future.release()

    def close(self) -> None:
        """Disconnects, and stops what this process has started."""
        for part in (self._client, self._local):
            if part is not None:
                part.close()
        self._client = self._local = None

    def _connect(self) -> Client:
        if not self._address:
            self._local = LocalCluster(processes=False, n_workers=1, threads_per_worker=2, dashboard_address=None)
            return Client(self._local, set_as_default=False)
        try:
            return Client(self._address, timeout=self._timeout, set_as_default=False, name="ingestlab")
        except (OSError, TimeoutError) as error:
            raise TransientError.wrap(
                error, f"a Dask scheduler at {self._address}", "Start one, or check DASK_SCHEDULER_ADDRESS."
            ) from error


def _declared(client: Client, wanted: Mapping[str, float] | None) -> dict[str, float] | None:
    """What is wanted, if a worker declares it: Dask would wait for such a worker for ever."""
    if not wanted:
        return None
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    has_all = any(all(w["resources"].get(name, 0) >= count for name, count in wanted.items()) for w in workers)
    return dict(wanted) if has_all else None
