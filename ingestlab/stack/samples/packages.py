"""Finds data that other packages bring along."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from ingestlab.core.extras import missing_package


def folder_of(module: str, package: str, extra: str, holds: str) -> Path:
    """Find the folder of a package without importing it. An import takes seconds, or parses all its tables.

    Args:
        module: The name that it is imported by.
        package: The name that it is installed by.
        extra: The extra of ingestlab that brings it.
        holds: What is wanted of it.

    Raises:
        TerminalError: It is not installed.
    """
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise missing_package(package, extra, f"the sample {holds}")
    return Path(spec.origin).parent
