"""One data file in wider types: what a commit runs on Dask where a column's type has changed."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from ingestlab.core.models import DataFile, Value
from ingestlab.engine.task.conform import MisfitError, retyped
from ingestlab.interfaces import Store
from ingestlab.lake import layout
from ingestlab.lake.arrow_schema import parse_type, plain
from ingestlab.lake.data_files import batches, open_part, row_groups, without_dictionary, write_part
from ingestlab.lake.storage.store import open_store


class Widening(Value):
    """A data file, and new types of some of its columns.

    Attributes:
        part: The file.
        path: Where it is now.
        types: The types, as text, by column. Columns that it lacks are not added.
        target: Where the new file goes.
        batch: In whose staging folder it waits.
    """

    part: DataFile
    path: str
    types: dict[str, str]
    target: str
    batch: str


def widen(work: dict[str, Any], lake: str, options: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Stage a data file in wider types, as a Dask task.

    Args:
        work: A :class:`Widening`.
        lake: URL of the lake.
        options: How to open it, by scheme.

    Returns:
        ``{"part": …}``; ``{"misfit": column, "value": text}`` where a value would change; nothing where the file has
        these types.
    """
    spec, store = Widening.from_dict(work), open_store(lake, options)
    try:
        part = _widened(spec, store)
    except MisfitError as error:
        return {"misfit": error.column, "value": error.value}
    return {"part": part.to_dict()} if part else {}


def _widened(spec: Widening, store: Store) -> DataFile | None:
    opened = open_part(spec.part.model_copy(update={"target": spec.path}), store)
    old = opened.schema_arrow.remove_metadata()
    wanted = {name: parse_type(kind) for name, kind in spec.types.items()}
    schema = pa.schema(
        field.with_type(wanted[field.name]) if wanted.get(field.name, plain(field.type)) != plain(field.type) else field
        for field in old
    )
    if schema.equals(old):
        return None
    rows = row_groups(retyped(table, schema) for table in batches(opened))
    bare = without_dictionary([opened])
    return write_part(rows, schema, spec.target, spec.part.sources, layout.staging(spec.batch), store, bare)
