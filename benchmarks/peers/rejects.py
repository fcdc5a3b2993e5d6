"""Values that are not of their column's type: good rows and bad ones as Parquet; `rejects.py NAME` for each peer.

Nothing is cleaned, checked by rule or grouped: it is what a reject costs that is measured.
"""

from __future__ import annotations

import sys

from common import COLUMNS, LEVEL, NULL, TIME_FORMAT, Done, serve
from duckdb_sql import TYPES as SQL_TYPES
from polars_streaming import TYPES


def duckdb(path: str, out: str) -> Done:
    """By its own means for this, `store_rejects`, which keeps a row for each bad value in a table."""
    import duckdb  # noqa: PLC0415 - each peer alone

    connection = duckdb.connect()  # the tables of rejects grow with the connection
    connection.execute("SET preserve_insertion_order = false; SET TimeZone = 'UTC'")
    columns = {name: SQL_TYPES[kind] for name, kind in COLUMNS.items()}
    good, bad = f"{out}/good.parquet", f"{out}/bad.parquet"
    parquet = f"(FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL {LEVEL})"
    connection.execute(f"""
        COPY (
            SELECT * FROM read_csv(
                '{path}', auto_detect = false, header = true, delim = ',', quote = '"', nullstr = '{NULL}',
                timestampformat = '{TIME_FORMAT}', columns = {columns}, store_rejects = true
            )
        ) TO '{good}' {parquet}
    """)
    connection.execute(f"""
        COPY (
            SELECT column_name || ':type' AS rule, csv_line, error_message FROM reject_errors
        ) TO '{bad}' {parquet}
    """)
    return Done(good, bad)


def polars(path: str, out: str) -> Done:
    """All columns as text, cast one by one: a value that a cast makes null is bad."""
    import polars as pl  # noqa: PLC0415
    from polars import col, lit, when  # noqa: PLC0415

    texts = pl.scan_csv(path, schema=dict.fromkeys(COLUMNS, pl.String), null_values=NULL)
    cast = {
        name: col(name).str.to_datetime(TIME_FORMAT, time_unit="ms", time_zone="UTC", strict=False)
        if kind == "timestamp"
        else col(name).cast(TYPES[kind], strict=False)
        for name, kind in COLUMNS.items()
    }
    rule = pl.coalesce(
        when(cast[name].is_null() & col(name).is_not_null()).then(lit(f"{name}:type"))
        for name, kind in COLUMNS.items()
        if kind != "string"
    )
    checked = texts.with_columns(rule=rule)
    good = checked.filter(col("rule").is_null()).select(value.alias(name) for name, value in cast.items())
    bad = checked.filter(col("rule").is_not_null())
    files = f"{out}/good.parquet", f"{out}/bad.parquet"
    parquet = {"compression": "zstd", "compression_level": LEVEL, "maintain_order": False}
    sinks = [part.sink_parquet(file, lazy=True, **parquet) for part, file in zip((good, bad), files, strict=True)]
    pl.collect_all(sinks, engine="streaming")
    return Done(*files)


if __name__ == "__main__":
    serve({"DuckDB": duckdb, "Polars": polars}[sys.argv[1]])
