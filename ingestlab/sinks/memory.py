"""Parts in a dict: for trying a pipeline out, and for tests of what uses a sink."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pyarrow as pa

from ingestlab.core.models import Part
from ingestlab.sinks.parquet import by_folder, sources_of, with_folders


class MemorySink:
    """Keeps tables in this process; `published` maps targets to what a reader would see."""

    def __init__(self, folder: str = "memory") -> None:
        self._folder = folder
        self._staged: dict[str, pa.Table] = {}
        self.published: dict[str, pa.Table] = {}

    def stage(self, name: str, table: pa.Table, folders: Sequence[str] = ()) -> list[Part]:
        """See :class:`ingestlab.interfaces.PartWriter`."""
        return [self._stage(name, sub, piece) for sub, piece in by_folder(table, folders)] if table.num_rows else []

    def _stage(self, name: str, sub: str, table: pa.Table) -> Part:
        target = "/".join(p for p in (self._folder, sub, name) if p)
        self._staged[target] = table
        return Part(target=target, staged=target, rows=table.num_rows, size=table.nbytes, sources=sources_of(table))

    def publish(self, part: Part) -> None:
        """See :class:`ingestlab.interfaces.PartWriter`."""
        if part.staged in self._staged:
            self.published[part.target] = self._staged.pop(part.staged)
        elif part.target not in self.published:
            raise FileNotFoundError(part.staged)

    def discard(self, part: Part) -> None:
        """See :class:`ingestlab.interfaces.PartWriter`."""
        self._staged.pop(part.staged, None)
        self.published.pop(part.target, None)

    def read(self, parts: Iterable[Part]) -> pa.Table:
        """See :class:`ingestlab.interfaces.PartWriter`; partition columns come back as text."""
        start = len(self._folder) + 1
        tables = [with_folders(self.published[p.target], p.target[start:]) for p in parts]
        return pa.concat_tables(tables, promote_options="permissive") if tables else pa.table({})
