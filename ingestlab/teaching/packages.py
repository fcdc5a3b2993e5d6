"""Optional packages that a lesson needs: what is missing is named with one command, before a cell fails for it."""

from __future__ import annotations

import os
import re
from importlib.metadata import PackageNotFoundError, requires, version

from ingestlab.analytics.spark import check_java
from ingestlab.core.errors import StackError, TerminalError
from ingestlab.core.extras import install_command
from ingestlab.core.settings import load_settings


def needs(*extras: str) -> None:
    """Check that a lesson has its optional packages.

    Args:
        *extras: Of ingestlab, e.g. ``"milvus"``.

    Raises:
        TerminalError: Some are not installed, or Java for Spark; the text has the one command that adds all.
        StackError: They were installed after the stack had started.
    """
    restart = "ingestlab down` in a terminal (File, New, Terminal); then run the cell with Lab() again."
    if missing := [package for extra in extras for package in _missing(extra)]:
        raise TerminalError(
            f"This lesson needs packages that are not installed: {', '.join(missing)}",
            fix=f"Run `{install_command(','.join(extras))} && {restart}",
            code="package_missing",
        )
    if "spark" in extras and not os.environ.get("SPARK_REMOTE"):
        check_java()
    if "milvus" in extras and not load_settings().milvus_uri:
        raise StackError("The stack runs without Milvus", fix=f"Run `{restart}")


def _missing(extra: str) -> list[str]:
    """List the packages of an extra that are not installed."""
    wanted = [text for text in requires("ingestlab") or () if re.search(rf"""extra == ['"]{extra}['"]""", text)]
    return [name for text in wanted if not _installed(name := re.split(r"[^\w.-]", text, maxsplit=1)[0])]


def _installed(package: str) -> bool:
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True
