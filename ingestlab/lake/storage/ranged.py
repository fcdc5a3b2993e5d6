"""A file of a store as other libraries take it: an open file, of which only what is asked for is read."""

from __future__ import annotations

import io
from typing import Protocol


class Readable(Protocol):
    """What is needed of a store."""

    def read(self, path: str, start: int = 0, stop: int | None = None) -> bytes:
        """Read a file, or a range of its bytes."""
        ...

    def size(self, path: str) -> int:
        """Return the size of a file in bytes."""
        ...


class Ranged(io.RawIOBase):
    """A file of a store, read by ranges."""

    def __init__(self, path: str, store: Readable) -> None:
        self._path, self._store = path, store
        self._at, self._size = 0, store.size(path)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        stop = self._size if size is None or size < 0 else min(self._at + size, self._size)
        data = self._store.read(self._path, self._at, stop) if stop > self._at else b""
        self._at += len(data)
        return data
