"""Takes the rows of some sources out of a published part: the other half of `replace`.

The rows stream through, as they do where parts are merged.
"""

from __future__ import annotations

import hashlib
from typing import Any

from ingestlab.core.models import DataFile
from ingestlab.lake import layout
from ingestlab.lake.data_files import batches, open_part, row_groups, without_dictionary, without_sources, write_part
from ingestlab.lake.storage.store import open_store


def rewrite(
    part: dict[str, Any], uris: list[str], batch: str, lake: str, options: dict[str, dict[str, Any]]
) -> dict[str, Any] | None:
    """Stage a part without some sources' rows, as a Dask task. None if none are left.

    The part itself stays. What is left goes to the same folder, under a name of the new batch.

    Args:
        part: A :class:`ingestlab.core.models.DataFile` as a plain dict.
        uris: The sources that go.
        batch: In whose staging folder the new part waits.
        lake: The lake's URL.
        options: Its storage options.

    Returns:
        The staged part as a plain dict.

    Raises:
        TerminalError: The part is gone.
    """
    old = DataFile.from_dict(part)
    left = set(old.sources) - set(uris)
    if not left:
        return None
    store = open_store(lake, options)
    name = f"{batch}-r{hashlib.sha256(old.target.encode()).hexdigest()[:8]}"
    target = f"{old.target.rsplit('/', 1)[0]}/{name}.parquet"
    opened = open_part(old, store)
    rest = row_groups(without_sources(table, uris) for table in batches(opened))
    new = write_part(
        rest, opened.schema_arrow, target, left, layout.staging(batch), store, without_dictionary([opened])
    )
    if new.rows:
        return new.to_dict()
    store.delete(new.staged)
    return None
