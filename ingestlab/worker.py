"""An RQ worker that takes JSON jobs only, runs one function, and beats its heart while it works.

Run it as ``python -m ingestlab.worker QUEUE…``, as ``ingestlab worker``, or with stock RQ:
``RQ_WORKER_CLASS=ingestlab.worker.IngestWorker rq worker QUEUE --url $REDIS_URL``.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import time
from datetime import UTC, datetime
from typing import Any

import redis
from rq import Queue, Retry, get_current_job
from rq.exceptions import DeserializationError
from rq.job import Job
from rq.scheduler import RQScheduler
from rq.worker import SimpleWorker

from ingestlab import __version__, layout
from ingestlab.errors import BusySourceError, IngestError, TerminalError, TransientError, UndecodableJobError
from ingestlab.ingest import Context, ingest
from ingestlab.ledger import Ledger, connect
from ingestlab.models import IngestRequest, IngestResult, Progress
from ingestlab.settings import Settings, load_settings
from ingestlab.wire import ALLOWED, JobSerializer

log = logging.getLogger("ingestlab.worker")

BUSY_TRIES = 100_000  # a busy source is waited for, second by second, for as long as it takes
BUSY_DELAY = 1  # seconds
REPORT_EVERY = 0.2  # seconds between two reports within one state

_context: Context | None = None


class _UndecodableError(UndecodableJobError, DeserializationError):
    """RQ looks for its own class when it logs a job that it cannot read."""


class IngestJob(Job):
    """A job that is one allowed function called with plain data."""

    def _deserialize_data(self) -> None:
        try:
            super()._deserialize_data()  # type: ignore[no-untyped-call]
        except DeserializationError as error:
            cause = error.__cause__
            if isinstance(cause, UndecodableJobError):
                raise _UndecodableError(cause.expected, cause.got, cause.fix) from None
            raise _UndecodableError("a job in JSON: [function, null, args, kwargs]", f"{cause!r}"[:200]) from None

    def _execute(self) -> Any:
        if self.func_name not in ALLOWED:
            raise UndecodableJobError(
                f"a job that calls {', '.join(sorted(ALLOWED))}", f"{self.func_name!r}", "No other function is run."
            )
        return super()._execute()


class IngestWorker(SimpleWorker):
    """See the module's text; takes the arguments of :class:`rq.worker.SimpleWorker`."""

    job_class = IngestJob
    log_result_lifespan = False

    def __init__(self, queues: Any, *args: Any, **options: Any) -> None:
        options.update(serializer=JobSerializer, job_class=IngestJob)
        super().__init__(queues, *args, **options)
        for queue in self.queues:  # the rq command line makes them with the serializer of its own options
            queue.serializer, queue.job_class = JobSerializer, IngestJob
        self.beat = 5.0
        self._finished = threading.Event()

    def bootstrap(self, *args: Any, **options: Any) -> None:
        """Connects to what a job needs, and starts the heart, before the first job."""
        super().bootstrap(*args, **options)
        self.connection.hset(self.key, "ingestlab", __version__)  # so that `doctor` tells our class from others
        self.beat = context(self.connection).settings.beat
        self.job_monitoring_interval = int(2 * self.beat)
        threading.Thread(target=self._live, name="heart", daemon=True).start()
        threading.Thread(target=_warm_up, name="warm-up", daemon=True).start()

    def teardown(self) -> None:
        """Stops the heart, then says goodbye to Redis."""
        self._finished.set()
        super().teardown()  # type: ignore[no-untyped-call]

    def get_heartbeat_ttl(self, job: Job, working_time: float = 0.0) -> int:  # noqa: ARG002 - RQ's signature
        """A job whose worker has been silent for three beats is given to another."""
        return max(2, int(3 * self.beat))

    def _live(self) -> None:
        """Beats, and in each beat takes over what dead workers left and moves retries that are due."""
        while not self._finished.wait(self.beat if self.executions else min(self.beat, 1.0)):
            try:
                self._beat()
                self._sweep()
            except redis.RedisError as error:
                log.warning("heart: Redis does not answer (%s); trying on", error)

    def _beat(self) -> None:
        for execution in list(self.executions.values()):
            self.maintain_heartbeats(execution.job, execution)
        self.heartbeat(self.worker_ttl + 60)

    def _sweep(self) -> None:
        """One worker a queue at a time; unlike RQ's scheduler lock, this one does not outlive its holder for long."""
        for queue in self.queues:
            lock = f"ingestlab:sweep:{queue.name}"
            if not self.connection.set(lock, self.name, nx=True, px=900):
                continue
            queue.started_job_registry.cleanup()
            scheduler = RQScheduler([queue.name], self.connection, serializer=JobSerializer)
            scheduler.prepare_registries([queue.name])
            scheduler.enqueue_scheduled_jobs()


def ingest_job(payload: dict[str, Any]) -> Any:
    """The one function that jobs call: a request as plain data in, a result as plain data out."""
    job = get_current_job()
    if job is None:
        raise TerminalError("to run inside an RQ job", "a direct call", "Use ingestlab.submit().")
    here, progress = context(), _Reporter(job)
    try:
        request = IngestRequest.decode(payload)
        result = ingest(request, here, progress)
    except BusySourceError as error:
        progress.retrying(error)
        return Retry(max=BUSY_TRIES, interval=BUSY_DELAY)
    except Exception as error:
        failure = _in_our_words(error)
        _give_up_or_retry(job, failure, progress)
        if failure is error:
            raise
        raise failure from error
    return _conclude(job, request, result, here, progress)


def _conclude(
    job: Job, request: IngestRequest, result: IngestResult, here: Context, progress: _Reporter
) -> dict[str, Any]:
    """Decides by the outcomes: done, to be tried again for the files that may come, or failed."""
    data = result.to_dict()
    errors = [e for o in result.outcomes if (e := o.exception())]
    passing = [e for e in errors if isinstance(e, TransientError)]
    job.meta["result"] = data
    if passing and job.should_retry:
        progress.retrying(passing[0])
        raise passing[0]
    record = {"request": request.to_dict(), "result": data, "queue": job.origin, "at": datetime.now(UTC).isoformat()}
    here.store.write(layout.run_record(request.run, job.id), json.dumps(record).encode())
    if len(errors) == len(result.outcomes):
        _give_up_or_retry(job, errors[0], progress, final=True)
        raise errors[0]
    job.meta.pop("result")  # it is the return value now
    job.meta.pop("error", None)
    progress.state("finished")
    return data


def _give_up_or_retry(job: Job, error: IngestError, progress: _Reporter, *, final: bool = False) -> None:
    """Terminal errors lose their retries; the others are tried again while there are any."""
    if final or not isinstance(error, TransientError):
        job.retries_left = 0
    if job.should_retry:
        progress.retrying(error)
    else:
        progress.failed(error)


def _in_our_words(error: Exception) -> IngestError:
    if isinstance(error, IngestError):
        return error
    if isinstance(error, redis.RedisError | OSError):
        return TransientError.wrap(error, "Redis and the lake to answer", "`ingestlab doctor` tells more.")
    return TerminalError.wrap(error, "the job to run to its end", "See the worker's log for the whole traceback.")


class _Reporter:
    """Writes a job's progress into its meta, at every change of state and a few times a second."""

    def __init__(self, job: Job) -> None:
        self._job, self._last = job, 0.0
        self._progress = Progress()

    def __call__(self, progress: Progress) -> None:
        now = time.monotonic()
        due = progress.state != self._progress.state or now - self._last >= REPORT_EVERY
        self._progress = progress
        if due:
            self._last = now
            self._save()

    def state(self, state: str, note: str = "") -> None:
        self._progress = self._progress.model_copy(update={"state": state, "note": note})
        self._save()

    def retrying(self, error: IngestError) -> None:
        self._job.meta["error"] = error.to_dict()
        self.state("retrying", str(error))

    def failed(self, error: IngestError) -> None:
        self._job.meta["error"] = error.to_dict()
        self.state("failed", str(error))

    def _save(self) -> None:
        self._job.meta["progress"] = self._progress.to_dict()
        self._job.save_meta()


def context(client: redis.Redis | None = None) -> Context:
    """This process's connections, made on first use."""
    global _context  # noqa: PLW0603 - a worker has one lake and one Dask client for its life
    if _context is None:
        settings = load_settings()
        connection = client if client is not None else connect(settings.redis)
        _context = Context.create(settings, Ledger(connection, settings.lake_url, settings.lock_ttl))
    return _context


def _warm_up() -> None:
    """Does before the first job what would make it slow: imports, and the Dask connection."""
    try:
        import pandera.pandas  # noqa: F401, PLC0415

        context().cluster.client()
    except IngestError as error:
        log.warning("warm-up: %s", error)  # the job that needs it says so as well


def main(argv: list[str] | None = None, settings: Settings | None = None) -> int:
    """Works on the queues named, or on the one of the settings, until it is told to stop."""
    settings = settings or load_settings()
    names = (sys.argv[1:] if argv is None else argv) or [settings.queue]
    client = connect(settings.redis)
    queues = [Queue(name, connection=client, serializer=JobSerializer, job_class=IngestJob) for name in names]
    worker = IngestWorker(queues, connection=client, default_result_ttl=settings.result_ttl)
    worker.work(logging_level=os.environ.get("INGESTLAB_LOG_LEVEL", "INFO"))
    return 0


if __name__ == "__main__":
    from ingestlab.worker import main as _main  # the module by its name: jobs look it up there, too

    sys.exit(_main())
