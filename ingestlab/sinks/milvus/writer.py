"""What a task does for the vectors of its rows: it embeds them, and stages what came out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ingestlab.interfaces import Destination, Place, Reason, Rows, Writer, Written
from ingestlab.pipeline.embedding import Embedding
from ingestlab.sinks.milvus.embedding import Embedded, check_columns, embed, stage
from ingestlab.sinks.milvus.fitness import misfits
from ingestlab.sinks.milvus.vector_values import NAME

SILENT = "embedding:no text"  # a rule: rows that are published without a vector, since there is nothing to embed
FACT, SHOWN = "no vector", 10  # rows of a piece that its fact names


class VectorsWriter(Writer):
    """Embed the rows of a task, and stage their vectors."""

    def __init__(self, destination: Destination) -> None:
        super().__init__(destination)
        self._embedded: dict[str, Embedded] = {}

    @property
    def _embedding(self) -> Embedding:
        embedding: Embedding = self.to.pipeline.embedding
        return embedding

    def refuse(self, rows: Rows) -> dict[Place, Reason]:
        """Embed rows, and find those that can have no vector.

        Raises:
            TerminalError: A column is missing, or the model fails.
        """
        to = self.to
        check_columns(rows.table, self._embedding)
        odd = misfits(rows.table, self._embedding, self._taken(rows), rows.pieces, (to.tenant, to.table))
        made = self._embedded[rows.name] = embed(replace(rows, table=_without(rows.table, odd)), to)
        return {**odd, **made.faults}

    def stage(self, rows: Rows) -> Written:
        """Write the vectors of rows, which outlive a failed try: no model runs twice for a row."""
        to, made = self.to, self._embedded.pop(rows.name, None)
        if made is None:
            return Written()
        made = made.of(rows.table)
        silent: dict[str, list[int]] = {}
        for uri, row in made.silent:
            silent.setdefault(uri, []).append(row)
        return Written(
            files=stage(made, to),
            note=made.collection.to_dict(),
            rules={SILENT: len(made.silent)} if made.silent else {},
            facts={uri: {FACT: _listed(sorted(some))} for uri, some in silent.items()},
        )

    def _taken(self, rows: Rows) -> frozenset[str]:
        """Read the primary keys of vectors that the sources already have."""
        taken: set[str] = set()
        for path in self.to.earlier.get(NAME, ()) if self._embedding.key else ():
            there = pq.read_table(pa.BufferReader(self.to.store.read(path)), columns=["pk", "source"])
            taken.update(there.filter(pc.is_in(there["source"], pa.array(list(rows.pieces))))["pk"].to_pylist())
        return frozenset(taken)


def _without(table: pa.Table, places: Mapping[Place, Reason]) -> pa.Table:
    """Leave out some source rows."""
    if not places:
        return table
    pairs = zip(table["_source"].cast(pa.string()).to_pylist(), table["_row"].to_pylist(), strict=True)
    return table.filter(pa.array([pair not in places for pair in pairs], pa.bool_()))


def _listed(rows: Sequence[int]) -> str:
    """List row numbers for people to read."""
    shown = ", ".join(map(str, rows[:SHOWN]))
    more = f" and {len(rows) - SHOWN:,} more" if len(rows) > SHOWN else ""
    return f"{'row' if len(rows) == 1 else 'rows'} {shown}{more} (no text)"
