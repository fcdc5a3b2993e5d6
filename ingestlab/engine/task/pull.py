"""A task that pulls one part of a record source straight into the raw zone."""

from __future__ import annotations

from typing import Any

from ingestlab.core.models import Value
from ingestlab.core.settings import Settings
from ingestlab.lake.storage.store import open_store
from ingestlab.pipeline.catalog import PipelineSource, load
from ingestlab.sources.pulls.pulling import Order, pull


class PartOfPull(Value):
    """What a task is told of its part."""

    uri: str
    tenant: str
    pipeline: PipelineSource
    run: str
    cursor: dict[str, Any] | None = None
    part: dict[str, str]  # the window that the source has given it


def order_of(part: PartOfPull, settings: Settings) -> Order:
    """Say what is pulled for a part.

    Args:
        part: Of a pull.
        settings: Limits, and where servers are.

    Raises:
        TerminalError: The pipeline does not load.
    """
    source = load(part.pipeline).source
    assert source is not None
    return Order(
        source=source,
        uri=part.uri,
        tenant=part.tenant,
        pipeline=part.pipeline.name,
        code=part.pipeline.sha256,
        run=part.run,
        cursor=part.cursor,
        part=part.part,
        settings=settings,
    )


def run(part: dict[str, Any], lake: str, options: dict[str, Any], outside: dict[str, Any]) -> dict[str, Any]:
    """Pull a part, as a Dask task on plain dicts.

    Args:
        part: See :class:`PartOfPull`.
        lake: Its URL.
        options: Of its storage.
        outside: Settings for who asks servers.

    Returns:
        What has come.
    """
    order = order_of(PartOfPull.from_dict(part), Settings(_env_file=None, **outside))
    return pull(order, open_store(lake, options), lambda _pages, _rows, _size: None).to_dict()
