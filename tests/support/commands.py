"""What tests of commands name: pipelines, a file of alarms, and the way to run a command."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from click.testing import Result

ROOT = Path(__file__).parents[2]
PIPELINES = ROOT / "pipelines"
HEADER = "id,station_id,alarm_id,parameter_id,start_time,end_time,value,threshold\n"
ALARMS = HEADER + (
    "1,10,308,121,2017-10-23 12:00:25,2017-10-23 12:01:26,241,240\n"
    "2,10,308,121,2017-10-23 12:00:25,2017-10-23 12:00:00,241,240\n"
    "3,10,308,2,2017-10-23 12:00:25,,241,240\n"
    "4,10,308,121,soon,,241,240\n"
)
Say = Callable[..., Result]
