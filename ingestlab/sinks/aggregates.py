"""The sink of partial aggregates: a small Parquet file for each data file and aggregate, beside the table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pyarrow as pa

from ingestlab.analytics.aggregates.files import compute, recompute_partials, stage_partials
from ingestlab.core.models import AGGREGATES, PARQUET, DataFile
from ingestlab.core.settings import Settings
from ingestlab.interfaces import Executor, Rows, Store, Writer, Written
from ingestlab.lake import layout
from ingestlab.pipeline.aggregate import Aggregate
from ingestlab.pipeline.catalog import PipelineSource
from ingestlab.sinks.files import Files


class AggregatesWriter(Writer):
    """Stage the partial aggregates of a task's data files."""

    def stage(self, rows: Rows) -> Written:
        """Write a file for each data file and aggregate.

        Raises:
            TerminalError: An aggregate names a column that there is not, or one of the wrong type.
        """
        to, parts = self.to, rows.staged[PARQUET].files
        declared = to.pipeline.aggregates
        partials = compute(with_dictionaries(rows, declared.values()), parts, declared, to.pipeline.folders)
        return Written([stage_partials(*partial, (to.tenant, to.table), to.batch, to.store) for partial in partials])


def with_dictionaries(rows: Rows, aggregates: Iterable[Aggregate]) -> pa.Table:
    """Put known dictionaries in place of texts to group by.

    Args:
        rows: What a task has made.
        aggregates: Say by which columns.
    """
    table = rows.table
    for name in {key.column for aggregate in aggregates for key in aggregate.keys} & set(table.column_names):
        dictionary = rows.dictionaries.get(name)
        if dictionary and dictionary.places.numbers is not None:
            column = pa.DictionaryArray.from_arrays(pa.array(dictionary.places.numbers), dictionary.values, safe=False)
            table = table.set_column(table.column_names.index(name), name, column)
    return table


class Aggregates(Files):
    """Publish the partial aggregates of a table."""

    name = AGGREGATES
    writer = AggregatesWriter

    def __init__(self, settings: Settings, store: Store, cluster: Executor) -> None:
        super().__init__(settings, store, cluster)
        self._settings, self._cluster = settings, cluster

    @classmethod
    def takes(cls, pipeline: Any) -> bool:
        """Tell whether a pipeline declares aggregates."""
        return bool(pipeline.aggregates)

    @classmethod
    def home(cls, tenant: str, table: str) -> str:
        """Give the beginning of the folders of all aggregates. Others beside the table share it."""
        return layout.table(tenant, layout.beside(table, ""))

    def derive(
        self, code: PipelineSource, where: tuple[str, str], batch: str, files: Sequence[DataFile]
    ) -> dict[str, list[DataFile]]:
        """Compute the partial aggregates of data files, one task a file."""
        return recompute_partials(files, batch, where, code, self._cluster, self._settings)
