"""Parts of the lake, read and written piece by piece: what merging and taking rows out have in common.

Memory holds a row group, never a part that is large.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ingestlab.core.errors import TerminalError
from ingestlab.core.models import Part
from ingestlab.interfaces import Store
from ingestlab.lake.storage.ranged import Ranged
from ingestlab.lake.storage.store import storage_error
from ingestlab.sinks.parquet import ROW_GROUP, encoding, staged_path

BATCH = 1 << 16  # rows that are decoded at a time
GROUP_BYTES = 64 << 20  # of decoded rows that make a row group, if they are fewer than ROW_GROUP
_SMALL = 16 << 20  # bytes up to which a part is read in one go


def open_part(part: Part, store: Store) -> pq.ParquetFile:
    """Open a published part.

    Raises:
        TerminalError: It is gone.
    """
    try:
        small = part.size <= _SMALL
        source: Any = pa.BufferReader(store.read(part.target)) if small else pa.PythonFile(Ranged(part.target, store))
        return pq.ParquetFile(source)
    except FileNotFoundError:
        wanted = f"the part {Path(part.target).name}, which a manifest names"
        raise TerminalError(
            "A data file is missing",
            expected=wanted,
            got="no such file",
            fix="`ingestlab reconcile` lists all that is missing.",
            code="lake_damaged",
        ) from None


def without_dictionary(opened: Iterable[pq.ParquetFile]) -> set[str]:
    """Find float columns stored without dictionary, since they hold -0.0."""
    found = set()
    for file in opened:
        floats = {field.name for field in file.schema_arrow if pa.types.is_floating(field.type)}
        for group in range(file.num_row_groups if floats else 0):
            meta = file.metadata.row_group(group)
            columns = (meta.column(i) for i in range(meta.num_columns))
            found |= {c.path_in_schema for c in columns if c.path_in_schema in floats and not c.has_dictionary_page}
    return found


def batches(opened: pq.ParquetFile) -> Iterator[pa.Table]:
    """Yield the rows of a part, some at a time."""
    return (pa.Table.from_batches([batch]) for batch in opened.iter_batches(BATCH))


def row_groups(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Collect rows until they make a row group."""
    held: list[pa.Table] = []
    rows = size = 0
    for table in tables:
        if not table.num_rows:
            continue
        held.append(table)
        rows, size = rows + table.num_rows, size + _bytes(table)
        if rows + BATCH > ROW_GROUP or size >= GROUP_BYTES:
            yield joined(held)
            held, rows, size = [], 0, 0
    if held:
        yield joined(held)


def joined(tables: Sequence[pa.Table]) -> pa.Table:
    """Concatenate tables to one chunk, with one dictionary a column."""
    return pa.concat_tables(tables).unify_dictionaries().combine_chunks()


def write_part(
    tables: Iterable[pa.Table],
    schema: pa.Schema,
    target: str,
    sources: Iterable[str],
    staging: str,
    store: Store,
    bare: Iterable[str] = (),
) -> Part:
    """Stage a part, by way of a local file.

    Args:
        tables: Its row groups, in order.
        schema: Their columns.
        target: Where in the lake it goes.
        sources: The URIs that have rows in it.
        staging: The folder where it waits.
        store: The lake.
        bare: Columns that get no dictionary, as :func:`without_dictionary` names them.
    """
    staged = staged_path(staging, target)
    local = store.scratch() / uuid.uuid4().hex
    try:
        rows = _write(local, tables, schema, set(bare))
        size = local.stat().st_size
        store.adopt(local, staged)
    except OSError as error:
        raise storage_error(error, target) from error
    finally:
        local.unlink(missing_ok=True)
    return Part(target=target, staged=staged, rows=rows, size=size, sources=tuple(sorted(sources)))


def _write(path: Path, tables: Iterable[pa.Table], schema: pa.Schema, bare: Collection[str]) -> int:
    """Write a Parquet file to disk, and count its rows."""
    rows = 0
    with path.open("wb") as file:
        with pq.ParquetWriter(file, schema, **encoding(schema, bare)) as writer:
            for table in tables:
                writer.write_table(table, row_group_size=ROW_GROUP)
                rows += table.num_rows
        file.flush()
        os.fsync(file.fileno())
    return rows


def _bytes(table: pa.Table) -> int:
    """Measure rows in bytes, without dictionaries, which many batches may share."""
    return int(sum(c.nbytes for c in table.columns if not pa.types.is_dictionary(c.type)) + 4 * table.num_rows)
