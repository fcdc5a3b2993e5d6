"""How Redis is read: about many things in one round trip, and by waiting for news in streams."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import redis
from redis.client import Pipeline

Item = TypeVar("Item")


def ask_each(client: redis.Redis, items: Sequence[Item], ask: Callable[[Pipeline, Item], object]) -> list[list[Any]]:
    """Ask Redis about each item, in one round trip.

    Args:
        client: Of Redis.
        items: What is asked about.
        ask: Adds the commands for one item, as many for each.

    Returns:
        The answers, item by item.
    """
    with client.pipeline(transaction=False) as pipe:
        for item in items:
            ask(pipe, item)
        answers = pipe.execute()
    each = len(answers) // max(1, len(items))
    return [answers[i * each : (i + 1) * each] for i in range(len(items))]


def wait_for_news(client: redis.Redis, streams: Mapping[str, str], seen: dict[str, str], seconds: float) -> list[str]:
    """Sleep until one of some streams has news, or a timeout.

    Args:
        client: Of Redis.
        streams: Their names, by job.
        seen: The last entry that is known of each job; is kept up to date.
        seconds: To wait at most.

    Returns:
        The jobs with news.
    """
    jobs = {stream: job for job, stream in streams.items()}
    known: Any = {stream: seen.get(job, "0-0") for stream, job in jobs.items()}
    answer: Any = client.xread(known, block=max(1, int(seconds * 1000)))
    news = {jobs[stream.decode()]: entries[-1][0].decode() for stream, entries in answer or []}
    seen.update(news)
    return list(news)
