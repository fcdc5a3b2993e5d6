"""Short texts that tell one version of a source from another without reading it.

Two kinds: ``etag:"abc"`` or ``generation:1`` where the server names its versions, else what it says of size and time.
They are compared as text and kept in manifests, so that the next run can ask "changed?" instead of downloading.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

_ETAG = "etag:"
_MODIFIED = "modified:"
_ETAG_KEYS = ("ETag", "etag", "e_tag")  # S3, Google and Azure, others
_TIME_KEYS = ("mtime_ns", "mtime", "LastModified", "last_modified", "updated", "modified")


def listing_version(info: Mapping[str, Any]) -> str | None:
    """Read a file's version from fsspec's ``info`` or a detailed listing.

    Args:
        info: One file's entry, as the filesystem gave it.

    Returns:
        A token, or None if the entry tells no version: such a source is always read.
    """
    if generation := info.get("generation"):  # of Google Storage, whose ETag changes with metadata as well
        return f"generation:{generation}"
    for key in _ETAG_KEYS:
        if tag := info.get(key):
            return f"{_ETAG}{tag}"
    size = info.get("size")
    time = next((info[key] for key in _TIME_KEYS if info.get(key) is not None), None)
    return None if size is None or time is None else f"size:{size} time:{_instant(time)}"


def header_version(headers: Mapping[str, str]) -> str | None:
    """Read the version of a file from HTTP headers. None if they tell none."""
    if tag := headers.get("ETag"):
        return f"{_ETAG}{tag}"
    time = headers.get("Last-Modified")
    return f"{_MODIFIED}{time}" if time else None


def conditions(version: str | None) -> dict[str, str]:
    """Build the HTTP headers that ask for a changed file only."""
    if version and version.startswith(_ETAG):
        return {"If-None-Match": version.removeprefix(_ETAG)}
    if version and version.startswith(_MODIFIED):
        return {"If-Modified-Since": version.removeprefix(_MODIFIED)}
    return {}


def strong_etag(version: str | None) -> str | None:
    """Return a version's ETag if it vouches for every byte. Only then may a download be continued."""
    tag = (version or "").removeprefix(_ETAG)
    return tag if version and version.startswith(_ETAG) and tag.startswith('"') else None


def _instant(time: Any) -> str:
    if isinstance(time, datetime):
        return time.isoformat()
    return str(int(time * 1e9)) if isinstance(time, float) else str(time)
