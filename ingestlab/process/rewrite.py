"""Takes the rows of some sources out of a published part: the other half of `replace`."""

from __future__ import annotations

import hashlib
import io
from typing import Any

import pyarrow.parquet as pq

from ingestlab import layout
from ingestlab.models import Part
from ingestlab.sinks.parquet import ParquetSink, without_sources
from ingestlab.storage import open_store


def rewrite(
    part: dict[str, Any], uris: list[str], batch: str, lake: str, options: dict[str, dict[str, Any]]
) -> dict[str, Any] | None:
    """A Dask task: stages what is left of a part when some sources go; None if that is nothing.

    The part itself stays. What is left goes to the same folder, under a name of the new batch.
    """
    old = Part.from_dict(part)
    if set(old.sources) <= set(uris):
        return None
    store = open_store(lake, options)
    rest = without_sources(pq.read_table(io.BytesIO(store.read(old.target)), partitioning=None), uris)
    folder = old.target.rsplit("/", 1)[0]
    name = f"{batch}-r{hashlib.sha256(old.target.encode()).hexdigest()[:8]}"
    staged = ParquetSink(store, folder, layout.staging(batch)).stage(name, rest)
    return staged[0].to_dict() if staged else None
