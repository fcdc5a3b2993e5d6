"""Sources on any filesystem that fsspec knows: local files, S3, Google Cloud Storage and the rest."""

from __future__ import annotations

import stat
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import fsspec
from fsspec.implementations.local import LocalFileSystem

from ingestlab.core import access as guard
from ingestlab.core.errors import IngestError, TerminalError, TransientError
from ingestlab.core.models import FetchedFile, Source, SourceRecord
from ingestlab.core.settings import Settings
from ingestlab.core.validators import listing_version
from ingestlab.sources.outcome import Unchanged
from ingestlab.sources.raw_zone import BUFFER, LakeFaultError, Landing, Site
from ingestlab.sources.retry import Pace, attempts, too_long

_BLOCK = 8 << 20  # bytes of one request to an object store
_EXTRAS = {"gs": "gcs", "gcs": "gcs"}
_OPTIONS = "INGESTLAB_STORAGE_OPTIONS"


def connect(scheme: str, settings: Settings) -> Any:
    """The filesystem of a scheme, with the options that the settings have for it.

    Call it from one thread: fsspec keeps an instance, and its connections, for each thread that asks.

    Raises:
        TerminalError: Its package is not installed, or the options cannot be used.
    """
    try:
        filesystem = fsspec.filesystem(scheme, **settings.storage_options.get(scheme, {}))
    except ImportError as error:
        extra = _EXTRAS.get(scheme)
        fix = f"pip install 'ingestlab[{extra}]'" if extra else "Install the package that it names."
        problem = f"The package that reads {scheme}:// sources is missing"
        raise TerminalError.wrap(error, problem, fix, code="package_missing") from None
    except (TypeError, ValueError) as error:
        problem = f"Options for {scheme}:// sources cannot be used"
        raise TerminalError.wrap(error, problem, f"Check {_OPTIONS}.", code="setting_invalid") from error
    filesystem.invalidate_cache()  # files may have changed since some listing in this process
    return filesystem


class FileSources:
    """Copies files into the lake; each call blocks, so that many of them run in threads."""

    def __init__(self, site: Site, settings: Settings, moved: Callable[[int], None]) -> None:
        self._site, self._settings, self._moved = site, settings, moved

    def get(self, filesystem: Any, source: Source, known: SourceRecord | None) -> FetchedFile | Unchanged:
        """Copies one file, in several attempts if need be; the guard has let it pass.

        Raises:
            TerminalError: The source is refused, or refuses.
            TransientError: The source could not be had in the attempts and the time that the settings give.
            LakeFaultError: The lake cannot be written.
        """
        for attempt in attempts(self._settings):
            announced = source if attempt.num == 1 else Source(uri=source.uri)  # a listing may be outdated by now
            with attempt, Landing(self._site, source.uri) as landing:
                try:
                    return self._once(filesystem, announced, known, landing)
                except (IngestError, LakeFaultError):
                    raise
                except Exception as error:  # each filesystem has its own kinds of errors
                    raise in_our_words(error, source.uri) from error
        raise AssertionError("stamina gives up by raising")

    def _once(
        self, filesystem: Any, source: Source, known: SourceRecord | None, landing: Landing
    ) -> FetchedFile | Unchanged:
        path = self._path(filesystem, source.uri)
        seen = Seen(source.size or 0, source.version)
        big = seen.size > BUFFER and _unwraps(filesystem)
        if source.size is None or source.version is None or _local(filesystem) or big:
            seen = _look(filesystem, path, source.uri)
        if seen.version and known and known.version == seen.version:
            return Unchanged(source.uri, seen.version)
        landing.expect(seen.size)
        if seen.wrapped:
            self._copy_unwrapped(filesystem, path, landing)
        else:
            self._copy(filesystem, path, seen.size, landing)
        self._compare(filesystem, path, seen, landing)
        return landing.settle(seen.version, known)

    def _path(self, filesystem: Any, uri: str) -> str:
        if _local(filesystem):
            return str(guard.local_path(uri, self._settings))
        return str(filesystem._strip_protocol(uri))  # noqa: SLF001 - fsspec has no public name for it

    def _copy(self, filesystem: Any, path: str, size: int, landing: Landing) -> None:
        if size <= BUFFER and not _local(filesystem):  # one request in all
            self._take(filesystem.cat_file(path), landing)
            return
        pace, until = Pace(self._settings, landing.uri), time.monotonic() + self._settings.fetch_timeout
        with filesystem.open(path, "rb", block_size=_BLOCK) as file:
            asked = time.monotonic()
            while chunk := file.read(BUFFER):
                now = time.monotonic()
                pace.add(now - asked, len(chunk))
                if now > until:
                    raise too_long(landing.uri, self._settings.fetch_timeout, landing.size)
                self._take(chunk, landing)
                asked = time.monotonic()

    def _copy_unwrapped(self, filesystem: Any, path: str, landing: Landing) -> None:
        """An object that its server unpacks on the way: there are no ranges of it, and its size is not its own."""
        with tempfile.TemporaryDirectory(dir=self._site.scratch) as folder:
            filesystem.get_file(path, f"{folder}/whole")
            with Path(folder, "whole").open("rb") as file:
                while chunk := file.read(BUFFER):
                    self._take(chunk, landing)

    def _take(self, chunk: bytes, landing: Landing) -> None:
        self._moved(len(chunk))
        if landing.feed(chunk):
            landing.spill()

    def _compare(self, filesystem: Any, path: str, seen: Seen, landing: Landing) -> None:
        """Sees whether the file was being written while it was read."""
        same = landing.size == seen.size
        if _local(filesystem):
            same = same and _look(filesystem, path, landing.uri) == seen
        elif not same and _unwraps(filesystem):
            filesystem.invalidate_cache()
            now = _look(filesystem, path, landing.uri)
            same = now.wrapped and now.version == seen.version and seen.generation in (None, now.generation)
        if not same:
            raise TransientError(
                f"{landing.uri} is a file that changed while it was read",
                expected=f"{seen.size:,} bytes",
                got=f"{landing.size:,} bytes",
                fix="Announce a file when it is finished, and submit this one again.",
                code="source_changed",
            )


class Seen(NamedTuple):
    """What a filesystem says of a file.

    Attributes:
        size: Bytes, as they are stored.
        version: What tells this version.
        wrapped: Whether it is stored as gzip and comes without it: Google Cloud Storage does so, where an object
            has a Content-Encoding.
        generation: Of the object, where it has one.
    """

    size: int
    version: str | None
    wrapped: bool = False
    generation: str | None = None


def _look(filesystem: Any, path: str, uri: str) -> Seen:
    """What is there; raises TerminalError if it is something else than a file."""
    info: Mapping[str, Any] = _stat(path) if _local(filesystem) else filesystem.info(path)
    kind = info.get("type", "file")
    if kind != "file":
        raise _not_a_file(uri, "a directory" if kind == "directory" else "a device, pipe or socket")
    wrapped = _unwraps(filesystem) and "gzip" in str(info.get("contentEncoding", "")).lower()
    generation = str(info["generation"]) if "generation" in info else None
    return Seen(int(info.get("size") or 0), listing_version(info), wrapped, generation)


def _unwraps(filesystem: Any) -> bool:
    """Whether what a listing says of sizes may not be what comes."""
    protocol = filesystem.protocol
    return bool({"gs", "gcs"} & {protocol, *(protocol if isinstance(protocol, list | tuple) else ())})


def _stat(path: str) -> dict[str, Any]:
    """A local file's entry with its time to the nanosecond, which fsspec rounds."""
    found = Path(path).stat()
    kind = "file" if stat.S_ISREG(found.st_mode) else "directory" if stat.S_ISDIR(found.st_mode) else "other"
    return {"type": kind, "size": found.st_size, "mtime_ns": found.st_mtime_ns}


def _local(filesystem: Any) -> bool:
    return isinstance(filesystem, LocalFileSystem)


def in_our_words(error: Exception, uri: str) -> IngestError:
    """What a filesystem says of a file or folder, as one of our errors; each filesystem has its own."""
    name = type(error).__name__
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        fix = "Check the address and who can see it."
        return TerminalError(f"File not found: {uri}", fix=fix, code="not_found")
    if isinstance(error, IsADirectoryError):
        return _not_a_file(uri, "a directory")
    if isinstance(error, PermissionError):
        fix = f"Check who may read it, and {_OPTIONS}."
        return TerminalError.wrap(error, f"Not allowed to read {uri}", fix, code="access_denied")
    if "Credential" in name or "RefreshError" in name:
        fix = f"Check {_OPTIONS} and the credentials in the environment."
        return TerminalError.wrap(error, f"No usable credentials for {uri}", fix, code="credentials_invalid")
    if isinstance(error, TypeError | ValueError | AttributeError):
        problem = f"Options given cannot be used to read {uri}"
        return TerminalError.wrap(error, problem, f"Check {_OPTIONS}.", code="setting_invalid")
    fix = "Check that the storage is up, and submit the file again."
    return TransientError.wrap(error, f"Cannot read {uri}", fix, code="source_unavailable")


def _not_a_file(uri: str, got: str) -> TerminalError:
    fix = "Name its files, or use a pattern such as folder/*.csv."
    return TerminalError(f"Not a file: {uri}", got=got, fix=fix, code="not_found")
