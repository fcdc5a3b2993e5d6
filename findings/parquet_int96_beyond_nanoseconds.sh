#!/usr/bin/env bash
# Times in Parquet's INT96, as Spark and Impala write them, read with the defaults: 9999-12-31 for "no end", and 1600.
#
# Expected: an error, or a coarser unit; a Parquet file of microseconds with the same times reads as it is.
# Seen (pyarrow 26.0.1, writer and reader): both come back as other times, 1816-03-29 and 2184-07-20, with no error,
# since they are taken for nanoseconds from 1970 in 64 bits and wrap. With coerce_int96_timestamp_unit="us" all are
# right: the file holds them.
#
# What it means here: ingestlab reads INT96 in a unit in which all times fit, and rejects what fits in none.
# Exit 0 if this is still so, 1 if it has changed.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pyarrow==26.0.1
"$folder/venv/bin/python" - <<'PY'
import datetime as dt
import io

import pyarrow as pa
import pyarrow.parquet as pq

TIMES = [dt.datetime(9999, 12, 31), dt.datetime(1600, 1, 1), dt.datetime(2021, 6, 9)]
file = io.BytesIO()
pq.write_table(pa.table({"t": pa.array(TIMES, pa.timestamp("us"))}), file, use_deprecated_int96_timestamps=True)


def read(**options: str) -> pa.Table:
    return pq.read_table(io.BytesIO(file.getvalue()), **options)["t"]


days = read().cast(pa.timestamp("us"), safe=False).cast(pa.date32(), safe=False).to_pylist()
print("pyarrow", pa.__version__, read().type, [str(day) for day in days])
assert read(coerce_int96_timestamp_unit="us").to_pylist() == TIMES
assert days == [dt.date(1816, 3, 29), dt.date(2184, 7, 20), dt.date(2021, 6, 9)]
PY
echo "as found: times beyond nanoseconds from 1970 wrap without an error"
