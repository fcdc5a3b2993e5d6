"""The lake's storage: a local folder, or any object store that fsspec knows, behind one small Protocol.

All paths are relative to the lake, with forward slashes. Nothing half-written ever has its final name.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ingestlab.interfaces import Store
from ingestlab.lake.storage.faults import storage_error
from ingestlab.lake.storage.local import LocalStore
from ingestlab.lake.storage.objects import ObjectStore

__all__ = ["LocalStore", "ObjectStore", "Store", "on_disk", "open_store", "storage_error"]


_opened: dict[tuple[str, str], Store] = {}


def on_disk(store: Store) -> bool:
    """Tell whether a lake is a folder of this machine."""
    return Path(store.url).is_absolute()


def open_store(url: str, options: dict[str, dict[str, Any]] | None = None) -> Store:
    """Open a lake. Nothing is connected to; a process has one object a URL and options.

    Args:
        url: A folder, or a URL that fsspec knows, e.g. ``s3://bucket/lake``.
        options: Those of fsspec, by protocol, e.g. ``{"s3": {"key": …}}``.

    Raises:
        TerminalError: The options do not open it.
    """
    protocol = url.split("://", 1)[0] if "://" in url else "file"
    chosen = (options or {}).get(protocol, {})
    key = (url, repr(sorted(chosen.items())))
    if key not in _opened:
        store = LocalStore(url.split("://", 1)[-1]) if protocol in ("file", "local") else ObjectStore(url, chosen)
        _opened.setdefault(key, store)
    return _opened[key]
