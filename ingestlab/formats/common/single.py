"""What readers of one record a file share."""

from __future__ import annotations

from dataclasses import replace

from ingestlab.core.errors import TerminalError
from ingestlab.formats.common.bytes import Limits


def check_size(size: int, name: str, most: int) -> None:
    """Raises TerminalError for a file that is longer than its reader takes."""
    if size > most:
        problem, expected, fix = f"{name} is too large", f"at most {most:,} bytes", "Raise the reader's max_bytes."
        raise TerminalError(problem, expected=expected, got=f"{size:,}", fix=fix, code="limit_exceeded")


def capped(limits: Limits, most: int) -> Limits:
    """Limits under which nothing expands to more than `most` bytes."""
    return replace(limits, max_expanded_bytes=min(limits.max_expanded_bytes, most))
