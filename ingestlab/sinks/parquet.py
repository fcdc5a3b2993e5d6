"""The sink of a table's rows: Parquet files in folders named by Hive's convention."""

from __future__ import annotations

from ingestlab.core.models import PARQUET
from ingestlab.interfaces import Rows, Writer, Written
from ingestlab.lake import layout
from ingestlab.lake.data_files import stage_table
from ingestlab.sinks.files import Files


class ParquetWriter(Writer):
    """Stage the rows of a task, in the pipeline's folders."""

    def stage(self, rows: Rows) -> Written:
        """Write a data file for each folder.

        Raises:
            TerminalError: A partition column is missing, or its values are too many or too long for folders.
        """
        to = self.to
        home, staging = layout.table(to.tenant, to.table), layout.staging(to.batch)
        folders, dictionaries = to.pipeline.folders, rows.dictionaries
        return Written(stage_table(rows.table, rows.name, home, staging, to.store, folders, dictionaries=dictionaries))


class TableFiles(Files):
    """Publish the rows of a table."""

    name = PARQUET
    writer = ParquetWriter

    @classmethod
    def home(cls, tenant: str, table: str) -> str:
        """Give the folder of the table."""
        return f"{layout.table(tenant, table)}/"
