"""Keys of vectors that come twice in a file that was cut: no task sees more than its own piece of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ingestlab.core.access import file_name
from ingestlab.core.errors import TerminalError
from ingestlab.core.models import DataFile
from ingestlab.interfaces import Store
from ingestlab.pipeline.embedding import Embedding

SHOWN = 3  # doubles in an error
_FIX = "Nothing of it was published. Name columns in Embedding.key that tell its rows apart, or correct the file."


def shared_keys(
    embedding: Embedding, staged: Mapping[str, Sequence[DataFile]], store: Store
) -> dict[str, TerminalError]:
    """Find files whose pieces have rows with one declared key.

    Args:
        embedding: What declares it.
        staged: For each file, by URI, the files with vectors of its pieces.
        store: The lake.
    """
    errors: dict[str, TerminalError] = {}
    for uri, parts in staged.items() if embedding.key else ():
        if pairs := _pairs(uri, parts, store):
            shown = "; ".join(f"row {first} and row {second}" for first, second in pairs[:SHOWN])
            more = f"; {len(pairs) - SHOWN:,} more" if len(pairs) > SHOWN else ""
            errors[uri] = TerminalError(
                "Two rows have one key",
                expected=f"one row of {file_name(uri)} for each {', '.join(embedding.key)}, the key of its vectors",
                got=f"the same in {shown}{more}",
                fix=_FIX,
                code="columns_conflict",
            )
    return errors


def _pairs(uri: str, parts: Sequence[DataFile], store: Store) -> list[tuple[int, int]]:
    """Find pairs of rows with one key, the earlier first."""
    paths = [part.staged for part in parts if uri in part.sources]
    tables = [pq.read_table(pa.BufferReader(store.read(path)), columns=["pk", "row"]) for path in paths]
    rows = pa.concat_tables(tables) if tables else None
    if rows is None or pc.count_distinct(rows["pk"]).as_py() == rows.num_rows:
        return []
    holders: dict[str, int] = {}
    first_rows = {}
    for row, pk in sorted(zip(rows["row"].to_pylist(), rows["pk"].to_pylist(), strict=True)):
        first = holders.setdefault(pk, row)
        if first != row:
            first_rows[row] = first  # chunks of one row have keys of their own, but tell the same
    return [(first, row) for row, first in first_rows.items()]
