"""A lake on an object store."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from glob import has_magic
from pathlib import Path
from typing import Any

import fsspec

from ingestlab.core.errors import IngestError, StorageError, TransientError
from ingestlab.core.extras import prepare_gcsfs
from ingestlab.lake.storage.faults import storage_error

_AT_ONCE = 1000  # files that are asked for or deleted together: S3 takes no more in a request to delete


class ObjectStore:
    """A lake on an object store: one put is atomic, a move is a copy and a delete."""

    def __init__(self, url: str, options: dict[str, Any]) -> None:
        self.url = url.rstrip("/")
        prepare_gcsfs(self.url.partition("://")[0], options)
        self.fs, root = fsspec.core.url_to_fs(self.url, **options)
        self.root = root.rstrip("/") + "/"
        self._scratch: Path | None = None

    def read(self, path: str, start: int = 0, stop: int | None = None) -> bytes:
        if stop is not None and stop <= start:
            return b""  # servers have a wrong answer to that
        limits = {"start": start, "end": stop} if start or stop is not None else {}
        with self._reaching(path):
            try:
                return bytes(self.fs.cat_file(self.root + path, **limits))
            except Exception as error:  # to servers, a range beyond the end is an error, of as many kinds as there are
                if isinstance(error, FileNotFoundError) or start < self.size(path):
                    raise
                return b""

    def read_files(self, paths: Sequence[str]) -> Iterator[bytes | None]:
        for first in range(0, len(paths), _AT_ONCE):
            some = paths[first : first + _AT_ONCE]
            with self._reaching(some[0]):
                contents = self.fs.cat_ranges([self.root + path for path in some], None, None, on_error="return")
            for path, data in zip(some, contents, strict=True):
                with suppress(FileNotFoundError), self._reaching(path):
                    if isinstance(data, Exception):
                        raise data
                yield None if isinstance(data, Exception) else bytes(data)

    def write(self, path: str, data: bytes | memoryview) -> None:
        with self._reaching(path, writing=True):
            self.fs.pipe_file(self.root + path, bytes(data))

    def create(self, path: str, data: bytes | memoryview) -> bool:
        with self._reaching(path, writing=True):
            try:
                self.fs.pipe_file(self.root + path, bytes(data), mode="create")
            except OSError as error:
                if isinstance(error, FileExistsError) or self.exists(path):  # servers refuse in several words
                    return False
                raise
        return True

    def adopt(self, local: Path, path: str) -> None:
        with self._reaching(path, writing=True):
            self.fs.put_file(str(local), self.root + path)
        local.unlink()

    def move(self, source: str, target: str) -> None:
        try:
            with self._reaching(target):
                self.fs.cp_file(self.root + source, self.root + target)
        except FileNotFoundError:
            if not self.exists(target):
                raise
            return
        with suppress(FileNotFoundError), self._reaching(source):
            self.fs.rm_file(self.root + source)

    def delete(self, path: str) -> None:
        self.delete_files(self.walk(path))

    def delete_files(self, paths: Iterable[str]) -> None:
        wanted = list(paths)
        for first in range(0, len(wanted), _AT_ONCE):
            some = wanted[first : first + _AT_ONCE]
            with self._reaching(some[0]):
                if hasattr(self.fs, "call_s3"):
                    self._delete_objects(some)
                else:
                    self._delete_listed(some)

    def exists(self, path: str) -> bool:
        try:
            return bool(self._info(path)["type"] == "file")
        except FileNotFoundError:
            return False

    def size(self, path: str) -> int:
        return int(self._info(path)["size"])

    def walk(self, folder: str) -> Iterator[str]:
        self.fs.invalidate_cache()  # another process may have written since the last listing
        with self._reaching(folder or self.url):
            found = self.fs.find(self.root + folder, detail=True)
        for path in sorted(found):
            if found[path]["type"] == "file":  # SeaweedFS keeps an emptied folder
                yield path[len(self.root) :]

    def children(self, folder: str) -> list[str]:
        self.fs.invalidate_cache()
        try:
            with self._reaching(folder or self.url):
                listed = self.fs.ls(self.root + folder, detail=False)
        except FileNotFoundError:
            return []
        home = (self.root + folder).strip("/") + "/"
        below = (name.strip("/") for name in listed)
        return sorted({name.removeprefix(home) for name in below if name.startswith(home)})

    def scratch(self) -> Path:
        if self._scratch is None or not self._scratch.is_dir():
            self._scratch = Path(tempfile.mkdtemp(prefix="ingestlab-"))
        return self._scratch

    def tidy(self, older: float) -> int:  # noqa: ARG002 - scratch is this process's own
        return 0

    def full(self, path: str) -> str:
        return str(self.fs.unstrip_protocol(self.root + path))

    def _delete_objects(self, paths: Sequence[str]) -> None:
        """Delete by one request to S3. That of s3fs passes over the keys that it could not delete."""
        bucket, _, root = self.root.partition("/")
        wanted = {"Objects": [{"Key": root + path} for path in paths], "Quiet": True}
        said = self.fs.call_s3("delete_objects", Bucket=bucket, Delete=wanted)
        self.fs.invalidate_cache()
        for trouble in said.get("Errors", [])[:1]:
            problem = f"Cannot delete {len(said['Errors'])} of {len(paths)} files, such as {trouble.get('Key')}"
            got = f"{trouble.get('Code')}: {trouble.get('Message')}"
            raise TransientError(problem, got=got, fix="Try again.", code="lake_unavailable")

    def _delete_listed(self, paths: Sequence[str]) -> None:
        """Delete files by the store's library. One by one where one is missing, or could be taken for a pattern."""
        names = [self.root + path for path in paths]
        plain = [name for name in names if not has_magic(name)]
        single = [name for name in names if has_magic(name)]
        try:
            if plain:
                self.fs.rm(plain)
        except FileNotFoundError:
            single = names
        for name in single:
            with suppress(FileNotFoundError):
                self.fs.rm_file(name)

    def _info(self, path: str) -> dict[str, Any]:
        """Ask the store for a file, never a cache. A missing answer never means a missing file."""
        self.fs.invalidate_cache()
        with self._reaching(path):
            return dict(self.fs.info(self.root + path))

    @contextmanager
    def _reaching(self, path: str, *, writing: bool = False) -> Iterator[None]:
        """Translate the store's errors. A missing file is the caller's to judge."""
        try:
            yield
        except (IngestError, FileNotFoundError) as error:
            if writing and isinstance(error, FileNotFoundError):
                raise StorageError.wrap(
                    error, f"There is no bucket of {self.url}", "Create it, or check INGESTLAB_LAKE."
                ) from error
            raise
        except OSError as error:
            raise storage_error(error, path) from error
        except Exception as error:  # each kind of store has its own
            if "Credential" in type(error).__name__ or isinstance(error, TypeError | ValueError | AttributeError):
                fix = "Check INGESTLAB_STORAGE_OPTIONS and the credentials in the environment."
                raise StorageError.wrap(error, f"The options do not open {self.url}", fix) from error
            raise TransientError.wrap(
                error, f"Cannot reach {path} in {self.url}", "Check that the storage is up.", code="lake_unavailable"
            ) from error
