"""What readers of one record a file share."""

from __future__ import annotations

from dataclasses import replace

from ingestlab.core.errors import TerminalError
from ingestlab.formats.common.bytes import Limits


def check_size(size: int, name: str, most: int) -> None:
    """Raise TerminalError for a file longer than its reader takes."""
    if size > most:
        raise TerminalError(f"at most {most:,} bytes in {name}", f"{size:,}", "Raise the reader's max_bytes.")


def capped(limits: Limits, most: int) -> Limits:
    """Cap what limits let expand at `most` bytes."""
    return replace(limits, max_expanded_bytes=min(limits.max_expanded_bytes, most))
