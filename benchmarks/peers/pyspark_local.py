"""PySpark, local[2]: declared schema, one write partitioned by verdict, then the group-by from the Parquet.

Splits of 32 MB keep both cores busy to the end; Spark's own 128 MB would make five of this file.
"""

from __future__ import annotations

from functools import cache, reduce

from common import COLUMNS, EARLIEST, FASTEST, KEYS, LATEST, LEVEL, NULL, ORIGINS, SLOWEST, Done, rows, serve
from pyspark.sql import Column, SparkSession
from pyspark.sql import functions as f
from pyspark.sql.functions import col

TYPES = {"int8": "TINYINT", "int16": "SMALLINT", "string": "STRING", "timestamp": "TIMESTAMP"}
SETTINGS = {
    "spark.sql.files.maxPartitionBytes": "32m",
    "spark.sql.shuffle.partitions": "2",
    "spark.sql.parquet.compression.codec": "zstd",
    "spark.hadoop.parquet.compression.codec.zstd.level": str(LEVEL),
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.ansi.enabled": "false",
    "spark.driver.memory": "4g",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.host": "127.0.0.1",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
}


@cache
def session() -> SparkSession:
    builder = reduce(lambda b, item: b.config(*item), SETTINGS.items(), SparkSession.builder.master("local[2]"))
    spark = builder.getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    return spark


def work(csv: str, out: str) -> Done:
    schema = ", ".join(f"{name} {TYPES[kind]}" for name, kind in COLUMNS.items())
    options = {"header": True, "nullValue": NULL, "timestampFormat": "yyyy-MM-dd'T'HH:mm:ssX", "mode": "FAILFAST"}
    flights = session().read.schema(schema).options(**options).csv(csv)
    cleaned = flights.withColumns(
        {
            "carrier": f.upper(f.trim("carrier")),
            "speed_mph": col("distance") / (col("air_time") / 60),
            "on_time": col("arr_delay") <= 15,
            "date": f.make_date("year", "month", "day"),
        }
    )
    checked = cleaned.withColumn("rule", _rule()).withColumn("bad", col("rule").isNotNull())
    checked.write.partitionBy("bad").mode("overwrite").parquet(out)
    good = session().read.parquet(f"{out}/bad=false")
    groups = good.groupBy(*KEYS).agg(f.count("*"), f.sum("distance"), f.avg("dep_delay"))
    return Done(f"{out}/bad=false", f"{out}/bad=true", rows(groups.collect()))


def _rule() -> Column:
    return (
        f.when(_not(col("month").between(1, 12)), "month:in_range")
        .when(_not(col("origin").isin(*ORIGINS)), "origin:isin")
        .when(_not(col("distance") > 0), "distance:greater_than")
        .when(col("dep_time").isNull(), "dep_time:not_nullable")
        .when(~col("dep_delay").between(EARLIEST, LATEST), "dep_delay:in_range")
        .when(col("air_time").isNull(), "air_time:not_nullable")
        .when(~col("speed_mph").between(SLOWEST, FASTEST), "speed_mph:in_range")
    )


def _not(fact: Column) -> Column:
    """True where a fact is false or null."""
    return ~f.coalesce(fact, f.lit(False))


if __name__ == "__main__":
    serve(work)
