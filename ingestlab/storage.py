"""The lake's storage: a local folder, or any object store that fsspec knows, behind one small class.

All paths are relative to the lake, with forward slashes. Nothing half-written ever has its final name.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import fsspec

from ingestlab.errors import IngestError, StorageError, TransientError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_DENIED = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ELOOP, errno.ENAMETOOLONG}
_IN_THE_WAY = {errno.ENOTDIR, errno.EISDIR, errno.EEXIST}


class Store(Protocol):
    """What the rest of ingestlab needs of a lake."""

    url: str

    def read(self, path: str, start: int = 0, stop: int | None = None) -> bytes:
        """The bytes of a file, or a range of them; raises FileNotFoundError."""
        ...

    def write(self, path: str, data: bytes | memoryview) -> None:
        """Writes a file so that its name appears only when it is whole and on disk."""
        ...

    def adopt(self, local: Path, path: str) -> None:
        """Moves a finished local file (from `scratch`) into the lake."""
        ...

    def move(self, source: str, target: str) -> None:
        """Gives a file another name, replacing what is there; done already is no error."""
        ...

    def delete(self, path: str) -> None:
        """Removes a file or a folder with all in it; nothing there is no error."""
        ...

    def exists(self, path: str) -> bool:
        """Whether there is a file of this name."""
        ...

    def size(self, path: str) -> int:
        """Bytes in a file; raises FileNotFoundError."""
        ...

    def walk(self, folder: str) -> Iterator[str]:
        """All files below a folder, sorted; none if it does not exist."""
        ...

    def scratch(self) -> Path:
        """A local folder for files that are being made."""
        ...

    def tidy(self, older: float) -> int:
        """Removes what is left in `scratch` of processes that died `older` seconds ago; gives the number."""
        ...

    def full(self, path: str) -> str:
        """The path as other tools take it: absolute, or a URL."""
        ...


def open_store(url: str, options: dict[str, dict[str, Any]] | None = None) -> Store:
    """The lake at `url`; `options` are fsspec's, by protocol. One object per URL and process."""
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


def storage_error(error: OSError, what: str) -> IngestError:
    """An operating system's refusal in our words: a full or closed disk stays so until someone acts."""
    if error.errno in _FULL:
        return StorageError(f"room to write {what}", "a full disk", "Free space, or set INGESTLAB_LAKE elsewhere.")
    if error.errno in _DENIED | _IN_THE_WAY or isinstance(error, PermissionError):
        way = ", and that no file lies where a folder should be" if error.errno in _IN_THE_WAY else ""
        return StorageError.wrap(error, f"to be able to write {what}", f"Check the owner and mode of the lake{way}.")
    return TransientError.wrap(error, f"to reach {what}", "Check that the storage is up, and `ingestlab retry`.")


class LocalStore:
    """A lake in a local folder: rename is atomic, files are synced before they get their names."""

    def __init__(self, root: str) -> None:
        self.url = str(Path(root).expanduser().absolute())
        self._root = self.url.rstrip("/") + "/"

    def read(self, path: str, start: int = 0, stop: int | None = None) -> bytes:
        with open(self._root + path, "rb", buffering=0) as file:
            if start:
                file.seek(start)
            return file.read() if stop is None else _read_exactly(file, stop - start)

    def write(self, path: str, data: bytes | memoryview) -> None:
        target = self._root + path
        temporary = f"{self.scratch()}/{uuid.uuid4().hex}"
        try:
            fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
            try:
                rest = memoryview(data)
                while rest:
                    rest = rest[os.write(fd, rest) :]
                os.fsync(fd)
            finally:
                os.close(fd)
            _replace(temporary, target)
        except OSError as error:
            with suppress(OSError):
                os.unlink(temporary)
            raise storage_error(error, path) from error

    def adopt(self, local: Path, path: str) -> None:
        try:
            _replace(str(local), self._root + path)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise storage_error(error, path) from error
            self._carry(local, path)

    def move(self, source: str, target: str) -> None:
        try:
            _replace(self._root + source, self._root + target)
        except FileNotFoundError:
            if not self.exists(target):
                raise
        except OSError as error:
            raise storage_error(error, target) from error

    def delete(self, path: str) -> None:
        try:
            os.unlink(self._root + path)
        except (FileNotFoundError, NotADirectoryError):
            pass
        except (IsADirectoryError, PermissionError):
            shutil.rmtree(self._root + path)

    def exists(self, path: str) -> bool:
        return os.path.isfile(self._root + path)

    def size(self, path: str) -> int:
        return os.stat(self._root + path).st_size

    def walk(self, folder: str) -> Iterator[str]:
        base = (self._root + folder).rstrip("/")
        found = (os.path.join(where, name) for where, _, files in os.walk(base) for name in files)
        yield from sorted(path[len(self._root) :] for path in found)

    def scratch(self) -> Path:
        folder = Path(self._root, "_ingestlab", "tmp")
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise storage_error(error, f"the lake at {self.url}") from error
        return folder

    def tidy(self, older: float) -> int:
        stale = [f for f in self.scratch().iterdir() if time.time() - f.stat().st_mtime > older]
        for file in stale:
            file.unlink(missing_ok=True)
        return len(stale)

    def full(self, path: str) -> str:
        return self._root + path

    def _carry(self, local: Path, path: str) -> None:
        """Moves a file onto another file system, by a copy beside its place."""
        target = self._root + path
        beside = f"{target}.{uuid.uuid4().hex}.tmp"
        try:
            os.makedirs(os.path.dirname(beside), exist_ok=True)
            shutil.copyfile(local, beside)
            os.replace(beside, target)
        except OSError as error:
            with suppress(OSError):
                os.unlink(beside)
            raise storage_error(error, path) from error
        os.unlink(local)


class ObjectStore:
    """A lake on an object store: one put is atomic, a move is a copy and a delete."""

    def __init__(self, url: str, options: dict[str, Any]) -> None:
        self.url = url.rstrip("/")
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
            except OSError as error:
                if isinstance(error, FileNotFoundError) or start < self.size(path):
                    raise
                return b""  # to servers, a range beyond the end is an error

    def write(self, path: str, data: bytes | memoryview) -> None:
        with self._reaching(path, writing=True):
            self.fs.pipe_file(self.root + path, bytes(data))

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
        self.delete(source)

    def delete(self, path: str) -> None:
        with suppress(FileNotFoundError), self._reaching(path):
            self.fs.rm(self.root + path, recursive=True)

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
            found = sorted(self.fs.find(self.root + folder))
        for path in found:
            yield path[len(self.root) :]

    def scratch(self) -> Path:
        if self._scratch is None or not self._scratch.is_dir():
            self._scratch = Path(tempfile.mkdtemp(prefix="ingestlab-"))
        return self._scratch

    def tidy(self, older: float) -> int:  # noqa: ARG002 - scratch is this process's own
        return 0

    def full(self, path: str) -> str:
        return str(self.fs.unstrip_protocol(self.root + path))

    def _info(self, path: str) -> dict[str, Any]:
        """What the store says of a file: never from a cache, and never "not there" for want of an answer."""
        self.fs.invalidate_cache()
        with self._reaching(path):
            return dict(self.fs.info(self.root + path))

    @contextmanager
    def _reaching(self, path: str, *, writing: bool = False) -> Iterator[None]:
        """Puts the store's errors in our words; that a file is not there is the caller's to judge."""
        try:
            yield
        except (IngestError, FileNotFoundError) as error:
            if writing and isinstance(error, FileNotFoundError):
                raise StorageError.wrap(
                    error, f"the bucket of {self.url}", "Create it, or check INGESTLAB_LAKE."
                ) from error
            raise
        except OSError as error:
            raise storage_error(error, path) from error
        except Exception as error:  # each kind of store has its own
            if "Credential" in type(error).__name__ or isinstance(error, TypeError | ValueError | AttributeError):
                fix = "Check INGESTLAB_STORAGE_OPTIONS and the credentials in the environment."
                raise StorageError.wrap(error, f"options that open {self.url}", fix) from error
            raise TransientError.wrap(
                error, f"to reach {path} in {self.url}", "Check that the storage is up."
            ) from error


def _replace(source: str, target: str) -> None:
    try:
        os.replace(source, target)
    except FileNotFoundError:
        if not os.path.exists(source):
            raise
        os.makedirs(os.path.dirname(target), exist_ok=True)
        os.replace(source, target)


def _read_exactly(file: Any, size: int) -> bytes:
    chunks = []
    while size > 0 and (chunk := file.read(size)):
        chunks.append(chunk)
        size -= len(chunk)
    return b"".join(chunks)
