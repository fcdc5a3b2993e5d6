"""A lake in a local folder."""

from __future__ import annotations

import errno
import os
import shutil
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ingestlab.lake.storage.faults import storage_error


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

    def read_files(self, paths: Sequence[str]) -> Iterator[bytes | None]:
        for path in paths:
            try:
                yield self.read(path)
            except FileNotFoundError:
                yield None

    def write(self, path: str, data: bytes | memoryview) -> None:
        temporary = f"{self.scratch()}/{uuid.uuid4().hex}"
        try:
            _write_synced(temporary, data)
            _replace(temporary, self._root + path)
        except OSError as error:
            with suppress(OSError):
                os.unlink(temporary)
            raise storage_error(error, path) from error

    def create(self, path: str, data: bytes | memoryview) -> bool:
        temporary, target = f"{self.scratch()}/{uuid.uuid4().hex}", self._root + path
        try:
            _write_synced(temporary, data)
            new = not os.path.isdir(os.path.dirname(target))
            os.makedirs(os.path.dirname(target), exist_ok=True)
            _link(temporary, target, data)
            self._sync_folders(os.path.dirname(path), above=new)
        except FileExistsError:
            return False
        except OSError as error:
            raise storage_error(error, path) from error
        finally:
            with suppress(OSError):
                os.unlink(temporary)
        return True

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

    def delete_files(self, paths: Iterable[str]) -> None:
        for path in paths:
            self.delete(path)

    def exists(self, path: str) -> bool:
        return os.path.isfile(self._root + path)

    def size(self, path: str) -> int:
        return os.stat(self._root + path).st_size

    def walk(self, folder: str) -> Iterator[str]:
        base = (self._root + folder).rstrip("/")
        paths = (os.path.join(where, name) for where, _, files in os.walk(base) for name in files)
        yield from sorted(path[len(self._root) :] for path in paths)

    def children(self, folder: str) -> list[str]:
        try:
            return sorted(os.listdir(self._root + folder))
        except (FileNotFoundError, NotADirectoryError):
            return []

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
            if file.is_dir():  # a notebook died while Spark wrote into it
                shutil.rmtree(file, ignore_errors=True)
            else:
                file.unlink(missing_ok=True)
        return len(stale)

    def full(self, path: str) -> str:
        return self._root + path

    def _sync_folders(self, folder: str, *, above: bool) -> None:
        """Make the names in a folder durable, and those of its parents."""
        steps = folder.split("/")
        for depth in range(len(steps), 0 if above else len(steps) - 1, -1):
            fd = os.open(self._root + "/".join(steps[:depth]), os.O_RDONLY)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)

    def _carry(self, local: Path, path: str) -> None:
        """Move a file to another file system, through a copy."""
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


def _write_synced(path: str, data: bytes | memoryview) -> None:
    """Write a new file and wait until it is on disk."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(fd, rest) :]
        os.fsync(fd)
    finally:
        os.close(fd)


def _link(source: str, target: str, data: bytes | memoryview) -> None:
    """Give a file a second name, which must be new. Where a disk has no links, write it there."""
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK):
            raise
        _write_synced(target, data)


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
