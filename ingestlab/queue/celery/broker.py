"""Celery as a queue: RabbitMQ carries the messages of jobs, which Redis has."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import redis

from ingestlab.core.errors import IngestError
from ingestlab.core.extras import needed
from ingestlab.core.jobs import BrokerFinding
from ingestlab.core.settings import Settings
from ingestlab.interfaces import Handler
from ingestlab.queue.celery.carrier import CeleryCarrier
from ingestlab.queue.jobs.queue import CarriedQueue


class CeleryQueue(CarriedQueue):
    """See :class:`ingestlab.interfaces.Queue`."""

    def __init__(self, settings: Settings, client: redis.Redis) -> None:
        super().__init__(settings, client, CeleryCarrier(settings))

    def examine(self) -> Iterator[BrokerFinding]:
        """Tell whether RabbitMQ answers, and what is wrong with it."""
        try:
            needed("celery", "celery", "the queue backend 'celery'")
            from ingestlab.queue.celery.examine import examine  # noqa: PLC0415 - needs the extra

            yield from examine(self._settings)
        except IngestError as error:
            yield BrokerFinding("error", f"{error.reason}.", error.fix)

    def consume(self, queues: Sequence[str], handler: Handler) -> int:
        """Run a Celery worker in this process until told to stop."""
        needed("celery", "celery", "the queue backend 'celery'")
        from ingestlab.queue.celery.worker import work  # noqa: PLC0415 - needs the extra

        return work(self._settings, self._client, queues, handler)
