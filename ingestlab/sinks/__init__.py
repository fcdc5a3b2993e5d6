"""Where finished rows go: one Protocol, one file a kind.

A sink is used in two steps, so that a commit can decide between them: `stage` may run twice for the same
work and leaves nothing that a reader sees; `publish` makes it seen. Both, and `discard`, may be repeated.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

import pyarrow as pa

from ingestlab.models import Part


class Sink(Protocol):
    """What commit and process need of a place for rows."""

    def stage(self, name: str, table: pa.Table, folders: Sequence[str] = ()) -> list[Part]:
        """Writes a table, one part for each combination of values of the columns `folders`."""
        ...

    def publish(self, part: Part) -> None:
        """Makes a staged part visible under its target; visible already is no error."""
        ...

    def discard(self, part: Part) -> None:
        """Removes a part, staged or published; gone already is no error."""
        ...

    def read(self, parts: Iterable[Part]) -> pa.Table:
        """The rows of published parts; columns that only some parts have are null elsewhere."""
        ...
