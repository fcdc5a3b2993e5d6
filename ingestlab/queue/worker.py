"""What a worker does with a message, whichever broker has brought it: ``python -m ingestlab.queue.worker QUEUE…``."""

from __future__ import annotations

import faulthandler
import logging
import sys
import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import import_module

import redis
from pydantic import JsonValue

from ingestlab.core.access import shown
from ingestlab.core.errors import BusySourceError, IngestError, JobStoppedError, TerminalError, TransientError
from ingestlab.core.extras import quiet_pyspark
from ingestlab.core.jobs import Done, Failed, RetryLater, TryEnd
from ingestlab.core.messages import NotebookRequest, Request, check_queue, decode, subjects
from ingestlab.core.models import FIRST_FAILURES, IngestRequest, IngestResult, Source
from ingestlab.core.schemes import served
from ingestlab.core.settings import Settings, load_settings
from ingestlab.engine.ingest import ingest
from ingestlab.engine.services import Services
from ingestlab.formats.compiled import loader
from ingestlab.interfaces import Delivery, Store
from ingestlab.lake.locks import Locks, connect
from ingestlab.lake.run_records import RunRecords
from ingestlab.maintenance.replay.replay import replay
from ingestlab.queue.arrival import failures
from ingestlab.queue.arrival.schedules import LOOK_EVERY, run_due
from ingestlab.queue.broker import broker
from ingestlab.queue.heart import keep_doing
from ingestlab.queue.job_records import Reporter
from ingestlab.queue.limits import slot
from ingestlab.queue.stopping import STOPPER

log = logging.getLogger("ingestlab.queue.worker")

BUSY_DELAY = 1  # seconds between two looks at a busy source, for as long as it takes
GOODBYE_SECONDS = 30.0  # after which a worker that has ended leaves, whatever a client of it still waits for
NOTEBOOKS = "ingestlab.notebook.runner.job"  # a room above this one: only workers of notebooks need it


class JobHandler:
    """Does what requests ask, and decides what becomes of their jobs.

    See :data:`ingestlab.interfaces.Handler`.

    Args:
        services: The connections of this process.
    """

    def __init__(self, services: Services) -> None:
        self._services = services
        self.over = threading.Event()  # ends what its worker does beside the jobs

    def __call__(self, message: JsonValue, delivery: Delivery) -> TryEnd:
        """Run one try of a job."""
        settings, request = self._services.settings, None
        report = Reporter(delivery, settings.worker_name or "")
        try:
            request = decode(message)
            if isinstance(request, IngestRequest) and not request.replay:
                request = request.bared(settings.secret_parameters)
            check_queue(request, delivery.queue, settings)
            result = self._work(request, report, delivery.id)
        except BusySourceError as error:
            report.waits(error)
            return RetryLater(error, BUSY_DELAY, counts=False)
        except (Exception, JobStoppedError) as error:  # noqa: BLE001 - whatever it is becomes the job's end
            failure = translate_error(error)
            if failure is not error:
                failure.__cause__ = error
            if isinstance(failure, TransientError) and delivery.retry_after is not None:
                report.retrying(failure)
                return RetryLater(failure, delivery.retry_after)
            whole = report.close_failed(subjects(request) if request else (), failure)
            report.failed(failure, whole)
            if request:
                self._archive_failure(request, whole, delivery)
            return Failed(failure)
        return self._conclude(request, result, delivery, report)

    def _work(self, request: Request, report: Reporter, job: str) -> IngestResult:
        services = self._services.of(request.tenant)
        if isinstance(request, NotebookRequest):  # it waits for jobs of its tenant, and takes the place of none
            result: IngestResult = import_module(NOTEBOOKS).run_notebook(request, services, report)
            return result
        with (
            slot(job, services.tenant, services.locks.client, services.settings.lock_ttl),
            STOPPER.at(report),
        ):
            if request.replay:
                return replay(request, services, report)
            return ingest(request, services, report, report.keep)

    def _store_of(self, tenant: str) -> Store:
        """Open the lake for the records of a tenant. Unknown ones share theirs."""
        try:
            return self._services.of(tenant).store
        except TerminalError:
            return self._services.store

    def _conclude(self, request: Request, result: IngestResult, delivery: Delivery, report: Reporter) -> TryEnd:
        """Decide by the outcomes: done, to be tried again for the files that may come, or failed."""
        errors = [error for outcome in result.outcomes if (error := outcome.exception())]
        passing = next((error for error in errors if isinstance(error, TransientError)), None)
        if passing and delivery.retry_after is not None:
            report.retrying(passing, result)
            return RetryLater(passing, delivery.retry_after)
        failure = errors[0] if len(errors) == len(result.outcomes) else None
        whole = report.close(result, failure)
        if any(outcome.status != "failed" for outcome in whole.outcomes):
            failure = None  # an earlier attempt has done something
        try:
            self._archive(request, whole, delivery.queue)
        except IngestError as error:
            log.warning("the record of job %s is not written: %s", delivery.id, error)
            if failure is None and isinstance(error, TransientError) and delivery.retry_after is not None:
                report.retrying(error, result)
                return RetryLater(error, delivery.retry_after)
            failure = failure or error
        if failure:
            report.failed(failure, whole)
            return Failed(failure)
        assumed = [[o.uri, o.assumed] for o in whole.outcomes if o.status == "committed" and o.assumed]
        report.finished(whole, assumed=assumed[:FIRST_FAILURES])
        return Done(whole)

    def _archive_failure(self, request: Request, whole: IngestResult, delivery: Delivery) -> None:
        try:
            self._archive(request, whole, delivery.queue)
        except IngestError as error:  # the lake itself may be the trouble
            log.warning("the record of job %s is not written: %s", delivery.id, error)

    def _archive(self, request: Request, result: IngestResult, queue: str) -> None:
        """Write to the lake how a job ended, without secrets in URIs. Redis forgets it some day."""
        safe: Request
        if isinstance(request, IngestRequest):
            sources = tuple(map(_without_secrets, request.sources))
            safe = request.model_copy(update={"sources": sources})
        else:
            bare = {n: shown(v) if isinstance(v, str) and "://" in v else v for n, v in request.parameters.items()}
            safe = request.model_copy(update={"parameters": bare})
        at = datetime.now(UTC).isoformat()
        record = {"request": safe.to_dict(), "result": result.to_dict(), "queue": queue, "at": at}
        RunRecords(self._store_of(request.tenant)).write(request.run, request.job_id, record)
        if isinstance(request, IngestRequest):
            failures.note(request, result, self._services.locks.client)


def _without_secrets(source: Source) -> Source:
    """Take the secrets from a source's address."""
    uri = shown(source.uri)
    return (
        source
        if source.signed is None and uri == source.uri
        else source.model_copy(update={"uri": uri, "signed": None})
    )


def translate_error(error: BaseException) -> IngestError:
    """Translate any error that a job ends with into ours."""
    if isinstance(error, IngestError):
        return error
    if isinstance(error, JobStoppedError):
        return error.error
    if isinstance(error, redis.RedisError | OSError):
        fix = "`ingestlab doctor` tells more."
        return TransientError.wrap(error, "Redis or the lake does not answer", fix, code="redis_unavailable")
    fix = "run.log() and the worker's log have the whole traceback."
    return TerminalError.wrap(error, "Job failed", fix, code="unforeseen")


def prepare(queues: Sequence[str], settings: Settings, client: redis.Redis) -> JobHandler:
    """Make a worker's handler, and load what its first job needs.

    Args:
        queues: Names of those that it will work on.
        settings: Where everything is.
        client: A connection to Redis, which the handler's locks share.

    Raises:
        TerminalError: The worker of notebooks would be the one that their files wait for.
    """
    own = settings.notebook_queue
    if own == settings.queue or (own in queues and len(queues) > 1):
        problem = f"Notebook queue {own} has no workers of its own"
        got = f"a worker of {', '.join(queues)}, where QUEUE_NAME is {settings.queue}"
        fix = f"Leave QUEUE_NAME to the files' queue; run `ingestlab worker {own}` beside the other workers."
        raise TerminalError(problem, got=got, fix=fix, code="setting_invalid")
    services = Services.create(settings, Locks(client, settings.lake_url, settings.lock_ttl))
    handler = JobHandler(services)
    if own not in queues:  # a notebook needs none of it here
        threading.Thread(target=_warm_up, args=(services,), name="warm-up", daemon=True).start()
        keep_doing("schedules", handler.over, LOOK_EVERY, lambda: run_due(settings, client)).start()
    return handler


def _warm_up(services: Services) -> None:
    """Do before the first job what would make it slow: imports, plug-ins, and the Dask connection."""
    quiet_pyspark()
    try:
        import pandera.pandas  # noqa: F401, PLC0415

        served()
        list(services.lake.sinks.values())  # imports them
        services.cluster.connect()
        if services.settings.executor == "threads" or not services.settings.dask_scheduler:  # files are read here
            loader.warm()
    except IngestError as error:
        log.warning("warm-up: %s", error)  # the job that needs it says so as well


def main(argv: Sequence[str] | None = None) -> int:
    """Work on queues until told to stop.

    Args:
        argv: Names of queues; None takes the command line's.

    Returns:
        The exit code.
    """
    settings = load_settings()
    queues = list(sys.argv[1:] if argv is None else argv) or [settings.queue]
    client = connect(settings.redis)
    try:
        return broker(settings, client).consume(queues, prepare(queues, settings, client))
    except IngestError as error:
        log.error("%s", error)  # noqa: TRY400 - the text says it all
        return 1
    finally:
        faulthandler.dump_traceback_later(GOODBYE_SECONDS, exit=True)


if __name__ == "__main__":
    sys.exit(main())
