"""The public names as users write them: checked by mypy, never run."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, assert_type

import pandas as pd
import pandera.pandas as pa
import polars as pl
from pyarrow import timestamp

import ingestlab
from ingestlab import (
    Aggregate,
    Csv,
    IngestError,
    Lab,
    Pipeline,
    Run,
    Settings,
    TerminalError,
    TransientError,
    load_settings,
    submit,
    submit_notebook,
)
from ingestlab.sinks.milvus.search_result import SearchResult

if TYPE_CHECKING:
    from ingestlab import Nonsense  # type: ignore[attr-defined]  # noqa: F401


def clean(df: pd.DataFrame) -> pd.DataFrame:
    return df.assign(day=df["start_time"].dt.date)


def clean_polars(df: pl.DataFrame) -> pl.DataFrame:
    return df.filter(pl.col("id") > 0)


class Alarm(pa.DataFrameModel):
    id: Any
    value: Any = pa.Field(ge=-60, nullable=True)


PIPELINE = Pipeline(
    matches=["alarm-*.csv"],
    reader=Csv(columns={"id": "int64", "start_time": "timestamp[s]"}, extra_columns="drop"),
    clean=clean,
    contract=Alarm,
    partition_by="day",
    write_disposition="replace",
)
Pipeline(
    reader=Csv(delimiter="\t", encoding="cp1252", null_values=["", "-"]), clean=clean_polars, partition_by=["a", "b"]
)
Pipeline(reader=Csv(columns={"at": timestamp("s", "UTC")}), contract=pa.DataFrameSchema({"at": pa.Column()}))

Pipeline(
    reader=Csv(),
    aggregates={
        "by_hour": Aggregate(
            by=["station_id", "start_time:hour"],
            measures={"n": "count", "mean": ("value", "mean"), "q": ("value", "quantile", 0.9)},
        ),
        "all": Aggregate(measures={"last": ("value", "last", "start_time")}),
    },
)
Aggregate(by=["a"])  # type: ignore[call-arg]

Pipeline(reader="csv")  # type: ignore[arg-type]
Pipeline(reader=Csv(), write_disposition="upsert")  # type: ignore[arg-type]
Csv(extra_columns="keep")  # type: ignore[arg-type]
PIPELINE.reader = Csv()  # type: ignore[misc]


def produce(files: Iterable[str]) -> None:
    settings = load_settings(home=Path("home"), queue="alarms")
    assert_type(settings, Settings)
    assert_type(settings.retry_delays, tuple[float, ...])
    run = submit(files, pipeline="bts_alarms", tenant="default", force=True, settings=settings)
    assert_type(run, Run)
    assert_type(submit("data/*.csv"), Run)
    assert_type(run.id, str)
    assert_type(run.cancel(), int)
    result = run.wait(timeout=10.5, watch=lambda progress: print(progress.state))  # noqa: T201
    for outcome in result.failed:
        assert_type(outcome.exception(), IngestError | None)
    submit(files, unknown=1)  # type: ignore[call-arg]


def explore() -> None:
    lab = Lab(tenant="physics")
    run = lab.submit("data/alarm-*.csv", pipeline="bts_alarms").watch()
    assert_type(run.files, pd.DataFrame)
    assert_type(lab.notebook("run_pipeline.ipynb", uri=["a.csv"]).watch().result().kept, dict[str, str])
    assert_type(submit_notebook("run_pipeline.ipynb", {"uri": "a.csv"}), Run)
    assert_type(lab.run(run.id).result().tally.rejected, int)
    table = lab.table("bts_alarms")
    assert_type(table.pandas(["id"]), pd.DataFrame)
    assert_type(table.polars(), pl.DataFrame)
    assert_type(table.path, str)
    assert_type(lab.rejects("bts_alarms", run=run.id, rule="known"), pd.DataFrame)
    assert_type(lab.aggregate("bts_alarms", "by_station_hour"), pd.DataFrame)
    assert_type(lab.profile("bts_alarms").frame(), pd.DataFrame)
    assert_type(lab.runs(limit=5), pd.DataFrame)
    assert_type(lab.search("documents", "words", limit=5, filter={"year": [2020, 2021]}), SearchResult)
    assert_type(lab.check("bts_alarms", "file.csv").rules, dict[str, int])


def recover() -> str:
    try:
        produce([])
    except TransientError as error:
        return error.fix
    except TerminalError as error:
        assert_type(error.to_dict(), dict[str, str])
        assert_type(IngestError.from_dict(error.to_dict()), IngestError)
        return error.expected + error.got
    return ingestlab.__version__
