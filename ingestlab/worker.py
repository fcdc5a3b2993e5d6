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
from rq.job import Job

from ingestlab import __version__, layout
from ingestlab.errors import BusySourceError, IngestError, TerminalError, TransientError
from ingestlab.guard import shown
from ingestlab.ingest import Context, ingest
from ingestlab.jobs.job import IngestJob, bury
from ingestlab.jobs.rescue import RescuingWorker
from ingestlab.ledger import Ledger, connect
from ingestlab.models import IngestRequest, IngestResult, Outcome, Progress
from ingestlab.replay import replay
from ingestlab.settings import Settings, load_settings
from ingestlab.wire import JobSerializer

log = logging.getLogger("ingestlab.worker")

BUSY_TRIES = 100_000  # a busy source is waited for, second by second, for as long as it takes
BUSY_DELAY = 1  # seconds
REPORT_EVERY = 0.2  # seconds between two reports within one state

_context: Context | None = None


class IngestWorker(RescuingWorker):
    """See the module's text; takes the arguments of :class:`rq.worker.SimpleWorker`."""

    job_class = IngestJob
    log_result_lifespan = False

    def __init__(self, queues: Any, *args: Any, **options: Any) -> None:
        options.update(serializer=JobSerializer, job_class=IngestJob)
        super().__init__(queues, *args, **options)
        for queue in self.queues:  # the rq command line makes them with the serializer of its own options
            queue.serializer, queue.job_class = JobSerializer, IngestJob
        self.push_exc_handler(bury)  # type: ignore[no-untyped-call]
        self._finished = threading.Event()

    def work(self, *args: Any, **options: Any) -> bool:
        """Works until it is told to stop; Ctrl-C before it has begun is such a word, too."""
        try:
            return super().work(*args, **options)
        except KeyboardInterrupt:  # RQ takes signals only once it is registered
            self.teardown()
            return False

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
                self.sweep()
            except redis.RedisError as error:
                log.warning("heart: Redis does not answer (%s); trying on", error)
            except Exception:  # a heart that stops would cost the job, whatever the trouble
                log.exception("heart: trying on")

    def _beat(self) -> None:
        for execution in list(self.executions.values()):
            self.maintain_heartbeats(execution.job, execution)
        self.heartbeat(self.worker_ttl + 60)


def ingest_job(payload: dict[str, Any]) -> Any:
    """The one function that jobs call: a request as plain data in, a result as plain data out."""
    job = get_current_job()
    if job is None:
        raise TerminalError("to run inside an RQ job", "a direct call", "Use ingestlab.submit().")
    here, progress, request = context(), _Reporter(job), None
    try:
        request = IngestRequest.decode(payload)
        result = (replay if request.replay else ingest)(request, here, progress)
    except BusySourceError as error:
        progress.retrying(error)
        return Retry(max=BUSY_TRIES, interval=BUSY_DELAY)
    except Exception as error:
        failure = _in_our_words(error)
        _give_up_or_retry(job, failure, progress)
        if request and not job.should_retry:
            _record_failure(job, request, failure, here)
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
    final = len(errors) == len(result.outcomes)
    failure = errors[0] if final else None
    try:
        _record(job, request, data, here)
    except IngestError as error:
        log.warning("the record of job %s is not written: %s", job.id, error)
        failure = failure or error
    if failure:
        _give_up_or_retry(job, failure, progress, final=final)
        raise failure
    job.meta.pop("result")  # it is the return value now
    job.meta.pop("error", None)
    progress.state("finished")
    return data


def _record(job: Job, request: IngestRequest, result: dict[str, Any], here: Context) -> None:
    """Keeps in the lake how a job ended, for when Redis has forgotten it; secrets in URIs are left out."""
    safe = request.model_copy(
        update={"sources": tuple(s.model_copy(update={"uri": shown(s.uri)}) for s in request.sources)}
    )
    record = {"request": safe.to_dict(), "result": result, "queue": job.origin, "at": datetime.now(UTC).isoformat()}
    here.store.write(layout.run_record(request.run, request.job_id), json.dumps(record).encode())


def _record_failure(job: Job, request: IngestRequest, failure: IngestError, here: Context) -> None:
    """The record of a job that failed as a whole: the same error for each of its sources."""
    outcomes = tuple(Outcome(uri=shown(s.uri), status="failed", error=failure.to_dict()) for s in request.sources)
    result = IngestResult(run=request.run, job=job.id, outcomes=outcomes)
    try:
        _record(job, request, result.to_dict(), here)
    except IngestError as error:  # the lake itself may be the trouble
        log.warning("the record of job %s is not written: %s", job.id, error)


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
