"""pandas on pyarrow: Arrow's parser on both cores, frames on Arrow memory, Arrow's Parquet writer.

`pandas.read_csv(engine="pyarrow")` is the same parser, but it takes no declared times with a zone.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.json
from common import COLUMNS, EARLIEST, FASTEST, KEYS, LATEST, LEVEL, NULL, ORIGINS, SLOWEST, Done, rows, serve

TYPES = {name: pa.timestamp("s", "UTC") if k == "timestamp" else pa.type_for_alias(k) for name, k in COLUMNS.items()}
OPTIONS = pyarrow.csv.ConvertOptions(column_types=TYPES, null_values=[NULL], strings_can_be_null=True)


def work(path: str, out: str) -> Done:
    checked = check(clean(read(path).to_pandas(types_mapper=pd.ArrowDtype, split_blocks=True, self_destruct=True)))
    is_bad = checked["rule"].notna()
    good, bad = checked[~is_bad].drop(columns="rule"), checked[is_bad]
    files = f"{out}/good.parquet", f"{out}/bad.parquet"
    for part, file in zip((good, bad), files, strict=True):
        part.to_parquet(file, index=False, compression="zstd", compression_level=LEVEL)
    return Done(*files, rows(summarise(good)))


def read(path: str) -> pa.Table:
    if path.endswith(".jsonl"):
        return pyarrow.json.read_json(path, parse_options=pyarrow.json.ParseOptions(explicit_schema=pa.schema(TYPES)))
    return pyarrow.csv.read_csv(path, convert_options=OPTIONS)


def clean(df: pd.DataFrame) -> pd.DataFrame:
    return df.assign(
        carrier=df["carrier"].str.strip().str.upper(),
        speed_mph=df["distance"] / (df["air_time"] / 60),
        on_time=df["arr_delay"] <= 15,
        date=pd.to_datetime(df[["year", "month", "day"]].astype("int16")).astype("date32[pyarrow]"),
    )


def check(df: pd.DataFrame) -> pd.DataFrame:
    rules = {
        "month:in_range": ~_true(df["month"].between(1, 12)),
        "origin:isin": ~_true(df["origin"].isin(ORIGINS)),
        "distance:greater_than": ~_true(df["distance"] > 0),
        "dep_time:not_nullable": df["dep_time"].isna().to_numpy(),
        "dep_delay:in_range": _false(df["dep_delay"].between(EARLIEST, LATEST)),
        "air_time:not_nullable": df["air_time"].isna().to_numpy(),
        "speed_mph:in_range": _false(df["speed_mph"].between(SLOWEST, FASTEST)),
    }
    number = np.select(list(rules.values()), range(len(rules)), default=-1)
    names = pa.DictionaryArray.from_arrays(pa.array(number, pa.int8(), mask=number < 0), list(rules))
    return df.assign(rule=pd.Series(names.cast(pa.string()), index=df.index, dtype=pd.ArrowDtype(pa.string())))


def summarise(good: pd.DataFrame) -> list[tuple[object, ...]]:
    wanted = {"flights": ("distance", "size"), "miles": ("distance", "sum"), "delay": ("dep_delay", "mean")}
    small = good[[*KEYS, "distance", "dep_delay"]].astype({"distance": "int64"})
    return list(small.groupby(list(KEYS)).agg(**wanted).reset_index().itertuples(index=False, name=None))


def _true(fact: pd.Series) -> np.ndarray:
    return fact.fillna(value=False).to_numpy(bool)


def _false(fact: pd.Series) -> np.ndarray:
    return ~fact.fillna(value=True).to_numpy(bool)


if __name__ == "__main__":
    serve(work)
