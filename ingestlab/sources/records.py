"""URIs of record sources: ``rest://orders`` is what the pipeline `orders` declares as its `source`.

``rest://orders?from=2026-01-01&to=2026-02-01`` is a window of it: a source of its own, with rows of its own.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import ClassVar, NoReturn
from urllib.parse import quote, unquote

from ingestlab.core import models, schemes
from ingestlab.core.access import scheme_of
from ingestlab.core.errors import TerminalError
from ingestlab.core.models import NAME, SourceRecord
from ingestlab.core.schemes import Scheme
from ingestlab.core.settings import Settings
from ingestlab.interfaces import Fetch, RawFile

BOUNDS = ("from", "to")  # of a window
_PLAIN = ":+,. "  # what stays as it is in a bound


@dataclass(frozen=True, slots=True)
class RecordUri:
    """What a URI of a record source says.

    Attributes:
        scheme: Of the source, ``rest``.
        pipeline: That declares it.
        window: The part of the records that is meant, ``{"from": …, "to": …}``; empty for all.
    """

    scheme: str
    pipeline: str
    window: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        bounds = "&".join(f"{name}={quote(self.window[name], safe=_PLAIN)}" for name in BOUNDS if name in self.window)
        return f"{self.scheme}://{self.pipeline}{'?' * bool(bounds)}{bounds}"

    @classmethod
    def parse(cls, uri: str) -> RecordUri:
        """Read a URI.

        Raises:
            TerminalError: It is none.
        """
        scheme, _, rest = uri.partition("://")
        name, mark, query = rest.partition("?")
        pairs = [pair.partition("=") for pair in query.split("&")] if mark else []
        window = {key: unquote(value) for key, _, value in pairs}
        sound = len(window) == len(pairs) and all(key in BOUNDS and value for key, value in window.items())
        if not re.fullmatch(NAME, name) or not sound:
            problem, form = f"Not the URI of a record source: {uri}", f"{scheme}://PIPELINE?from=…&to=…"
            fix = "Name the pipeline that declares the source; `from` and `to` may be left out."
            raise TerminalError(problem, expected=form, fix=fix, code="uri_invalid")
        return cls(scheme.lower(), name, window)


class RecordUris:
    """Serve the schemes of record sources; see :class:`ingestlab.interfaces.Source`.

    Another package that brings a record source declares a subclass with its scheme as an entry point of
    ``ingestlab.sources``.
    """

    schemes: ClassVar[Mapping[str, Scheme]] = {"rest": Scheme(), "airbyte": Scheme(), "mongo": Scheme()}

    def discover(self, uri: str, settings: Settings, *, glob: bool = False) -> Sequence[models.Source]:  # noqa: ARG002
        """Name the source. It is pulled by a worker."""
        return [models.Source(uri=str(RecordUri.parse(uri)))]

    @asynccontextmanager
    async def opened(
        self,
        open_raw: Callable[[str], RawFile],  # noqa: ARG002
        settings: Settings,  # noqa: ARG002
        *,
        pages: bool,  # noqa: ARG002
    ) -> AsyncIterator[Fetch]:
        """Refuse each: it is no file."""

        async def refuse(source: models.Source, _known: SourceRecord | None) -> NoReturn:
            fix = "Submit it alone; a lookup table is a file."
            raise TerminalError(f"{source.uri} names records, and no file", fix=fix, code="uri_invalid")

        yield refuse


def names_records(uri: str) -> bool:
    """Tell whether a URI is that of a record source."""
    return isinstance(schemes.source(scheme_of(uri)), RecordUris)
