"""URIs, patterns and listings as sources, and sources as requests of a good size."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

from ingestlab.errors import TerminalError
from ingestlab.guard import check
from ingestlab.models import Source
from ingestlab.settings import Settings
from ingestlab.versions import listing_version

Uris = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]
_MAGIC = "*?["
_UNLISTED = ("http", "https")  # servers that serve files but no listings


def texts(uris: Uris) -> list[str]:
    """One or several URIs as a list; raises TerminalError for what is no text and no path."""
    one = isinstance(uris, str | os.PathLike) or not hasattr(uris, "__iter__")
    given: list[Any] = [uris] if one else list(uris)  # type: ignore[arg-type]
    wrong = [uri for uri in given if not isinstance(uri, str | os.PathLike)]
    if wrong:
        got = f"{type(wrong[0]).__name__} {wrong[0]!r}"[:200]
        raise TerminalError("the URI or path of a file, or a list of them", got, "Give each as text.")
    return [os.fspath(uri) for uri in given]


def expand(uris: Iterable[str], settings: Settings) -> list[Source]:
    """Turns URIs and patterns into sources, each once, in the order given; patterns sort their files.

    A listing tells the size and version of a file, so that what is unchanged need not be opened later.

    Raises:
        TerminalError: A URI is not allowed, or a pattern matches nothing.
    """
    found: dict[str, Source] = {}
    for uri in uris:
        for source in _expand_one(uri, check(uri, settings), settings):
            found.setdefault(source.uri, source)
    return list(found.values())


def pack(sources: Sequence[Source], settings: Settings) -> Iterator[list[Source]]:
    """Groups sources into requests of at most `request_files` files and about `request_bytes`.

    A file of unknown size counts as its share of a full request; a big file gets a request of its own.
    """
    unknown = settings.request_bytes // settings.request_files
    group: list[Source] = []
    weight = 0
    for source in sources:
        size = unknown if source.size is None else source.size
        if group and (len(group) >= settings.request_files or weight + size > settings.request_bytes):
            yield group
            group, weight = [], 0
        group.append(source)
        weight += size
    if group:
        yield group


def _expand_one(uri: str, scheme: str, settings: Settings) -> list[Source]:
    if scheme == "file":
        return _expand_local(uri)
    if scheme in _UNLISTED or not any(c in uri for c in _MAGIC):
        return [Source(uri=uri)]
    return _expand_listed(uri, scheme, settings)


def _expand_listed(uri: str, scheme: str, settings: Settings) -> list[Source]:
    from ingestlab.fetch.filesystem import connect, in_our_words  # noqa: PLC0415 - slow, and seldom needed here

    fs = connect(scheme, settings)
    try:
        found = fs.glob(fs._strip_protocol(uri), detail=True).values()  # noqa: SLF001 - it has no public name
    except Exception as error:
        raise in_our_words(error, uri) from error
    infos = sorted((info for info in found if info["type"] == "file"), key=lambda info: str(info["name"]))
    if not infos:
        raise _nothing(uri)
    first = str(infos[0]["name"])
    start = str(fs.unstrip_protocol(first)).removesuffix(first)  # asked once: of each name it takes its time
    return [Source(uri=start + info["name"], size=info.get("size"), version=listing_version(info)) for info in infos]


def _expand_local(uri: str) -> list[Source]:
    """Local files by the standard library, which lists thousands of files faster than a general layer."""
    if "://" in uri:
        uri = os.fsdecode(unquote_to_bytes("/" + uri.split("://", 1)[1].partition("/")[2]))
    path = os.path.abspath(os.path.expanduser(uri))
    if not any(c in path for c in _MAGIC) or os.path.exists(path):
        return [_local(path)]
    files = [p for p in sorted(glob.glob(path, recursive=True)) if os.path.isfile(p)]
    if not files:
        raise _nothing(uri)
    return [_local(p) for p in files]


def _local(path: str) -> Source:
    uri = Path(path).as_uri()
    try:
        stat = os.stat(path)
    except OSError:
        return Source(uri=uri)  # the worker, which may see another disk, says what is wrong
    info = {"size": stat.st_size, "mtime_ns": stat.st_mtime_ns}
    return Source(uri=uri, size=stat.st_size, version=listing_version(info))


def _nothing(uri: str) -> TerminalError:
    return TerminalError(f"files that match {uri}", "none", "Check the pattern; quote it, so that no shell expands it.")
