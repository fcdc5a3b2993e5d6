"""Takes the rows of some sources out of a published part, or these alone: the other half of `replace`, and undo.

The rows stream through, as they do where parts are merged.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import partial
from typing import Any

import pyarrow as pa

from ingestlab.core.models import DataFile
from ingestlab.interfaces import Store
from ingestlab.lake import layout
from ingestlab.lake.data_files import (
    batches,
    only_sources,
    open_part,
    row_groups,
    without_dictionary,
    without_sources,
    write_part,
)
from ingestlab.lake.storage.store import open_store

RESTORED = "-u"  # in the names of files that an undo brings back, after the batch


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
    return _stage(old, old.target, left, f"{batch}-r", partial(without_sources, uris=uris), open_store(lake, options))


def bring_back(
    part: dict[str, Any], place: str, uris: list[str], batch: str, lake: str, options: dict[str, dict[str, Any]]
) -> dict[str, Any] | None:
    """Stage some sources' rows of a replaced part, as a Dask task.

    Args:
        part: As in :func:`rewrite`, as all but `place`.
        place: Where the part is now.
        uris: The sources that come back.
        batch: In whose staging folder the new part waits.
        lake: The lake's URL.
        options: Its storage options.

    Returns:
        The staged part as a plain dict; None if there are no such rows.

    Raises:
        TerminalError: The part is gone.
    """
    old, mark = DataFile.from_dict(part), f"{batch}{RESTORED}"
    change = partial(only_sources, uris=uris)
    return _stage(old, place, set(old.sources) & set(uris), mark, change, open_store(lake, options))


def _stage(
    old: DataFile, place: str, left: set[str], mark: str, change: Callable[[pa.Table], pa.Table], store: Store
) -> dict[str, Any] | None:
    """Stage some of the rows of a part, beside it."""
    target = f"{old.target.rsplit('/', 1)[0]}/{mark}{hashlib.sha256(old.target.encode()).hexdigest()[:8]}.parquet"
    opened = open_part(old.model_copy(update={"target": place}), store)
    rest = row_groups(map(change, batches(opened)))
    staging = layout.staging(mark.rpartition("-")[0])
    new = write_part(rest, opened.schema_arrow, target, left, staging, store, without_dictionary([opened]))
    if new.rows:
        return new.to_dict()
    store.delete(new.staged)
    return None
