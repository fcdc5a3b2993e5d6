"""Sources on any filesystem that fsspec knows: local files, S3, Google Cloud Storage and the rest."""

from __future__ import annotations

import stat
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import fsspec
from fsspec.implementations.local import LocalFileSystem

from ingestlab.core import access
from ingestlab.core.errors import IngestError, TerminalError, TransientError
from ingestlab.core.extras import install_command, prepare_gcsfs
from ingestlab.core.models import FetchedFile, Source, SourceRecord
from ingestlab.core.schemes import Scheme
from ingestlab.core.settings import Settings
from ingestlab.core.validators import listing_version
from ingestlab.interfaces import RawFile, Unchanged
from ingestlab.sources.blocking import BlockingSource
from ingestlab.sources.listing import list_local, list_objects, local_source, magic, plain_path
from ingestlab.sources.raw_zone import BUFFER
from ingestlab.sources.retry import Pace, too_long
from ingestlab.sources.walking import walk_local, walk_objects

_BLOCK = 8 << 20  # bytes of one request to an object store
_EXTRAS = {"gs": "gcs", "gcs": "gcs"}
_OPTIONS = "INGESTLAB_STORAGE_OPTIONS"


def connect(scheme: str, settings: Settings) -> Any:
    """Connect to the filesystem of a scheme, with the options set.

    Call it from one thread: fsspec keeps an instance, and its connections, for each thread that asks.

    Args:
        scheme: In lower case, as ``s3``.
        settings: Have its options.

    Raises:
        TerminalError: Its package is not installed, or the options cannot be used.
    """
    options = settings.storage_options.get(scheme, {})
    prepare_gcsfs(scheme, options)
    try:
        filesystem = fsspec.filesystem(scheme, **options)
    except ImportError as error:
        extra = _EXTRAS.get(scheme)
        fix = f"Install it with: {install_command(extra)}" if extra else "Install the package that it names."
        problem = f"The package that reads {scheme}:// sources is missing"
        raise TerminalError.wrap(error, problem, fix, code="package_missing") from None
    except (TypeError, ValueError) as error:
        problem = f"Options for {scheme}:// sources cannot be used"
        raise TerminalError.wrap(error, problem, f"Check {_OPTIONS}.", code="setting_invalid") from error
    filesystem.invalidate_cache()  # files may have changed since some listing in this process
    return filesystem


class FileSource(BlockingSource):
    """Copy files into the lake; the access policy has let them pass."""

    schemes: ClassVar[Mapping[str, Scheme]] = {
        "file": Scheme(local=True, quoted=True),
        **dict.fromkeys(("s3", "gs", "gcs", "memory"), Scheme()),
    }

    def discover(self, uri: str, settings: Settings, *, glob: bool = False) -> list[Source]:
        """List a pattern's files, or name one file unseen."""
        scheme = access.scheme_of(uri)
        if scheme == "file":
            return list_local(uri, settings, glob=glob)
        if not magic(uri):
            return [Source(uri=uri)]
        filesystem = _of_version(connect(scheme, settings), uri)
        try:
            return list_objects(filesystem, uri, glob=glob)
        except IngestError:
            raise
        except Exception as error:
            raise translate_error(error, uri) from error

    def look(self, uri: str, settings: Settings) -> Source | None:
        """Look at one file; None if there is none."""
        client = _of_version(connect(access.scheme_of(uri), settings), uri)
        try:
            seen = _look(client, _path(client, uri, settings), uri)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except IngestError:
            raise
        except Exception as error:
            raise translate_error(error, uri) from error
        return Source(uri=uri, size=seen.size, version=seen.version)

    def walk(self, uri: str, settings: Settings) -> Iterator[Source]:
        """Yield all files below a folder, in no order."""
        scheme = access.scheme_of(uri)
        if scheme == "file":
            yield from (local_source(path, status) for path, status in walk_local(plain_path(uri)))
            return
        try:
            yield from walk_objects(connect(scheme, settings), uri)
        except IngestError:
            raise
        except Exception as error:
            raise translate_error(error, uri) from error

    def client(self, scheme: str, settings: Settings) -> Any:
        """Connect to the filesystem of a scheme."""
        return connect(scheme, settings)

    def translate(self, error: Exception, uri: str) -> IngestError:
        """Translate an error of any filesystem."""
        return translate_error(error, uri)

    def copy(
        self, source: Source, known: SourceRecord | None, raw: RawFile, client: Any, settings: Settings
    ) -> FetchedFile | Unchanged:
        """Copy one file; raises TransientError where it changes meanwhile."""
        client = _of_version(client, source.uri)
        path = _path(client, source.uri, settings)
        seen = Seen(source.size or 0, source.version)
        big = seen.size > BUFFER and _unwraps(client)
        if source.size is None or source.version is None or _local(client) or big:
            seen = _look(client, path, source.uri)
        if seen.version and known and known.version == seen.version:
            return Unchanged(source.uri, seen.version)
        raw.expect(seen.size)
        if seen.wrapped:
            _copy_unwrapped(client, path, raw)
        else:
            _copy(client, path, seen.size, raw, settings)
        _compare(client, path, seen, raw)
        return raw.settle(seen.version, known)


def _path(filesystem: Any, uri: str, settings: Settings) -> str:
    if _local(filesystem):
        return str(access.local_path(uri, settings))
    return str(filesystem._strip_protocol(uri))  # noqa: SLF001 - fsspec has no public name for it


def _copy(filesystem: Any, path: str, size: int, raw: RawFile, settings: Settings) -> None:
    if size <= BUFFER and not _local(filesystem):  # one request in all
        _take(filesystem.cat_file(path), raw)
        return
    pace, until = Pace(settings, raw.uri), time.monotonic() + settings.fetch_timeout
    with filesystem.open(path, "rb", block_size=_BLOCK) as file:
        asked = time.monotonic()
        while chunk := file.read(BUFFER):
            now = time.monotonic()
            pace.add(now - asked, len(chunk))
            if now > until:
                raise too_long(raw.uri, settings.fetch_timeout, raw.size)
            _take(chunk, raw)
            asked = time.monotonic()


def _copy_unwrapped(filesystem: Any, path: str, raw: RawFile) -> None:
    """Copy an object that its server unpacks, without ranges."""
    with tempfile.TemporaryDirectory(dir=raw.scratch) as folder:
        filesystem.get_file(path, f"{folder}/whole")
        with Path(folder, "whole").open("rb") as file:
            while chunk := file.read(BUFFER):
                _take(chunk, raw)


def _take(chunk: bytes, raw: RawFile) -> None:
    if raw.feed(chunk):
        raw.spill()


def _compare(filesystem: Any, path: str, seen: Seen, raw: RawFile) -> None:
    """See whether the file was being written while it was read."""
    same = raw.size == seen.size
    if _local(filesystem):
        same = same and _look(filesystem, path, raw.uri) == seen
    elif not same and _unwraps(filesystem):
        filesystem.invalidate_cache()
        now = _look(filesystem, path, raw.uri)
        same = now.wrapped and now.version == seen.version and seen.generation in (None, now.generation)
    if not same:
        raise TransientError(
            f"{raw.uri} is a file that changed while it was read",
            expected=f"{seen.size:,} bytes",
            got=f"{raw.size:,} bytes",
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
    """Look at a file; raise TerminalError if it is something else."""
    info: Mapping[str, Any] = _stat(path) if _local(filesystem) else filesystem.info(path)
    kind = info.get("type", "file")
    if kind != "file":
        raise _not_a_file(uri, "a directory" if kind == "directory" else "a device, pipe or socket")
    wrapped = _unwraps(filesystem) and "gzip" in str(info.get("contentEncoding", "")).lower()
    generation = str(info["generation"]) if "generation" in info else None
    return Seen(int(info.get("size") or 0), listing_version(info), wrapped, generation)


def _unwraps(filesystem: Any) -> bool:
    """Tell whether a listing may give other sizes than what comes."""
    return not _protocols(filesystem).isdisjoint({"gs", "gcs"})


def _of_version(filesystem: Any, uri: str) -> Any:
    """Return the filesystem that reads the version which a URI names. Another one of s3fs would read the latest."""
    if "?versionId=" not in uri or "s3" not in _protocols(filesystem):
        return filesystem
    return type(filesystem)(**{**filesystem.storage_options, "version_aware": True})


def _protocols(filesystem: Any) -> set[str]:
    protocol = filesystem.protocol
    return {protocol} if isinstance(protocol, str) else set(protocol)


def _stat(path: str) -> dict[str, Any]:
    """Return a local file's entry; fsspec would round its time."""
    status = Path(path).stat()
    kind = "file" if stat.S_ISREG(status.st_mode) else "directory" if stat.S_ISDIR(status.st_mode) else "other"
    return {"type": kind, "size": status.st_size, "mtime_ns": status.st_mtime_ns}


def _local(filesystem: Any) -> bool:
    return isinstance(filesystem, LocalFileSystem)


def translate_error(error: Exception, uri: str) -> IngestError:
    """Translate an error of any filesystem about a file or folder.

    Args:
        error: What fsspec or its package raised.
        uri: Of the file or folder.
    """
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
