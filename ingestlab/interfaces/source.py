"""Source: finds and fetches the files behind a scheme; entry points of `ingestlab.sources`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import BinaryIO, ClassVar, Protocol, Self, runtime_checkable

from ingestlab.core import models
from ingestlab.core.models import FetchedFile, SourceRecord
from ingestlab.core.schemes import Scheme
from ingestlab.core.settings import Settings


@dataclass(frozen=True, slots=True)
class Unchanged:
    """The source is what the lake has of it.

    Attributes:
        uri: The source.
        version: What tells this version next time; other than the known one where the same bytes have a
            new ETag or time, so that whoever remembers versions can refresh what it knows.
    """

    uri: str
    version: str | None = None


class RawFile(Protocol):
    """Take in the bytes of one source for the raw zone. A context manager that keeps nothing by itself.

    Each call that writes raises LakeFaultError, which a source lets pass, where the lake fails.
    """

    uri: str
    size: int  # bytes that have come
    head: bytes  # the first of them

    def __enter__(self) -> Self: ...
    def __exit__(self, *error: object) -> None: ...

    def expect(self, size: int | None) -> None:
        """Refuse, with TerminalError, a source that announces too many bytes."""
        ...

    def feed(self, chunk: bytes) -> bool:
        """Take bytes; True asks for :meth:`spill`. Raises TerminalError above the size limit."""
        ...

    def spill(self) -> None:
        """Write what is in memory to disk."""
        ...

    def restart(self) -> None:
        """Forget all bytes."""
        ...

    def reread(self) -> BinaryIO:
        """Open all that has come, from its beginning; nothing more may come."""
        ...

    def another(self) -> RawFile:
        """Make a place for what is unpacked from these bytes."""
        ...

    @property
    def scratch(self) -> str:
        """A local folder for temporary files."""
        ...

    @property
    def quick(self) -> bool:
        """Tell whether `settle` may run on an event loop: few bytes, onto a local disk."""
        ...

    def settle(
        self, version: str | None, known: SourceRecord | None, facts: Mapping[str, str] | None = None
    ) -> FetchedFile | Unchanged:
        """Give the file its place in the lake, named by its content.

        Args:
            version: What tells this version next time, e.g. an ETag, a cursor, or size and time.
            known: What the lake has of the source; of the same content, the answer is `Unchanged`.
            facts: What was learnt about the file, e.g. ``{"charset": "cp1252"}``.
        """
        ...


Fetch = Callable[[models.Source, SourceRecord | None], Awaitable[FetchedFile | Unchanged]]


class Source(Protocol):
    """Find and fetch the files behind a family of URI schemes. Made once a process, without arguments.

    Attributes:
        schemes: What its URIs are like, by scheme in lower case. A scheme is served where INGESTLAB_SCHEMES names it.
    """

    schemes: ClassVar[Mapping[str, Scheme]]

    def discover(self, uri: str, settings: Settings, *, glob: bool = False) -> Sequence[models.Source]:
        """List the files of a URI or a pattern, sorted. Size and version are given where a listing has them.

        Args:
            uri: Of one of the schemes; its text has passed the access policy.
            settings: Limits, and `storage_options` by scheme.
            glob: Takes it for a pattern, though there may be a file of that name.

        Raises:
            IngestError: A pattern matches nothing, or the system cannot be asked.
        """
        ...

    def opened(
        self, open_raw: Callable[[str], RawFile], settings: Settings, *, pages: bool
    ) -> AbstractAsyncContextManager[Fetch]:
        """Open what the fetches of one request share; :class:`ingestlab.sources.blocking.BlockingSource` has it.

        Nothing is connected to before the first fetch, so that a system that is away fails its own sources alone.
        The function that it gives is called for many sources at once. It copies one file, in several attempts if
        need be, and gives the file, or `Unchanged` where the version or content is the known one; it raises
        TerminalError where no retry helps, TransientError where it may.

        Args:
            open_raw: Gives a place for the bytes of a source, by its URI.
            settings: As above.
            pages: Whether web pages are what is wanted.
        """
        ...


@runtime_checkable
class Listing(Source, Protocol):
    """A source whose files can be listed, however many there are: `ingestlab sync` needs it."""

    def look(self, uri: str, settings: Settings) -> models.Source | None:
        """Look at one file; None if there is none of this name.

        Args:
            uri: As a walk gives it.
            settings: As below.

        Raises:
            TerminalError: It is no file, or may not be seen.
            TransientError: The system cannot be asked.
        """
        ...

    def walk(self, uri: str, settings: Settings) -> Iterator[models.Source]:
        """Yield all files below a folder, each once, in any order.

        Few of them are in memory at a time. Size and version are given where the listing has them, and are those
        that a fetch would find.

        Args:
            uri: Of the folder or bucket; its text has passed the access policy.
            settings: Limits, and `storage_options` by scheme.

        Raises:
            TerminalError: There is no such folder.
            TransientError: The system cannot be asked, be it in the middle.
        """
        ...
