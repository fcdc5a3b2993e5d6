"""How the fetching of one source may end."""

from __future__ import annotations

from dataclasses import dataclass

from ingestlab.core.errors import IngestError
from ingestlab.core.models import FetchedFile


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


@dataclass(frozen=True, slots=True)
class Failed:
    """The source could not be had, and why."""

    uri: str
    error: IngestError


Fetched = FetchedFile | Unchanged | Failed
