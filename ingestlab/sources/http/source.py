"""The source behind http and https, whose servers serve files but no listings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import ClassVar

from ingestlab.core.models import Source
from ingestlab.core.schemes import Scheme
from ingestlab.core.settings import Settings
from ingestlab.interfaces import Fetch, RawFile

_LIKE = Scheme(host=True, quoted=True)


class HttpSource:
    """Fetch files behind http and https; see :class:`ingestlab.interfaces.Source`."""

    schemes: ClassVar[Mapping[str, Scheme]] = {"http": _LIKE, "https": _LIKE}

    def discover(self, uri: str, settings: Settings, *, glob: bool = False) -> list[Source]:  # noqa: ARG002
        """Name the file; its server says more when it is fetched."""
        return [Source(uri=uri).bared(settings.secret_parameters)]

    def opened(
        self, open_raw: Callable[[str], RawFile], settings: Settings, *, pages: bool
    ) -> AbstractAsyncContextManager[Fetch]:
        """Open a pool of connections."""
        from ingestlab.sources.http.client import opened  # noqa: PLC0415 - slow to import, and not needed to submit

        return opened(open_raw, settings, pages=pages)
