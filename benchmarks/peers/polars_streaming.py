"""Polars, streaming: good and bad rows in one pass, then the group-by from the Parquet.

A declared schema and an explicit time format matter most: `try_parse_dates` is three times slower. With the
group-by in the same pass, or collected in memory first, it takes half as long again.
"""

from __future__ import annotations

import polars as pl
from common import (
    COLUMNS,
    EARLIEST,
    FASTEST,
    KEYS,
    LATEST,
    LEVEL,
    NULL,
    ORIGINS,
    SLOWEST,
    TIME_FORMAT,
    Done,
    rows,
    serve,
)
from polars import col, lit, when

TYPES = {"int8": pl.Int8, "int16": pl.Int16, "string": pl.String, "timestamp": pl.String}
PARQUET = {"compression": "zstd", "compression_level": LEVEL, "maintain_order": False}


def work(path: str, out: str) -> Done:
    cleaned = read(path).with_columns(
        col("carrier").str.strip_chars().str.to_uppercase(),
        col("time_hour").str.to_datetime(TIME_FORMAT, time_unit="ms", time_zone="UTC"),
        speed_mph=col("distance") / (col("air_time") / 60),
        on_time=col("arr_delay") <= 15,
        date=pl.date("year", "month", "day"),
    )
    checked = cleaned.with_columns(
        rule=when(_not(col("month").is_between(1, 12)))
        .then(lit("month:in_range"))
        .when(_not(col("origin").is_in(ORIGINS)))
        .then(lit("origin:isin"))
        .when(_not(col("distance") > 0))
        .then(lit("distance:greater_than"))
        .when(col("dep_time").is_null())
        .then(lit("dep_time:not_nullable"))
        .when(~col("dep_delay").is_between(EARLIEST, LATEST))
        .then(lit("dep_delay:in_range"))
        .when(col("air_time").is_null())
        .then(lit("air_time:not_nullable"))
        .when(~col("speed_mph").is_between(SLOWEST, FASTEST))
        .then(lit("speed_mph:in_range"))
    )
    good = checked.filter(col("rule").is_null()).drop("rule")
    bad = checked.filter(col("rule").is_not_null())
    files = f"{out}/good.parquet", f"{out}/bad.parquet"
    sinks = [part.sink_parquet(file, lazy=True, **PARQUET) for part, file in zip((good, bad), files, strict=True)]
    pl.collect_all(sinks, engine="streaming")
    miles = col("distance").cast(pl.Int64).sum()
    groups = pl.scan_parquet(files[0]).group_by(KEYS).agg(pl.len(), miles, col("dep_delay").mean())
    return Done(*files, rows(groups.collect(engine="streaming").rows()))


def read(path: str) -> pl.LazyFrame:
    schema = {name: TYPES[kind] for name, kind in COLUMNS.items()}
    if path.endswith(".jsonl"):
        wide = {name: pl.Int64 if kind.is_integer() else kind for name, kind in schema.items()}  # it has no others
        return pl.scan_ndjson(path, schema=wide).cast(schema)
    return pl.scan_csv(path, schema=schema, null_values=NULL)


def _not(fact: pl.Expr) -> pl.Expr:
    """True where a fact is false or null."""
    return ~fact.fill_null(value=False)


if __name__ == "__main__":
    serve(work)
