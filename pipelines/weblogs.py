"""Access logs of a web server in the Combined Log Format, one row a request."""

from typing import Any

import pandas as pd
import pandera.pandas as pa
from pyarrow import timestamp

from ingestlab import Lines, Pipeline

METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH")
FIRST, LAST = pd.Timestamp("1995-01-01", tz="UTC"), pd.Timestamp("2100-01-01", tz="UTC")  # no log is older
# Quotes inside the last two fields are written \".
PATTERN = (
    r"(?P<host>\S+) \S+ (?P<user>\S+) \[(?P<time>[^\]]+)\] "
    r'"(?P<method>[A-Za-z]+) (?P<path>\S+)(?: (?P<protocol>[^" ]+))?" (?P<status>\S+) (?P<bytes>\S+) '
    r'"(?P<referrer>[^"\\]*(?:\\.[^"\\]*)*)" "(?P<agent>[^"\\]*(?:\\.[^"\\]*)*)"'
)


def clean(df: pd.DataFrame) -> pd.DataFrame:
    """Adds the day, in UTC."""
    return df.assign(day=df["time"].dt.date)


class Request(pa.DataFrameModel):
    """What every published request keeps to. `Any`: the types are declared once, in the reader."""

    host: Any
    time: Any
    method: Any = pa.Field(isin=METHODS)
    path: Any
    status: Any = pa.Field(in_range={"min_value": 100, "max_value": 599})
    bytes: Any = pa.Field(ge=0, nullable=True)  # a "-" in the log: there was no body

    @pa.check("time", name="sensible")
    @classmethod
    def is_sensible(cls, times: pd.Series) -> pd.Series:
        """A clock that was never set shows 1970."""
        return times.between(FIRST, LAST)


PIPELINE = Pipeline(
    description="Access logs of a web server (Combined Log Format), daily files",
    matches=["access-*.log*", "access.log*"],
    reader=Lines(
        pattern=PATTERN,
        columns={"time": timestamp("s", "UTC"), "status": "int16", "bytes": "int64"},
        null_values=("", "-"),
        timestamp_format="%d/%b/%Y:%H:%M:%S %z",
    ),
    clean=clean,
    contract=Request,
    partition_by="day",
)
