"""A table as people have it in a notebook."""

from __future__ import annotations

from textwrap import fill
from typing import Any

import pyarrow as pa

from ingestlab.analytics.lake import Table
from ingestlab.core.errors import IngestError
from ingestlab.core.templates import render
from ingestlab.notebook import page

_COLUMNS = 12  # that are shown; a table may have thousands
_WIDTH = 88  # characters of a line, which a notebook beside the dashboard has room for


class LabTable(Table):
    """A table that shows itself: columns, rows, bytes, parts, and the run that came last."""

    @classmethod
    def of(cls, table: Table) -> LabTable:
        """Give the same table, with a face."""
        return cls(table._store, table.tenant, table.name, table.as_of)  # noqa: SLF001 - it is the same

    def __repr__(self) -> str:
        schema = self._schema()
        columns = [f"{field.name} {_type(field.type)}" for field in schema[:_COLUMNS]]
        more = [f"and {len(schema) - _COLUMNS} more"] if len(schema) > _COLUMNS else []
        indent: Any = {"initial_indent": "  ", "subsequent_indent": "  "}
        lines = fill(", ".join([*columns, *more]), _WIDTH, break_long_words=False, break_on_hyphens=False, **indent)
        return f"{self.name}: {self._size()}\n{lines}\n  last {self._last()}"

    def _repr_html_(self) -> str:
        schema = self._schema()
        return render(
            "notebook/templates/table.html",
            table=self,
            size=self._size(),
            columns=[(field.name, _type(field.type)) for field in schema[:_COLUMNS]],
            more=len(schema) - _COLUMNS,
            last=self._last(),
        )

    def _size(self) -> str:
        return f"{page.many(self.rows, 'row')}, {page.many(len(self.parts), 'part')}, {page.size(self.bytes)}"

    def _last(self) -> str:
        if not self.manifests:
            return "none"
        last = self.manifests[-1]
        files = page.many(len(last.sources), "file")
        return f"{last.run} ({last.kind} of {files} by {last.pipeline}, {last.committed_at[:16].replace('T', ' ')} UTC)"

    def _schema(self) -> list[pa.Field]:
        try:
            return list(self.dataset().schema)
        except (OSError, IngestError):  # a part has just been replaced: the next look finds the new one
            return []


def _type(of: pa.DataType) -> str:
    """Name a column's type without how Arrow keeps it."""
    value = of.value_type if pa.types.is_dictionary(of) else of
    return str(value).removeprefix("large_")
