"""The same file and the same cleaning, with no contract and no aggregate: what those two cost is the difference."""

from dataclasses import replace
from pathlib import Path
from runpy import run_path

_big = run_path(str(Path(__file__).with_name("flights_big.py")))

PIPELINE = replace(_big["PIPELINE"], contract=None, aggregates={}, description="the big file, unchecked")
