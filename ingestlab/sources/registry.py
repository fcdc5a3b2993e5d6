"""Which source serves a scheme."""

from __future__ import annotations

from ingestlab.core import schemes
from ingestlab.core.plugins import load
from ingestlab.interfaces import Source


def source_of(scheme: str) -> Source:
    """Find the source that serves a scheme, by default fsspec's filesystems."""
    source: Source = schemes.source(scheme) or load("sources", "filesystems")()
    return source
