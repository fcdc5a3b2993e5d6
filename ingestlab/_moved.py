"""Old module names that queued jobs, notebooks and scripts of users still import."""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.abc import InspectLoader, Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import CodeType, ModuleType

MOVED = {
    "ingestlab.analytics.search": "ingestlab.sinks.milvus.search",
    "ingestlab.analytics.search_result": "ingestlab.sinks.milvus.search_result",
    "ingestlab.catalog": "ingestlab.pipeline.catalog",
    "ingestlab.dashboard": "ingestlab.stack.dashboard",
    "ingestlab.datasets": "ingestlab.stack.samples",
    "ingestlab.driver": "ingestlab.notebook.runner",
    "ingestlab.driver.job": "ingestlab.notebook.runner.job",
    "ingestlab.embedders": "ingestlab.analytics.embedders.registry",
    "ingestlab.errors": "ingestlab.core.errors",
    "ingestlab.jobs": "ingestlab.queue",
    "ingestlab.jobs.queueing": "ingestlab.queue.rq.queueing",
    "ingestlab.jobs.run": "ingestlab.queue.run",
    "ingestlab.models": "ingestlab.core.models",
    "ingestlab.propose": "ingestlab.engine.scaffold.propose",
    "ingestlab.readers.csv": "ingestlab.formats.csv.reader",
    "ingestlab.readers.jsonlines": "ingestlab.formats.json.reader",
    "ingestlab.readers.parquet": "ingestlab.formats.parquet.reader",
    "ingestlab.references": "ingestlab.pipeline.reference",
    "ingestlab.search": "ingestlab.sinks.milvus.search",
    "ingestlab.settings": "ingestlab.core.settings",
    "ingestlab.stack.listeners": "ingestlab.queue.rq.listeners",
    "ingestlab.stack.warm": "ingestlab.stack.preload",
    "ingestlab.worker": "ingestlab.queue.rq.worker",
}
_PACKAGES = {  # whose modules moved otherwise than the package itself
    "ingestlab.readers": "ingestlab.formats",
}


class _Alias(Loader):
    """Gives the module that a name stands for today."""

    def __init__(self, target: str) -> None:
        self._target = target

    def create_module(self, spec: ModuleSpec) -> ModuleType:  # noqa: ARG002 - the protocol's
        module = import_module(self._target)
        self._spec = module.__spec__  # the import system is about to replace it
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Leave the module as it is: it ran under its own name."""
        module.__spec__ = self._spec

    def get_code(self, name: str) -> CodeType | None:  # noqa: ARG002 - the protocol's
        """Return the code for ``python -m``."""
        spec = find_spec(self._target)
        return spec.loader.get_code(self._target) if spec and isinstance(spec.loader, InspectLoader) else None


class _Finder(MetaPathFinder):
    def find_spec(self, fullname: str, *_more: object) -> ModuleSpec | None:
        """Find a module by a former name of it or its package."""
        package, _, name = fullname.rpartition(".")
        home = _PACKAGES.get(package) or MOVED.get(package)
        target = MOVED.get(fullname) or _PACKAGES.get(fullname) or (f"{home}.{name}" if home else None)
        return ModuleSpec(fullname, _Alias(target)) if target else None


def install() -> None:
    """Let imports find the old names."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
