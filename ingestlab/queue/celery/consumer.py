"""Celery's consumer without what we do not use, and with a place for messages that nobody can read."""

from __future__ import annotations

from typing import Any

from celery.worker.consumer.consumer import Consumer


class JobConsumer(Consumer):  # type: ignore[misc] # celery has no types
    """Refuses unreadable messages to the dead-letter queue; Celery deletes them."""

    class Blueprint(Consumer.Blueprint):  # type: ignore[misc] # likewise
        """Does not declare the thirty exchanges and queues of Celery's own delays."""

        default_steps = [step for step in Consumer.Blueprint.default_steps if "delayed_delivery" not in step]  # noqa: RUF012 - Celery's shape

    def on_decode_error(self, message: Any, exc: Exception) -> None:
        """Put a message aside that is not JSON."""
        message.ack = message.reject
        super().on_decode_error(message, exc)
