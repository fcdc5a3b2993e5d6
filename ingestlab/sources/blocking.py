"""The base of sources with a client that blocks: files are copied on threads, each in several attempts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, ClassVar

from ingestlab.core.access import scheme_of
from ingestlab.core.errors import IngestError, TransientError
from ingestlab.core.models import FetchedFile, Source, SourceRecord
from ingestlab.core.schemes import Scheme
from ingestlab.core.settings import Settings
from ingestlab.interfaces import Fetch, RawFile, Unchanged
from ingestlab.sources.raw_zone import LakeFaultError
from ingestlab.sources.retry import attempts


class BlockingSource:
    """Fetch many files at once with a client that blocks.

    `copy` is all that a source must have itself.
    """

    schemes: ClassVar[Mapping[str, Scheme]]

    def copy(
        self, source: Source, known: SourceRecord | None, raw: RawFile, client: Any, settings: Settings
    ) -> FetchedFile | Unchanged:
        """Feed the bytes of one file to `raw` and settle it.

        Args:
            source: With size and version where a listing told them, and at the first attempt alone: it may be outdated.
            known: What the lake has of it.
            raw: Where the bytes go.
            client: What :meth:`client` gave.
            settings: Limits and times.

        Returns:
            The file in the raw zone; or that it is the known version.
        """
        raise NotImplementedError

    def client(self, scheme: str, settings: Settings) -> Any:  # noqa: ARG002 - for those that have one
        """Connect, once a scheme and request; the connection serves many threads.

        Args:
            scheme: In lower case.
            settings: Limits, and `storage_options` by scheme.
        """
        return None

    def translate(self, error: Exception, uri: str) -> IngestError:
        """Translate an error of the client; what nobody has foreseen may pass.

        Args:
            error: What `copy` has raised.
            uri: Of the file.

        Returns:
            A TransientError if another attempt may help, else a TerminalError.
        """
        fix = "Check that its server is up, and submit the file again."
        return TransientError.wrap(error, f"Cannot read {uri}", fix, code="source_unavailable")

    def discover(self, uri: str, settings: Settings, *, glob: bool = False) -> Sequence[Source]:  # noqa: ARG002
        """Name one file, by its URI."""
        return [Source(uri=uri)]

    @asynccontextmanager
    async def opened(
        self,
        open_raw: Callable[[str], RawFile],
        settings: Settings,
        *,
        pages: bool,  # noqa: ARG002 - what comes from storage is what was announced
    ) -> AsyncIterator[Fetch]:
        """Open what the fetches of one request share; see :class:`ingestlab.interfaces.Source`."""
        clients: dict[str, Any] = {}

        async def fetch(source: Source, known: SourceRecord | None) -> FetchedFile | Unchanged:
            scheme = scheme_of(source.uri)
            if scheme not in clients:  # on this one thread: fsspec has an instance for each thread that asks
                clients[scheme] = self.client(scheme, settings)
            return await asyncio.to_thread(self._fetch, source, known, open_raw, clients[scheme], settings)

        yield fetch

    def _fetch(
        self,
        source: Source,
        known: SourceRecord | None,
        open_raw: Callable[[str], RawFile],
        client: Any,
        settings: Settings,
    ) -> FetchedFile | Unchanged:
        for attempt in attempts(settings):
            announced = source if attempt.num == 1 else Source(uri=source.uri)
            with attempt, open_raw(source.uri) as raw:
                try:
                    return self.copy(announced, known, raw, client, settings)
                except (IngestError, LakeFaultError):
                    raise
                except Exception as error:  # each client has its own kinds of errors
                    raise self.translate(error, source.uri) from error
        raise AssertionError("stamina gives up by raising")
