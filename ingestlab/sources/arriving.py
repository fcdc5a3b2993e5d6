"""A file on its way into the raw zone, for those who begin with what has come of it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from ingestlab.core.models import FetchedFile
from ingestlab.lake.storage.store import LocalStore


class GoneError(Exception):
    """What has come is of no use: the file is fetched again, was known already, or cannot be had."""


class Arriving:
    """What has come of one file: told by whoever copies it, and waited for by whoever reads it.

    All that is told comes from one thread at a time; any may wait.

    Args:
        begin: Is told once, as soon as something has come of a file on disk, where that is, and the bytes that there
            will be. Small files have no such moment.
    """

    def __init__(self, begin: Callable[[Path, int], None] = lambda _path, _size: None) -> None:
        self._begin = begin
        self._news = threading.Condition()
        self._size: int | None = None
        self._come = 0
        self._gone = False
        self._file: FetchedFile | None = None

    def expect(self, size: int) -> None:
        """Tell how many bytes there will be."""
        with self._news:
            self._size = size

    def grow(self, path: str, come: int) -> None:
        """Tell that bytes can be read.

        Args:
            path: Where.
            come: How many, from the first one on.
        """
        first = not self._come and not self._gone
        with self._news:
            self._come = come
            self._news.notify_all()
        if first and self._size is not None:
            self._begin(Path(path), self._size)

    def settle(self, file: FetchedFile) -> None:
        """Tell that all is there, and what it is."""
        with self._news:
            self._file, self._come = file, file.size
            self._news.notify_all()

    def drop(self) -> None:
        """Tell that what has come is of no use, if anything has."""
        with self._news:
            self._gone = self._gone or (self._come > 0 and self._file is None)
            self._news.notify_all()

    def leave(self) -> None:
        """Let all who wait give up."""
        with self._news:
            self._gone = True
            self._news.notify_all()

    def wait(self, come: int) -> None:
        """Wait until so many bytes have come.

        Raises:
            GoneError: They are of no use.
        """
        with self._news:
            self._news.wait_for(lambda: self._gone or self._come >= come)
            if self._gone:
                raise GoneError

    @property
    def file(self) -> FetchedFile | None:
        """Return the file if all of it is there."""
        return self._file


class ArrivingStore(LocalStore):
    """A local lake in which one file is still growing: who reads from it waits.

    Args:
        root: The lake.
        arriving: The file.
    """

    def __init__(self, root: str, arriving: Arriving) -> None:
        super().__init__(root)
        self._arriving = arriving

    def read(self, path: str, start: int = 0, stop: int | None = None) -> bytes:
        """Read bytes when they are there; the end must be known."""
        assert stop is not None
        self._arriving.wait(stop)
        return super().read(path, start, stop)
