"""Lists all files below a folder, one after the other: of a million, only some are in memory at a time."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from ingestlab.core.errors import TerminalError
from ingestlab.core.models import Source
from ingestlab.core.validators import listing_version

_PAGE = 1000  # objects of one answer: what S3 gives at most


def walk_local(folder: str) -> Iterator[tuple[str, os.stat_result]]:
    """Yield all files below a folder, but for hidden ones.

    Args:
        folder: Its path.

    Raises:
        TerminalError: It is not there. A folder that cannot be read is none without files.
        PermissionError: One below it cannot be read.
    """
    if not os.path.isdir(folder):
        raise _nothing(folder)
    folders = [os.path.abspath(folder)]
    while folders:
        try:
            entries = os.scandir(folders.pop())
        except FileNotFoundError:  # it has gone meanwhile
            continue
        with entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                elif entry.is_file():
                    with suppress(FileNotFoundError):
                        yield entry.path, entry.stat()


def walk_objects(fs: Any, uri: str) -> Iterator[Source]:
    """Yield all objects below a prefix, but for markers of folders.

    Args:
        fs: Its filesystem.
        uri: A bucket, or a folder in it.

    Raises:
        TerminalError: There is no such bucket, or the filesystem has no such folder.
    """
    start = uri.rstrip("/") + "/"
    path = str(fs._strip_protocol(start)).rstrip("/")  # noqa: SLF001 - it has no public name
    bucket, _, key = path.partition("/")
    pages = _PAGES.get(_kind(fs))
    prefix = f"{key}/" if key else ""
    home = start[: len(start) - len(prefix)]
    if pages is None:
        yield from _walk_any(fs, path, home.removesuffix(f"{bucket}/"))
        return
    for page in pages(fs, bucket, prefix):
        for name, info in page:
            if not name.endswith(("/", "_$folder$")):
                yield Source(uri=home + name, size=int(info["size"]), version=listing_version(info))


def _s3_pages(fs: Any, bucket: str, prefix: str) -> Iterator[list[tuple[str, dict[str, Any]]]]:
    """Yield pages of a bucket's objects. Nothing is kept of them, as fsspec's own listings are."""
    more: dict[str, str] = {}
    while True:
        answer = fs.call_s3("list_objects_v2", Bucket=bucket, Prefix=prefix, MaxKeys=_PAGE, **fs.req_kw, **more)
        yield [(o["Key"], {"size": o["Size"], **o}) for o in answer.get("Contents", ())]
        if not answer.get("IsTruncated"):
            return
        more = {"ContinuationToken": answer["NextContinuationToken"]}


def _gs_pages(fs: Any, bucket: str, prefix: str) -> Iterator[list[tuple[str, dict[str, Any]]]]:
    more: dict[str, str] = {}
    while True:
        answer = fs.call("GET", "b/{}/o", bucket, prefix=prefix, maxResults=_PAGE, json_out=True, **more)
        yield [(o["name"], o) for o in answer.get("items", ())]
        if "nextPageToken" not in answer:
            return
        more = {"pageToken": answer["nextPageToken"]}


_PAGES: dict[str, Callable[[Any, str, str], Iterator[list[tuple[str, dict[str, Any]]]]]] = {
    "s3": _s3_pages,
    "gs": _gs_pages,
}


def _walk_any(fs: Any, path: str, start: str) -> Iterator[Source]:
    """Walk any other filesystem, a folder at a time."""
    if not fs.isdir(path):
        raise _nothing(start + path)
    for _, _, files in fs.walk(path, detail=True):
        for info in files.values():
            name = str(info["name"]).lstrip("/")
            yield Source(uri=start + name, size=info.get("size"), version=listing_version(info))


def _kind(fs: Any) -> str:
    names = (fs.protocol,) if isinstance(fs.protocol, str) else tuple(fs.protocol)
    return next((name for name in names if name in _PAGES), "")


def _nothing(uri: str) -> TerminalError:
    fix = "Name a folder, or a bucket with or without a folder in it."
    return TerminalError(f"There is no folder {uri}", fix=fix, code="not_found")
