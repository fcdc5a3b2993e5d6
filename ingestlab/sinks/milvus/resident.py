"""Rows of a collection in memory, searched by comparing a question with all of them."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ingestlab.sinks.milvus.nearest import Nearest
from ingestlab.sinks.milvus.vector_filters import wishes
from ingestlab.sinks.milvus.vector_values import Collection, Filter, Hit


@dataclass(frozen=True)
class Resident:
    """Rows of a collection in memory.

    Attributes:
        made: The collection.
        rows: Its scalar columns.
        vectors: The vectors of these rows.
    """

    made: Collection
    rows: pa.Table
    vectors: Nearest
    _groups: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        """Return the bytes of memory that it takes."""
        return self.vectors.nbytes + int(self.rows.nbytes)

    def search(
        self, queries: np.ndarray, limit: int, only: Filter | None = None, distinct: str = ""
    ) -> list[list[Hit]] | None:
        """Find the nearest rows of each question, best first.

        Args:
            queries: Float32 of shape (n, dim).
            limit: How many for each.
            only: Values that columns must have, or an expression of Milvus.
            distinct: A column of which each value is found once.

        Returns:
            The hits of each question; None where only the server can tell what an expression means.

        Raises:
            TerminalError: A column of the filter is unknown or has no such values.
        """
        among = self._among(only)
        if among is None and only is not None:
            return None
        groups = self._grouped(distinct) if distinct else None
        hits = []
        for matches in self.vectors.search(queries, limit, among, groups):
            values = self.rows.take(pa.array(matches.rows, pa.int64())).to_pylist()
            best = zip(values, matches.scores.tolist(), matches.counts.tolist(), strict=True)
            hits.append([Hit(row["pk"], score, row, count) for row, score, count in best])
        return hits

    def _among(self, only: Filter | None) -> np.ndarray | None:
        """Tell which rows pass a filter. None if there is none, or if it cannot be told here."""
        if only is None:
            return None
        if isinstance(only, str):
            return _evaluated(only, self.rows, self.made)
        among = np.ones(self.rows.num_rows, bool)
        for name, wish in wishes(only, self.made).items():
            column = self.rows[name]
            passes = pc.is_in(column, pa.array(wish.forms, column.type))
            among &= (pc.or_(passes, pc.is_null(column)) if wish.null else passes).to_numpy()
        return among

    def _grouped(self, column: str) -> np.ndarray:
        """Give each value of a column a number, null too."""
        if column not in self._groups:
            coded = self.rows[column].combine_chunks().dictionary_encode("encode")
            self._groups[column] = coded.indices.to_numpy(zero_copy_only=False)
        return self._groups[column]


def _evaluated(expression: str, rows: pa.Table, made: Collection) -> np.ndarray | None:
    """Evaluate an expression of Milvus, with Milvus Lite's own code. None where that is not possible."""
    try:
        from milvus_lite.schema.types import CollectionSchema, DataType, FieldSchema  # noqa: PLC0415 - optional
        from milvus_lite.search.filter import FilterError, compile_filter, evaluate_mask  # noqa: PLC0415 - optional
    except ImportError:
        return None
    kinds = {"text": DataType.VARCHAR, "int": DataType.INT64, "float": DataType.DOUBLE, "bool": DataType.BOOL}
    fields = [FieldSchema("pk", DataType.VARCHAR, is_primary=True)]
    fields += [FieldSchema(column.name, kinds[column.kind], nullable=True) for column in made.columns]
    try:
        mask: np.ndarray = evaluate_mask(compile_filter(expression, CollectionSchema(fields)), rows)
    except (FilterError, pa.ArrowException):
        return None  # its server says what is wrong with it
    return mask
