"""The lake's storage: a local folder, or any object store that fsspec knows, behind one small Protocol.

All paths are relative to the lake, with forward slashes. Nothing half-written ever has its final name.
"""

from __future__ import annotations

from typing import Any

from ingestlab.interfaces import Store
from ingestlab.lake.storage.faults import storage_error
from ingestlab.lake.storage.local import LocalStore
from ingestlab.lake.storage.objects import ObjectStore

__all__ = ["LocalStore", "ObjectStore", "Store", "open_store", "storage_error"]


_opened: dict[tuple[str, str], Store] = {}


def open_store(url: str, options: dict[str, dict[str, Any]] | None = None) -> Store:
    """Open the lake at `url`; `options` are fsspec's, by protocol. One object per URL and process."""
    protocol = url.split("://", 1)[0] if "://" in url else "file"
    chosen = (options or {}).get(protocol, {})
    key = (url, repr(sorted(chosen.items())))
    if key not in _opened:
        store = LocalStore(url.split("://", 1)[-1]) if protocol in ("file", "local") else ObjectStore(url, chosen)
        _opened.setdefault(key, store)
    return _opened[key]
