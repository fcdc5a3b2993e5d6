"""Celery on RabbitMQ: the only home of its client. It carries messages; what a job is stays with us in Redis.

``celery -A ingestlab.queue.celery worker -Q QUEUE`` finds the application here. It is made on first use, from the
settings.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from celery import Celery

    app: Celery

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """Make the application of the settings, once."""
        if name == "app":
            from ingestlab.queue.celery.worker import stock_app  # noqa: PLC0415 - needs the extra, and the settings

            return stock_app()
        raise AttributeError(name)
