"""Spark for tests: `make test-spark` runs them in an environment that has it."""

from __future__ import annotations

import os
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest


def spark_or_skip() -> None:
    """Skip the test where PySpark or Java is missing; fail where both must be there."""
    lacks = [what for what, there in (("PySpark", find_spec("pyspark")), ("Java", shutil.which("java"))) if not there]
    if lacks:
        end = pytest.fail if os.environ.get("INGESTLAB_SPARK") == "required" else pytest.skip
        end(f"{' and '.join(lacks)} not found: apt-get install openjdk-17-jre-headless, and make test-spark")


def python_with_spark() -> str:
    """Name a Python that has PySpark: this one, else that of PYSPARK_PYTHON or of `make bench`; skip without one."""
    others = (os.environ.get("PYSPARK_PYTHON"), str(Path(__file__).parents[2] / ".venv-bench/bin/python"))
    found = next((path for path in others if path and Path(path).exists()), None)
    if found is None or find_spec("pyspark"):
        spark_or_skip()
        return sys.executable
    return found
