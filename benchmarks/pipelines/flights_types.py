"""The types of the big file alone: what rejects cost, were it all of the rows."""

from dataclasses import replace
from pathlib import Path
from runpy import run_path

_big = run_path(str(Path(__file__).with_name("flights_big.py")))

PIPELINE = replace(
    _big["PIPELINE"], clean=None, contract=None, aggregates={}, max_reject_ratio=1.0, description="flights, types alone"
)
