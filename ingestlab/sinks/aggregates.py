"""The sink of partial aggregates: a small Parquet file for each part and aggregate, beside the table."""

from __future__ import annotations

from ingestlab.core.models import Manifest
from ingestlab.lake import layout
from ingestlab.sinks.files import Files


class Aggregates(Files):
    """Publish the partial aggregates of the parts of a table."""

    field = "states"

    def owns(self, target: str, manifest: Manifest) -> bool:
        """Tell whether a file is in the folder of an aggregate."""
        prefix = layout.table(manifest.tenant, layout.states(manifest.table, ""))
        others = (layout.rejects(manifest.table), layout.vectors(manifest.table))
        return target.startswith(prefix) and target.split("/")[2] not in others
