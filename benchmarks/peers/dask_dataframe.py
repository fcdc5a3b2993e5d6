"""dask.dataframe the usual way: read_csv, pandas code on each partition, to_parquet, groupby; two worker processes.

All three results are computed together, so that the file is parsed once.
"""

from __future__ import annotations

from functools import cache

import dask
import dask.dataframe as dd
import pandas as pd
from common import COLUMNS, KEYS, LEVEL, NULL, TIME_FORMAT, Done, rows, serve
from distributed import Client
from pandas_pyarrow import check, clean

TYPES = {name: f"{kind}[pyarrow]" for name, kind in COLUMNS.items() if kind != "timestamp"}
BLOCK = 32 << 20


@cache
def client() -> Client:
    return Client(n_workers=2, threads_per_worker=1, dashboard_address=None)


def _checked(df: pd.DataFrame) -> pd.DataFrame:
    return check(clean(df))


def work(csv: str, out: str) -> Done:
    client()
    flights = dd.read_csv(
        csv,
        blocksize=BLOCK,
        dtype=TYPES,
        na_values=NULL,
        keep_default_na=False,
        parse_dates=["time_hour"],
        date_format=TIME_FORMAT,
    )
    checked = flights.map_partitions(_checked)
    is_bad = checked["rule"].notnull()  # noqa: PD004 - Dask has no other name for it
    good, bad = checked[~is_bad].drop(columns="rule"), checked[is_bad]
    files = f"{out}/good", f"{out}/bad"
    options = {"compression": "zstd", "compression_level": LEVEL, "write_index": False, "compute": False}
    sinks = [part.to_parquet(file, **options) for part, file in zip((good, bad), files, strict=True)]
    small = good[[*KEYS, "distance", "dep_delay"]].astype({"distance": "int64[pyarrow]"})
    groups = small.groupby(list(KEYS)).agg({"origin": "count", "distance": "sum", "dep_delay": "mean"})
    *_, counted = dask.compute(*sinks, groups)
    return Done(*files, rows((*key, *values) for key, *values in counted.itertuples(name=None)))


if __name__ == "__main__":
    serve(work)
