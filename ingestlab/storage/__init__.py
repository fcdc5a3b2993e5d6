"""The lake's storage: a local folder, or any object store that fsspec knows, behind one small Protocol.

All paths are relative to the lake, with forward slashes. Nothing half-written ever has its final name.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from ingestlab.storage.faults import storage_error
from ingestlab.storage.local import LocalStore
from ingestlab.storage.objects import ObjectStore

__all__ = ["LocalStore", "ObjectStore", "Store", "open_store", "storage_error"]


class Store(Protocol):
    """What the rest of ingestlab needs of a lake."""

    url: str

    def read(self, path: str, start: int = 0, stop: int | None = None) -> bytes:
        """The bytes of a file, or a range of them; raises FileNotFoundError."""
        ...

    def read_files(self, paths: Sequence[str]) -> Iterator[bytes | None]:
        """The bytes of files in order, many at a time where the store can; None for one that is not there."""
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

    def delete_files(self, paths: Iterable[str]) -> None:
        """Removes files, many at a time where the store can; one that is not there is no error."""
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
