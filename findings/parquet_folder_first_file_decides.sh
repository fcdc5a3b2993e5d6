#!/usr/bin/env bash
# One folder of two Parquet files: v is int64 in one and double in the other.
#
# Guess, written down first: DuckDB refuses the folder, or widens to DOUBLE as it does for UNION ALL.
# Seen (DuckDB 2.0.0, files written by pyarrow 26.0.1): the type is that of the file whose name sorts first. If that is
# the int64 one, 1.5, 2.5 and 3.5 come back as 2, 2 and 4 (halves go to the even neighbour) and the sum is 14, with no
# error; rename that file so that it sorts last, and the same rows sum to 13.5.
#
# What it means here: data files of one table must have one schema; ingestlab casts or refuses before it publishes.
# Exit 0 if this is still so, 1 if it has changed.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet duckdb==2.0.0 pyarrow==26.0.1
cd "$folder" && mkdir rows && "$folder/venv/bin/python" - <<'PY'
import os

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

QUERY = "select sum(v), list(v order by filename, v), any_value(typeof(v)) from read_parquet('rows/*.parquet', filename=true)"
pq.write_table(pa.table({"v": pa.array([2, 4], pa.int64())}), "rows/a.parquet")
pq.write_table(pa.table({"v": pa.array([1.5, 2.5, 3.5], pa.float64())}), "rows/b.parquet")
whole_first = duckdb.sql(QUERY).fetchall()[0]
os.rename("rows/a.parquet", "rows/c.parquet")
whole_last = duckdb.sql(QUERY).fetchall()[0]
print("duckdb", duckdb.__version__, "| int64 file first:", whole_first, "| last:", whole_last)
assert whole_first == (14, [2, 4, 2, 2, 4], "BIGINT"), whole_first
assert whole_last == (13.5, [1.5, 2.5, 3.5, 2.0, 4.0], "DOUBLE"), whole_last
PY
echo "as found: the first file's type decides, and values are rounded silently"
