"""The requests of `weblogs` once more, searchable by what they were about beside their columns.

What a request was about is put into words, and embedded; status, day and the like go along into Milvus, where a
filter can ask for them: who failed to log in, which robots were here on Tuesday. Submit the daily logs with
``--pipeline weblogs_search``.
"""

from typing import Any

import pandas as pd
import pandera.pandas as pa
from pyarrow import timestamp

from ingestlab import Embedding, Lines, Pipeline

PATTERN = (  # as in `weblogs`
    r"(?P<host>\S+) \S+ (?P<user>\S+) \[(?P<time>[^\]]+)\] "
    r'"(?P<method>[A-Za-z]+) (?P<path>\S+)(?: (?P<protocol>[^" ]+))?" (?P<status>\S+) (?P<bytes>\S+) '
    r'"(?P<referrer>[^"\\]*(?:\\.[^"\\]*)*)" "(?P<agent>[^"\\]*(?:\\.[^"\\]*)*)"'
)


def clean(df: pd.DataFrame) -> pd.DataFrame:
    """Adds the day, in UTC, and what was asked for by whom, in words."""
    path = df["path"].str.replace(r"[^A-Za-z0-9]+", " ", regex=True).str.strip()
    agent = df["agent"].fillna("unknown").str.replace(r"[^A-Za-z]+", " ", regex=True)
    return df.assign(day=df["time"].dt.date, about=df["method"] + " " + path + ", " + agent)


class Request(pa.DataFrameModel):
    """What a filter counts on."""

    time: Any
    status: Any = pa.Field(in_range={"min_value": 100, "max_value": 599})


PIPELINE = Pipeline(
    description="Access logs of a web server, embedded for search with filters",
    reader=Lines(
        pattern=PATTERN,
        columns={"time": timestamp("s", "UTC"), "status": "int16", "bytes": "int64"},
        null_values=("", "-"),
        timestamp_format="%d/%b/%Y:%H:%M:%S %z",
    ),
    clean=clean,
    contract=Request,
    embedding=Embedding(source="about", payload=["time", "day", "method", "path", "status", "user", "agent"]),
)
