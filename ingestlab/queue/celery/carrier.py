"""RabbitMQ as the carrier of messages, published through Celery."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import JsonValue

from ingestlab.core.extras import needed
from ingestlab.core.settings import Settings
from ingestlab.queue.jobs.store import Turn

if TYPE_CHECKING:
    from celery import Celery

_APPS: dict[str | None, Celery] = {}  # by broker: each has a pool of connections


class CeleryCarrier:
    """See :class:`ingestlab.queue.jobs.queue.Carrier`.

    Args:
        settings: Name the broker. It is connected to on first use.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    @property
    def app(self) -> Celery:
        """Return the application of this broker, made once a process."""
        needed("celery", "celery", "the queue backend 'celery'")
        from ingestlab.queue.celery.application import make_app  # noqa: PLC0415 - needs the extra

        url = self._settings.broker_url
        if url not in _APPS:
            _APPS[url] = make_app(self._settings)
        return _APPS[url]

    def send(self, turn: Turn, message: JsonValue) -> None:
        """Publish a message, and wait for its confirmation."""
        app = self.app
        from ingestlab.queue.celery.application import publish, reaching_broker  # noqa: PLC0415 - likewise

        with reaching_broker(self._settings):
            publish(app, turn, message)

    def waiting(self, queue: str) -> int | None:
        """Count the messages that no worker has."""
        app = self.app
        from ingestlab.queue.celery.application import messages  # noqa: PLC0415 - likewise

        return messages(app, self._settings, queue)
