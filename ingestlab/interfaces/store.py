"""Store: where the files of a lake are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol


class Store(Protocol):
    """What the rest of ingestlab needs of a lake."""

    url: str

    def read(self, path: str, start: int = 0, stop: int | None = None) -> bytes:
        """Read a file, or a range of its bytes.

        Args:
            path: Of the file.
            start: First byte.
            stop: The byte after the last one; None for the end. What is beyond the end is left out.

        Raises:
            FileNotFoundError: There is no such file.
            TransientError: The store cannot be reached.
        """
        ...

    def read_files(self, paths: Sequence[str]) -> Iterator[bytes | None]:
        """Read files in order, many at a time. A missing one is None."""
        ...

    def write(self, path: str, data: bytes | memoryview) -> None:
        """Write a file. Its name appears when it is whole and on disk.

        Args:
            path: Of the file.
            data: All of its bytes.
        """
        ...

    def create(self, path: str, data: bytes | memoryview) -> bool:
        """Write a file unless its name is taken, as the store decides: two writers at once make one file.

        Args:
            path: Of the file.
            data: All of its bytes.

        Returns:
            Whether it was written.

        Raises:
            TransientError: The store cannot be reached. It may have written the file.
            StorageError: The lake cannot be written.
        """
        ...

    def adopt(self, local: Path, path: str) -> None:
        """Move a finished local file (from `scratch`) into the lake.

        Args:
            local: Where the file is now.
            path: Where it goes.
        """
        ...

    def move(self, source: str, target: str) -> None:
        """Rename a file, replacing the target. Done already is no error.

        Args:
            source: Its path.
            target: Its new path.

        Raises:
            FileNotFoundError: There is neither of them.
        """
        ...

    def delete(self, path: str) -> None:
        """Remove a file, or a folder with its contents. A missing one is no error."""
        ...

    def delete_files(self, paths: Iterable[str]) -> None:
        """Remove files, many at a time. A missing one is no error."""
        ...

    def exists(self, path: str) -> bool:
        """Tell whether there is a file of this name."""
        ...

    def size(self, path: str) -> int:
        """Return the size of a file in bytes; raises FileNotFoundError."""
        ...

    def walk(self, folder: str) -> Iterator[str]:
        """List all files below a folder, sorted. A missing folder has none."""
        ...

    def children(self, folder: str) -> list[str]:
        """List the names in a folder, sorted. A missing folder has none."""
        ...

    def scratch(self) -> Path:
        """Return a local folder for unfinished files."""
        ...

    def tidy(self, older: float) -> int:
        """Remove files of `scratch` older than `older` seconds; gives their number."""
        ...

    def full(self, path: str) -> str:
        """Return the path as other tools take it: absolute, or a URL."""
        ...
