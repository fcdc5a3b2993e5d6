"""What readers of one record a file share."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from typing import Any

from ingestlab.errors import TerminalError
from ingestlab.readers.bytes import Limits


def check_size(size: int, name: str, most: int) -> None:
    """Raises TerminalError for a file that is longer than its reader takes."""
    if size > most:
        raise TerminalError(f"at most {most:,} bytes in {name}", f"{size:,}", "Raise the reader's max_bytes.")


def capped(limits: Limits, most: int) -> Limits:
    """Limits under which nothing expands to more than `most` bytes."""
    return replace(limits, max_expanded_bytes=min(limits.max_expanded_bytes, most))


def needed(module: str, extra: str, reader: str) -> Any:
    """A module of an optional dependency.

    Raises:
        TerminalError: It is not installed; the text names the extra that brings it.
    """
    try:
        return import_module(module)
    except ImportError as error:
        wanted = f"the package behind {reader} ({module.partition('.')[0]})"
        raise TerminalError.wrap(error, wanted, f"Install it with: pip install 'ingestlab[{extra}]'.") from error
