"""Alarms of mobile base stations, one CSV file an hour: the file of the tutorial, cleaned and checked."""

from typing import Any

import pandas as pd
import pandera.pandas as pa

from ingestlab import Aggregate, Csv, Pipeline

# What the stations measure. The publisher does not name 1 and 143, which do occur.
PARAMETERS = {
    1: "unnamed 1",
    111: "room temperature",
    112: "air conditioner 1 temperature",
    113: "air conditioner 2 temperature",
    114: "outdoor temperature",
    115: "humidity",
    116: "battery temperature",
    121: "grid voltage",
    122: "grid load",
    123: "grid frequency",
    124: "generator voltage",
    125: "generator load",
    126: "generator frequency",
    141: "total battery voltage",
    143: "unnamed 143",
    151: "smoke",
    152: "door",
    153: "motion",
    154: "water leak",
    155: "heat increase",
    161: "capacity",
    162: "runtime 162",
    163: "runtime 163",
    164: "runtime 164",
    165: "runtime 165",
}
NOT_SET = (999_999, 999_991)  # 999991 is the value of alarms that only say "on": there is nothing to measure


def clean(df: pd.DataFrame) -> pd.DataFrame:
    """Empties the placeholders, and adds the parameter's name, the alarm's duration and its day."""
    # Not `null_values=("999999",)` in the reader: that would empty an `id` of 999999 as well.
    measured = {name: df[name].mask(df[name].isin(NOT_SET)) for name in ("value", "threshold")}
    return df.assign(
        **measured,
        parameter=df["parameter_id"].map(PARAMETERS).astype("string[pyarrow]"),
        duration_s=(df["end_time"] - df["start_time"]).dt.total_seconds(),  # null while the alarm is open
        day=df["start_time"].dt.date,
    )


class Alarm(pa.DataFrameModel):
    """What every published alarm keeps to. `Any`: the types are declared once, in the reader."""

    id: Any
    station_id: Any
    alarm_id: Any
    parameter_id: Any
    start_time: Any
    end_time: Any = pa.Field(nullable=True)
    value: Any = pa.Field(nullable=True)
    duration_s: Any = pa.Field(nullable=True)

    @pa.check("parameter_id", name="known")
    @classmethod
    def is_known(cls, ids: pd.Series) -> pd.Series:
        """The parameter is one of the list."""
        return ids.isin(PARAMETERS)

    @pa.check("value", name="physical")
    @classmethod
    def is_physical(cls, values: pd.Series) -> pd.Series:
        """No station is as cold as -60 degrees, none has run for 100,000 hours; empty values are not asked."""
        return values.between(-60, 100_000)

    @pa.check("duration_s", name="not_negative")
    @classmethod
    def ends_after_start(cls, seconds: pd.Series) -> pd.Series:
        """An alarm ends after it began; open ones have no duration and are not asked."""
        return seconds >= 0


PIPELINE = Pipeline(
    description="Alarms of mobile base stations (BTS), hourly CSV files",
    matches=["alarm-*.csv*"],
    reader=Csv(
        columns={
            "id": "int64",
            "station_id": "int64",
            "alarm_id": "int32",
            "parameter_id": "int32",
            "start_time": "timestamp[s]",
            "end_time": "timestamp[s]",
            "value": "float64",
            "threshold": "float64",
        },
    ),
    clean=clean,
    contract=Alarm,
    partition_by="day",
    aggregates={
        "by_station_hour": Aggregate(
            by=["station_id", "start_time:hour"],
            measures={
                "alarms": "count",
                "ended": ("end_time", "count"),
                "mean_s": ("duration_s", "mean"),
                "longest_s": ("duration_s", "max"),
                "parameters": ("parameter_id", "distinct"),
                "last_parameter": ("parameter", "last", "start_time"),
            },
        ),
    },
)
