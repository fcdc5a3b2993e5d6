"""Old module names that queued jobs, notebooks and scripts of users still import."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import CodeType, ModuleType

MOVED = {
    "ingestlab.catalog": "ingestlab.pipeline.catalog",
    "ingestlab.dashboard": "ingestlab.stack.dashboard",
    "ingestlab.datasets": "ingestlab.stack.samples",
    "ingestlab.driver": "ingestlab.notebook.runner",
    "ingestlab.driver.job": "ingestlab.notebook.runner.job",
    "ingestlab.embedders": "ingestlab.analytics.embedders.registry",
    "ingestlab.errors": "ingestlab.core.errors",
    "ingestlab.jobs": "ingestlab.queue",
    "ingestlab.jobs.queueing": "ingestlab.queue.rq.queueing",
    "ingestlab.jobs.run": "ingestlab.queue.rq.run",
    "ingestlab.propose": "ingestlab.engine.scaffold.propose",
    "ingestlab.search": "ingestlab.analytics.search",
    "ingestlab.settings": "ingestlab.core.settings",
    "ingestlab.stack.listeners": "ingestlab.queue.rq.listeners",
    "ingestlab.stack.warm": "ingestlab.stack.preload",
    "ingestlab.worker": "ingestlab.queue.rq.worker",
}


class _Alias(Loader):
    """Gives the module that a name stands for today."""

    def __init__(self, target: str) -> None:
        self._target = target

    def create_module(self, spec: ModuleSpec) -> ModuleType:  # noqa: ARG002 - the protocol's
        return import_module(self._target)

    def exec_module(self, module: ModuleType) -> None:
        """Leave the module as it is: it ran under its own name."""

    def get_code(self, name: str) -> CodeType | None:  # noqa: ARG002 - the protocol's
        """Return the code for ``python -m``."""
        spec = find_spec(self._target)
        loader = spec.loader if spec else None
        return loader.get_code(self._target) if loader and hasattr(loader, "get_code") else None


class _Finder(MetaPathFinder):
    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None = None,  # noqa: ARG002 - the protocol's
        target: ModuleType | None = None,  # noqa: ARG002 - the protocol's
    ) -> ModuleSpec | None:
        """Find a module by a name that it had once."""
        new = MOVED.get(fullname)
        return ModuleSpec(fullname, _Alias(new), is_package=True) if new else None


def install() -> None:
    """Let imports find the old names."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())
