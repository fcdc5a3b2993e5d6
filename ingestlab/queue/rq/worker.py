"""An RQ worker that takes JSON jobs only, calls functions of ours alone, and beats its heart while it works.

Run it as ``python -m ingestlab.queue.rq.worker QUEUE…``, as ``ingestlab worker``, or with stock RQ:
``RQ_WORKER_CLASS=ingestlab.worker.IngestWorker rq worker QUEUE --url $REDIS_URL``.
"""

from __future__ import annotations

import faulthandler
import json
import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypeVar

import redis
from rq import Queue, Retry, get_current_job
from rq.job import Job

from ingestlab.core.access import shown
from ingestlab.core.errors import BusySourceError, IngestError, JobStoppedError, TerminalError, TransientError
from ingestlab.core.messages import NotebookRequest, Request, check_queue, subjects
from ingestlab.core.models import FIRST_FAILURES, IngestRequest, IngestResult
from ingestlab.core.schemes import served
from ingestlab.core.settings import MISSED_BEATS, Settings, load_settings
from ingestlab.core.version import VERSION
from ingestlab.engine.ingest import ingest
from ingestlab.engine.services import Services
from ingestlab.formats.csv import fast
from ingestlab.lake import layout
from ingestlab.lake.locks import Locks, connect
from ingestlab.maintenance.replay.replay import replay
from ingestlab.queue.results import completed, kept_of
from ingestlab.queue.rq.job import IngestJob, bury
from ingestlab.queue.rq.listeners import OURS
from ingestlab.queue.rq.reporting import Reporter
from ingestlab.queue.rq.serializer import JobSerializer
from ingestlab.queue.rq.stopping import STOPPER, TimeLimit, beat_or_die
from ingestlab.queue.rq.takeover import RescuingWorker

log = logging.getLogger("ingestlab.queue.rq.worker")

BUSY_TRIES = 100_000  # a busy source is waited for, second by second, for as long as it takes
BUSY_DELAY = 1  # seconds
GOODBYE_SECONDS = 30.0  # after which a process that works no more ends, whatever a client of it still waits for
R = TypeVar("R", IngestRequest, NotebookRequest)

_context: Services | None = None


class IngestWorker(RescuingWorker):
    """See the module's text; takes the arguments of :class:`rq.worker.SimpleWorker`."""

    job_class = IngestJob
    log_result_lifespan = False
    death_penalty_class = TimeLimit
    alone = False  # whether this process is nothing but the worker, and may end

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
        settings = context(self.connection).settings
        _check_queues(self.queue_names(), settings)
        super().bootstrap(*args, **options)
        self.connection.hset(self.key, OURS, VERSION)  # so that `doctor` tells our class from others
        self.beat, self.keep = settings.beat, settings.keep_jobs
        self.job_monitoring_interval = int(2 * self.beat)
        STOPPER.listen()
        threading.Thread(target=self._live, name="heart", daemon=True).start()
        if settings.notebook_queue not in self.queue_names():  # a notebook needs none of it here
            threading.Thread(target=_warm_up, name="warm-up", daemon=True).start()

    def teardown(self) -> None:
        """Stops the heart, then says goodbye to Redis."""
        self._finished.set()
        if self.alone:
            faulthandler.cancel_dump_traceback_later()
        super().teardown()  # type: ignore[no-untyped-call]

    def get_heartbeat_ttl(self, job: Job, working_time: float = 0.0) -> int:  # noqa: ARG002 - RQ's signature
        """A job whose worker has been silent for three beats is given to another."""
        return max(2, int(MISSED_BEATS * self.beat))

    def _live(self) -> None:
        """Beats, and in each beat takes over what dead workers left and moves retries that are due."""
        beaten = 0.0
        while not self._finished.wait(min(self.beat, 1.0)):
            if self.alone:
                beat_or_die(self.beat)
            try:
                STOPPER.heed()
                if self.executions and time.monotonic() - beaten < self.beat - 0.1:
                    continue
                beaten = time.monotonic()
                self._beat()
                self.sweep()
            except redis.RedisError as error:
                log.warning("heart: Redis does not answer (%s); trying on", error)
            except Exception:  # a heart that stops would cost the job, whatever the trouble
                log.exception("heart: trying on")

    def _beat(self) -> None:
        for execution in list(self.executions.values()):
            self.maintain_heartbeats(execution.job, execution)
        if not self.connection.hexists(self.key, OURS):  # Redis has lost it, with all else
            self.connection.delete(self.key)
            self.register_birth()  # type: ignore[no-untyped-call]
            self.connection.hset(self.key, OURS, VERSION)
        self.heartbeat(self.worker_ttl + 60)


def ingest_job(payload: dict[str, Any]) -> Any:
    """The function that jobs about files call: a request as plain data in, a result as plain data out."""
    return carry_out(payload, IngestRequest, _ingest_or_replay)


def _ingest_or_replay(request: IngestRequest, here: Services, report: Reporter) -> IngestResult:
    with STOPPER.at(report):
        return replay(request, here, report) if request.replay else ingest(request, here, report, report.keep)


def carry_out(payload: Any, kind: type[R], work: Callable[[R, Services, Reporter], IngestResult]) -> Any:
    """Does a job: decodes its request, has the work done, and decides by the outcomes what becomes of the job.

    Args:
        payload: A request as plain data.
        kind: Of request that it has to be.
        work: Does it; its errors are those of all outcomes.
    """
    job = get_current_job()
    if job is None:
        raise TerminalError("Called outside an RQ job", fix="Use ingestlab.submit().", code="argument_invalid")
    here, progress, request = context(), Reporter(job), None
    try:
        request = kind.decode(payload)
        if isinstance(request, IngestRequest) and not request.replay:
            request = request.bared(here.settings.secret_parameters)
        check_queue(request, job.origin, here.settings)
        result = work(request, here, progress)
    except BusySourceError as error:
        progress.retrying(error)
        return Retry(max=BUSY_TRIES, interval=BUSY_DELAY)
    except (Exception, JobStoppedError) as error:
        failure = in_our_words(error)
        _give_up_or_retry(job, failure, progress)
        if request and not job.should_retry:
            _record_failure(job, request, failure, here)
        if failure is error:
            raise
        raise failure from error
    return _conclude(job, request, result, here, progress)


def _conclude(job: Job, request: Request, result: IngestResult, here: Services, progress: Reporter) -> dict[str, Any]:
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
    job.meta.pop("kept", None)
    job.meta.pop("error", None)
    told = [o for o in result.outcomes if o.status == "committed" and o.assumed][:FIRST_FAILURES]
    job.meta["assumed"] = [[o.uri, o.assumed] for o in told]
    progress.state("finished")
    return data


def _record(job: Job, request: Request, result: dict[str, Any], here: Services) -> None:
    """Keeps in the lake how a job ended, for when Redis has forgotten it; secrets in URIs are left out."""
    safe = request
    if isinstance(request, IngestRequest):
        sources = tuple(s.model_copy(update={"uri": shown(s.uri), "signed": None}) for s in request.sources)
        safe = request.model_copy(update={"sources": sources})
    else:
        told = {n: shown(v) if isinstance(v, str) and "://" in v else v for n, v in request.parameters.items()}
        safe = request.model_copy(update={"parameters": told})
    record = {"request": safe.to_dict(), "result": result, "queue": job.origin, "at": datetime.now(UTC).isoformat()}
    here.store.write(layout.run_record(request.run, request.job_id), json.dumps(record).encode())


def _record_failure(job: Job, request: Request, failure: IngestError, here: Services) -> None:
    """The record of a job that failed as a whole: the same error for all that it is about."""
    known = kept_of(job.meta) or IngestResult(run=request.run, job=job.id, outcomes=())
    result = completed(known, subjects(request), failure.to_dict())
    try:
        _record(job, request, result.to_dict(), here)
    except IngestError as error:  # the lake itself may be the trouble
        log.warning("the record of job %s is not written: %s", job.id, error)


def _give_up_or_retry(job: Job, error: IngestError, progress: Reporter, *, final: bool = False) -> None:
    """Terminal errors lose their retries; the others are tried again while there are any."""
    if final or not isinstance(error, TransientError):
        job.retries_left = 0
    if job.should_retry:
        progress.retrying(error)
    else:
        progress.failed(error)


def in_our_words(error: BaseException) -> IngestError:
    """Any error that a job may end with, as one of ours."""
    if isinstance(error, IngestError):
        return error
    if isinstance(error, JobStoppedError):
        return error.error
    if isinstance(error, redis.RedisError | OSError):
        fix = "`ingestlab doctor` tells more."
        return TransientError.wrap(error, "Redis or the lake does not answer", fix, code="redis_unavailable")
    fix = "run.log() and the worker's log have the whole traceback."
    return TerminalError.wrap(error, "Job failed", fix, code="unforeseen")


def context(client: redis.Redis | None = None) -> Services:
    """This process's connections, made on first use."""
    global _context  # noqa: PLW0603 - a worker has one lake and one Dask client for its life
    if _context is None:
        settings = load_settings()
        connection = client if client is not None else connect(settings.redis)
        _context = Services.create(settings, Locks(connection, settings.lake_url, settings.lock_ttl))
    return _context


def _check_queues(names: list[str], settings: Settings) -> None:
    """A worker at a notebook must not be the one whom its files wait for."""
    own = settings.notebook_queue
    if own == settings.queue or (own in names and len(names) > 1):
        problem = f"Notebook queue {own} has no workers of its own"
        got = f"a worker of {', '.join(names)}, where QUEUE_NAME is {settings.queue}"
        fix = f"Leave QUEUE_NAME to the files' queue; run `ingestlab worker {own}` beside the other workers."
        raise TerminalError(problem, got=got, fix=fix, code="setting_invalid")


def _warm_up() -> None:
    """Does before the first job what would make it slow: imports, plug-ins, and the Dask connection."""
    try:
        import pandera.pandas  # noqa: F401, PLC0415

        served()
        context().lake  # noqa: B018 - opens its sinks
        context().cluster.connect()
        if not context().settings.dask_scheduler:  # else Dask's workers read the files
            fast.warm()
    except IngestError as error:
        log.warning("warm-up: %s", error)  # the job that needs it says so as well


def main(argv: list[str] | None = None, settings: Settings | None = None) -> int:
    """Works on the queues named, or on the one of the settings, until it is told to stop."""
    settings = settings or load_settings()
    names = (sys.argv[1:] if argv is None else argv) or [settings.queue]
    client = connect(settings.redis)
    queues = [Queue(name, connection=client, serializer=JobSerializer, job_class=IngestJob) for name in names]
    worker = IngestWorker(queues, connection=client, default_result_ttl=settings.result_ttl)
    worker.alone = True
    try:
        worker.work(logging_level=os.environ.get("INGESTLAB_LOG_LEVEL", "INFO"))
    except TerminalError as error:
        log.error("%s", error)  # noqa: TRY400 - the text says it all
        return 1
    finally:
        faulthandler.dump_traceback_later(GOODBYE_SECONDS, exit=True)
    return 0


if __name__ == "__main__":
    from ingestlab.queue.rq.worker import main as _main  # the module by its name: jobs look it up there, too

    sys.exit(_main())
