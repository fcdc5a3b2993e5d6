"""Servers that say how long to wait before they are asked again."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from ingestlab.core.errors import TransientError

LONGEST_WAIT = 60.0  # seconds; a server that asks for more is left to the retries of the whole job


class WaitError(TransientError):
    """A server that said how long to wait before the next attempt."""

    wait: float = 0.0


def again(error: Exception) -> bool | float:
    """Decide, for stamina, whether to try again, and after how many seconds."""
    if isinstance(error, WaitError):
        return error.wait if error.wait <= LONGEST_WAIT else False
    return isinstance(error, TransientError)


def retry_after(value: str) -> float | None:
    """Parse a Retry-After header, a number or a date, into seconds.

    Args:
        value: Of the header.
    """
    if value.isdecimal():
        return float(value)
    try:
        then = parsedate_to_datetime(value)
    except ValueError:
        return None
    then = then if then.tzinfo else then.replace(tzinfo=UTC)
    return max(0.0, (then - datetime.now(UTC)).total_seconds())
