"""The flights of `flights`, each with the weather when it was to leave and the airport that it was for.

Two small tables are looked up for each flight: the hourly weather at New York's airports (26,115 hours), and the
airports (1,458). What they lack shows as rejects: the list of airports leaves out Puerto Rico and the Virgin Islands,
and the weather of some hours is missing. Submit the monthly files of flights with ``--pipeline flights_weather``.
"""

from typing import Any

import numpy as np
import pandas as pd
import pandera.pandas as pa
from pyarrow import string, timestamp

from ingestlab import Aggregate, Csv, Pipeline, Reference

SKY = ["temp", "dewp", "wind_speed", "precip", "visib"]
NULLS = ("", "NA")


def clean(df: pd.DataFrame, weather: pd.DataFrame, airports: pd.DataFrame) -> pd.DataFrame:
    """Looks both tables up, and says in one word what kind of weather it was; `join` keeps the frame's index."""
    hours = weather.set_index(["origin", "time_hour"])[SKY]
    places = airports.set_index("faa")[["name", "lat", "lon"]].add_prefix("dest_")
    df = df.join(hours, on=["origin", "time_hour"]).join(places, on="dest")
    kinds = {"fog": df["visib"] < 2, "rain": df["precip"] > 0, "wind": df["wind_speed"] >= 25}
    masks = [mask.fillna(value=False).to_numpy(dtype=bool) for mask in kinds.values()]
    kind = np.select(masks, list(kinds), default="fair")  # the first that holds
    return df.assign(weather=pd.array(kind, dtype=pd.ArrowDtype(string())), cancelled=df["dep_time"].isna())


class FlightInWeather(pa.DataFrameModel):
    """A flight whose weather and destination are known; one that was cancelled is one, and counts."""

    month: Any = pa.Field(in_range={"min_value": 1, "max_value": 12})
    dep_delay: Any = pa.Field(in_range={"min_value": -60, "max_value": 24 * 60}, nullable=True)  # minutes
    dest_name: Any  # not null: the destination is in the list of airports
    temp: Any = pa.Field(in_range={"min_value": -30, "max_value": 130})  # Fahrenheit; not null: the hour is known
    wind_speed: Any = pa.Field(in_range={"min_value": 0, "max_value": 150})  # miles an hour
    visib: Any = pa.Field(in_range={"min_value": 0, "max_value": 10})  # miles


PIPELINE = Pipeline(
    description="Flights from New York in 2013 with the weather at departure and their destination",
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
        null_values=NULLS,
    ),
    references={
        "weather": Reference(
            "weather.csv",
            Csv(
                columns={"origin": "string", "time_hour": timestamp("s", "UTC"), **dict.fromkeys(SKY, "float64")},
                null_values=NULLS,
                extra_columns="drop",
            ),
        ),
        "airports": Reference(
            "airports.csv",
            Csv(
                columns={"faa": "string", "name": "string", "lat": "float64", "lon": "float64"},
                null_values=NULLS,
                extra_columns="drop",
            ),
        ),
    },
    clean=clean,
    contract=FlightInWeather,
    partition_by="month",
    aggregates={
        "by_weather": Aggregate(
            by=["origin", "weather"],
            measures={
                "flights": "count",
                "cancelled": ("cancelled", "sum"),
                "mean_delay": ("dep_delay", "mean"),  # minutes, as all delays
                "delay_of_9_in_10": ("dep_delay", "quantile", 0.9),
            },
        ),
    },
)
