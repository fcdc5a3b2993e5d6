"""The Dask client of this process."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from distributed import CancelledError, Client, LocalCluster
from distributed.comm.core import CommClosedError
from distributed.scheduler import KilledWorker, NoValidWorkerError

from ingestlab.core.errors import JobStoppedError, TransientError
from ingestlab.core.settings import Settings
from ingestlab.executors.feeding import Feeder
from ingestlab.interfaces import CostlyError

log = logging.getLogger("ingestlab.executors.dask")
LOST_WORKERS = "Dask workers were lost"
PATIENCE = 3.0  # seconds that a task of a stopped job may still take

# The cluster's fault, not the task's.
LOST = (NoValidWorkerError, CommClosedError, CancelledError, TimeoutError)


class Cluster:
    """Run tasks on the configured scheduler, or on one in this process.

    The connection is made on first use, kept, and made again when it is lost.
    """

    def __init__(self, settings: Settings) -> None:
        self._address, self._timeout = settings.dask_scheduler, settings.connect_timeout
        self._client: Client | None = None
        self._local: LocalCluster | None = None
        self._lock = threading.Lock()

    def client(self) -> Client:
        """Return a connected client.

        Raises:
            TransientError: The scheduler cannot be reached.
        """
        with self._lock:
            if self._client is None or self._client.status != "running":
                self._client = self._connect()
            return self._client

    def connect(self) -> None:
        """Connect ahead of the first task."""
        self.client()

    def is_local(self) -> bool:
        """Tell whether all workers answer, and run on this machine."""
        try:
            kernels = _asked(self.client(), _kernel, PATIENCE)
        except LOST:
            return False
        return bool(_kernel()) and {_kernel()} == set(map(str, kernels.values()))

    def map(
        self,
        function: Callable[..., Any],
        calls: Iterable[tuple[Any, ...]],
        keys: Iterable[str],
        resources: Mapping[str, float] | None = None,
    ) -> Iterator[tuple[int, Any]]:
        """Run ``function(*call)`` for every call and yield (position, result) as they finish."""
        client = self.client()
        futures: list[Any] = []
        costly: dict[int, KilledWorker] = {}
        placed: dict[str, Any] = {"pure": False}

        def submit(call: tuple[Any, ...], key: str) -> Any:
            futures.append(client.submit(function, *call, key=key, **placed))
            return futures[-1]

        try:
            placed["resources"] = _declared(client, resources)
            for place, future in Feeder(submit).over(zip(calls, keys, strict=False)):
                error = future.exception() if future.status == "error" else None
                if isinstance(error, KilledWorker):
                    costly[place] = error
                else:
                    yield place, future.result()
        except JobStoppedError:
            self._take_back(client, futures)
            raise
        except LOST as error:
            raise TransientError.wrap(error, LOST_WORKERS, "See the Dask dashboard.", code="worker_lost") from error
        finally:
            for future in futures:  # the job's next try, with the same keys, runs a failed task again
                future.release()
        if costly:
            raise _costly(costly)

    def _take_back(self, client: Client, futures: Sequence[Any]) -> None:
        """End the tasks of a stopped job. A worker that goes on with one is replaced."""
        keys = {future.key for future in futures}
        held = [worker for worker, tasks in client.processing().items() if keys & set(tasks)]
        for future in futures:
            future.release()
        deadline = time.monotonic() + PATIENCE
        while (held := [w for w in held if _holds(client, w, keys)]) and time.monotonic() < deadline:
            time.sleep(0.1)
        if held and self._address:
            log.warning("Dask workers are replaced, since they go on with what was stopped: %s", ", ".join(held))
            with suppress(KeyError):  # one of them has gone in this moment, and is replaced by its nanny
                client.restart_workers(held, timeout=30, raise_for_error=False)

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
            problem, fix = (
                f"No Dask scheduler answers at {self._address}",
                "Start one, or check DASK_SCHEDULER_ADDRESS.",
            )
            raise TransientError.wrap(error, problem, fix, code="dask_unavailable") from error


def _costly(errors: Mapping[int, KilledWorker]) -> CostlyError:
    fix = "Was there memory enough? Smaller partitions take less: INGESTLAB_PARTITION_BYTES of the worker."
    costly = CostlyError.wrap(next(iter(errors.values())), LOST_WORKERS, fix, code="worker_lost")
    costly.places = tuple(errors)
    return costly


def _holds(client: Client, worker: str, keys: set[Any]) -> bool:
    """Tell whether a worker still runs some tasks, or does not say."""
    try:
        answer = _asked(client, _at_work, PATIENCE / 2, [worker]).get(worker)
    except TimeoutError:
        return True
    except KeyError:  # the scheduler does not know it any more
        return False
    return bool(keys & answer) if isinstance(answer, set) else False  # it has gone already


def _asked(
    client: Client, question: Callable[..., Any], seconds: float, workers: list[str] | None = None
) -> dict[str, Any]:
    """Run a function on workers, all unless some are named. Raises TimeoutError if one does not answer in time."""
    pool = ThreadPoolExecutor(1)
    try:
        return dict(pool.submit(client.run, question, workers=workers, on_error="return").result(seconds))
    finally:
        pool.shutdown(wait=False)


def _kernel() -> str:
    """Name the running kernel: processes under one see at once what any of them writes."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _at_work(dask_worker: Any) -> set[Any]:
    """List the tasks that this Dask worker runs."""
    return {task.key for task in dask_worker.state.executing}


def _declared(client: Client, wanted: Mapping[str, float] | None) -> dict[str, float] | None:
    """Return the wanted resources if a worker declares them. Else Dask would wait for one for ever."""
    if not wanted:
        return None
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    has_all = any(all(w["resources"].get(name, 0) >= count for name, count in wanted.items()) for w in workers)
    return dict(wanted) if has_all else None
