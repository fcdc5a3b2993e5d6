"""The types of the big file alone: what rejects cost, were it all of the rows."""

import importlib.util
from dataclasses import replace
from pathlib import Path

_spec = importlib.util.spec_from_file_location("flights_big", Path(__file__).with_name("flights_big.py"))
assert _spec is not None
assert _spec.loader is not None
_big = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_big)

PIPELINE = replace(
    _big.PIPELINE, clean=None, contract=None, aggregates={}, max_reject_ratio=1.0, description="flights, types alone"
)
