"""All sinks of a lake: the package's own, and those of other packages."""

from __future__ import annotations

from ingestlab.core.plugins import load, plugins
from ingestlab.core.settings import Settings
from ingestlab.interfaces import Executor, Sink, Store


def open_sinks(settings: Settings, store: Store, cluster: Executor) -> tuple[Sink, ...]:
    """Make every sink that is built in or installed; all take part in every commit.

    Args:
        settings: Where everything is.
        store: The lake.
        cluster: Where a sink may run tasks.

    Raises:
        TerminalError: A plug-in cannot be imported.
    """
    return tuple(load("sinks", name)(settings, store, cluster) for name in plugins("sinks"))
