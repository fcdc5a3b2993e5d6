"""The processes of a Celery worker: our own, which is one process, and those of ``celery -A ingestlab.queue.celery``.

Each process that runs jobs registers itself and beats its heart in Redis. What becomes of a job is decided there: a
message that RabbitMQ brings once more, because a worker is dead or only its connection, starts no job twice.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Sequence
from functools import cache
from typing import Any

import redis
from celery import Celery, signals
from celery.exceptions import Reject

from ingestlab.core.errors import IngestError
from ingestlab.core.jobs import Failed
from ingestlab.core.settings import Settings, load_settings
from ingestlab.interfaces import Handler
from ingestlab.lake.locks import connect
from ingestlab.queue.celery.application import TASK, connected, make_app
from ingestlab.queue.celery.carrier import CeleryCarrier
from ingestlab.queue.jobs.queue import CarriedQueue
from ingestlab.queue.jobs.runner import Runner

log = logging.getLogger("ingestlab.queue.celery")

_POOLS = ("solo", "prefork")  # in which a job has the main thread of a process


class Process:
    """What this process runs jobs with."""

    runner: Runner | None = None


def add_task(app: Celery) -> None:
    """Add the one task, which calls the runner of its process."""

    def ingest(task: Any, *args: Any, **options: Any) -> str:
        """Run one turn of a job."""
        if Process.runner is None:
            raise Reject("this process cannot run jobs", requeue=True)
        delivery, turn = task.request.delivery_info, options.get("turn")
        message = args[0] if len(args) == 1 else list(args)
        job = task.request.id if isinstance(turn, str) else None
        try:
            end = Process.runner(delivery["routing_key"], message, job, turn if job else None)
        except redis.RedisError as error:
            raise Reject(f"Redis does not answer: {error}", requeue=True) from error
        if isinstance(end, Failed):
            raise end.error  # for Flower; what the job did is in Redis
        return type(end).__name__ if end else "nothing to do"

    app.task(ingest, name=TASK, bind=True, throws=(IngestError,), max_retries=0)


def work(settings: Settings, client: redis.Redis, queues: Sequence[str], handler: Handler) -> int:
    """Run a worker of one process.

    Args:
        settings: Name the broker.
        client: Of Redis.
        queues: Names.
        handler: Does the jobs.

    Returns:
        The exit code.

    Raises:
        IngestError: RabbitMQ is not named, away, or does not let us in.
    """
    app = make_app(settings)
    app.set_current()
    connected(app, settings)
    app.conf.broker_heartbeat = 0  # a job has the only thread; that a worker is dead shows in Redis
    add_task(app)
    with Runner(settings, client, queues, handler, CeleryCarrier(settings)) as Process.runner:
        worker = app.Worker(
            queues=list(queues),
            pool="solo",
            hostname=f"{Process.runner.name}@{socket.gethostname()}",
            loglevel=os.environ.get("INGESTLAB_LOG_LEVEL", "INFO"),
            quiet=True,
        )
        worker.start()
    Process.runner = None
    return int(worker.exitcode or 0)


@cache
def stock_app() -> Celery:
    """Make the application for Celery's own command line. Each of its processes makes a handler for itself."""
    settings = load_settings()
    settings = settings.model_copy(update={"broker": "celery"})
    app = make_app(settings)
    add_task(app)

    @signals.worker_init.connect(weak=False)  # type: ignore[untyped-decorator]
    def check(sender: Any, **_facts: Any) -> None:
        pool = str(getattr(sender.pool_cls, "__module__", sender.pool_cls)).rpartition(".")[2]
        if pool not in _POOLS:
            raise SystemExit(f"The pool '{pool}' cannot stop jobs. Start the worker with --pool prefork or solo.")

    @signals.worker_process_init.connect(weak=False)  # type: ignore[untyped-decorator]
    def begin(**_facts: Any) -> None:
        _begin(app, settings)

    @signals.worker_process_shutdown.connect(weak=False)  # type: ignore[untyped-decorator]
    @signals.worker_shutdown.connect(weak=False)  # type: ignore[untyped-decorator]
    def end(**_facts: Any) -> None:
        if Process.runner is not None:
            Process.runner.__exit__()
            Process.runner = None

    @signals.task_revoked.connect(weak=False)  # type: ignore[untyped-decorator]
    def cancel(request: Any, **_facts: Any) -> None:
        CarriedQueue(settings, connect(settings.redis), CeleryCarrier(settings)).cancel(
            request.id, "by `celery revoke`"
        )

    return app


def _begin(app: Celery, settings: Settings) -> None:
    """Make what this process runs jobs with."""
    from ingestlab.queue.worker import prepare  # noqa: PLC0415 - pulls in the engine

    queues, client = list(app.amqp.queues.consume_from), connect(settings.redis)
    handler = prepare(queues, settings, client)
    parent = os.getppid() if _is_child() else None
    runner = Runner(settings, client, queues, handler, CeleryCarrier(settings), parent=parent)
    Process.runner = runner.__enter__()


def _is_child() -> bool:
    from billiard.process import current_process  # noqa: PLC0415 - has no types

    return bool(current_process().name != "MainProcess")
