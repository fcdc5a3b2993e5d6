"""Finds data that other packages bring along."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from ingestlab.core.errors import TerminalError


def folder_of(module: str, package: str, holds: str) -> Path:
    """Find the folder of a package without importing it. An import takes seconds, or parses all its tables.

    Args:
        module: The name that it is imported by.
        package: The name that it is installed by.
        holds: What is wanted of it.

    Raises:
        TerminalError: It is not installed.
    """
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise TerminalError(
            f"The package {package}, which holds the {holds}, is not installed: no such package here",
            fix="Install it: pip install 'ingestlab[stack]'.",
            code="package_missing",
        )
    return Path(spec.origin).parent
