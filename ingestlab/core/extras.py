"""Optional packages: imported when they are first needed, with an error that names the extra that brings them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib import import_module
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
        problem = f"The package behind {user} ({module.partition('.')[0]}) is missing"
        fix = f"Install it with: pip install 'ingestlab[{extra}]'."
        raise TerminalError.wrap(error, problem, fix, code="package_missing") from error


def prepare_gcsfs(scheme: str, options: Mapping[str, Any]) -> None:
    """Have gcsfs ask an emulator where one is named. Call it before the first ``gs://`` filesystem is made.

    Since 2026 gcsfs also has a gRPC client, which asks Google for the kind of each bucket, whatever host is named.

    Args:
        scheme: Of the filesystem.
        options: fsspec's; ``endpoint_url`` names an emulator, as does STORAGE_EMULATOR_HOST in the environment.
    """
    if scheme in {"gs", "gcs"} and (options.get("endpoint_url") or os.environ.get("STORAGE_EMULATOR_HOST")):
        os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
