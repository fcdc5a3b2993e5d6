"""The Celery application: one task, durable queues, and none of Celery's own retries, delays and results."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from amqp.exceptions import AccessRefused, AMQPError, ChannelError, NotFound, PreconditionFailed
from celery import Celery
from celery.app import amqp
from kombu.connection import Connection
from kombu.entity import Exchange, Queue
from kombu.exceptions import KombuError, OperationalError
from pydantic import JsonValue

from ingestlab.core.errors import IngestError, TerminalError, TransientError
from ingestlab.core.settings import Settings
from ingestlab.queue.jobs.store import Turn

TASK = "ingestlab.ingest"
DEAD = ".dead"  # ends the name of the queue to which go messages that are none of ours
_SECONDS = 5  # to connect
_SILENCE = 8  # seconds that RabbitMQ may take to answer
_NO_ROUTE = 312  # of a message for a queue that somebody has deleted
_OPTIONS = {
    "accept_content": ["json"],
    "task_serializer": "json",
    "result_backend": None,
    "task_ignore_result": True,
    "task_acks_late": True,
    "task_reject_on_worker_lost": True,
    "worker_prefetch_multiplier": 1,
    "worker_cancel_long_running_tasks_on_connection_loss": False,  # the job goes on, and counts once
    "worker_proc_alive_timeout": 120.0,  # a child imports pandas and Dask before it is ready
    "worker_redirect_stdouts": False,
    "worker_send_task_events": True,  # for Flower
    "worker_consumer": "ingestlab.queue.celery.consumer:JobConsumer",
    "task_default_exchange": "",  # a queue is reached by its name, also by those who do not know Celery
    # A RabbitMQ that is there and does not answer must not hold up a worker's heart.
    "broker_transport_options": {"confirm_publish": True, "read_timeout": _SILENCE, "write_timeout": _SILENCE},
    "broker_connection_timeout": _SECONDS,
    "broker_connection_retry_on_startup": True,
    "broker_connection_max_retries": None,
    "task_publish_retry_policy": {"max_retries": 1, "interval_start": 0, "interval_step": 0.2},
}


class WorkQueue(Queue):
    """A quorum queue, with a queue for what is refused."""

    def declare(self, nowait: bool = False, channel: Any = None) -> Any:  # noqa: FBT001, FBT002 - kombu's signature
        """Declare both."""
        dead = Queue(self.name + DEAD, Exchange(""), self.name + DEAD, queue_arguments={"x-queue-type": "quorum"})
        dead(channel or self.channel).declare(nowait=nowait)
        return super().declare(nowait=nowait, channel=channel)  # type: ignore[no-untyped-call] # kombu has few types


def work_queue(name: str) -> Queue:
    """Describe a queue of jobs."""
    arguments = {
        "x-queue-type": "quorum",
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": name + DEAD,
    }
    return WorkQueue(name, Exchange(""), name, queue_arguments=arguments)  # type: ignore[no-untyped-call] # likewise


class WorkQueues(amqp.Queues):  # type: ignore[misc] # celery has no types
    """Queues that are asked for by name are ours."""

    def new_missing(self, name: str) -> Queue:
        """Describe a queue that nobody has declared yet."""
        return work_queue(name)


class Amqp(amqp.AMQP):  # type: ignore[misc] # likewise
    """Celery's way to queues, with ours."""

    queues_cls = WorkQueues


def make_app(settings: Settings) -> Celery:
    """Make the application. It connects on first use.

    Args:
        settings: Name the broker.

    Raises:
        TerminalError: They name none, or another kind.
    """
    url = broker_url(settings)
    app = Celery("ingestlab", broker=url, amqp=Amqp, set_as_current=False)
    app.conf.update(
        _OPTIONS,
        broker_read_url=url,  # whatever the environment says to Celery
        broker_write_url=url,
        task_default_queue=settings.queue,
        task_queues=[work_queue(settings.queue)],
    )
    return app


def broker_url(settings: Settings) -> str:
    """Return the URL of RabbitMQ."""
    url = settings.broker_url or ""
    if urlsplit(url).scheme in {"amqp", "amqps", "pyamqp"} and urlsplit(url).hostname:
        return url
    raise TerminalError(
        "No RabbitMQ server is named for the queue backend 'celery'",
        expected="one in INGESTLAB_BROKER_URL (or CELERY_BROKER_URL)",
        got=f"a URL of {urlsplit(url).scheme or 'no scheme'}" if url else "",
        fix="Set INGESTLAB_BROKER_URL=amqp://user:password@host:5672/.",
        code="setting_invalid" if url else "setting_missing",
    )


def broker_shown(settings: Settings) -> str:
    """Return the broker's address without its password, for people and logs."""
    parts = urlsplit(broker_url(settings))
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


@contextmanager
def reaching_broker(settings: Settings) -> Iterator[None]:
    """Translate errors of the client: RabbitMQ does not answer, does not let us in, or has another such queue."""
    try:
        yield
    except IngestError:
        raise
    except (AMQPError, KombuError, OSError) as error:
        raise _translated(error, broker_shown(settings)) from error


def _translated(error: BaseException, shown: str) -> IngestError:
    cause = error.__cause__ if isinstance(error, OperationalError) and error.__cause__ else error
    if isinstance(cause, AccessRefused):
        problem, fix = f"RabbitMQ at {shown} does not let us in", "Check user and password in INGESTLAB_BROKER_URL."
        return TerminalError.wrap(cause, problem, fix, code="credentials_invalid")
    if isinstance(cause, PreconditionFailed):
        problem = f"RabbitMQ at {shown} has a queue of this name that is no quorum queue of ours"
        return TerminalError.wrap(cause, problem, "Name another in QUEUE_NAME, or delete it.", code="setting_invalid")
    fix = "Start it, or check INGESTLAB_BROKER_URL."
    return TransientError.wrap(cause, f"No answer from RabbitMQ at {shown}", fix, code="source_unavailable")


def connected(app: Celery, settings: Settings) -> dict[str, Any]:
    """Connect to RabbitMQ once; gives what it says of itself.

    Raises:
        IngestError: It is away, or does not let us in.
    """
    with reaching_broker(settings):
        connection: Connection = app.connection_for_write()
        with connection:
            connection.ensure_connection(max_retries=1, interval_start=0, timeout=_SECONDS)
            facts: dict[str, Any] = dict(connection.connection.server_properties)
    return facts


def publish(app: Celery, turn: Turn, message: JsonValue) -> None:
    """Send the message of a turn, and wait until RabbitMQ has it."""
    queue = work_queue(turn.queue)
    send = partial(app.send_task, TASK, (message,), {"turn": turn.turn}, task_id=turn.job, queue=queue)
    send = partial(send, mandatory=True, confirm_timeout=_SILENCE, retry=True)
    try:
        send()
    except ChannelError as error:
        if error.reply_code != _NO_ROUTE:
            raise
        with app.connection_for_write() as connection:  # this one has not declared the queue yet
            send(producer=app.amqp.Producer(connection))


def messages(app: Celery, settings: Settings, queue: str) -> int:
    """Count the messages of a queue that no worker has. There are none in one that is not there."""
    with reaching_broker(settings), app.connection_or_acquire() as connection:
        connection.ensure_connection(max_retries=1, interval_start=0, timeout=_SECONDS)
        channel = connection.channel()
        try:
            return int(channel.queue_declare(queue, passive=True).message_count)
        except NotFound:
            return 0
        finally:
            channel.close()
