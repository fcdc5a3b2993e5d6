"""What patterns name: on this machine's disks, and on filesystems that fsspec knows."""

from __future__ import annotations

import glob as patterns
import os
import stat
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

from ingestlab.core.access import suffixes
from ingestlab.core.errors import TerminalError, did_you_mean
from ingestlab.core.models import Source
from ingestlab.core.settings import Settings
from ingestlab.core.validators import listing_version

_MAGIC = "*?["
_LOOKED_AT = 1000  # entries of a folder that tell the suffix of its files


def list_objects(fs: Any, uri: str, *, glob: bool) -> list[Source]:
    """List what a pattern names on a filesystem, with its own errors."""
    path = str(fs._strip_protocol(uri))  # noqa: SLF001 - it has no public name
    if not glob and (named := _named(fs, path)):
        return [Source(uri=uri, size=named.get("size"), version=listing_version(named))]
    pattern = path if glob else _as_pattern(path, fs.isdir)
    entries = fs.glob(pattern, detail=True).values()
    infos = sorted(_without_folders(entries), key=lambda info: str(info["name"]))
    if not infos:
        raise _nothing(uri)
    first = str(infos[0]["name"])
    start = str(fs.unstrip_protocol(first)).removesuffix(first)  # asked once: of each name it takes its time
    return [Source(uri=start + info["name"], size=info.get("size"), version=listing_version(info)) for info in infos]


def _named(fs: Any, path: str) -> dict[str, Any] | None:
    """Return the object of exactly this name, which comes before a pattern."""
    try:
        info: dict[str, Any] = fs.info(path)
    except FileNotFoundError:
        return None
    return info if info.get("type") == "file" else None


def _as_pattern(path: str, is_folder: Callable[[str], bool]) -> str:
    """Make a pattern of a path; folders really called so mean themselves."""
    steps = path.split("/")
    for place in range(len(steps) - 1):
        if magic(steps[place]) and not is_folder("/".join(steps[: place + 1])):
            return "/".join([*map(patterns.escape, steps[:place]), *steps[place:]])
    return "/".join([*map(patterns.escape, steps[:-1]), steps[-1]])


def _without_folders(entries: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield the files of a listing, without markers of folders."""
    infos = list(entries)
    folders = {str(info["name"]).rpartition("/")[0] for info in infos}
    for info in infos:
        name = str(info["name"])
        marker = not info.get("size") and (name.endswith("_$folder$") or name in folders)
        if info["type"] == "file" and not name.endswith("/") and not marker:
            yield info


def list_local(uri: str, settings: Settings, *, glob: bool) -> list[Source]:
    """List local files by the standard library: of thousands, faster than fsspec.

    Args:
        uri: A path, a file URI, or a pattern of them.
        settings: Tell whether a file that is missing here is missing for the workers.
        glob: Take it for a pattern, though there may be a file of that name.

    Raises:
        TerminalError: It is a folder, or a missing file, or a pattern that matches nothing.
    """
    path = plain_path(uri)
    if not magic(path) or (not glob and os.path.exists(path)):
        return [_local(path, settings)]
    pattern = path if glob else _as_pattern(path, os.path.isdir)
    files = [p for p in sorted(patterns.glob(pattern, recursive=True)) if os.path.isfile(p)]
    if not files:
        raise _nothing(uri)
    return [_local(p, settings) for p in files]


def plain_path(uri: str) -> str:
    """Return the absolute path of a file URI or plain path."""
    if "://" in uri:
        uri = os.fsdecode(unquote_to_bytes("/" + uri.split("://", 1)[1].partition("/")[2]))
    return os.path.abspath(os.path.expanduser(uri))


def magic(text: str) -> bool:
    """Tell whether a text could be a pattern."""
    return any(c in text for c in _MAGIC)


def _local(path: str, settings: Settings) -> Source:
    uri = Path(path).as_uri()
    try:
        status = os.stat(path)
    except OSError as error:
        if isinstance(error, FileNotFoundError | NotADirectoryError) and settings.workers_here:
            raise _missing(path) from None
        return Source(uri=uri)  # a worker may see another disk; if not, it says what is wrong
    if stat.S_ISDIR(status.st_mode):
        raise TerminalError(f"This is a folder: {path}", expected="files", fix=_name_its_files(path), code="not_found")
    return local_source(path, status)


def local_source(path: str, status: os.stat_result) -> Source:
    """Describe a local file.

    Args:
        path: Its absolute path.
        status: What the system says of it.
    """
    info = {"size": status.st_size, "mtime_ns": status.st_mtime_ns}
    return Source(uri=Path(path).as_uri(), size=status.st_size, version=listing_version(info))


def _name_its_files(folder: str) -> str:
    """Write the pattern that most likely means a folder's files: by its commonest suffix, below it if need be."""
    deep = {"": _suffixes(folder, "*"), "**/": _suffixes(folder, "**/*")}
    below, counts = next(((b, s) for b, s in deep.items() if s), ("", Counter()))
    suffix = counts.most_common(1)[0][0] if counts else ""
    return f'Name its files, e.g. "{folder}/{below}*{suffix}" (in quotes).'


def _suffixes(folder: str, pattern: str) -> Counter[str]:
    """Count the suffixes of some of a folder's files."""
    paths = islice(patterns.iglob(pattern, root_dir=folder, recursive=True), _LOOKED_AT)
    return Counter(suffixes(path) for path in paths if os.path.isfile(os.path.join(folder, path)))


def _missing(path: str) -> TerminalError:
    folder, name = os.path.split(path)
    beside = os.listdir(folder) if os.path.isdir(folder) else []
    fix = did_you_mean(name, beside, "Check the path.") if beside else f"There is no folder {folder}: check the path."
    return TerminalError(f"File not found: {path}", fix=fix, code="not_found")


def _nothing(uri: str) -> TerminalError:
    fix = "Check the pattern; quote it, so that no shell expands it."
    return TerminalError(f"There are no files that match {uri}", fix=fix, code="no_matches")
