"""Five tools read a folder with their default call. Run as a script, it is Spark's turn, where PySpark is installed.

python readers.py FOLDER…    prints JSON: by folder, the values of the column v in the order of _row, or the refusal
"""

from __future__ import annotations

import base64
import datetime as dt
import decimal
import json
import math
import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

SPARK = "spark"
ROOT = Path(__file__).parents[2]


def by_pandas(folder: str) -> list[Any]:
    import pandas as pd

    return _sorted(pd.read_parquet(folder))


def by_dask(folder: str) -> list[Any]:
    import dask.dataframe as dd

    return _sorted(dd.read_parquet(folder).compute())


def by_polars(folder: str) -> list[Any]:
    import polars as pl

    return pl.read_parquet(folder).sort("_row").to_arrow()["v"].to_pylist()


def by_duckdb(folder: str) -> list[Any]:
    import duckdb

    return duckdb.sql(f"FROM '{folder}/**/*.parquet' ORDER BY _row").to_arrow_table()["v"].to_pylist()


READERS: Mapping[str, Callable[[str], list[Any]]] = {
    "pandas": by_pandas,
    "dask": by_dask,
    "polars": by_polars,
    "duckdb": by_duckdb,
}


def by_spark(python: str, folders: Sequence[str]) -> dict[str, list[Any] | str]:
    """Asks a Spark of its own process, all folders at once: it takes seconds to start."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("SPARK_")}
    done = subprocess.run(
        [python, __file__, *folders], capture_output=True, text=True, env=env, timeout=280, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    answers = json.loads(done.stdout.splitlines()[-1])
    return {
        folder: said if isinstance(said, str) else [_decoded(value) for value in said]
        for folder, said in answers.items()
    }


def plain(value: Any) -> Any:
    """A value as Python has it, whatever the tool: numbers, texts, times, lists and dicts."""
    if hasattr(value, "tolist") and not isinstance(value, (bytes, str)):
        value = value.tolist()
    if (
        value is None
        or (isinstance(value, float) and math.isnan(value))
        or type(value).__name__ in {"NaTType", "NAType"}
    ):
        return None
    if isinstance(value, (list, tuple)):
        return [plain(part) for part in value]
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items()}
    if isinstance(value, dt.datetime) and value.tzinfo is not None:
        return value.astimezone(dt.UTC)
    return value


def _sorted(frame: Any) -> list[Any]:
    frame = frame.sort_values("_row")
    kind = getattr(frame["v"].dtype, "name", "")
    values = frame["v"].astype(object) if kind == "category" else frame["v"]
    return list(values)


def _encoded(value: Any) -> Any:
    if isinstance(value, bytes):
        return {"bytes": base64.b64encode(value).decode()}
    if isinstance(value, (dt.datetime, dt.date, dt.time)):
        return {type(value).__name__: value.isoformat()}
    if isinstance(value, decimal.Decimal):
        return {"Decimal": str(value)}
    if isinstance(value, (list, tuple)):
        return [_encoded(part) for part in value]
    if isinstance(value, dict):
        return {"dict": {key: _encoded(part) for key, part in value.items()}}
    return value


def _decoded(value: Any) -> Any:
    if isinstance(value, list):
        return [_decoded(part) for part in value]
    if not isinstance(value, dict):
        return value
    ((kind, text),) = value.items()
    known: Mapping[str, Callable[[Any], Any]] = {
        "bytes": base64.b64decode,
        "datetime": dt.datetime.fromisoformat,
        "date": dt.date.fromisoformat,
        "time": dt.time.fromisoformat,
        "Decimal": decimal.Decimal,
        "dict": lambda parts: {key: _decoded(part) for key, part in parts.items()},
    }
    return known[kind](text)


def _spark(folders: Iterable[str]) -> dict[str, list[Any] | str]:
    os.environ["TZ"] = "UTC"
    from pyspark.sql import SparkSession

    session = (
        SparkSession.builder.master("local[2]")
        .config("spark.ui.enabled", "false")
        .config("spark.sql.session.timeZone", "UTC")
        .config("spark.log.level", "OFF")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.driver.host", "127.0.0.1")
        .getOrCreate()
    )
    answers: dict[str, list[Any] | str] = {}
    for folder in folders:
        try:
            rows = session.read.parquet(folder).select("_row", "v").toArrow().sort_by("_row")
            answers[folder] = [_encoded(value) for value in rows["v"].to_pylist()]
        except Exception as error:  # noqa: BLE001 - the refusal is the answer
            answers[folder] = str(error).splitlines()[0]
    session.stop()
    return answers


def same(left: Any, right: Any) -> bool:
    """Whether two values are one: 1 and 1.0 are, 1 and True are not."""
    if isinstance(left, bool) != isinstance(right, bool):
        return False
    if isinstance(left, uuid.UUID) and isinstance(right, bytes):
        return False
    try:
        return bool(left == right)
    except TypeError:
        return False


if __name__ == "__main__":
    print(json.dumps(_spark(sys.argv[1:])))  # noqa: T201 - the answer
