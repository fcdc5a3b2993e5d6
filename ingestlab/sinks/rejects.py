"""The sink of rejects: Parquet files beside the table."""

from __future__ import annotations

from ingestlab.core.models import REJECTS
from ingestlab.interfaces import Rows, Writer, Written
from ingestlab.lake import layout
from ingestlab.lake.data_files import stage_table
from ingestlab.sinks.files import Files


class RejectsWriter(Writer):
    """Stage the rejects of a task."""

    def stage(self, rows: Rows) -> Written:
        """Write a file, if there are any. The content's name may be put in later, byte by byte."""
        to = self.to
        home, staging = layout.table(to.tenant, layout.rejects(to.table)), layout.staging(to.batch)
        return Written(stage_table(rows.rejects, rows.name, home, staging, to.store, uncompressed=["sha256"]))


class Rejects(Files):
    """Publish the rejects of a table."""

    name = REJECTS
    writer = RejectsWriter

    @classmethod
    def home(cls, tenant: str, table: str) -> str:
        """Give the folder of the rejects."""
        return f"{layout.table(tenant, layout.rejects(table))}/"
