"""The pipeline `weblogs` with one file for all days, as the peers write them."""

from dataclasses import replace
from pathlib import Path
from runpy import run_path

_weblogs = run_path(str(Path(__file__).parents[2] / "pipelines" / "weblogs.py"))

PIPELINE = replace(_weblogs["PIPELINE"], matches=(), partition_by=(), description="web logs, unpartitioned")
