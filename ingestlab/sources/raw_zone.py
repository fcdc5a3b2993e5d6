"""The raw zone: what comes is counted and hashed on the way, and has a temporary name until all is there."""

from __future__ import annotations

import hashlib
import io
import os
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import BinaryIO, Self

from ingestlab.core import access
from ingestlab.core.errors import IngestError, TerminalError
from ingestlab.core.models import FetchedFile, SourceRecord
from ingestlab.core.settings import Settings
from ingestlab.interfaces import Store, Unchanged
from ingestlab.lake.storage.store import LocalStore, storage_error
from ingestlab.sources.arriving import Arriving

_HEAD = 2048  # bytes by which a web page is known
BUFFER = 1 << 20  # bytes kept in memory before they go to disk; a smaller file is written in one go


class LakeFaultError(Exception):
    """The lake failed, not the source: all fetching ends."""

    def __init__(self, error: IngestError) -> None:
        super().__init__(error)
        self.error = error


class RawZone:
    """Hold the folder that the files of one request go to."""

    def __init__(self, store: Store, folder: str, settings: Settings) -> None:
        self.store, self.folder, self.limit = store, folder, settings.max_file_bytes
        self.quick = isinstance(store, LocalStore)  # a small write is faster than handing it to a thread
        self.scratch = str(store.scratch())


class IncomingFile:
    """Take in the bytes of one source; keep only what is settled.

    Args:
        zone: Where it goes.
        uri: Of the source.
        received: Is told how many bytes have come, each time.
        arriving: Is told what can be read of it.
    """

    def __init__(
        self,
        zone: RawZone,
        uri: str,
        received: Callable[[int], None] | None = None,
        arriving: Arriving | None = None,
    ) -> None:
        self.uri = uri
        self._received = received
        self._arriving = arriving or Arriving()
        self.size = 0
        self.head = b""  # the first bytes
        self.zone = zone
        self._hash = hashlib.sha256()
        self._hashing: Future[None] | None = None
        self._chunks: list[bytes] = []
        self._held = 0  # bytes in chunks
        self._fd: int | None = None
        self._path = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.restart()

    @property
    def scratch(self) -> str:
        """Return a folder for what is made of these bytes."""
        return self.zone.scratch

    @property
    def quick(self) -> bool:
        """Tell whether `settle` only writes few bytes to a local disk."""
        return self._fd is None and self.zone.quick

    def expect(self, size: int | None) -> None:
        """Refuse a source that is too big by its own word."""
        if size is not None and size > self.zone.limit:
            raise self._too_big(f"{size:,} bytes")
        if size is not None:
            self._arriving.expect(size)

    def feed(self, chunk: bytes) -> bool:
        """Take bytes; return whether it is time for `spill`.

        Raises:
            TerminalError: They are too many.
        """
        self.size += len(chunk)
        if self._received:
            self._received(len(chunk))
        if self.size > self.zone.limit:
            raise self._too_big(f"more: stopped after {self.size:,} bytes")
        if len(self.head) < _HEAD:
            self.head += chunk[:_HEAD]
        self._chunks.append(chunk)
        self._held += len(chunk)
        return self._held >= BUFFER

    def spill(self) -> None:
        """Write what is in memory to the temporary file.

        Raises:
            LakeFaultError: The lake cannot be written.
        """
        data = self._take()
        self._hashed()
        self._hashing = _hasher().submit(self._hash.update, data)
        self._write(data)
        self._arriving.grow(self._path, self.size)

    def restart(self) -> None:
        """Forget all bytes."""
        self._arriving.drop()
        self._hashed()
        if self._fd is not None:
            os.close(self._fd)
        if self._path:
            Path(self._path).unlink(missing_ok=True)
        self._fd, self._path = None, ""
        self.size, self.head, self._held, self._chunks, self._hash = 0, b"", 0, [], hashlib.sha256()

    def another(self) -> IncomingFile:
        """Return a place for what is made of these bytes, uncounted."""
        return IncomingFile(self.zone, self.uri)

    def reread(self) -> BinaryIO:
        """Open all that has come, from its beginning; nothing more may come."""
        if self._fd is None:
            return io.BytesIO(self._take())
        self.spill()
        return Path(self._path).open("rb")

    def settle(
        self, version: str | None, known: SourceRecord | None, facts: Mapping[str, str] | None = None
    ) -> FetchedFile | Unchanged:
        """Give the file its place in the lake, named by its content.

        Args:
            version: What tells this version next time.
            known: What the lake has of the source.
            facts: What its server said of it.

        Raises:
            LakeFaultError: The lake cannot be written.
        """
        rest = self._take()
        self._hashed()
        self._hash.update(rest)
        sha256 = self._hash.hexdigest()
        if known and known.sha256 == sha256:
            return Unchanged(self.uri, version)
        name = access.file_name(self.uri)
        target = f"{self.zone.folder}/{sha256}{access.suffixes(name)}"
        try:
            there = self._there(target)
            if self._fd is not None or not there:
                self._write(rest)  # whoever reads what has come reads it to its end
            if not there:
                self._adopt(target)
        except IngestError as error:
            raise LakeFaultError(error) from error
        except OSError as error:
            raise LakeFaultError(storage_error(error, target)) from error
        file = FetchedFile(
            uri=self.uri,
            path=target,
            name=name,
            size=self.size,
            sha256=sha256,
            version=version,
            facts=dict(facts or {}),
        )
        self._arriving.settle(file)
        return file

    def _there(self, target: str) -> bool:
        try:
            return self.zone.store.size(target) == self.size
        except FileNotFoundError:
            return False

    def _take(self) -> bytes:
        data = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        self._chunks, self._held = [], 0
        return data

    def _hashed(self) -> None:
        """Wait until all that was written is hashed as well."""
        if self._hashing is not None:
            self._hashing.result()
            self._hashing = None

    def _write(self, data: bytes) -> None:
        try:
            if self._fd is None:
                self._path = f"{self.zone.scratch}/{uuid.uuid4().hex}"
                self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(self._fd, rest) :]
        except OSError as error:
            raise LakeFaultError(storage_error(error, self.zone.scratch)) from error

    def _adopt(self, target: str) -> None:
        assert self._fd is not None
        fd, self._fd = self._fd, None
        os.close(fd)  # before the file gets its name: a full disk may show only now
        self.zone.store.adopt(Path(self._path), target)
        self._path = ""

    def _too_big(self, got: str) -> TerminalError:
        fix = "Cut the file, or raise INGESTLAB_MAX_FILE_BYTES."
        problem = f"{self.uri} is too large: at most {self.zone.limit:,} bytes"
        return TerminalError(problem, got=got, fix=fix, code="limit_exceeded")


@cache
def _hasher() -> ThreadPoolExecutor:
    """Return a thread for hashing, which leaves Python's lock alone."""
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix="ingestlab-hash")
