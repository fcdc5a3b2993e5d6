"""When a source is asked once more, and how slow it may be."""

from __future__ import annotations

from typing import Any

import stamina

from ingestlab.core.errors import TransientError
from ingestlab.core.settings import Settings
from ingestlab.core.waiting import LONGEST_WAIT, again


def attempts(settings: Settings) -> Any:
    """Iterate over the attempts at one source.

    Only transient errors are tried again, with doubled delays.
    """
    return stamina.retry_context(
        on=again,
        attempts=settings.fetch_attempts,
        timeout=None,
        wait_initial=settings.fetch_delay,
        wait_max=LONGEST_WAIT,
        wait_jitter=settings.fetch_delay,
    )


def too_long(uri: str, limit: float, came: int) -> TransientError:
    """Make the error for a download that takes too long."""
    fix = "Try again when the server is less busy, or raise INGESTLAB_FETCH_TIMEOUT."
    problem = f"{uri} did not arrive within {limit:g} s"
    return TransientError(problem, got=f"{came:,} bytes", fix=fix, code="source_slow")


class Pace:
    """Require a source's least bytes a second, averaged over a window.

    Only the time spent waiting for the source counts: a slow disk of ours is not its fault.
    """

    def __init__(self, settings: Settings, uri: str) -> None:
        self._speed, self._window, self._uri = settings.min_speed, settings.read_timeout, uri
        self._waited = 0.0
        self._came = 0

    def add(self, waited: float, size: int) -> None:
        """Count `size` bytes that came after `waited` seconds.

        Raises:
            TransientError: That is too slow.
        """
        self._waited += waited
        self._came += size
        if self._waited < self._window:
            return
        if self._came < self._speed * self._waited:
            raise TransientError(
                f"{self._uri} is too slow",
                expected=f"at least {self._speed:,} bytes/s",
                got=f"{self._came:,} bytes in {self._waited:.1f} s",
                fix="Try again when the server is less busy, or lower INGESTLAB_MIN_SPEED.",
                code="source_slow",
            )
        self._waited, self._came = 0.0, 0
