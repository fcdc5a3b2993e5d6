"""SQS as a queue: it carries the messages of jobs, which Redis has."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import redis

from ingestlab.core.errors import IngestError, TransientError
from ingestlab.core.jobs import BrokerFinding
from ingestlab.core.settings import Settings
from ingestlab.interfaces import Handler
from ingestlab.queue.jobs.queue import CarriedQueue
from ingestlab.queue.jobs.runner import Runner
from ingestlab.queue.sqs.carrier import Arrived, SqsCarrier

log = logging.getLogger("ingestlab.queue.sqs")

_WAIT = 2  # seconds of one look: a worker that is told to stop does so after it
_GLANCE = 1  # seconds, where a more urgent queue is looked at in between
_AWAY = 5.0  # seconds between two tries where SQS does not answer


class SqsQueue(CarriedQueue):
    """See :class:`ingestlab.interfaces.Queue`."""

    def __init__(self, settings: Settings, client: redis.Redis) -> None:
        self._sqs = SqsCarrier(settings)
        super().__init__(settings, client, self._sqs)

    def consume(self, queues: Sequence[str], handler: Handler) -> int:
        """Take messages, one at a time, until told to stop."""
        for queue in queues:
            self._sqs.waiting(queue)  # says so at once if it is not there
        held: dict[str, Arrived] = {}

        def keep() -> None:
            for queue, message in list(held.items()):
                try:
                    self._sqs.keep(queue, message)
                except IngestError as error:  # it comes again, and starts nothing
                    log.warning("%s", error)

        with (
            _stop_signals() as told,
            Runner(self._settings, self._client, queues, handler, self._sqs, on_beat=keep) as runner,
        ):
            while not told.is_set():
                queue, message = self._next(queues, told)
                if message is None:
                    continue
                held[queue] = message
                try:
                    runner(queue, message.request, message.job, message.turn)
                    self._settle(queue, message)
                except redis.RedisError as error:
                    log.error("Redis does not answer (%s): the message comes again", error)  # noqa: TRY400
                finally:
                    held.clear()
        return 0

    def examine(self) -> Iterator[BrokerFinding]:
        """Tell whether SQS answers."""
        try:
            count = self._sqs.waiting(self._settings.queue)
            yield BrokerFinding("ok", f"SQS answers; messages in the queue {self._settings.queue}: about {count}.")
        except IngestError as error:
            yield BrokerFinding("error", f"{error.reason}.", error.fix)

    def _next(self, queues: Sequence[str], told: threading.Event) -> tuple[str, Arrived | None]:
        """Look at queues, the most urgent first, and wait at the last."""
        try:
            for queue in queues[:-1]:
                if message := self._sqs.receive(queue, 0):
                    return queue, message
            return queues[-1], self._sqs.receive(queues[-1], _GLANCE if queues[1:] else _WAIT)
        except TransientError as error:
            log.warning("%s; asked again in %g s", error, _AWAY)
            told.wait(_AWAY)
            return queues[-1], None

    def _settle(self, queue: str, message: Arrived) -> None:
        try:
            self._sqs.settle(queue, message)
        except IngestError as error:  # likewise
            log.warning("%s", error)


@contextmanager
def _stop_signals() -> Iterator[threading.Event]:
    """Give an event that SIGTERM and SIGINT set."""
    told = threading.Event()
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(number, lambda *_: told.set()) for number in numbers]
    try:
        yield told
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
