"""Optional packages: imported when they are first needed, with an error that names the extra that brings them."""

from __future__ import annotations

import os
import shutil
import sys
import warnings
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from ingestlab.core.errors import TerminalError


def needed(module: str, extra: str, user: str) -> Any:
    """Import a module of an optional package.

    Args:
        module: Its full name.
        extra: The extra of ingestlab that brings its package.
        user: What needs it, e.g. a reader or a model, as the error names it.

    Raises:
        TerminalError: It is not installed, or does not load.
    """
    try:
        return import_module(module)
    except (ImportError, OSError, RuntimeError) as error:  # compiled parts that do not fit fail in many ways
        missing = missing_package(module.partition(".")[0], extra, user)
        raise TerminalError.wrap(error, missing.problem, missing.fix, code=missing.code) from error


def missing_package(package: str, extra: str, user: str) -> TerminalError:
    """Return the error for an optional package that is not installed.

    Args:
        package: Its name.
        extra: The extra of ingestlab that brings it.
        user: What needs it.
    """
    problem = f"The package behind {user} ({package}) is missing"
    return TerminalError(problem, fix=f"Install it with: {install_command(extra)}", code="package_missing")


def install_command(extra: str) -> str:
    """Return the command that adds an extra to this environment: plain where its pip is on the PATH.

    Args:
        extra: Its name, as in pyproject.toml.
    """
    here, pip = Path(sys.executable).parent, shutil.which("pip")
    program = "pip" if pip and Path(pip).parent == here else f"{sys.executable} -m pip"
    return f"{program} install 'ingestlab[{extra}]'"


def prepare_gcsfs(scheme: str, options: Mapping[str, Any]) -> None:
    """Have gcsfs ask an emulator where one is named. Call it before the first ``gs://`` filesystem is made.

    Since 2026 gcsfs also has a gRPC client, which asks Google for the kind of each bucket, whatever host is named.

    Args:
        scheme: Of the filesystem.
        options: fsspec's; ``endpoint_url`` names an emulator, as does STORAGE_EMULATOR_HOST in the environment.
    """
    if scheme in {"gs", "gcs"} and (options.get("endpoint_url") or os.environ.get("STORAGE_EMULATOR_HOST")):
        os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")


def quiet_pyspark() -> None:
    """Silence what PySpark says of pandas 3. Where it is installed, pandera imports it."""
    warnings.filterwarnings("ignore", "PySpark does not yet fully support pandas", FutureWarning)
