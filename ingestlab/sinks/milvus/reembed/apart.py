"""Tells apart what has one key by accident.

A task numbers the rows that `clean` made of one record. Where such rows lie in several parts, since they went to
several folders, each task begins with the same number.
"""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ingestlab.core.models import DataFile
from ingestlab.interfaces import Store
from ingestlab.sinks.milvus.embedding import as_parquet
from ingestlab.sinks.milvus.vector_rows import primary_key


def told_apart(parts: Sequence[DataFile], store: Store) -> list[DataFile]:
    """Give other keys to rows whose keys an earlier file has.

    Args:
        parts: The files, whose keys differ within each.
        store: The lake.
    """
    keys = [pq.read_table(pa.BufferReader(store.read(part.staged)), columns=["pk"])["pk"] for part in parts]
    every = pa.chunked_array([chunk for column in keys for chunk in column.chunks], pa.string())
    if len(pc.unique(every)) == len(every):
        return list(parts)
    seen: set[str] = set()
    files = []
    for number, (part, column) in enumerate(zip(parts, keys, strict=True)):
        own = column.to_pylist()
        files.append(_renamed(part, seen.intersection(own), number, store) if seen.intersection(own) else part)
        seen.update(own)
    return files


def _renamed(part: DataFile, taken: set[str], number: int, store: Store) -> DataFile:
    """Rewrite a file with other keys instead of those taken."""
    table = pq.read_table(pa.BufferReader(store.read(part.staged)))
    keys = [primary_key("", "", key, number) if key in taken else key for key in table["pk"].to_pylist()]
    data = as_parquet(table.set_column(table.column_names.index("pk"), "pk", pa.array(keys, pa.string())))
    store.write(part.staged, data)
    return part.model_copy(update={"size": data.nbytes})
