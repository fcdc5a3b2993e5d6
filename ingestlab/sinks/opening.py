"""All sinks of a lake: the package's own, and those of other packages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ingestlab.core.plugins import load, plugins
from ingestlab.core.settings import Settings
from ingestlab.interfaces import Executor, Sink, Store


class Sinks(Mapping[str, Sink]):
    """Every installed sink by name, made on first use, in commit order.

    Args:
        settings: Where everything is.
        store: The lake.
        cluster: Where a sink may run tasks.
    """

    def __init__(self, settings: Settings, store: Store, cluster: Executor) -> None:
        self._parts = (settings, store, cluster)
        self._made: dict[str, Sink] = {}

    def __getitem__(self, name: str) -> Sink:
        """Make a sink, once.

        Raises:
            TerminalError: There is none of this name, or it cannot be imported.
        """
        if name not in self._made:
            self._made[name] = load("sinks", name)(*self._parts)
        return self._made[name]

    def __contains__(self, name: object) -> bool:
        return name in plugins("sinks")

    def __iter__(self) -> Iterator[str]:
        return iter(plugins("sinks"))

    def __len__(self) -> int:
        return len(plugins("sinks"))


def filled_by(pipeline: Any) -> dict[str, str]:
    """Name the sinks that a pipeline fills, with classes as ``module:Class``.

    Raises:
        TerminalError: A plug-in cannot be imported.
    """
    return {name: point.value for name, point in plugins("sinks").items() if load("sinks", name).takes(pipeline)}
