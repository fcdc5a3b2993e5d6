"""The pipeline `weblogs` with one file for all days, as the peers write them."""

import importlib.util
from dataclasses import replace
from pathlib import Path

_file = Path(__file__).parents[2] / "pipelines" / "weblogs.py"
_spec = importlib.util.spec_from_file_location("weblogs", _file)
assert _spec is not None
assert _spec.loader is not None
_weblogs = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_weblogs)

PIPELINE = replace(_weblogs.PIPELINE, matches=(), partition_by=(), description="web logs, unpartitioned")
