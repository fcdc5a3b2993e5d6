"""The sink of rejects: Parquet files beside the table."""

from __future__ import annotations

from ingestlab.core.models import Manifest
from ingestlab.lake import layout
from ingestlab.sinks.files import Files


class Rejects(Files):
    """Publish the rejects of a table."""

    field = "rejects"

    def owns(self, target: str, manifest: Manifest) -> bool:
        """Tell whether a file is in the folder of the rejects."""
        return target.startswith(f"{layout.table(manifest.tenant, layout.rejects(manifest.table))}/")
