"""Makes one part of many small ones: what `compact` runs on Dask.

Without a sort order the rows stream through, so that memory holds a row group and one small part, never the
part that comes out. Parts whose columns have types that cannot be brought together without changing a value
(integers and text, say) stay apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from ingestlab.core.errors import TerminalError
from ingestlab.core.models import DataFile, Value
from ingestlab.interfaces import Store
from ingestlab.lake import layout
from ingestlab.lake.arrow_schema import common_schema, decoded
from ingestlab.lake.data_files import batches, joined, open_part, row_groups, without_dictionary, write_part
from ingestlab.lake.storage.store import open_store


class Merge(Value):
    """Parts of one folder to merge, by kind of columns."""

    batch: str
    number: int
    parts: tuple[DataFile, ...]
    sort: tuple[str, ...] = ()


class Merged(Value):
    """Staged part, and the targets of the parts that it replaces."""

    part: DataFile
    replaced: tuple[str, ...]


@dataclass
class _Family:
    """Parts whose columns go together, and the columns that hold them all."""

    schema: pa.Schema
    parts: list[DataFile]
    bare: set[str]  # columns without a dictionary


def merge(work: dict[str, object], lake: str, options: dict[str, dict[str, object]]) -> list[dict[str, object]]:
    """Merge parts, as a Dask task. Takes and gives plain dicts.

    Args:
        work: A :class:`Merge`.
        lake: URL of the lake.
        options: How to open it, by scheme.

    Returns:
        The :class:`Merged` parts.

    Raises:
        TerminalError: A part that a manifest names is gone, or there is no such column to sort by.
    """
    spec = Merge.from_dict(work)
    store = open_store(lake, options)
    families = [f for f in _families(spec.parts, store) if len(f.parts) > 1]
    name = f"{spec.batch}-{spec.number:05d}"
    return [_write(family, f"{name}-{i}", spec, store).to_dict() for i, family in enumerate(families)]


def _families(parts: Iterable[DataFile], store: Store) -> list[_Family]:
    """Group each part with the first others that it goes together with."""
    families: list[_Family] = []
    for part in parts:
        opened = open_part(part, store)
        schema, bare = opened.schema_arrow.remove_metadata(), without_dictionary([opened])
        for family in families:
            if both := common_schema(family.schema, schema):
                family.schema, family.bare = both, family.bare | bare
                family.parts.append(part)
                break
        else:
            families.append(_Family(schema, [part], bare))
    return families


def _write(family: _Family, name: str, spec: Merge, store: Store) -> Merged:
    """Stage the part that holds the rows of a family."""
    target = f"{family.parts[0].target.rsplit('/', 1)[0]}/{name}.parquet"
    rows = (_conform(table, family.schema) for part in family.parts for table in batches(open_part(part, store)))
    tables = [_sorted(rows, spec.sort)] if spec.sort else row_groups(rows)
    sources = {uri for part in family.parts for uri in part.sources}
    part = write_part(tables, family.schema, target, sources, layout.staging(spec.batch), store, family.bare)
    return Merged(part=part, replaced=tuple(p.target for p in family.parts))


def _conform(table: pa.Table, schema: pa.Schema) -> pa.Table:
    have = set(table.column_names)
    columns = [
        table[field.name].cast(field.type) if field.name in have else pa.nulls(table.num_rows, field.type)
        for field in schema
    ]
    return pa.table(columns, schema=schema)


def _sorted(tables: Iterable[pa.Table], columns: Sequence[str]) -> pa.Table:
    table = joined(list(tables))
    missing = [c for c in columns if c not in table.column_names]
    if missing:
        have = ", ".join(table.column_names)
        raise TerminalError(
            "The table has no column to sort by",
            expected=f"a column '{missing[0]}' to sort by",
            got=f"columns {have}",
            fix="Sort by one of these.",
            code="column_unknown",
        )
    keys = pa.table({c: decoded(table[c]) for c in columns})
    return table.take(pc.sort_indices(keys, [(c, "ascending") for c in columns]))
