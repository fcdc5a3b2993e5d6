"""URIs, patterns and listings as sources, and sources as requests of a good size."""

from __future__ import annotations

import glob as patterns
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

from ingestlab.core.access import check, shown
from ingestlab.core.errors import TerminalError
from ingestlab.core.models import Source
from ingestlab.core.settings import Settings
from ingestlab.core.validators import listing_version

Uris = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]
_MAGIC = "*?["
_UNLISTED = ("http", "https")  # servers that serve files but no listings


def texts(uris: Uris) -> list[str]:
    """One or several URIs as a list; raises TerminalError for what is no text and no path."""
    one = isinstance(uris, str | os.PathLike) or not hasattr(uris, "__iter__")
    given: list[Any] = [uris] if one else list(uris)  # type: ignore[arg-type]
    wrong = [uri for uri in given if not isinstance(uri, str | os.PathLike)]
    if wrong:
        got = shown(f"{type(wrong[0]).__name__} {wrong[0]!r}")[:200]
        problem = "Not the URI or path of a file, or a list of them"
        raise TerminalError(problem, got=got, fix="Give each as text.", code="argument_invalid")
    return [os.fspath(uri) for uri in given]


def expand(uris: Iterable[str], settings: Settings, *, glob: bool = False) -> list[Source]:
    """Turns URIs and patterns into sources, each once, in the order given; patterns sort their files.

    A listing tells the size and version of a file, so that what is unchanged need not be opened later. What exists
    under exactly the name given is meant by it, whatever else the name would match as a pattern.

    Args:
        uris: What is announced.
        settings: What is allowed, and how storage is reached.
        glob: Takes each for a pattern, though there may be a file of that name.

    Raises:
        TerminalError: A URI is not allowed, or a pattern matches nothing.
    """
    found: dict[str, Source] = {}
    for uri in uris:
        for source in _expand_one(uri, check(uri, settings), settings, glob=glob):
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


def _expand_one(uri: str, scheme: str, settings: Settings, *, glob: bool) -> list[Source]:
    if scheme == "file":
        return _expand_local(uri, glob=glob)
    if scheme in _UNLISTED:
        return [Source(uri=uri).bared(settings.secret_parameters)]
    return _expand_listed(uri, scheme, settings, glob=glob) if _magic(uri) else [Source(uri=uri)]


def _expand_listed(uri: str, scheme: str, settings: Settings, *, glob: bool) -> list[Source]:
    from ingestlab.sources.filesystem import connect, in_our_words  # noqa: PLC0415 - slow, and seldom needed here

    fs = connect(scheme, settings)
    path = str(fs._strip_protocol(uri))  # noqa: SLF001 - it has no public name
    try:
        if not glob and (named := _named(fs, path)):
            return [Source(uri=uri, size=named.get("size"), version=listing_version(named))]
        pattern = path if glob else _as_pattern(path, fs.isdir)
        found = fs.glob(pattern, detail=True).values()
    except Exception as error:
        raise in_our_words(error, uri) from error
    infos = sorted(_without_folders(found), key=lambda info: str(info["name"]))
    if not infos:
        raise _nothing(uri)
    first = str(infos[0]["name"])
    start = str(fs.unstrip_protocol(first)).removesuffix(first)  # asked once: of each name it takes its time
    return [Source(uri=start + info["name"], size=info.get("size"), version=listing_version(info)) for info in infos]


def _named(fs: Any, path: str) -> dict[str, Any] | None:
    """The object of exactly this name, if there is one: a name comes before a pattern."""
    try:
        info: dict[str, Any] = fs.info(path)
    except FileNotFoundError:
        return None
    return info if info.get("type") == "file" else None


def _as_pattern(path: str, is_folder: Callable[[str], bool]) -> str:
    """A path as a pattern, in which the folders that are really called so mean themselves."""
    steps = path.split("/")
    for place in range(len(steps) - 1):
        if _magic(steps[place]) and not is_folder("/".join(steps[: place + 1])):
            return "/".join([*map(patterns.escape, steps[:place]), *steps[place:]])
    return "/".join([*map(patterns.escape, steps[:-1]), steps[-1]])


def _without_folders(found: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The files of a listing, without the empty objects by which tools mark folders."""
    infos = list(found)
    folders = {str(info["name"]).rpartition("/")[0] for info in infos}
    for info in infos:
        name = str(info["name"])
        marker = not info.get("size") and (name.endswith("_$folder$") or name in folders)
        if info["type"] == "file" and not name.endswith("/") and not marker:
            yield info


def _expand_local(uri: str, *, glob: bool) -> list[Source]:
    """Local files by the standard library, which lists thousands of files faster than a general layer."""
    if "://" in uri:
        uri = os.fsdecode(unquote_to_bytes("/" + uri.split("://", 1)[1].partition("/")[2]))
    path = os.path.abspath(os.path.expanduser(uri))
    if not _magic(path) or (not glob and os.path.exists(path)):
        return [_local(path)]
    pattern = path if glob else _as_pattern(path, os.path.isdir)
    files = [p for p in sorted(patterns.glob(pattern, recursive=True)) if os.path.isfile(p)]
    if not files:
        raise _nothing(uri)
    return [_local(p) for p in files]


def _magic(text: str) -> bool:
    return any(c in text for c in _MAGIC)


def _local(path: str) -> Source:
    uri = Path(path).as_uri()
    try:
        stat = os.stat(path)
    except OSError:
        return Source(uri=uri)  # the worker, which may see another disk, says what is wrong
    info = {"size": stat.st_size, "mtime_ns": stat.st_mtime_ns}
    return Source(uri=uri, size=stat.st_size, version=listing_version(info))


def _nothing(uri: str) -> TerminalError:
    fix = "Check the pattern; quote it, so that no shell expands it."
    return TerminalError(f"There are no files that match {uri}", fix=fix, code="no_matches")
