"""Executor: runs the tasks of a job."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol

from ingestlab.core.errors import TransientError


class CostlyError(TransientError):
    """Some tasks have each cost more workers than one may.

    Attributes:
        places: Their positions among the calls.
    """

    places: tuple[int, ...] = ()


class Executor(Protocol):
    """Run one function over many calls. Made with the settings."""

    def connect(self) -> None:
        """Connect ahead of the first task; raises TransientError without a cluster."""
        ...

    def is_local(self) -> bool:
        """Tell whether tasks see at once what is written here."""
        ...

    def map(
        self,
        function: Callable[..., Any],
        calls: Iterable[tuple[Any, ...]],
        keys: Iterable[str],
        resources: Mapping[str, float] | None = None,
    ) -> Iterator[tuple[int, Any]]:
        """Run ``function(*call)`` for every call and yield (position, result) as they finish.

        An error of a task is raised as it is. Tasks that have not begun are dropped when the caller leaves the
        iterator, also by JobStoppedError; a task may run twice where a worker is lost.

        Args:
            function: Importable on the workers.
            calls: Arguments that are plain data. They may come one by one, while earlier ones run; an error of
                theirs is raised.
            keys: Names of the tasks, each once, as a dashboard shows them.
            resources: What a worker should declare to run them, e.g. ``{"GPU": 1}``; where none declares all of
                it, any worker does.

        Raises:
            CostlyError: Some calls cost more workers than a call may; the others' results have been yielded by then.
            TransientError: Workers were lost, or the scheduler was.
        """
        ...

    def close(self) -> None:
        """Disconnect, and stop what this process has started. It connects again when it is needed."""
        ...
