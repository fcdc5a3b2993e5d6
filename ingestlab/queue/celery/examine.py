"""What `ingestlab doctor` asks RabbitMQ."""

from __future__ import annotations

from collections.abc import Iterator

from ingestlab.core.jobs import BrokerFinding
from ingestlab.core.settings import Settings
from ingestlab.queue.celery.application import DEAD, broker_shown, connected, make_app, messages

CONSUMER_TIMEOUT = 1800  # seconds: RabbitMQ's own since 3.8.17


def examine(settings: Settings) -> Iterator[BrokerFinding]:
    """Look at the broker; raises IngestError where it does not answer."""
    app, shown, queue = make_app(settings), broker_shown(settings), settings.queue
    facts = connected(app, settings)
    yield BrokerFinding("ok", f"{facts.get('product')} {facts.get('version')} answers at {shown}.")
    if settings.job_timeout >= CONSUMER_TIMEOUT:
        text = (
            f"A job may take {settings.job_timeout} s. RabbitMQ tells no client its consumer_timeout, which is "
            f"{CONSUMER_TIMEOUT} s unless it is configured; after that it breaks the worker's connection."
        )
        milliseconds = (settings.job_timeout + 600) * 1000
        yield BrokerFinding("warning", text, f"Set consumer_timeout = {milliseconds} or more in rabbitmq.conf.")
    if dead := messages(app, settings, queue + DEAD):
        text = f"{dead} messages in the queue {queue + DEAD}: they are none of ingestlab's, and nobody could read them."
        yield BrokerFinding("warning", text, "Look at them, find out who sends them, and purge the queue.")
