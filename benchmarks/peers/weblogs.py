"""Web logs: lines to columns by a pattern, checked, good and bad rows as Parquet; `weblogs.py NAME` for each peer.

The rules are those of the pipeline `weblogs`, in the order in which a line's first fault is named. A "-" is null.
"""

from __future__ import annotations

import sys

from common import LEVEL, Done, serve

NULLS = ("", "-")
TIME_FORMAT = "%d/%b/%Y:%H:%M:%S %z"
FIRST, LAST = "1995-01-01", "2100-01-01"
METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH")
NAMES = ("host", "user", "time", "method", "path", "protocol", "status", "bytes", "referrer", "agent")
PATTERN = (
    r"^(?P<host>\S+) \S+ (?P<user>\S+) \[(?P<time>[^\]]+)\] "
    r'"(?P<method>[A-Za-z]+) (?P<path>\S+)(?: (?P<protocol>[^" ]+))?" (?P<status>\S+) (?P<bytes>\S+) '
    r'"(?P<referrer>[^"\\]*(?:\\.[^"\\]*)*)" "(?P<agent>[^"\\]*(?:\\.[^"\\]*)*)"$'
)


def polars(path: str, out: str) -> Done:
    import polars as pl  # noqa: PLC0415 - each peer alone
    from polars import col, lit, when  # noqa: PLC0415

    lines = pl.scan_csv(path, has_header=False, schema={"line": pl.String}, separator="\x01", quote_char=None)
    parsed = lines.with_columns(col("line").str.extract_groups(PATTERN).alias("found")).unnest("found")
    named = parsed.with_columns(when(~col(name).is_in(NULLS)).then(col(name)).alias(name) for name in NAMES)
    typed = named.with_columns(
        when_=col("time").str.to_datetime(TIME_FORMAT, strict=False),
        code=col("status").cast(pl.Int16, strict=False),
        size=col("bytes").cast(pl.Int64, strict=False),
    )
    first, last = (lit(day).str.to_datetime("%Y-%m-%d", time_zone="UTC") for day in (FIRST, LAST))
    checked = typed.with_columns(
        rule=when(col("host").is_null())
        .then(lit("pattern"))
        .when(col("when_").is_null())
        .then(lit("time:type"))
        .when(col("code").is_null())
        .then(lit("status:type"))
        .when(col("bytes").is_not_null() & col("size").is_null())
        .then(lit("bytes:type"))
        .when(~col("method").is_in(METHODS))
        .then(lit("method:isin"))
        .when(~col("code").is_between(100, 599))
        .then(lit("status:in_range"))
        .when(col("size") < 0)
        .then(lit("bytes:greater_than_or_equal_to"))
        .when(~col("when_").is_between(first, last))
        .then(lit("time:sensible"))
    )
    kept = ["host", "user", "method", "path", "protocol", "referrer", "agent", "when_", "code", "size"]
    good = checked.filter(col("rule").is_null()).select(*kept, day=col("when_").dt.date())
    bad = checked.filter(col("rule").is_not_null()).select("line", "rule")
    files = f"{out}/good.parquet", f"{out}/bad.parquet"
    parquet = {"compression": "zstd", "compression_level": LEVEL, "maintain_order": False}
    sinks = [part.sink_parquet(file, lazy=True, **parquet) for part, file in zip((good, bad), files, strict=True)]
    pl.collect_all(sinks, engine="streaming")
    return Done(*files)


def duckdb(path: str, out: str) -> Done:
    import duckdb  # noqa: PLC0415

    connection = duckdb.connect()
    connection.execute("SET preserve_insertion_order = false; SET TimeZone = 'UTC'")
    null = lambda name: f"CASE WHEN found.{name} NOT IN {NULLS} THEN found.{name} END"  # noqa: E731
    texts = ", ".join(f"{null(name)} AS {name}" for name in NAMES if name not in ("time", "status", "bytes"))
    connection.execute(f"""
        COPY (
            SELECT *, rule IS NOT NULL AS bad FROM (
                SELECT * EXCLUDE (line), CASE WHEN rule IS NOT NULL THEN line END AS line FROM (
                    SELECT *, CASE
                        WHEN host IS NULL THEN 'pattern'
                        WHEN "time" IS NULL THEN 'time:type'
                        WHEN status IS NULL THEN 'status:type'
                        WHEN told IS NOT NULL AND bytes IS NULL THEN 'bytes:type'
                        WHEN method NOT IN {METHODS} THEN 'method:isin'
                        WHEN status NOT BETWEEN 100 AND 599 THEN 'status:in_range'
                        WHEN bytes < 0 THEN 'bytes:greater_than_or_equal_to'
                        WHEN "time" NOT BETWEEN '{FIRST}' AND '{LAST}' THEN 'time:sensible'
                    END AS rule FROM (
                        SELECT line, {texts}, try_strptime(found.time, '{TIME_FORMAT}') AS "time",
                            {null("bytes")} AS told, try_cast({null("status")} AS SMALLINT) AS status,
                            try_cast({null("bytes")} AS BIGINT) AS bytes
                        FROM (
                            SELECT line, regexp_extract(line, '{PATTERN}', {list(NAMES)}) AS found
                            FROM read_csv(
                                '{path}', auto_detect = false, header = false, delim = chr(1), quote = '', escape = '',
                                columns = {{'line': 'VARCHAR'}}
                            )
                        )
                    )
                )
            )
        ) TO '{out}' (
            FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL {LEVEL}, PARTITION_BY (bad), OVERWRITE_OR_IGNORE
        )
    """)
    return Done(f"{out}/bad=false", f"{out}/bad=true")


def pandas(path: str, out: str) -> Done:
    import numpy as np  # noqa: PLC0415
    import pandas as pd  # noqa: PLC0415

    with open(path, encoding="utf-8") as file:  # noqa: PTH123
        lines = pd.Series(file.read().splitlines(), dtype="str")
    fields = lines.str.extract(PATTERN)
    fields = fields.mask(fields.isin(NULLS))
    typed = fields.assign(
        time=pd.to_datetime(fields["time"], format=TIME_FORMAT, errors="coerce", utc=True),
        status=pd.to_numeric(fields["status"], errors="coerce"),
        bytes=pd.to_numeric(fields["bytes"], errors="coerce"),
    )
    rules = {
        "pattern": fields["host"].isna(),
        "time:type": typed["time"].isna(),
        "status:type": typed["status"].isna(),
        "bytes:type": fields["bytes"].notna() & typed["bytes"].isna(),
        "method:isin": ~typed["method"].isin(METHODS),
        "status:in_range": ~typed["status"].between(100, 599),
        "bytes:greater_than_or_equal_to": typed["bytes"] < 0,
        "time:sensible": ~typed["time"].between(pd.Timestamp(FIRST, tz="UTC"), pd.Timestamp(LAST, tz="UTC")),
    }
    rule = np.select([fact.to_numpy(bool) for fact in rules.values()], list(rules), default="")
    is_bad = rule != ""
    good = typed[~is_bad].assign(day=lambda df: df["time"].dt.floor("D"))
    bad = pd.DataFrame({"line": lines[is_bad], "rule": rule[is_bad]})
    files = f"{out}/good.parquet", f"{out}/bad.parquet"
    for part, file in zip((good, bad), files, strict=True):
        part.to_parquet(file, index=False, compression="zstd", compression_level=LEVEL)
    return Done(*files)


if __name__ == "__main__":
    serve({"Polars": polars, "DuckDB": duckdb, "pandas": pandas}[sys.argv[1]])
