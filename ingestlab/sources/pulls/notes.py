"""What is noted of a pull: a line a page, and what came of it all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from ingestlab.core.archive_uri import member_uri
from ingestlab.core.models import FetchedFile, Value, digest


class Note(Value):
    """One page of a pull, as it was kept."""

    page: int  # from 1
    segment: int  # which file it is in, from 1
    offset: int  # of its first byte there
    size: int
    rows: int
    sha256: str
    time: str  # when it came, ISO 8601, UTC
    request: str
    resume: dict[str, Any] | None = None
    cursor: dict[str, Any] | None = None


class Segment(Value):
    """Consecutive pages as one file, named by its content."""

    first: int  # page
    last: int
    path: str  # relative to the lake
    spooled: str = ""  # where it waits to be given its name, if that is in the lake
    size: int
    rows: int
    sha256: str


class Pulled(Value):
    """A pull that has come to its end. The notes of its pages are the lines below it in its index."""

    uri: str
    pull: str
    pages: int
    rows: int
    size: int
    cursor: dict[str, Any] | None = None
    segments: tuple[Segment, ...] = ()
    facts: dict[str, str] = Field(default_factory=dict)

    @property
    def sha256(self) -> str:
        """Name the content, whenever it was pulled."""
        return digest({"segments": [segment.sha256 for segment in self.segments]})

    def members(self, pipeline: str) -> dict[str, FetchedFile]:
        """Give the segments as files, by URI.

        Args:
            pipeline: Its name.
        """
        return dict(self._member(segment, pipeline) for segment in self.segments)

    def _member(self, segment: Segment, pipeline: str) -> tuple[str, FetchedFile]:
        name = f"{pipeline}-{segment.first:06d}-{segment.last:06d}.jsonl"
        uri = member_uri("page", f"{self.pull}/{name}", self.uri)
        size, sha256 = segment.size, segment.sha256
        return uri, FetchedFile(uri=uri, path=segment.path, name=name, size=size, sha256=sha256)


def plain(position: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Copy a position as it is kept: None stays None, and an empty one is one."""
    return None if position is None else dict(position)
