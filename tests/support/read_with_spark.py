"""Opens tables with Spark, where PySpark is installed: HOME TABLE… Prints JSON: by table, rows or the refusal."""

import json
import sys
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession

from ingestlab import Settings
from ingestlab.analytics.lake import Lake
from ingestlab.core.errors import TerminalError

home, *names = sys.argv[1:]
builder = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false").config("spark.log.level", "OFF")
local = builder.config("spark.driver.bindAddress", "127.0.0.1").config("spark.driver.host", "127.0.0.1")
session = local.config("spark.sql.session.timeZone", "UTC").getOrCreate()
lake = Lake(Settings(_env_file=None, home=Path(home)))


def rows(name: str, **options: Any) -> Any:
    table, _, state = name.partition("@")
    try:
        frame = lake.table(table, state or None).spark(**options)
        found = frame.toArrow()
    except TerminalError as error:
        return str(error)
    ordered = found.sort_by([("_source", "ascending"), ("_row", "ascending")]).drop_columns(["_source", "_row"])
    return [{key: str(value) for key, value in row.items()} for row in ordered.to_pylist()]


print(json.dumps({name: rows(name) for name in names}))  # noqa: T201 - the answer
session.stop()
