"""The executor that the settings choose."""

from __future__ import annotations

from ingestlab.core.settings import Settings
from ingestlab.interfaces import Executor


def open_executor(settings: Settings) -> Executor:
    """Make the executor of ``INGESTLAB_EXECUTOR``; it connects when it is first needed."""
    if settings.executor == "threads":
        from ingestlab.executors.threads import Threads  # noqa: PLC0415 - each pulls in only what it needs

        return Threads(settings)
    from ingestlab.executors.dask import Cluster  # noqa: PLC0415 - likewise

    return Cluster(settings)
