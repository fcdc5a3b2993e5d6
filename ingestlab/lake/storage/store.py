"""The lake's storage: a local folder, or any object store that fsspec knows, behind one small Protocol.

All paths are relative to the lake, with forward slashes. Nothing half-written ever has its final name.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from ingestlab.interfaces import Store
from ingestlab.lake.storage.faults import storage_error
from ingestlab.lake.storage.local import LocalStore
from ingestlab.lake.storage.objects import ObjectStore

__all__ = ["LocalStore", "ObjectStore", "Store", "open_store", "storage_error"]


def open_store(url: str, options: dict[str, dict[str, Any]] | None = None) -> Store:
    """Open the lake at `url`; `options` are fsspec's, by protocol. One object per URL and process."""
    protocol = url.split("://", 1)[0] if "://" in url else "file"
    chosen = (options or {}).get(protocol, {})
    return _open(url, protocol, repr(sorted(chosen.items())), _Box(chosen))


class _Box:
    """Carries the options past the cache, whose key is their repr."""

    def __init__(self, value: dict[str, Any]) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Box)

    def __hash__(self) -> int:
        return 0


@cache
def _open(url: str, protocol: str, _key: str, options: _Box) -> Store:
    if protocol in ("file", "local"):
        return LocalStore(url.split("://", 1)[-1])
    return ObjectStore(url, options.value)
